"""What a front end runs by itself before a person's first cell."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tci_kernel.unseen import Unseen

#: More characters than VS Code sends at a start; what comes later was asked for its answer only.
_MOST = 16_000


class StartUp:
    """The code of such requests, in their order: VS Code's own, and its user's start-up commands.

    Without a session they are answered without being run, because only a person's cell makes one.
    They run before the first cell in each new namespace: of a new session, and after a crash of
    Python in it, of which the front end hears nothing, but for code of which Python died. After a
    restart it sends them again.
    """

    def __init__(self) -> None:
        self.codes: list[str] = []
        self._suspected: set[str] = set()
        self._over = False
        self._room = _MOST

    def note(self, content: Mapping[str, Any]) -> None:
        """Keep the code of a front end's own request, while there is room."""
        code = str(content.get("code", ""))
        # VS Code's questions from the background may not ask.
        if self._over or not code.strip() or not content.get("allow_stdin", True):
            return
        self._room -= len(code)
        if self._room >= 0:
            self.codes.append(code)

    def end(self) -> None:
        """Keep no more: a person's cell has come."""
        self._over = True

    def leaves_out(self, code: str, *, died: bool) -> bool:
        """Note how a run of this code has ended; tell whether it is not to run again.

        That is when Python has died of it twice running, or no cell would ever run. Once it may
        have been the cell behind it: what a child says last can be lost with it.
        """
        if not died:
            self._suspected.discard(code)
        elif code in self._suspected:
            self.codes.remove(code)
            return True
        else:
            self._suspected.add(code)
        return False


class SetUp:
    """Runs in each child what a front end had set up before; `tell` tells what is left out."""

    def __init__(self, start_up: StartUp, unseen: Unseen, tell: Callable[[str], None]) -> None:
        self._start_up = start_up
        self._unseen = unseen
        self._tell = tell
        self._done_in = 0

    def pass_by(self, generation: int) -> None:
        """Do nothing in this child, which somebody has used before."""
        self._done_in = generation

    def run(self, generation: int) -> None:
        """Run it in this child, if that has run nothing yet."""
        if self._done_in != generation:
            self._done_in = generation
            for code in self._start_up.codes:
                self._unseen.run(code, partial(self._note, code))

    def _note(self, code: str, died: bool) -> None:
        if self._start_up.leaves_out(code, died=died):
            text = "TCI: Python died of start-up code, which does not run again:"
            self._tell(f"{text}\n{code}")
