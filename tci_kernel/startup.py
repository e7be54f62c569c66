"""What a front end runs by itself before there is a session."""

from __future__ import annotations

#: More characters than VS Code sends at a start; what comes later was asked for its answer only.
_MOST = 16_000


class StartUp:
    """The code of such requests, in their order: VS Code's own, and its user's start-up commands.

    They are answered without being run, because only a person's cell makes a session. Over live
    transport they run in each new session before its first cell, and travel with it.
    """

    def __init__(self) -> None:
        self.codes: list[str] = []
        self._room = _MOST

    def put_off(self, code: str) -> None:
        """Keep code for later, while there is room."""
        self._room -= len(code)
        if self._room >= 0:
            self.codes.append(code)
