"""A session as a service runs it: a stock ipykernel that is sent code and gives its outputs."""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jupyter_client.manager import KernelManager

from tci_kernel.transport.frames import Frame
from tci_kernel.transport.message import Channel, Message
from tci_kernel.transport.pieces import Assembler, Piece, parse
from tci_kernel.transport.requests import (
    BootOptions,
    Call,
    Exchange,
    Fetch,
    Form,
    Request,
    Status,
    boot,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_client.blocking import BlockingKernelClient

DEADLINE = 30.0


@dataclass
class Outputs:
    """What one `execute` of the service gave."""

    reply: dict[str, Any]
    messages: list[dict[str, Any]]

    @property
    def stdout(self) -> str:
        """All that was printed."""
        return "".join(
            message["content"]["text"]
            for message in self.messages
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout"
        )

    def contents(self, msg_type: str) -> list[dict[str, Any]]:
        """Return the contents of the messages of a type."""
        return [item["content"] for item in self.messages if item["msg_type"] == msg_type]


@dataclass
class Session:
    """One session kernel, in a folder of its own."""

    manager: KernelManager
    client: BlockingKernelClient
    folder: Path

    def execute(self, code: str, **options: Any) -> Outputs:
        """Run code as a service does: wait for the reply and for idle."""
        messages: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(
            code,
            timeout=DEADLINE,
            allow_stdin=False,
            stop_on_error=False,  # else older ipykernels abort what comes right after an error
            output_hook=messages.append,
            **options,
        )
        return Outputs(reply["content"], messages)

    def call(self, call: Call) -> str:
        """Run a request and return what it printed."""
        import base64

        for file in call.files:
            (self.folder / file.name).write_bytes(base64.b64decode(file.content))
        return self.execute(call.code).stdout


@dataclass
class Relay:
    """The simplest relay: it numbers, acknowledges and remembers."""

    session: Session
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    sent: int = 0
    acknowledged: int = 0
    limit: int = 2**20
    heard: list[Message] = field(default_factory=list)
    requests: int = 0
    printed: list[int] = field(default_factory=list)

    def boot(self, **options: Any) -> Frame:
        """Boot the agent."""
        return self.frame(boot(BootOptions(self.id, **options), Form(self.limit)))

    def ask(self, request: Request) -> Frame:
        """Send a request; keep the messages of its frame and acknowledge them with the next."""
        frame = self.frame(encode(request, Form(self.limit)))
        self.heard += [item for item in frame.messages if item.number > self.acknowledged]
        self.acknowledged = max(self.acknowledged, frame.last)
        return frame

    def frame(self, call: Call) -> Frame:
        """Make one call, and fetch the rest of its frame."""
        assembler = Assembler()
        while True:
            self.requests += 1
            printed = self.session.call(call)
            self.printed.append(len(printed))
            frame = assembler.add(parse(printed, call.nonce))
            if frame is not None:
                return frame
            call = encode(Fetch(self.id, assembler.batch, assembler.offset), Form(self.limit))

    def frame_of(self, piece: Piece) -> Frame:
        """Return the frame of its only piece."""
        frame = Assembler().add(piece)
        assert frame is not None
        return frame

    def message(
        self,
        msg_type: str,
        content: dict[str, Any],
        channel: Channel = "shell",
        buffers: tuple[bytes, ...] = (),
    ) -> Message:
        """Return the next numbered message."""
        self.sent += 1
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": msg_type,
            "session": "front end",
            "username": "me",
            "date": "2025-01-01T00:00:00Z",
            "version": "5.4",
        }
        frames = tuple(json.dumps(part).encode() for part in (header, {}, {}, content))
        return Message(self.sent, channel, (*frames, *buffers), heard=self.acknowledged)

    def exchange(self, *messages: Message, hold: float = 1.0, gather: float = 0.01) -> Frame:
        """Exchange once."""
        return self.ask(Exchange(self.id, self.acknowledged, messages, hold=hold, gather=gather))

    def execute_request(self, code: str, **content: Any) -> Message:
        """Return a request to run a cell."""
        return self.message(
            "execute_request",
            {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": True,
                "stop_on_error": True,
                **content,
            },
        )

    def run(self, code: str, **content: Any) -> list[Message]:
        """Run a cell and return its messages, up to idle."""
        request = self.execute_request(code, **content)
        self.exchange(request)
        return self.finish(request)

    def finish(self, request: Message) -> list[Message]:
        """Exchange until a request is answered and idle; return its messages."""
        deadline = time.monotonic() + DEADLINE
        while not self.is_done(request):
            assert time.monotonic() < deadline, self.about(request)
            self.exchange()
        return self.about(request)

    def finish_after(self, request: Message) -> list[Message]:
        """Send a message, and exchange until it is done; return what answers it."""
        self.exchange(request)
        return self.finish(request)

    def result(self, code: str) -> str:
        """Run an expression and return its text."""
        (content,) = [item.content for item in self.run(code) if item.msg_type == "execute_result"]
        return str(content["data"]["text/plain"])

    def grew(self) -> bool:
        """Tell whether the agent's buffer changes, without taking anything out of it."""
        before = self.status()["buffered"]
        time.sleep(0.5)
        return bool(self.status()["buffered"] != before)

    def about(self, request: Message) -> list[Message]:
        """Return what has been heard of a request."""
        msg_id = request.header["msg_id"]
        return [item for item in self.heard if item.parent_header.get("msg_id") == msg_id]

    def is_done(self, request: Message) -> bool:
        """Tell whether a request has its reply, if one is due, and its idle."""
        heard = self.about(request)
        idle = any(item.content.get("execution_state") == "idle" for item in heard)
        replied = any(item.msg_type.endswith("_reply") for item in heard)
        return idle and (replied or not request.msg_type.endswith("_request"))

    def status(self) -> dict[str, Any]:
        """Return the agent's status."""
        result = self.ask(Status(self.id)).result
        assert result is not None
        return result


@contextmanager
def session_kernel(folder: Path) -> Iterator[Session]:
    """Run a session kernel in a folder, by the interpreter that `TCI_TEST_PYTHON` names."""
    manager = KernelManager()
    if "TCI_TEST_PYTHON" in os.environ:
        manager.kernel_spec.argv[0] = os.environ["TCI_TEST_PYTHON"]
    with TemporaryDirectory(prefix="tci-", ignore_cleanup_errors=True) as temporary:
        # Its history is its own too: the user's says nothing of this session. It ends by SIGKILL,
        # which leaves files.
        own = {"IPYTHONDIR": f"{folder}-ipython", "TMPDIR": temporary}
        manager.start_kernel(cwd=str(folder), env={**os.environ, **own})
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=DEADLINE)
            yield Session(manager, client, folder)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
