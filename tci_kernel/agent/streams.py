"""Lets much text leave a stock kernel in pieces, each on its way while the next one is packed.

Runs in the child, on Python 3.8 or newer with any ipykernel; before 6.29 text leaves as it always
did. Imports nothing of this package.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of a piece.
PIECE = 2**20

#: Seconds to the first look at whether there is as much as that, and how much longer each next one
#: is in coming: all have to wait for Python's lock, which a cell may keep for long.
LOOK, LONGER = 0.005, 4


def speak_in_pieces(stream: Any) -> None:
    """Have stdout or stderr of a kernel say much text in pieces, before its interval is over."""
    if hasattr(stream, "_flush_buffers"):
        stream._flush = partial(_flush, stream, stream._flush)
        stream._schedule_flush = partial(_schedule_flush, stream)


def _schedule_flush(stream: Any) -> None:
    """Flush when the interval is over, or there is enough for a piece."""
    if not stream._flush_pending:
        stream._flush_pending = True
        stream.pub_thread.schedule(partial(_begin_to_look, stream))


def _begin_to_look(stream: Any) -> None:
    _look(stream, LOOK, time.monotonic() + stream.flush_interval)


def _look(stream: Any, pause: float, due: float) -> None:
    if not stream._flush_pending:
        return
    with stream._buffer_lock:
        waiting = sum(buffer.tell() for buffer in stream._buffers.values())
    left = due - time.monotonic()
    if waiting > PIECE or left <= 0:
        stream._flush()
    else:
        stream._io_loop.call_later(min(pause, left), _look, stream, LONGER * pause, due)


def _flush(stream: Any, flush: Any) -> None:
    """Do what `flush`, the stock kernel's, does: but pack a piece when it is its turn to go out.

    All is taken at once, and each piece has its place in the queue of the IOPub thread before
    anything that is said from now on.
    """
    if stream.echo is not None or stream._hooks:  # whoever has one expects whole texts
        flush()
        return
    stream._flush_pending = stream._subprocess_flush_pending = False
    for parent, text in stream._flush_buffers():
        for piece in pieces(text):
            stream.pub_thread.schedule(partial(_say, stream, parent, piece))


def _say(stream: Any, parent: Any, text: str) -> None:
    """Send a piece; no error may escape, or the IOPub thread would send nothing more."""
    try:
        _send(stream, parent, text)
    except UnicodeEncodeError:  # half a surrogate pair
        _send(stream, parent, text.encode("utf-8", "replace").decode())
    except Exception:
        traceback.print_exc(file=sys.__stderr__)


def _send(stream: Any, parent: Any, text: str) -> None:
    stream.session.pid = os.getpid()  # as the stream itself does: it bears a fork
    message = stream.session.msg("stream", {"name": stream.name, "text": text}, parent=parent)
    out = SimpleNamespace(send_multipart=stream.pub_thread._really_send)
    stream.session.send(out, message, ident=stream.topic)


def pieces(text: str) -> Iterator[str]:
    """Cut a text, between two lines if a piece has more than one."""
    start = 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end
