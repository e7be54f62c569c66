"""Lets much text leave a stock kernel in pieces, each on its way while the next one is packed.

Runs in the child, on Python 3.8 or newer with any ipykernel; before 6 text leaves as it always did.
Imports nothing of this package.
"""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of a piece.
PIECE = 2**20

#: Seconds between two looks at whether there is as much as that.
LOOK = 0.005


def speak_in_pieces(stream: Any) -> None:
    """Have stdout or stderr of a kernel say much text in pieces, and before its interval is over.

    All else is as it was: what is said by others meanwhile keeps its place, because a stream takes
    all its text at once, and the pieces then wait in the queue of the IOPub thread. A kernel
    flushes its two streams one after the other before it replies, and so waits for the pieces.
    """
    if not hasattr(stream, "_flush_buffers"):
        return
    take = stream._flush_buffers

    def take_pieces() -> Iterator[tuple[Any, str]]:
        return ((parent, piece) for parent, text in take() for piece in pieces(text))

    def schedule_flush() -> None:
        if not stream._flush_pending:
            stream._flush_pending = True
            stream.pub_thread.schedule(look)

    def look(waited: float = 0.0) -> None:
        if not stream._flush_pending:
            return
        waiting = sum(buffer.tell() for buffer in list(stream._buffers.values()))
        if waiting > PIECE or waited >= stream.flush_interval:
            stream._flush()
        else:
            stream._io_loop.call_later(LOOK, look, waited + LOOK)

    stream._flush_buffers = take_pieces
    stream._schedule_flush = schedule_flush
    stream.session = LatePacker(stream.session)


def pieces(text: str) -> Iterator[str]:
    """Cut a text, between two lines if a piece has more than one."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end


class LatePacker:
    """The session of a kernel, for one of its streams: it packs a message when that goes out."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def send(self, iopub: Any, message: Any, *, ident: bytes) -> None:
        """Send a message in its turn."""
        out = SimpleNamespace(send_multipart=iopub._really_send)

        def pack_and_send() -> None:
            self._session.pid = os.getpid()  # as the stream does: its thread bears a fork
            self._session.send(out, message, ident=ident)

        iopub.schedule(pack_and_send)
