"""Interrupts on their way to the cells that they mean."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asked import Asked
    from .conversation import Conversation
    from .process import Process
    from .wire import Frames

#: Seconds after which a cell may have begun although it has not said so: code in C that keeps
#: Python's lock from its beginning keeps the thread waiting that would say it.
SPEECHLESS = 0.3


class Interrupts:
    """What the relay has asked for and has met nothing yet.

    An interrupt means the first cell that was asked before it, and none that was asked behind it.
    Whatever holds that cell up, as start-up code may, is interrupted too.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.waiting: deque[tuple[Asked, Frames]] = deque()

    def send(self, process: Process) -> None:
        """Interrupt what the process does, as far as it can be by now."""
        with self.conversation.lock:
            while self.waiting and self._meets(process, *self.waiting[0]):
                self.waiting.popleft()

    def leave_question(self, process: Process) -> None:
        """Interrupt a cell that waits for an answer of somebody who is gone."""
        with self.conversation.lock:
            if self.conversation.ledger.at_work() is not None:
                process.interrupt()

    def _meets(self, process: Process, request: Asked, frames: Frames) -> bool:
        """Interrupt the cell that a request means, once that is busy; tell whether it is done."""
        ledger = self.conversation.ledger
        cells = ledger.cells_before(request)
        if not cells and not ledger.runs_cell and not request.interrupted_at:
            process.send("control", frames)  # it may meet a comm's message
            return True
        at_work = ledger.at_work() if cells else None
        if at_work is not None and at_work.interrupted_at < request.sent_at:
            at_work.interrupted_at = time.monotonic()
            process.interrupt()
        meant = [cell for cell in cells if not cell.silent] or cells
        if meant and at_work is not meant[0]:
            if at_work is None:
                _try(process, meant[0], request)
            return False  # before it is busy, a kernel ignores the signal
        for channel, answer in request.answers({"status": "ok"}):
            self.conversation.hear(channel, answer)
        self.conversation.lock.notify_all()
        return True


def _try(process: Process, cell: Asked, request: Asked) -> None:
    """Interrupt, now and again, a cell that may well run: its code keeps it from saying so."""
    since = max(cell.sent_at, request.sent_at, request.interrupted_at)
    if cell.sent and time.monotonic() - since > SPEECHLESS:
        request.interrupted_at = time.monotonic()
        process.interrupt()
