"""One child ipykernel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import zmq

from .asked import new_header
from .shipped import CHILD
from .wire import CELLS, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .wire import Frames, JSONObject

DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
REPLIES = ("stdin", "shell", "control")

#: Most messages of a channel that are read at a time, and most outputs in front of a reply: a child
#: may say more than can ever be read.
TURN, MANY_TURNS = 1000, 100_000

#: Time for a child's exit functions. Seconds; Jupyter gives a kernel 2.5, travel included.
LAST_ACTS = 1.5

#: Bytes of a folder's path that leave room for a socket's name: the whole may have 107.
LONGEST_FOLDER = 90

#: Runs in the child: takes its sources and options from the link that it inherits. As the stock
#: launcher does, it first drops the working directory, whose files may be named as modules are;
#: ipykernel puts it behind the standard library.
LAUNCH = (
    "import sys; sys.path[0] or sys.path.pop(0); import json, socket; "
    "link = socket.socket(fileno=int(sys.argv.pop(1))); "
    "sources, options = json.loads(link.makefile().readline())\n"
    "for name, source in sources: exec(compile(source, f'<tci {name}>', 'exec'))\n"
    "main(link, options)"
)


class Process:
    """One child ipykernel: its process, its sockets (the pump's), its files in `folder`."""

    def __init__(self, generation: int, folder: str, launch: JSONObject) -> None:
        self.generation = generation
        self.started = time.monotonic()
        self.pings: dict[str, float] = {}
        self.pinged = self.reached = 0.0
        self.answered: set[str] = set()
        self.family: list[int] = []
        self.last_words = b""
        self.replies = b""
        self.address = os.path.join(folder, str(generation))
        self.sockets: dict[str, Any] = {}
        self.link, theirs = socket.socketpair()
        options = {**launch, "folder": folder, "cells": CELLS}
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.output = open(reading, "rb", buffering=0)  # noqa: SIM115  closed by `close`
        try:
            self.popen = self._start(theirs, writing)
        finally:
            theirs.close()
            os.close(writing)
        # Not earlier: what no process reads yet may be more than the system holds.
        with contextlib.suppress(OSError):  # it has died already
            self.link.sendall(json.dumps([CHILD, options]).encode() + b"\n")
        self.link.setblocking(False)

    def _start(self, link: socket.socket, output: int) -> subprocess.Popen[bytes]:
        connection: JSONObject = {f"{name}_port": n for n, name in enumerate(CHANNELS, 1)}
        # No key: the sockets are in a folder of the user's own, and unsigned is faster.
        connection.update(transport="ipc", ip=self.address, key="", signature_scheme="hmac-sha256")
        with open(f"{self.address}.json", "w") as file:
            json.dump(connection, file)
        environment = dict(os.environ)
        environment.pop("JPY_PARENT_PID", None)
        if os.getpid() != 1:
            environment["JPY_PARENT_PID"] = str(os.getpid())
        # As multiprocessing does, so that the child is started as the session was.
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return subprocess.Popen(  # noqa: S603  the session's own interpreter
            [sys.executable, *flags, "-c", LAUNCH, str(link.fileno()), "-f", file.name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=[link.fileno()],
            start_new_session=True,  # its own interrupts go to its whole process group
        )

    def connect(self, context: Any, session: str) -> None:
        """Connect to the sockets of the child, which may not be there yet."""
        self.sockets["iopub"] = self._connected(context.socket(zmq.SUB), "iopub")
        self.sockets["iopub"].subscribe(b"")
        self.introduce(context, session)

    def introduce(self, context: Any, session: str) -> None:
        """Connect as the client of a Jupyter session, in the place of an earlier one if any."""
        self.session = session
        for channel in ("stdin", "control", "shell"):
            if channel in self.sockets:
                self.sockets[channel].close()
            sock = context.socket(zmq.DEALER)
            sock.identity = session.encode()[:255]
            self.sockets[channel] = self._connected(sock, channel)

    def _connected(self, sock: Any, channel: str) -> Any:
        sock.linger = 0
        sock.sndhwm = sock.rcvhwm = 0
        sock.reconnect_ivl = 5
        sock.connect(f"ipc://{self.address}-{CHANNELS.index(channel) + 1}")
        return sock

    def send(self, channel: str, frames: Frames) -> None:
        """Send one message, unsigned."""
        self.sockets[channel].send_multipart([DELIMITER, b"", *frames])

    def receive(self) -> Iterator[tuple[str, Frames]]:
        """Yield what has arrived, a reply after its outputs: what came before it is there then."""
        replies = [item for name in REPLIES for item in self._arrived(name, TURN)]
        yield from self._arrived("iopub", MANY_TURNS if replies else TURN)
        yield from replies

    def _arrived(self, channel: str, most: int) -> Iterator[tuple[str, Frames]]:
        for _ in range(most):
            try:
                parts = self.sockets[channel].recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            frames = parts[parts.index(DELIMITER) + 2 :] if DELIMITER in parts else []
            if len(frames) >= 4:  # noqa: PLR2004  header, parent, metadata, content
                yield channel, frames

    def ping(self) -> None:
        """Ask for the kernel's info, whose answer nobody but `takes_answer` is to hear.

        Once it is there, so is all that the child had replied before: then that time is `reached`.
        """
        header = new_header("kernel_info_request", self.session)
        self.pings[header["msg_id"]] = self.pinged = time.monotonic()
        self.send("shell", [json.dumps(header).encode(), b"{}", b"{}", b"{}"])

    def takes_answer(self, channel: str, frames: Frames) -> bool:
        """Tell whether a message answers a ping, and note where it came."""
        pinged = self.pings.get(loads(frames[1]).get("msg_id")) if self.pings else None
        if pinged is None:
            return False
        self.answered.add(channel)
        if channel == "shell":
            self.reached = max(self.reached, pinged)
        return True

    @property
    def listens(self) -> bool:
        """Whether it is up, and all that it says is heard."""
        return {"shell", "iopub"} <= self.answered

    def read_output(self) -> bool:
        """Keep the end of what the child wrote past ipykernel; tell whether more can come."""
        data = self.output.read(2**16)
        self.last_words = (self.last_words + (data or b""))[-2000:]
        return data != b""

    def read_link(self) -> tuple[list[JSONObject], bool]:
        """Return what the child answered, and whether it can answer again."""
        try:
            data = self.link.recv(2**16)
        except BlockingIOError:
            return [], True
        except OSError:
            data = b""
        *lines, self.replies = (self.replies + data).split(b"\n")
        return [json.loads(line) for line in lines], bool(data)

    def ask(self) -> None:
        """Ask what can still speak; the answer comes on the link."""
        with contextlib.suppress(OSError):
            self.link.send(b"?")

    def signal(self, signum: int) -> None:
        """Send a signal to the child and what it started in its process group."""
        with contextlib.suppress(OSError):
            os.killpg(self.popen.pid, signum)

    def interrupt(self) -> None:
        """Interrupt the child from outside: its own handler may never get to run."""
        self.signal(signal.SIGINT)
        self.ping()  # a loop that waits heeds a signal only when something comes

    def note_family(self) -> None:
        """Remember what is below the child; nothing is any more once it has ended."""
        self.family = descendants(self.popen.pid) or self.family

    def shut_down(self) -> None:
        """Let an idle child run its exit functions, for a short while."""
        self.note_family()
        header = json.dumps(new_header("shutdown_request", "")).encode()
        self.send("control", [header, b"{}", b"{}", b'{"restart": true}'])
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(LAST_ACTS)

    def kill(self) -> None:
        """End the child and everything below it."""
        self.note_family()
        for signum, patience in ((signal.SIGTERM, 0.2), (signal.SIGKILL, 5)):
            self.signal(signum)
            for pid in self.family:
                with contextlib.suppress(OSError):
                    os.kill(pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(patience)

    def close(self) -> None:
        """Close what is open."""
        for sock in self.sockets.values():
            sock.close()
        self.link.close()
        self.output.close()

    def epitaph(self) -> str:
        """Say how the child ended, for a person to read."""
        code = self.popen.returncode
        if code >= 0:
            cause = f"exit code {code}"
        else:
            cause = f"signal {name_of_signal(-code)}"
            if code == -signal.SIGKILL:
                cause += ", probably because the session is out of memory"
        words = self.last_words.decode("utf-8", "replace").strip()
        return f"Python has died ({cause})." + (f" Its last words:\n{words}" if words else "")


def name_of_signal(number: int) -> str:
    """Return a signal's name, or its number: most real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def private_folder() -> str:
    """Make a folder of the user's own with a path that is short enough for sockets."""
    folder = tempfile.mkdtemp(prefix="tci-")
    if len(os.fsencode(folder)) < LONGEST_FOLDER:
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix="tci-", dir="/tmp")


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, where /proc tells."""
    children: dict[int, list[int]] = defaultdict(list)
    for name in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat") as file:
            children[int(file.read().rpartition(")")[2].split()[1])].append(int(name))
    found, search = [], [pid]
    while search:
        below = children[search.pop()]
        found += below
        search += below
    return found


def resident(pid: int) -> int | None:
    """Return the resident memory of a process in bytes, where /proc tells."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
