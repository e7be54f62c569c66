"""Cells of other clients of the session, which run in the child too."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .asked import new_header
from .session import interrupts
from .wire import loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conversation import Conversation
    from .pump import Pump
    from .wire import JSONObject


#: How long a foreign cell waits for those of front ends, in seconds. Meanwhile the session answers
#: nobody else: no output of theirs arrives, and no interrupt or input.
PATIENCE = 5.0

BUSY = {
    "ename": "SessionBusy",
    "evalue": "A cell of this session's notebook still runs, or waits for input. Nothing of this "
    "request has run; send it again when that cell has ended.",
}


class ChildError(Exception):
    """An error of the child, shown in the session as the child shows it."""

    def __init__(self, value: str, lines: list[str]) -> None:
        super().__init__(value)
        self.lines = lines

    def _render_traceback_(self) -> list[str]:
        return self.lines


class Result:
    """A result of the child, displayed in the session as the child displays it."""

    def __init__(self, content: JSONObject) -> None:
        self.content = content

    def _repr_mimebundle_(self, **_options: Any) -> tuple[JSONObject, JSONObject]:
        return self.content["data"], self.content.get("metadata", {})


def republish(ipython: Any, msg_type: str, content: JSONObject) -> None:
    """Say one message of a foreign cell as the session's own."""
    if msg_type == "stream":
        stream = getattr(sys, content["name"])
        stream.write(content["text"])
        stream.flush()
    elif msg_type == "clear_output":
        ipython.display_pub.clear_output(content["wait"])
    elif msg_type in ("display_data", "update_display_data"):
        ipython.display_pub.publish(
            data=content["data"],
            metadata=content["metadata"],
            transient=content.get("transient"),
            update=msg_type == "update_display_data",
        )


def child_error(reply: JSONObject) -> ChildError:
    """Return the error that makes the session's reply what the child's was."""
    name = reply.get("ename", "Aborted")
    text = reply.get("evalue", "The cell was not run, because the session has ended.")
    kind = type(name, (ChildError,), {})
    error: ChildError = kind(text, reply.get("traceback") or [f"{name}: {text}"])
    return error


class ForeignCells:
    """Runs cells of other clients in the child, and says in the session what the child says."""

    def __init__(self, conversation: Conversation, pump: Pump, ipython: Any) -> None:
        self.conversation = conversation
        self.pump = pump
        self.ipython = ipython
        self.interrupted = False

    def run(self, code: str) -> Result | None:
        """Run a cell in the child; its messages reach the relay's front ends too.

        One that the child aborts, because a front end's cell before it has failed, is asked again.
        """
        self.interrupted = False
        with interrupts(self._note_interrupt):
            while True:
                with self._asked(code) as asked:
                    result, reply = self._republish(asked)
                if reply["status"] == "ok":
                    return result
                if reply["status"] != "aborted" or self.pump.has_ended:
                    raise child_error(reply)

    @contextlib.contextmanager
    def _asked(self, code: str) -> Iterator[str]:
        """Ask the child to run a cell; what it says of it is kept under the request's id."""
        header = new_header("execute_request", self.pump.session)
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": False}
        content.update(user_expressions={}, allow_stdin=False)
        parts: list[JSONObject] = [header, {}, {}, content]
        self.conversation.foreign[header["msg_id"]] = deque()
        try:
            with self.conversation.lock:
                self._wait_for_turn()
                self.conversation.ask("shell", [json.dumps(part).encode() for part in parts])
                if self.pump.state == "failed":
                    self.conversation.refuse()
            self.pump.wake()
            yield header["msg_id"]
        finally:
            del self.conversation.foreign[header["msg_id"]]

    def _wait_for_turn(self) -> None:
        """Wait until the front ends' cells have ended; nothing has run if they take too long."""
        end = time.monotonic() + PATIENCE
        while self.conversation.ledger.runs_cell:
            if self.interrupted:
                raise child_error({"ename": "KeyboardInterrupt", "evalue": "It had not begun."})
            if time.monotonic() > end:
                raise child_error(BUSY)
            self.conversation.lock.wait(0.1)

    def _republish(self, asked: str) -> tuple[Result | None, JSONObject]:
        """Say what a foreign cell says, until it is idle; return its result and its reply."""
        result, reply, missing = None, {}, {"execute_reply", "idle"}
        while missing:
            msg_type, content = self._next(asked)
            if msg_type == "execute_result":
                result = Result(content)
            elif msg_type == "execute_reply":
                reply = content
            elif msg_type != "status":
                republish(self.ipython, msg_type, content)
            missing -= {msg_type, content.get("execution_state")}
        return result, reply

    def _next(self, asked: str) -> tuple[str, JSONObject]:
        """Wait for the next message."""
        news = self.conversation.foreign[asked]
        with self.conversation.lock:
            # In bounded steps: an interrupt that comes just before a wait is seen after it.
            while not news:
                if self.interrupted and self.conversation.ledger.asked["shell", asked].begun:
                    self.interrupted = False
                    self.pump.process.signal(signal.SIGINT)
                self.conversation.lock.wait(0.1)
            msg_type, frames = news.popleft()
        return msg_type, loads(frames[3])

    def _note_interrupt(self, *_: object) -> None:
        self.interrupted = True
