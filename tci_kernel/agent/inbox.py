"""What waits for the child, and the cells that it does not get because one before them failed."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .asked import Asked
    from .wire import Frames


class Waiting(NamedTuple):
    """A message for the child; `asked` is None for an answer on stdin.

    `known` is the last number of the child's that who sent it can have known of, None for what
    runs whatever has failed.
    """

    channel: str
    frames: Frames
    asked: Asked | None
    known: int | None


class Inbox:
    """The messages for the child, in their order.

    A cell goes to the child when the one before it has its reply. If that failed, those do not run
    that were sent before the failure was known, wherever they were on their way: in a kernel's own
    queue they would not either. Nothing but comms passes by a cell that waits.
    """

    def __init__(self) -> None:
        self.waiting: deque[Waiting] = deque()
        self.failures: dict[str | None, tuple[int, Asked]] = {}

    def add(self, message: Waiting) -> None:
        """Queue one message."""
        self.waiting.append(message)

    def clear(self) -> None:
        """Forget what waits, which somebody else ends."""
        self.waiting.clear()

    def note_failure(self, number: int, failed: Asked) -> None:
        """Note that the message of this number says that a cell failed which stops others."""
        self.failures[failed.subshell] = number, failed

    def leave(self) -> None:
        """Let all cells run that come from now on: who sends them is new."""
        for _, failed in self.failures.values():
            failed.is_left = True

    def due(self, under_way: Iterable[Asked]) -> tuple[list[Waiting], list[Asked]]:
        """Take what can go to the child now, and the cells that never will."""
        blocked = {asked.subshell for asked in under_way if asked.blocks}
        held: set[str | None] = set()
        due: list[Waiting] = []
        refused: list[Asked] = []
        kept: deque[Waiting] = deque()
        for message in self.waiting:
            asked = message.asked
            if asked is None or message.channel != "shell" or asked.passes:
                due.append(message)
                if asked is not None:
                    asked.note_sent()
            elif asked.subshell in held or (asked.runs and self._waits(message, asked, blocked)):
                held.add(asked.subshell)
                kept.append(message)
            elif self._failure(message, asked) is not None:
                refused.append(asked)
            else:
                due.append(message)
                asked.note_sent()
                if asked.blocks:
                    blocked.add(asked.subshell)
        self.waiting = kept
        return due, refused

    def _waits(self, message: Waiting, asked: Asked, blocked: set[str | None]) -> bool:
        """Tell whether a cell waits for the end of one before it."""
        failed = self._failure(message, asked)
        return asked.subshell in blocked if failed is None else not failed.idle

    def _failure(self, message: Waiting, asked: Asked) -> Asked | None:
        """Return the cell because of whose failure this one does not run, if there is one."""
        number, failed = self.failures.get(asked.subshell, (0, None))
        if failed is None or not asked.runs or (failed.is_left and not asked.is_left):
            return None
        unknown = message.known is not None and message.known < number
        return failed if unknown else None
