"""What the relay and the child say to each other."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from .ledger import Ledger, answer
from .outbox import Outbox

if TYPE_CHECKING:
    from .wire import Frames, JSONObject, Numbered

#: Longest wait for company of news that alone is not worth a frame. Seconds.
COMPANY = 0.05


class Conversation:
    """What is shared by the pump and the session's main thread; `lock` guards all of it."""

    def __init__(self, options: JSONObject) -> None:
        self.lock = threading.Condition()
        self.outbox = Outbox(options["max_buffer"])
        self.ledger = Ledger(options["execution_count"])
        self.inbox: deque[tuple[str, Frames]] = deque()
        self.untouched = True
        self.relay = ""
        self.former: set[str] = set()
        self.accepted = self.acknowledged = 0
        self.worthy = self.urgent = 0
        self.speakers: JSONObject | None = None
        self.foreign: dict[str, deque[tuple[str, Frames]]] = {}
        self.lost: JSONObject | None = None
        self.reason = ""
        self.unsaid = ""

    def take_over(self, relay: str) -> bool:
        """Serve this relay from now on, unless another has taken over from it."""
        if relay in self.former:
            return False
        if relay != self.relay:
            self.former.add(self.relay)
            self.relay, self.accepted, self.acknowledged = relay, 0, 0
        return True

    def accept(self, messages: list[Numbered]) -> None:
        """Queue the relay's messages for the child: each once, and none after a gap."""
        for number, channel, frames in messages:
            if number == self.accepted + 1:
                self.accepted = number
                self.ask(channel, frames)

    def ask(self, channel: str, frames: Frames) -> None:
        """Queue one message for the child."""
        self.untouched = False
        self.ledger.ask(channel, frames)
        self.inbox.append((channel, frames))

    def hear(self, channel: str, frames: Frames) -> None:
        """Keep a message of the child for the relay, and for the foreign cell it answers."""
        header, parent = json.loads(frames[0]), json.loads(frames[1])
        msg_type = header["msg_type"]
        self.ledger.hear(channel, msg_type, parent, frames)
        listener = self.foreign.get(parent.get("msg_id", ""))
        if listener is not None:
            listener.append((msg_type, frames))
            if channel != "iopub":
                return
        self.outbox.add(channel, frames, parent.get("msg_id", "") if msg_type == "stream" else None)
        if _is_worthy(msg_type, frames):
            self.worthy = self.outbox.last
        if msg_type == "input_request":
            self.urgent = self.outbox.last
        if msg_type == "execute_input" and self.unsaid:
            text, self.unsaid = f"TCI: {self.unsaid}\n", ""
            self.hear(channel, answer(frames[1], "stream", {"name": "stderr", "text": text}))

    def bury(self, text: str, *, all_aborted: bool = False) -> None:
        """End all that a child that is gone had been asked; the next cell tells if none ran."""
        if not all_aborted:
            self.unsaid = "" if self.ledger.dying() else text
        for channel, frames in self.ledger.close(text, all_aborted=all_aborted):
            self.hear(channel, frames)

    def end_unanswered(self) -> None:
        """End what the child has forgotten to reply to."""
        for channel, frames in self.ledger.end_unanswered():
            self.hear(channel, frames)
            self.lock.notify_all()

    def refuse(self) -> None:
        """Answer with an error what was asked, because there is no child."""
        self.inbox.clear()
        self.ledger.mark_sent()
        self.bury(f"{self.reason}\nThe session, its files and packages are kept.")

    def wait(self, hold: float, gather: float) -> None:
        """Wait for the first news at most `hold`, and for what belongs to it at most `gather`."""
        deadline = time.monotonic() + hold
        alone = True
        while self.worthy <= self.acknowledged:
            if self.outbox.held and alone:
                alone = False
                deadline = min(deadline, time.monotonic() + COMPANY)
            if not self._sleep(deadline):
                return
        deadline = time.monotonic() + gather
        while self.ledger.asked and self.urgent <= self.acknowledged and self._sleep(deadline):
            pass

    def _sleep(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        return left > 0 and (self.lock.wait(left) or True)


def _is_worthy(msg_type: str, frames: Frames) -> bool:
    """Tell whether a message is worth an answer of its own."""
    return msg_type != "execute_input" and not (msg_type == "status" and b'"busy"' in frames[3])
