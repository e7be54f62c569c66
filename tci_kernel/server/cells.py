"""The outputs of one running cell, gathered from a kernel's messages into the API's form."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, get_args

from tci_kernel.api import Output, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The most characters that are kept of a traceback once the outputs are full.
LAST_ERROR = 100_000


class Cell:
    """One execute request on its way: `begun` once the kernel runs it, `idle` once all is said.

    `limit` is the most characters of output that are kept; the rest is counted and dropped.
    """

    def __init__(self, message_id: str, limit: int) -> None:
        self.message_id = message_id
        self.begun = False
        self.idle = asyncio.Event()
        self._room = limit
        self._dropped = 0
        self._kept: list[Output] = []
        self._pieces: list[str] = []
        self._last_error: Output | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        """Add what one IOPub message says; the API has no place for most kinds of them.

        Raises anything for what no kernel would send: the session's code can forge messages.
        """
        if message["parent_header"].get("msg_id") != self.message_id:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            self.idle.set()
        elif kind == "execute_input":
            self.begun = True
        elif kind == "stream" and content["name"] in get_args(Stream):
            text = content["text"]
            # Few kernels send a list of lines; joining the characters of a text takes long.
            self._add_text(content["name"], text if isinstance(text, str) else "".join(text))
        elif kind == "error":
            self._add(Output(type="error", data="\n".join(content["traceback"])))
        elif kind in {"display_data", "execute_result"}:
            self._add(Output(type=kind, data=dict(content["data"])))

    def fail(self, text: str) -> None:
        """Add an error that the kernel has not told."""
        self._add(Output(type="error", data=text))

    def outputs(self) -> list[Output]:
        """Return the outputs in their order; the last one tells what was dropped, if anything."""
        self._end_stream()
        if not self._dropped:
            return self._kept
        note = (
            f"\n[{self._dropped:,} more characters of output were dropped: the server keeps a "
            "limited amount for one request. The code has run to its end.]\n"
        )
        error = [self._last_error] if self._last_error else []
        return [*self._kept, *error, Output(type="stderr", data=note)]

    def _add_text(self, stream: str, text: str) -> None:
        piece = text[: self._room]
        if piece:
            self._open_stream(stream)
            self._pieces.append(piece)
            self._room -= len(piece)
        self._dropped += len(text) - len(piece)

    def _open_stream(self, stream: str) -> None:
        """Make the last output one of this stream: consecutive pieces become one output."""
        if not self._kept or self._kept[-1].type != stream:
            self._end_stream()
            self._kept.append(Output(type=stream, data=""))

    def _end_stream(self) -> None:
        if self._pieces:
            self._kept[-1].data = "".join(self._pieces)
            self._pieces = []

    def _add(self, output: Output) -> None:
        size = _size(output.data)
        self._end_stream()
        if size <= self._room:
            self._kept.append(output)
            self._room -= size
            return
        self._dropped += size
        self._room = 0
        if output.type == "error":  # without it the code would seem to have succeeded
            self._last_error = Output(type="error", data=output.text[-LAST_ERROR:])


def _size(data: Any) -> int:
    return len(data) if isinstance(data, str) else len(json.dumps(data))
