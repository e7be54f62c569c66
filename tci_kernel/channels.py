"""Whole messages on the kernel's Jupyter sockets, as the bytes that they are.

The relay hands messages on without packing them again: only the signature is this kernel's own,
and on what the child says the Jupyter session.
Whoever asked is remembered by channel and message id, because ids are unique on one channel only.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_client.session import DELIM
from zmq import Frame

from tci_kernel.senders import is_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.kernel import TCIKernel
    from tci_kernel.transport.failure import Failure
    from tci_kernel.transport.message import Channel, Message

Frames = tuple[bytes, ...]

#: Longest wait for the thread that sends on iopub. Seconds.
_IOPUB_PATIENCE = 0.5


class Incoming(NamedTuple):
    """A front end's message: who sent it, its header and content, and all frames as bytes."""

    identities: list[bytes]
    header: dict[str, Any]
    content: dict[str, Any]
    frames: Frames


class Channels:
    """Receives and sends on the sockets of one kernel."""

    def __init__(self, kernel: TCIKernel) -> None:
        self._kernel = kernel
        self._session = kernel.session
        self._askers: dict[tuple[str, str], list[bytes]] = {}

    def peek(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Return the header of a message that will be deserialised again; raises ValueError."""
        _, frames = self._session.feed_identities(list(raw), copy=False)
        header: dict[str, Any] = self._session.deserialize(frames, content=False, copy=False)[
            "header"
        ]
        return header

    def content(self, raw: Sequence[Any]) -> dict[str, Any]:
        """Return the content of a message that `peek` has let pass."""
        frames = [bytes(frame.bytes) for frame in raw]
        content: dict[str, Any] = self._session.unpack(frames[frames.index(DELIM) + 5])
        return content

    def for_main_shell(self, raw: Sequence[Any]) -> Sequence[Any]:
        """Return a message as one for the main shell: this side has no other, only the child."""
        identities, frames = self._session.feed_identities(list(raw), copy=False)
        _, header, *rest = (bytes(frame.bytes) for frame in frames)
        fields: dict[str, Any] = self._session.unpack(header)
        if fields.pop("subshell_id", None) is None:
            return raw
        signed = self._signed(identities, (self._session.pack(fields), *rest))
        return [Frame(part) for part in signed]

    def receive(self, channel: Channel, raw: Sequence[Any]) -> Incoming:
        """Return a message whose signature is good; remember who sent it, if that is no answer.

        Raises ValueError or TypeError for a message that nobody could have sent properly.
        """
        identities, frames = self._session.feed_identities(list(raw), copy=False)
        message = self._session.deserialize(frames, content=True, copy=False)
        if not isinstance(message["content"], dict):
            raise ValueError("The content of a message is no object.")  # noqa: TRY004  as above
        if channel != "stdin":
            self.remember(channel, message["header"]["msg_id"], identities)
        whole = tuple(bytes(frame.bytes) for frame in frames[1:])
        return Incoming(identities, message["header"], message["content"], whole)

    def remember(self, channel: str, message_id: str, identities: list[bytes]) -> None:
        """Remember who asked something that a reply or an input_request will answer."""
        self._askers[channel, message_id] = identities

    def forget(self, channel: str, message_id: str) -> None:
        """Forget who asked for something that is finished."""
        self._askers.pop((channel, message_id), None)

    def send(self, message: Message) -> None:
        """Send a message of the child to whom it concerns, as one of this kernel's."""
        frames = (self._header(message), *message.frames[1:])
        if message.channel == "iopub":
            topic = self._kernel._topic(message.msg_type)  # noqa: SLF001  the base class's seam
            self._kernel.iopub_socket.send_multipart(self._signed([topic], frames))
            return
        asked_on = "shell" if message.channel == "stdin" else message.channel
        self._send_on(message.channel, self._signed(self._asker(asked_on, message), frames))

    def bury(self, channel: str, incoming: Incoming, failure: Failure) -> None:
        """Answer a front end's request in the child's place, which no longer can."""
        parent, kind = {"header": incoming.header}, incoming.header["msg_type"]
        reply = {"status": "error", **failure.content}
        if kind == "execute_request":
            self._kernel.publish("error", failure.content, parent)
            self._kernel.execution_count += not is_hidden(incoming.content)
            reply["execution_count"] = self._kernel.execution_count
        if kind.endswith("_request"):
            message = self._session.msg(kind.replace("_request", "_reply"), reply, parent=parent)
            signed = self._session.serialize(message, ident=incoming.identities)
            self._send_on(channel, signed)
        self._kernel.publish("status", {"execution_state": "idle"}, parent)

    def _send_on(self, channel: str, signed: list[bytes]) -> None:
        match channel:
            case "shell":
                self._wait_for_iopub()
                self._kernel.shell_reply_socket.send_multipart(signed)
            case "control":
                stream = self._kernel.control_stream
                self._kernel.control_thread.io_loop.add_callback(stream.send_multipart, signed)
            case "stdin":
                self._kernel.stdin_stream.send_multipart(signed)

    def _wait_for_iopub(self) -> None:
        """Wait until what was said on iopub before has gone out.

        A console that hears of a cell's end first has its next prompt above the cell's error;
        ipykernel's own sleep before a reply (`_execute_sleep`) is there for this.
        """
        gone_out = threading.Event()
        self._kernel.iopub_thread.schedule(gone_out.set)
        gone_out.wait(_IOPUB_PATIENCE)

    def _asker(self, channel: str, message: Message) -> list[bytes]:
        """Return who sent a request: where an earlier process got it, its Jupyter session's id.

        That is what `jupyter_client` and Jupyter Server take as the identity of their sockets.
        """
        session = str(message.parent_header.get("session", ""))
        identities = self._askers.get((channel, message.parent_id))
        return identities or [session.encode("utf-8", "replace")]

    def _header(self, message: Message) -> bytes:
        """Return the header of a child's message, all strings, with this kernel's Jupyter session.

        JupyterLab drops messages when those of two sessions come close together.
        """
        header = {name: value for name, value in message.header.items() if isinstance(value, str)}
        return json.dumps({**header, "session": self._session.session}).encode()

    def _signed(self, identities: list[bytes], frames: Frames) -> list[bytes]:
        return [*identities, DELIM, self._session.sign(list(frames[:4])), *frames]
