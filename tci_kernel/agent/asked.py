"""One request to the child, and what is said of it in the child's place."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from typing import TYPE_CHECKING

from .wire import loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .wire import Frames, JSONObject

#: Most bytes of a message but of text, which is cut instead: the relay takes frames of 256 MiB.
LARGEST = 200 * 2**20

#: The reply of a cell that has none: ipykernel has failed in what it does around the user's code.
NO_REPLY = {
    "status": "error",
    "ename": "KernelError",
    "evalue": "The kernel has not said how this cell ended; variables are kept.",
    "traceback": [],
    "user_expressions": {},
    "payload": [],
}

#: What a question's is, whose answer an interrupt has met; of other kinds nobody waits for one.
NO_ANSWER = {"status": "error", "ename": "KernelError", "evalue": "Interrupted.", "traceback": []}
QUESTIONS = ("complete", "inspect", "is_complete", "history", "comm_info", "kernel_info")


class Asked:
    """A request that the child has not finished: with reply, where one is due, and idle."""

    def __init__(
        self, channel: str, header: JSONObject, raw_header: bytes, content: JSONObject
    ) -> None:
        self.channel = channel
        self.silent = bool(content.get("silent"))
        self.counts = not self.silent and bool(content.get("store_history", True))
        self.stops_others = not self.silent and bool(content.get("stop_on_error", True))
        self.subshell: str | None = header.get("subshell_id")
        self.msg_type: str = header.get("msg_type", "")
        self.raw_header = raw_header
        self.runs = self.msg_type == "execute_request"
        self.replied = not self.msg_type.endswith("_request")
        self.busy = self.begun = self.idle = False
        self.is_left = False  # by a relay that is gone: its failure concerns none that come later
        self.sent_at = self.idle_since = self.interrupted_at = 0.0

    @property
    def sent(self) -> bool:
        """Whether it has gone to the child."""
        return self.sent_at > 0

    def note_sent(self) -> None:
        """Note that it has gone to the child."""
        self.sent_at = self.sent_at or time.monotonic()

    @property
    def passes(self) -> bool:
        """Whether this goes by cells that wait, as a comm's message does."""
        return not self.msg_type.endswith("_request")

    @property
    def can_be_interrupted(self) -> bool:
        """Whether a signal meets this: a kernel says busy before it heeds one, its input after."""
        heeds = self.begun if self.runs and not self.silent else self.busy
        here = self.channel == "shell" and self.subshell is None
        return here and heeds and not (self.replied or self.idle)

    @property
    def blocks(self) -> bool:
        """Whether this is a cell at work, behind which others wait: it may fail, or end Python.

        A silent one stops nobody, and what it dies of is told in the cell behind it.
        """
        at_work = self.sent and self.runs and not self.replied
        return at_work and self.channel == "shell" and not self.silent

    def obituary(self, text: str, count: int, *, aborted: bool) -> Iterator[tuple[str, Frames]]:
        """Yield the messages that end this request in the place of a child that is gone."""
        error = {"ename": "DeadKernelError", "evalue": text, "traceback": [text]}
        if self.runs and not aborted:
            yield "iopub", self.message("error", error)
        reply: JSONObject = {"status": "error", **error}
        if self.runs:
            reply.update(execution_count=count, user_expressions={}, payload=[])
        # As in a kernel, a number would say that the cell has run.
        yield from self.answers({"status": "aborted"} if aborted else reply)

    def unheard(self, count: int) -> Iterator[tuple[str, Frames]]:
        """Yield the reply that the child has not given, if somebody waits for it."""
        if self.runs:
            if not self.silent:
                error = {name: NO_REPLY[name] for name in ("ename", "evalue")}
                yield "iopub", self.message("error", {**error, "traceback": [NO_REPLY["evalue"]]})
            yield from self.answers({**NO_REPLY, "execution_count": count})
        elif self.msg_type[: -len("_request")] in QUESTIONS:
            yield from self.answers(NO_ANSWER)

    def refusal(self, count: int) -> Iterator[tuple[str, Frames]]:
        """Yield all that is said of a cell that does not run because one before it failed."""
        yield "iopub", self.message("status", {"execution_state": "busy"})
        yield from self.obituary("", count, aborted=True)

    def answers(self, reply: JSONObject) -> Iterator[tuple[str, Frames]]:
        """Yield what this request still lacks of its reply and its idle."""
        if not self.replied:
            yield self.channel, self.message(self.msg_type[: -len("request")] + "reply", reply)
        if not self.idle:
            yield "iopub", self.message("status", {"execution_state": "idle"})

    def message(self, msg_type: str, content: JSONObject) -> Frames:
        """Return a message whose parent is this request."""
        return answer(self.raw_header, msg_type, content)


def answer(parent: bytes, msg_type: str, content: JSONObject) -> Frames:
    """Return a message in the child's place, whose parent has this raw header."""
    header = new_header(msg_type, loads(parent).get("session", ""))
    return [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]


def without_content(channel: str, header: JSONObject, frames: Frames) -> tuple[JSONObject, Frames]:
    """Return, in the place of a message that is too large to travel, one that says so."""
    size = sum(map(len, frames)) / 10**6
    text = f"TCI: an output of {size:.0f} MB is left out, because it is too large for a frame."
    if channel == "iopub":
        frames = answer(frames[1], "stream", {"name": "stderr", "text": f"{text}\n"})
        return loads(frames[0]), frames
    content = {"status": "error", "ename": "TooLarge", "evalue": text, "traceback": [text]}
    return header, [*frames[:3], json.dumps(content).encode()]


def new_header(msg_type: str, session: str) -> JSONObject:
    """Return the header of a new message."""
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": session,
        "username": "tci",
        "date": dt.datetime.now(dt.timezone.utc).isoformat(),
        "version": "5.4",
    }
