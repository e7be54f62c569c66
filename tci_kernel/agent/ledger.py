"""What the child was asked and has not finished."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from .asked import Asked
from .wire import loads

if TYPE_CHECKING:
    from .wire import Frames, JSONObject, Name

    Key = tuple[str, str]


#: Seconds behind its idle after which a request has no reply.
REPLY_GRACE = 1.0

#: Seconds within which an interrupt usually ends a cell.
INTERRUPT_GRACE = 0.1


class Ledger:
    """What the child was asked, has open and has counted."""

    def __init__(self, count: int) -> None:
        self.next_count = count
        self.asked: dict[Key, Asked] = {}
        self.comms: set[str] = set()

    def ask(self, channel: str, frames: Frames) -> Asked | None:
        """Note a message for the child; Jupyter's ids are unique on one channel only."""
        header = loads(frames[0])
        self._note_comm(header.get("msg_type", ""), frames)
        if channel == "stdin":
            return None
        runs = header.get("msg_type") == "execute_request"
        content = loads(frames[3]) if runs else {}
        asked = Asked(channel, header, frames[0], content)
        self.asked[channel, header.get("msg_id", "")] = asked
        return asked

    def hear(self, channel: str, msg_type: str, parent: JSONObject, frames: Frames) -> None:
        """Note a message of the child."""
        self._note_comm(msg_type, frames)
        if msg_type == "execute_input":
            self.next_count = loads(frames[3]).get("execution_count", self.next_count) + 1
        for key, asked in self._by_parent(channel, parent):
            if msg_type == "status":
                self._note_state(asked, loads(frames[3]).get("execution_state", ""))
            elif msg_type == "execute_input":
                asked.begun = True
            elif channel != "iopub":
                asked.replied = True
            if asked.replied and asked.idle:
                del self.asked[key]

    def failed(self, parent: JSONObject, frames: Frames) -> Asked | None:
        """Return the cell behind which others do not run, if this is its reply."""
        asked = self.asked.get(("shell", parent.get("msg_id", "")))
        if asked is None or not asked.stops_others:
            return None
        return asked if loads(frames[3]).get("status") == "error" else None

    def leave(self) -> None:
        """Note that who has asked all this is gone."""
        for asked in self.asked.values():
            asked.is_left = True

    def rename(self, name: Name, header: bytes) -> None:
        """Let the request of this type and id have another header; its place stays."""
        new_id = loads(header)["msg_id"]
        renamed: dict[Key, Asked] = {}
        for key, asked in self.asked.items():
            if (asked.msg_type, key[1]) == name:
                asked.raw_header = header
                renamed[key[0], new_id] = asked
            else:
                renamed[key] = asked
        self.asked = renamed

    def mark_sent(self) -> None:
        """Note that all messages so far have reached the child."""
        for asked in self.asked.values():
            asked.note_sent()

    def _by_parent(self, channel: str, parent: JSONObject) -> list[tuple[Key, Asked]]:
        """Return the request that a message answers; iopub tells its channel by its type only."""
        channels = ("shell", "control") if channel == "iopub" else (channel,)
        keys = [(name, parent.get("msg_id", "")) for name in channels]
        found = [(key, self.asked[key]) for key in keys if key in self.asked]
        return [(key, asked) for key, asked in found if asked.msg_type == parent.get("msg_type")]

    def _note_state(self, asked: Asked, state: str) -> None:
        asked.busy |= state == "busy"
        if state == "idle":
            asked.idle = True
            asked.idle_since = time.monotonic()

    def unanswered_since(self) -> float:
        """Return the time of the last idle that has long been there without a reply, else 0."""
        latest = time.monotonic() - REPLY_GRACE
        since = [asked.idle_since for asked in self.asked.values() if asked.idle]
        return max((time for time in since if time < latest), default=0.0)

    def end_unanswered(self, reached: float) -> list[tuple[str, Frames]]:
        """Return the replies that cells and questions lack whose idle has long been there.

        Until the child is `reached` behind that idle, a reply may still be held up by a thread of
        the user's that keeps Python's lock. Questions of kinds that the child does not know are
        forgotten: an idle is all they get.
        """
        latest = time.monotonic() - REPLY_GRACE
        messages: list[tuple[str, Frames]] = []
        quiet = all(asked.passes or not asked.sent for asked in self.asked.values())
        for key, asked in list(self.asked.items()):
            if quiet and asked.passes and not asked.busy and 0 < asked.sent_at < latest:
                # ipykernel 7.4 says neither busy nor idle of what passes by a cell that awaits.
                del self.asked[key]
            elif asked.idle and asked.idle_since < min(latest, reached):
                del self.asked[key]
                messages += asked.unheard(self.next_count - 1)
        return messages

    def _note_comm(self, msg_type: str, frames: Frames) -> None:
        if msg_type == "comm_open":
            self.comms.add(loads(frames[3]).get("comm_id", ""))
        elif msg_type == "comm_close":
            self.comms.discard(loads(frames[3]).get("comm_id", ""))

    @property
    def runs_cell(self) -> bool:
        """Whether a cell is under way, or is to be."""
        return any(asked.runs for asked in self.asked.values())

    @property
    def is_ending(self) -> bool:
        """Whether a cell is all but idle: it has its reply, or has just been interrupted."""
        since = time.monotonic() - INTERRUPT_GRACE
        cells = [asked for asked in self.asked.values() if asked.runs and not asked.idle]
        return any(cell.replied or cell.interrupted_at > since for cell in cells)

    def at_work(self) -> Asked | None:
        """Return what the child's main thread does and an interrupt meets there."""
        return next((asked for asked in self.asked.values() if asked.can_be_interrupted), None)

    def cells_before(self, request: Asked) -> list[Asked]:
        """Return the cells of the main thread that were asked before a request, and go on."""
        cells = itertools.takewhile(lambda asked: asked is not request, self.asked.values())
        return [a for a in cells if a.runs and a.subshell is None and not a.replied]

    def dying(self) -> Asked | None:
        """Return the cell in which a death is told: who ran a silent one does not listen.

        What a child says last is often lost: behind a cell that has its reply, the next one ran.
        """
        cells = [a for a in self.asked.values() if a.sent and a.runs and not a.silent]
        return min(cells, key=lambda cell: (cell.replied, cell.idle, not cell.busy), default=None)

    def close(self, text: str, *, all_aborted: bool) -> list[tuple[str, Frames]]:
        """End what a child that is gone was asked: the cell that ran fails, others are aborted."""
        dying = None if all_aborted else self.dying()
        if dying is not None and dying.counts and not dying.begun:
            self.next_count += 1  # its execute_input was lost with the child
        gone = [asked for asked in self.asked.values() if asked.sent]
        self.asked = {key: asked for key, asked in self.asked.items() if not asked.sent}
        self.comms.clear()
        messages: list[tuple[str, Frames]] = []
        for asked in gone:
            aborted = all_aborted or (asked.runs and asked is not dying)
            messages += asked.obituary(text, self.next_count - 1, aborted=aborted)
        return messages
