"""Ports that take connections before there is a kernel.

A front end that connects too early is refused, and ZeroMQ tries again only after 0.1 to 0.2 s: on
average that is a sixth of a start. One that is let in waits no longer than the kernel takes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from pathlib import Path

_CHANNELS = ("shell", "iopub", "stdin", "control")

#: Connections that wait to be taken, as many as ZeroMQ lets wait.
_BACKLOG = 100

_listening: dict[int, socket.socket] = {}


def listen(connection_file: str) -> None:
    """Listen on the ports of a connection file; whatever is wrong with it, the kernel will say."""
    if sys.platform == "win32":  # where ZeroMQ asks for ports in another way
        return
    with contextlib.suppress(OSError, ValueError, TypeError, LookupError, OverflowError):
        connection = json.loads(Path(connection_file).read_text("utf-8"))
        if connection["transport"] == "tcp":
            socket.inet_pton(socket.AF_INET, connection["ip"])
            for channel in _CHANNELS:
                if port := connection[f"{channel}_port"]:
                    _listen_on(connection["ip"], port)


def _listen_on(ip: str, port: int) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ip, port))
        listener.listen(_BACKLOG)
        stack.pop_all()
    _listening[port] = listener


def hand_over(port: int) -> int | None:
    """Return the file descriptor that listens on a port, which is the caller's from now on."""
    listener = _listening.pop(port, None)
    return listener.detach() if listener is not None else None
