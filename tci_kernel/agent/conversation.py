"""What the relay and the child say to each other."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .asked import LARGEST, answer, without_content
from .inbox import Inbox, Waiting
from .ledger import Ledger
from .namesakes import Namesakes
from .outbox import Outbox
from .wire import loads

if TYPE_CHECKING:
    from collections import deque

    from .wire import Frames, JSONObject, Numbered

#: Longest wait for the end of a cell that is all but there. Seconds.
ENDING = 0.05


class Conversation:
    """What is shared by the pump and the session's main thread; `lock` guards all of it."""

    def __init__(self, options: JSONObject) -> None:
        self.lock = threading.Condition()
        self.outbox = Outbox(options["max_buffer"])
        self.ledger = Ledger(options["execution_count"])
        self.inbox = Inbox()
        self.namesakes = Namesakes(self.ledger, self.outbox)
        self.untouched = True
        self.relay = ""
        self.former: set[str] = set()
        self.accepted = self.acknowledged = 0
        self.worthy = self.urgent = 0
        self.asks = False
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
            self.inbox.leave()
            self.ledger.leave()
            self.namesakes.take_over()
        return True

    def accept(self, messages: list[Numbered], heard: list[int | None]) -> None:
        """Queue the relay's messages for the child: each once, and none after a gap.

        `heard` says of each what who sent it can have known (`Waiting.known`). One without frames
        was withdrawn.
        """
        for (number, channel, frames), known in zip(messages, heard):
            if number == self.accepted + 1:
                self.accepted = number
                if frames:
                    self.ask(channel, frames, known)

    def ask(self, channel: str, frames: Frames, known: int | None = None) -> None:
        """Queue one message for the child."""
        self.untouched = False
        if channel == "stdin":
            self.asks = False
        to_child = self.namesakes.to_child(frames)
        self.inbox.add(Waiting(channel, to_child, self.ledger.ask(channel, frames), known))

    def due(self) -> list[Waiting]:
        """Take what can go to the child now; end the cells that are not to run."""
        due, refused = self.inbox.due(self.ledger.asked.values())
        for asked in refused:
            for channel, frames in asked.refusal(self.ledger.next_count - 1):
                self.hear(channel, frames)
            self.lock.notify_all()
        return due

    def hear_child(self, channel: str, frames: Frames) -> None:
        """Keep a message of the child, whose parent may have another id there than here."""
        self.hear(channel, self.namesakes.from_child(frames))

    def hear(self, channel: str, frames: Frames) -> None:
        """Keep a message for the relay, and for the foreign cell it answers."""
        header, parent = loads(frames[0]), loads(frames[1])
        if header["msg_type"] != "stream" and sum(map(len, frames)) > LARGEST:
            header, frames = without_content(channel, header, frames)
        msg_type = header["msg_type"]
        failed = self.ledger.failed(parent, frames) if msg_type == "execute_reply" else None
        self.ledger.hear(channel, msg_type, parent, frames)
        listener = self.foreign.get(parent.get("msg_id", ""))
        if listener is not None:
            listener.append((msg_type, frames))
            if channel != "iopub":
                return
        self.outbox.add(channel, frames, parent.get("msg_id", "") if msg_type == "stream" else None)
        if failed is not None:
            self.inbox.note_failure(self.outbox.last, failed)
        if _is_worthy(msg_type, frames):
            self.worthy = self.outbox.last
        if msg_type == "input_request":
            self.urgent = self.outbox.last
            self.asks = True
        elif msg_type == "execute_reply":
            self.asks = False
        if msg_type == "execute_input" and self.unsaid:
            text, self.unsaid = f"TCI: {self.unsaid}\n", ""
            self.hear(channel, answer(frames[1], "stream", {"name": "stderr", "text": text}))

    def bury(self, text: str, *, all_aborted: bool = False) -> None:
        """End all that a child that is gone had been asked; the next cell tells if none ran."""
        dying = self.ledger.dying()
        if not all_aborted:
            self.unsaid = "" if dying else text
        for channel, frames in self.ledger.close(text, all_aborted=all_aborted):
            self.hear(channel, frames)
        if dying:
            dying.idle = True
            self.inbox.note_failure(self.outbox.last, dying)

    def end_unanswered(self, reached: float) -> None:
        """End what the child, `reached` at that time, has forgotten to reply to."""
        for channel, frames in self.ledger.end_unanswered(reached):
            self.hear(channel, frames)
            self.lock.notify_all()

    def refuse(self) -> None:
        """Answer with an error what was asked, because there is no child."""
        self.inbox.clear()
        self.ledger.mark_sent()
        self.bury(f"{self.reason}\nThe session, its files and packages are kept.")

    def wait(self, hold: float, gather: float, flow: float) -> None:
        """Wait for the first news at most `hold`, and for what belongs to it.

        That is what comes within `gather`, and then what follows without such a pause, for at most
        `flow` in all.
        """
        deadline = time.monotonic() + hold
        while self.worthy <= self.acknowledged:
            if not self._sleep(deadline):
                return
        first = latest = time.monotonic()
        heard = self.outbox.last
        while self.ledger.asked and self.urgent <= self.acknowledged:
            if self.outbox.last > heard:
                heard, latest = self.outbox.last, time.monotonic()
            patience = max(gather, ENDING) if self.ledger.is_ending else gather
            if not self._sleep(max(first + patience, min(latest + patience, first + flow))):
                return

    def _sleep(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        return left > 0 and (self.lock.wait(left) or True)


def _is_worthy(msg_type: str, frames: Frames) -> bool:
    """Tell whether a message is worth an answer of its own."""
    return msg_type != "execute_input" and not (msg_type == "status" and b'"busy"' in frames[3])
