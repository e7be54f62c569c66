"""A notebook to test with: a real kernel process behind an unmodified `jupyter_client`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_kernel_test.msgspec_v5 import schema_fragments, validate_message

#: Seconds after which something that should happen has not happened.
DEADLINE = 60.0

Message = dict[str, Any]


def check(message: Message) -> None:
    """Check a message against the spec, as far as the checker knows it: no comms, no aborts."""
    aborted = message["content"].get("status") == "aborted"
    if message["msg_type"] in schema_fragments and not aborted:
        validate_message(message)


@dataclass
class Cell:
    """What a front end got for one execute_request, each message checked against the spec."""

    reply: Message
    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The reply's status."""
        return self.reply["content"]["status"]

    @property
    def count(self) -> int:
        """The cell's number."""
        return self.reply["content"]["execution_count"]

    def contents(self, kind: str) -> list[dict[str, Any]]:
        """Return the contents of the messages of one type."""
        return [m["content"] for m in self.messages if m["msg_type"] == kind]

    def stream(self, name: str) -> str:
        """Return all text of one stream."""
        return "".join(c["text"] for c in self.contents("stream") if c["name"] == name)

    @property
    def stdout(self) -> str:
        """All that the cell wrote to stdout."""
        return self.stream("stdout")

    @property
    def stderr(self) -> str:
        """All that the cell wrote to stderr."""
        return self.stream("stderr")

    @property
    def result(self) -> str | None:
        """Return the text of the cell's result."""
        results = self.contents("execute_result")
        return results[0]["data"]["text/plain"] if results else None

    @property
    def error(self) -> str | None:
        """Return the name of the error that the cell ended with."""
        errors = self.contents("error")
        return errors[0]["ename"] if errors else None


class Notebook:
    """One kernel and one client."""

    def __init__(
        self, folder: Path, env: dict[str, str], kernel_name: str = "tci_python", **options: Any
    ) -> None:
        self.manager = KernelManager(kernel_name=kernel_name, **options)
        self.folder = folder
        self.env = {**os.environ, **env}
        self.manager.start_kernel(env=self.env, cwd=str(folder))
        self.client = self._connect()

    def _connect(self) -> Any:
        client = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=DEADLINE)
        return client

    @contextlib.contextmanager
    def another_front_end(self) -> Iterator[BlockingKernelClient]:
        """Connect a client with a Jupyter session of its own, as another front end has."""
        client = BlockingKernelClient(connection_file=self.manager.connection_file)
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=DEADLINE)
        try:
            yield client
        finally:
            client.stop_channels()

    def restart(self, *, now: bool = False) -> None:
        """Restart as a front end does; `now` kills the process first."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=now)
        self.client = self._connect()

    def send(self, code: str, **options: Any) -> str:
        """Send a cell and return the id of the request."""
        return self.client.execute(code, **options)

    def run(self, code: str, *, deadline: float = DEADLINE, **options: Any) -> Cell:
        """Run a cell to its reply *and* idle."""
        return self.finish(self.send(code, **options), deadline)

    def finish(self, request: str, deadline: float = DEADLINE) -> Cell:
        """Collect what belongs to a request until its reply and idle have come."""
        end = time.monotonic() + deadline
        messages = self.heard(request, deadline)
        return Cell(self.reply(request, end - time.monotonic()), messages)

    def heard(self, request: str, deadline: float = DEADLINE) -> list[Message]:
        """Collect what comes on IOPub for a message until its idle."""
        end = time.monotonic() + deadline
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.0, end - time.monotonic()))
            if message["parent_header"].get("msg_id") != request:
                continue
            check(message)
            if message["content"].get("execution_state") == "idle":
                return messages
            messages.append(message)

    def reply(self, request: str, deadline: float = DEADLINE) -> Message:
        """Return the reply on shell to a request."""
        end = time.monotonic() + deadline
        while True:
            message = self.client.get_shell_msg(timeout=max(0.1, end - time.monotonic()))
            if message["parent_header"].get("msg_id") == request:
                check(message)
                return message

    def wait_for(self, request: str, kind: str, deadline: float = DEADLINE) -> Message:
        """Return the next IOPub message of a type that belongs to a request."""
        end = time.monotonic() + deadline
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.0, end - time.monotonic()))
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == kind:
                return message

    def tell(
        self,
        kind: str,
        content: dict[str, Any],
        *,
        channel: str = "shell",
        buffers: list[bytes] | None = None,
        **header: Any,
    ) -> str:
        """Send a message of any kind, and return its id."""
        message = self.client.session.msg(kind, content)
        message["header"].update(header)
        socket = getattr(self.client, f"{channel}_channel").socket
        self.client.session.send(socket, message, buffers=buffers)
        return message["header"]["msg_id"]

    def command(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        """Return the content of the reply to a request on control."""
        request = self.tell(kind, content, channel="control")
        while True:
            message = self.client.get_control_msg(timeout=DEADLINE)
            if message["parent_header"]["msg_id"] == request:
                return message["content"]

    def answer(self, text: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """Answer the next `input()`, and return what it asked."""
        asked = self.client.get_stdin_msg(timeout=deadline)
        self.client.input(text)
        return asked["content"]

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        """Return the content of the reply to `complete`, `inspect`, `history` or `is_complete`."""
        request = getattr(self.client, question)(**arguments)
        return self.reply(request)["content"]

    def silence(self, seconds: float) -> list[Message]:
        """Return what comes on IOPub although nothing was asked."""
        messages = []
        end = time.monotonic() + seconds
        with contextlib.suppress(Empty):
            while True:
                messages.append(self.client.get_iopub_msg(timeout=max(0, end - time.monotonic())))
        return messages

    def close(self) -> None:
        """Shut down as a front end does."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()
        self.manager.cleanup_resources()


@contextlib.contextmanager
def opened(folder: Path, env: dict[str, str]) -> Iterator[Notebook]:
    """Open a notebook in a folder and shut it down at the end."""
    notebook = Notebook(folder, env)
    try:
        yield notebook
    finally:
        notebook.close()
