"""Lets much text leave a stock kernel in pieces, each on its way while the next one is packed.

Runs in the child, on Python 3.8 or newer with any ipykernel; before 6.29 text leaves as it always
did. Imports nothing of this package.
"""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of a piece.
PIECE = 2**20

#: Seconds after the first text to the looks at whether there is as much as that. There are few,
#: because each waits for Python's lock, which a cell may keep for long.
LOOKS = (0.0, 0.005, 0.025, 0.1)


def speak_in_pieces(*streams: Any) -> None:
    """Have stdout and stderr of a kernel say much text in pieces, before their interval is over."""
    waiting: list[Speaker] = []
    for stream in streams:
        if hasattr(stream, "_flush_buffers"):
            speaker = Speaker(stream, waiting)
            stream._flush, stream._schedule_flush = speaker.flush, speaker.schedule_flush


class Speaker:
    """What flushes one stream; `waiting` are those that have text, in the order of their first."""

    def __init__(self, stream: Any, waiting: list[Speaker]) -> None:
        self.stream = stream
        self.waiting = waiting
        self.iopub = stream.pub_thread
        self.stock_flush = stream._flush
        self.flushes = 0
        # Copied: when Python ends, its memory is gone before ZeroMQ has sent it.
        self.out = SimpleNamespace(send_multipart=lambda parts, **_: self.iopub._really_send(parts))

    def schedule_flush(self) -> None:
        """Flush when the stream's interval is over, or there is enough for a piece."""
        if not self.stream._flush_pending:
            self.stream._flush_pending = True
            self.iopub.schedule(self._begin)

    def _begin(self) -> None:
        if self not in self.waiting:
            self.waiting.append(self)
        for seconds in LOOKS:
            self.stream._io_loop.call_later(seconds, self._look)
        self.stream._io_loop.call_later(self.stream.flush_interval, self._end, self.flushes)

    def _end(self, flushes: int) -> None:
        """Flush, unless that has been done: it would cut a later line in two."""
        if flushes == self.flushes:
            self.stream._flush()

    def _look(self) -> None:
        """Flush if there is enough, and first the other stream if it was first to have text."""
        with self.stream._buffer_lock:
            size = sum(buffer.tell() for buffer in list(self.stream._buffers.values()))
        if size > PIECE and self in self.waiting:
            for speaker in self.waiting[: self.waiting.index(self) + 1]:
                speaker.flush()

    def flush(self) -> None:
        """Do what the stock kernel's flush does, but pack a piece when it is its turn to go out.

        All is taken at once, and each piece then has its place in the queue of the IOPub thread.
        """
        self.flushes += 1
        if self in self.waiting:
            self.waiting.remove(self)
        if self.stream.echo is not None or self.stream._hooks:  # they expect whole texts
            self.stock_flush()
            return
        self.stream._flush_pending = self.stream._subprocess_flush_pending = False
        for parent, text in self.stream._flush_buffers():
            for piece in pieces(text):
                self.iopub.schedule(partial(self._say, parent, piece))

    def _say(self, parent: Any, text: str) -> None:
        """Send a piece; no error may escape, or the IOPub thread would send nothing more."""
        try:
            self._send(parent, text)
        except UnicodeEncodeError:  # half a surrogate pair
            self._send(parent, text.encode("utf-8", "replace").decode())
        except Exception:
            traceback.print_exc(file=sys.__stderr__)

    def _send(self, parent: Any, text: str) -> None:
        session = self.stream.session
        session.pid = os.getpid()  # as the stream itself does: it bears a fork
        content = {"name": self.stream.name, "text": text}
        message = session.msg("stream", content, parent=parent)
        session.send(self.out, message, ident=self.stream.topic)


def pieces(text: str) -> Iterator[str]:
    """Cut a text, between two lines if a piece has more than one."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end
