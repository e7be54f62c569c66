"""A session whose agent says what a test makes up, behind a service on loopback."""

from __future__ import annotations

import base64
import itertools
import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

from scripted_service import Reply, ScriptedService, success
from tci_kernel.agent.wire import Batch, pack, unpack
from tci_kernel.transport.requests import agent_version

HELLO = {
    "version": agent_version(),
    "refusal": "",
    "python": "3.12.0",
    "ipykernel": "7.4.0",
    "jupyter_client": "8.6.0",
    "platform": "linux",
    "cwd": "/",
    "pid": 1,
    "ipython": True,
    "agent": "a1",
    "fresh": True,
    "moved": [],
    "not_moved": {},
}
HEAD: dict[str, Any] = {"child": {"state": "ready", "generation": 1, "reason": ""}, "more": False}
IDLE = {"threads": 0, "tasks": 0, "comms": 0}

_REQUEST = re.compile(
    r"'nonce': '(?P<boot>\w+)', 'argument': '(?P<loaded>[^']*)'"
    r"|request\('(?P<nonce>\w+)', '(?P<argument>[^']*)'\)"
)

#: What every request is answered with.
REPLY = {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": []}

#: A channel, and a message's parts: each as bytes, or as what is to be packed.
Said = tuple[str, Sequence[Any]]


class HostileSession(ScriptedService):
    """Answers each request of a front end, and says before that what `messages` holds.

    `head` overrides what its frames say of themselves; `printed` is printed instead of one frame;
    `deaf` prints no frame at all.
    """

    def __init__(self) -> None:
        self.messages: list[Said] = []
        self.head: dict[str, Any] = {}
        self.printed: str | None = None
        self.deaf = False
        self._ids = itertools.count(1)
        super().__init__()

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Answer as an agent in a session does."""
        del path
        if method == "GET":
            return Reply(body={"errors": None, "data": {"sessions": []}})
        request = json.loads(body)
        session_id = request.get("session_id") or f"ses_{next(self._ids)}"
        printed, self.printed = "" if self.deaf else self.printed, None
        if printed is None and (found := _REQUEST.search(request["code"])):
            nonce = found["boot"] or found["nonce"]
            packed = base64.b64decode(found["loaded"] or found["argument"])
            printed = self._frame(*unpack(zlib.decompress(packed))).piece(nonce, 0, 2**24)
        output = {"type": "stdout", "data": printed or ""}
        return success(output, session_id=session_id)

    def _frame(self, head: dict[str, Any], asked: list[Any]) -> Batch:
        said = [message for _, channel, parts in asked for message in self._say(channel, parts)]
        first = head.get("acknowledged", 0) + 1
        numbered = [(first + n, channel, parts) for n, (channel, parts) in enumerate(said)]
        accepted = asked[-1][0] if asked else 0
        state = {"accepted": accepted, "last": first + len(said) - 1, "idle": IDLE, **HEAD}
        if head["op"] == "boot":
            state["hello"] = HELLO
        return Batch(1, pack({**state, **self.head}, numbered))

    def _say(self, channel: str, parts: list[bytes]) -> list[tuple[str, list[bytes]]]:
        """Return a reply and idle to a request, behind what is made up."""
        parent = json.loads(parts[0])
        kind = parent["msg_type"]
        if channel == "stdin" or not kind.endswith("_request"):
            return []
        made_up = [
            (where, [_packed(part, parent) for part in what]) for where, what in self.messages
        ]
        reply = (channel, _message(kind.replace("_request", "_reply"), parent, REPLY))
        idle = ("iopub", _message("status", parent, {"execution_state": "idle"}))
        return [*made_up, reply, idle]


def _message(kind: str, parent: dict[str, Any], content: dict[str, Any]) -> list[bytes]:
    header = {"msg_id": "m", "msg_type": kind, "session": "s", "username": "u", "version": "5.4"}
    return [json.dumps(part).encode() for part in (header, parent, {}, content)]


def _packed(part: Any, parent: dict[str, Any]) -> bytes:
    """Return a made-up part of a message; `PARENT` stands for the request's own header."""
    if part == "PARENT":
        part = parent
    return part if isinstance(part, bytes) else json.dumps(part).encode()
