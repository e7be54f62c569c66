"""The half of the live transport that runs inside the session.

`transport/requests.py` ships this source in the code of one request; it is loaded as the module
`_tci_agent`, without a name in the user's namespace and without a file. What it says and hears is
written down in `transport/frames.py`. Its parts, from the inside out:

    Outbox    the child's messages, numbered, until the relay has acknowledged them
    Process   one child ipykernel: its process, its sockets, its folder
    Pump      the one thread that owns the sockets, sends, and watches the child
    Agent     what the relay asks for, answered in the session's main thread
    Shell     the session's own IPython: keeps requests out of its history, and runs in the child
              what other clients of the session send

Runs on Python 3.8 or newer with the standard library and what ipykernel brings.
"""

from __future__ import annotations

import atexit
import base64
import collections
import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import linecache
import os
import pickle
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    JSONObject = dict[str, Any]
    Frames = list[bytes]
    Key = tuple[str, str]
    Numbered = tuple[int, str, Frames]
    Answer = tuple[JSONObject, list[Numbered]]

#: First line of the code of every request: no cell of the user's.
MARK = "# tci-agent"
NAME = "_tci_agent"

#: Set by the loader: what tells this source from another, and the source of child.py.
VERSION = ""
CHILD = ""

#: Bytes of messages in one frame, unless one message alone is longer.
BATCH = 8 * 2**20

#: Deaths in a row, without one answer, after which the child is given up.
ATTEMPTS = 3

#: Longest wait for company of news that alone is not worth a frame. Seconds.
COMPANY = 0.05

#: Longest wait for the child's word on what can still speak. Seconds.
PATIENCE = 0.005

#: Stands for stream text that was dropped.
NOTE = "\n[… %d bytes of output dropped …]\n"

#: Time for the answer to a last request to leave a session that ends. Seconds.
LAST_WORD = 0.5

DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
LAUNCH = (
    "import json, socket, sys; link = socket.socket(fileno=int(sys.argv.pop(1))); "
    "source, options = json.loads(link.makefile().readline()); "
    "exec(compile(source, '<tci child>', 'exec')); main(link, options)"
)

#: What a frame says where there is no agent.
NOBODY = {
    "accepted": 0,
    "last": 0,
    "child": {"state": "failed", "generation": 0, "reason": ""},
}


def pack(head: JSONObject, messages: Iterable[tuple[int, str, Iterable[bytes]]]) -> bytes:
    """Return a head and messages as they travel (the wire: transport/frames.py)."""
    parts: list[bytes] = []
    layout = []
    for number, channel, frames in messages:
        layout.append([number, channel, [len(frame) for frame in frames]])
        parts.extend(frames)
    packed = json.dumps({**head, "messages": layout}).encode()
    return b"".join([struct.pack(">I", len(packed)), packed, *parts])


def unpack(data: bytes) -> tuple[JSONObject, list[Numbered]]:
    """Return the head and the messages of a request of the relay, which is trusted."""
    position = 4 + struct.unpack_from(">I", data)[0]
    head = json.loads(data[4:position])
    messages = []
    for number, channel, lengths in head.pop("messages"):
        frames = []
        for length in lengths:
            frames.append(data[position : position + length])
            position += length
        messages.append((number, channel, frames))
    return head, messages


class Held(NamedTuple):
    """A message of the child that the relay may not have yet.

    `parent` is the parent's id if this is stream text; `dropped` the bytes whose place it takes.
    """

    number: int
    channel: str
    frames: Frames
    size: int
    parent: str | None = None
    dropped: int = 0


class Outbox:
    """The child's messages, numbered from 1, until they are acknowledged.

    Over `limit` bytes the middle of stream text that was in no frame yet gives way to a line that
    says how much; nothing else is ever dropped.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.last = 0
        self.sent = 0
        self.held: collections.OrderedDict[int, Held] = collections.OrderedDict()
        self.notes: dict[tuple[str | None, str], int] = {}

    def add(self, channel: str, frames: Frames, parent: str | None = None) -> None:
        """Hold one message; `parent` marks it as stream text of that request."""
        self.last += 1
        size = sum(map(len, frames)) + 64
        self.held[self.last] = Held(self.last, channel, frames, size, parent)
        self.size += size
        if self.size > self.limit:
            self._cut()

    def acknowledge(self, number: int) -> None:
        """Forget the messages up to `number`."""
        while self.held and next(iter(self.held)) <= number:
            self.size -= self.held.popitem(last=False)[1].size

    def take(self) -> tuple[list[Held], bool]:
        """Return what one frame can hold, and whether there is more."""
        taken, size = [], 0
        for message in self.held.values():
            size += message.size
            if taken and size > BATCH:
                return taken, True
            taken.append(message)
            self.sent = max(self.sent, message.number)
        self.sent = self.last
        return taken, False

    def _cut(self) -> None:
        """Drop the oldest stream text, but its beginning, until a quarter of the room is free."""
        excess = self.size - self.limit * 3 // 4
        kept = 0
        for message in [held for held in self.held.values() if self._can_drop(held)]:
            kept += message.size
            if kept > self.limit // 8:
                excess -= self._shorten(message)
            if excess <= 0:
                break

    def _can_drop(self, message: Held) -> bool:
        return message.parent is not None and not message.dropped and message.number > self.sent

    def _shorten(self, message: Held) -> int:
        """Replace a text, or the middle of a huge one, by a note; return the bytes gained."""
        content = json.loads(message.frames[3])
        text = content["text"]
        keep = self.limit // 16 if len(text) > self.limit // 4 else 0
        dropped = len(text.encode("utf-8", "replace")) - 2 * keep
        stream = message.parent, content["name"]
        note = self.held.get(self.notes.get(stream, 0))
        if keep:
            start, end = text[:keep], text[-keep:]
            return self._replace(message, dropped, {**content, "text": start + NOTE + end})
        if note is None or note.number <= self.sent:
            self.notes[stream] = message.number
            return self._replace(message, dropped, {**content, "text": NOTE})
        del self.held[message.number]
        self.size -= message.size
        return message.size + self._replace(note, note.dropped + dropped, {**content, "text": NOTE})

    def _replace(self, held: Held, dropped: int, content: JSONObject) -> int:
        content["text"] = content["text"].replace(NOTE, NOTE % dropped)
        frames = [*held.frames[:3], json.dumps(content).encode()]
        size = sum(map(len, frames)) + 64
        self.held[held.number] = held._replace(frames=frames, size=size, dropped=dropped)
        self.size += size - held.size
        return held.size - size


class Process:
    """One child ipykernel: its process, its sockets (the pump's), its files in `folder`."""

    def __init__(self, generation: int, folder: str, launch: JSONObject) -> None:
        self.generation = generation
        self.started = time.monotonic()
        self.kernel_info: JSONObject | None = None
        self.iopub_heard = False
        self.pings: set[str] = set()
        self.last_words = b""
        self.replies = b""
        self.address = os.path.join(folder, str(generation))
        self.sockets: dict[str, Any] = {}
        self.link, theirs = socket.socketpair()
        with theirs:
            self.popen = self._start(theirs, {**launch, "folder": folder})
        self.output = self.popen.stdout

    def _start(self, link: socket.socket, options: JSONObject) -> subprocess.Popen[bytes]:
        connection = {f"{name}_port": port for port, name in enumerate(CHANNELS, 1)}
        # No key: the sockets are in a folder of the user's own, and unsigned is faster.
        connection.update(transport="ipc", ip=self.address, key="", signature_scheme="hmac-sha256")
        with open(f"{self.address}.json", "w") as file:
            json.dump(connection, file)
        environment = dict(os.environ)
        environment.pop("JPY_PARENT_PID", None)
        if os.getpid() != 1:
            environment["JPY_PARENT_PID"] = str(os.getpid())
        flags = subprocess._args_from_interpreter_flags()  # as multiprocessing does
        popen = subprocess.Popen(
            [sys.executable, *flags, "-c", LAUNCH, str(link.fileno()), "-f", file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[link.fileno()],
            start_new_session=True,  # its own interrupts go to its whole process group
        )
        self.link.sendall(json.dumps([CHILD, options]).encode() + b"\n")
        self.link.setblocking(False)
        os.set_blocking(popen.stdout.fileno(), False)
        return popen

    def connect(self, context: Any, identity: bytes) -> None:
        """Connect to the sockets of the child, which may not be there yet."""
        import zmq

        for port, channel in enumerate(CHANNELS[:4], 1):
            kind = zmq.SUB if channel == "iopub" else zmq.DEALER
            self.sockets[channel] = sock = context.socket(kind)
            sock.linger = 0
            sock.sndhwm = sock.rcvhwm = 0
            sock.reconnect_ivl = 5
            if channel == "iopub":
                sock.subscribe(b"")
            else:
                sock.identity = identity
            sock.connect(f"ipc://{self.address}-{port}")

    def send(self, channel: str, frames: Frames) -> None:
        """Send one message, unsigned."""
        self.sockets[channel].send_multipart([DELIMITER, b"", *frames])

    def receive(self) -> Iterator[tuple[str, Frames]]:
        """Yield what has arrived, iopub first so that a reply comes after its outputs."""
        import zmq

        for channel in ("iopub", "stdin", "shell", "control"):
            for _ in range(1000):
                try:
                    parts = self.sockets[channel].recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                yield channel, parts[parts.index(DELIMITER) + 2 :]

    def read_output(self) -> bool:
        """Keep the end of what the child wrote to its real stdout; tell whether there was any."""
        try:
            data = os.read(self.output.fileno(), 2**16)
        except BlockingIOError:
            return False
        self.last_words = (self.last_words + data)[-2000:]
        return bool(data)

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

    def kill(self) -> None:
        """End the child and everything below it."""
        family = descendants(self.popen.pid)
        for signum, patience in ((signal.SIGTERM, 0.2), (signal.SIGKILL, 5)):
            self.signal(signum)
            for pid in family:
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
            cause = f"signal {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                cause += ", probably because the session is out of memory"
        words = self.last_words.decode("utf-8", "replace").strip()
        return f"Python has died ({cause})." + (f" Its last words:\n{words}" if words else "")


def descendants(pid: int) -> list[int]:
    """Return the processes below a process, where /proc tells."""
    children: dict[int, list[int]] = collections.defaultdict(list)
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


class Asked:
    """A request that the child has not finished: with reply, where one is due, and idle."""

    def __init__(self, channel: str, header: JSONObject, raw_header: bytes) -> None:
        self.channel = channel
        self.msg_type: str = header.get("msg_type", "")
        self.raw_header = raw_header
        self.replied = not self.msg_type.endswith("_request")
        self.sent = self.busy = self.idle = False

    def obituary(self, text: str, count: int, *, aborted: bool) -> Iterator[tuple[str, Frames]]:
        """Yield the messages that end this request in the place of a child that is gone."""
        error = {"ename": "DeadKernelError", "evalue": text, "traceback": [text]}
        runs = self.msg_type == "execute_request"
        if runs and not aborted:
            yield "iopub", self.message("error", error)
        if not self.replied:
            reply: JSONObject = {"status": "aborted"} if aborted else {"status": "error", **error}
            if runs:
                reply.update(execution_count=count, user_expressions={}, payload=[])
            yield self.channel, self.message(self.msg_type[: -len("request")] + "reply", reply)
        if not self.idle:
            yield "iopub", self.message("status", {"execution_state": "idle"})

    def message(self, msg_type: str, content: JSONObject) -> Frames:
        """Return a message whose parent is this request."""
        session = json.loads(self.raw_header).get("session", "")
        header = new_header(msg_type, session)
        return [json.dumps(header).encode(), self.raw_header, b"{}", json.dumps(content).encode()]


def new_header(msg_type: str, session: str) -> JSONObject:
    """Return the header of a new message."""
    return {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "session": session,
        "username": "tci",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "version": "5.4",
    }


class Ledger:
    """What the child was asked, has open and has counted."""

    def __init__(self, count: int) -> None:
        self.next_count = count
        self.asked: dict[Key, Asked] = {}
        self.comms: set[str] = set()

    def ask(self, channel: str, frames: Frames) -> None:
        """Note a message for the child; Jupyter's ids are unique on one channel only."""
        header = json.loads(frames[0])
        self._note_comm(header.get("msg_type", ""), frames)
        if channel != "stdin":
            self.asked[channel, header.get("msg_id", "")] = Asked(channel, header, frames[0])

    def hear(self, channel: str, msg_type: str, parent: JSONObject, frames: Frames) -> None:
        """Note a message of the child."""
        self._note_comm(msg_type, frames)
        if msg_type == "execute_input":
            self.next_count = json.loads(frames[3]).get("execution_count", self.next_count) + 1
        for key, asked in self._by_parent(channel, parent):
            if msg_type == "status":
                self._note_state(asked, json.loads(frames[3])["execution_state"])
            elif channel != "iopub":
                asked.replied = True
            if asked.replied and asked.idle:
                del self.asked[key]

    def mark_sent(self) -> None:
        """Note that all messages so far have reached the child."""
        for asked in self.asked.values():
            asked.sent = True

    def _by_parent(self, channel: str, parent: JSONObject) -> list[tuple[Key, Asked]]:
        """Return the request that a message answers; iopub tells its channel by its type only."""
        channels = ("shell", "control") if channel == "iopub" else (channel,)
        keys = [(name, parent.get("msg_id", "")) for name in channels]
        found = [(key, self.asked[key]) for key in keys if key in self.asked]
        return [(key, asked) for key, asked in found if asked.msg_type == parent.get("msg_type")]

    def _note_state(self, asked: Asked, state: str) -> None:
        asked.busy |= state == "busy"
        asked.idle |= state == "idle"

    def _note_comm(self, msg_type: str, frames: Frames) -> None:
        if msg_type == "comm_open":
            self.comms.add(json.loads(frames[3])["comm_id"])
        elif msg_type == "comm_close":
            self.comms.discard(json.loads(frames[3])["comm_id"])

    def close(self, text: str, *, all_aborted: bool) -> list[tuple[str, Frames]]:
        """End what a child that is gone was asked: the cell that ran fails, others are aborted."""
        gone = [asked for asked in self.asked.values() if asked.sent]
        runs = [asked for asked in gone if asked.msg_type == "execute_request"]
        running = next((asked for asked in runs if asked.busy), runs[0] if runs else None)
        self.asked = {key: asked for key, asked in self.asked.items() if not asked.sent}
        self.comms.clear()
        messages: list[tuple[str, Frames]] = []
        for asked in gone:
            aborted = all_aborted or (asked in runs and asked is not running)
            messages += asked.obituary(text, self.next_count - 1, aborted=aborted)
        return messages


class Agent:
    """What is shared by the pump and the session's main thread; `lock` guards all of it."""

    def __init__(self, options: JSONObject) -> None:
        self.lock = threading.Condition()
        self.outbox = Outbox(options["max_buffer"])
        self.ledger = Ledger(options["execution_count"])
        self.inbox: collections.deque[tuple[str, Frames]] = collections.deque()
        self.relay = ""
        self.former: set[str] = set()
        self.accepted = self.acknowledged = 0
        self.worthy = self.urgent = 0
        self.speakers: JSONObject | None = None
        self.foreign: dict[str, collections.deque[tuple[str, Frames]]] = {}
        self.lost: JSONObject | None = None
        self.reason = ""

    def take_over(self, relay: str) -> bool:
        """Serve this relay from now on, unless another has taken over from it."""
        if relay in self.former:
            return False
        if relay != self.relay:
            self.former.add(self.relay)
            self.relay, self.accepted, self.acknowledged = relay, 0, 0
        return True

    def accept(self, messages: list[Numbered]) -> None:
        """Queue the relay's messages for the child: each once, and none after a gap."""
        for number, channel, frames in messages:
            if number == self.accepted + 1:
                self.accepted = number
                self.ask(channel, frames)

    def ask(self, channel: str, frames: Frames) -> None:
        """Queue one message for the child."""
        self.ledger.ask(channel, frames)
        self.inbox.append((channel, frames))

    def hear(self, channel: str, frames: Frames) -> None:
        """Keep a message of the child for the relay, and for the foreign cell it answers."""
        header, parent = json.loads(frames[0]), json.loads(frames[1])
        msg_type = header["msg_type"]
        self.ledger.hear(channel, msg_type, parent, frames)
        listener = self.foreign.get(parent.get("msg_id", ""))
        if listener is not None:
            listener.append((msg_type, frames))
            if channel != "iopub":
                return
        self.outbox.add(channel, frames, parent.get("msg_id", "") if msg_type == "stream" else None)
        if _is_worthy(msg_type, frames):
            self.worthy = self.outbox.last
        if msg_type == "input_request":
            self.urgent = self.outbox.last

    def bury(self, text: str, *, all_aborted: bool = False) -> None:
        """End all that a child that is gone had been asked."""
        for channel, frames in self.ledger.close(text, all_aborted=all_aborted):
            self.hear(channel, frames)

    def refuse(self) -> None:
        """Answer with an error what was asked, because there is no child."""
        self.inbox.clear()
        self.ledger.mark_sent()
        self.bury(f"{self.reason}\nThe session, its files and packages are kept.")

    def wait(self, hold: float, gather: float) -> None:
        """Wait for the first news at most `hold`, and for what belongs to it at most `gather`."""
        deadline = time.monotonic() + hold
        alone = True
        while self.worthy <= self.acknowledged:
            if self.outbox.held and alone:
                alone = False
                deadline = min(deadline, time.monotonic() + COMPANY)
            if not self._sleep(deadline):
                return
        deadline = time.monotonic() + gather
        while self.ledger.asked and self.urgent <= self.acknowledged and self._sleep(deadline):
            pass

    def _sleep(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        return left > 0 and (self.lock.wait(left) or True)


def _is_worthy(msg_type: str, frames: Frames) -> bool:
    """Tell whether a message is worth an answer of its own."""
    return msg_type != "execute_input" and not (msg_type == "status" and b'"busy"' in frames[3])


class Pump(threading.Thread):
    """The one thread that owns the sockets, sends, and watches the child."""

    def __init__(self, agent: Agent, identity: str, folder: str, launch: JSONObject) -> None:
        super().__init__(name=NAME, daemon=True)
        self.agent = agent
        self.identity = identity.encode()[:255] or uuid.uuid4().hex.encode()
        self.launch = launch
        self.folder = folder
        self.state = "starting"
        self.deaths = 0
        self.ends_at: float | None = None
        self.exits = False
        self.orders: collections.deque[Callable[[], None]] = collections.deque()
        self.bell, self.ear = socket.socketpair()
        self.bell.setblocking(False)
        self.ear.setblocking(False)
        self.process = self._new_process(1)

    def wake(self) -> None:
        """Make the pump look at the inbox and its orders; any thread may."""
        with contextlib.suppress(BlockingIOError):
            self.bell.send(b"!")

    def order(self, action: Callable[[], None]) -> None:
        """Have something done in the pump's thread; any thread may."""
        self.orders.append(action)
        self.wake()

    def run(self) -> None:
        """Pump until the end, whatever happens."""
        import zmq

        self.context = zmq.Context()
        self._connect()
        while self.state != "ended":
            try:
                self._turn()
            except Exception:
                self.deaths += 1
                with self.agent.lock:
                    self.agent.reason = traceback.format_exc()
                self._respawn("The agent of this session had a fault. Variables are lost.")
        self.context.term()

    def _turn(self) -> None:
        """Wait for anything to happen, and see to it."""
        happened = dict(self.poller.poll(self._patience()))
        if self.ear.fileno() in happened:
            self.ear.recv(2**12)
        while self.orders:
            self.orders.popleft()()
        if self.state in ("starting", "ready"):
            self._hear()
            self._send()
            self._watch(happened)
        if self.ends_at is not None and time.monotonic() >= self.ends_at:
            self.finish()

    def _patience(self) -> int:
        """Return the milliseconds until something is due: a ping, a look at the child, the end."""
        return 20 if self.state == "starting" else 200

    def _connect(self) -> None:
        """Watch the sockets and pipes of a process that has just been started."""
        import zmq

        self.process.connect(self.context, self.identity)
        self.poller = zmq.Poller()
        for sock in self.process.sockets.values():
            self.poller.register(sock, zmq.POLLIN)
        for file in (self.ear, self.process.link, self.process.output):
            self.poller.register(file.fileno(), zmq.POLLIN)
        self._ping()

    def _ping(self) -> None:
        """Ask for the kernel's info until the answer is heard on both shell and iopub."""
        header = new_header("kernel_info_request", self.identity.decode("utf-8", "replace"))
        self.process.pings.add(header["msg_id"])
        self.process.send("shell", [json.dumps(header).encode(), b"{}", b"{}", b"{}"])

    def _hear(self) -> None:
        news = [(channel, frames) for channel, frames in self.process.receive()]
        if not news:
            return
        with self.agent.lock:
            for channel, frames in news:
                if not self._is_about_itself(channel, frames):
                    self.agent.hear(channel, frames)
            self.agent.lock.notify_all()

    def _is_about_itself(self, channel: str, frames: Frames) -> bool:
        """See to what the child says of its own start, which is nothing for the relay."""
        if self.process.pings:
            parent = json.loads(frames[1]).get("msg_id")
            if parent in self.process.pings:
                self._note_ping(channel, frames)
                return True
        msg_type = json.loads(frames[0])["msg_type"]
        return msg_type == "iopub_welcome" or (msg_type == "status" and b'"starting"' in frames[3])

    def _note_ping(self, channel: str, frames: Frames) -> None:
        if channel == "shell":
            self.process.kernel_info = json.loads(frames[3])
        else:
            self.process.iopub_heard = True
        if self.state == "starting" and self.process.kernel_info and self.process.iopub_heard:
            self.state = "ready"
            self.deaths = 0

    def _send(self) -> None:
        if self.state == "starting":
            self._ping_again()
            return
        with self.agent.lock:
            asked = list(self.agent.inbox)
            self.agent.inbox.clear()
            self.agent.ledger.mark_sent()
        for channel, frames in asked:
            self.process.send(channel, frames)

    def _ping_again(self) -> None:
        """Ping once more where a reply came, but nothing on iopub: it was not yet connected."""
        if self.process.kernel_info and len(self.process.pings) < 50:
            self._ping()

    def _watch(self, happened: JSONObject) -> None:
        """Read the child's pipes, and notice its death."""
        process = self.process
        if process.output.fileno() in happened and not process.read_output():
            self.poller.unregister(process.output.fileno())
        if process.link.fileno() in happened:
            self._read_link()
        if process.popen.poll() is not None:
            self._bury()

    def _read_link(self) -> None:
        answers, goes_on = self.process.read_link()
        if not goes_on:
            self.poller.unregister(self.process.link.fileno())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.popen.wait(0.3)
        with self.agent.lock:
            for answer in answers:
                if "lost" in answer:
                    self.agent.lost = answer["lost"]
                else:
                    self.agent.speakers = answer
            self.agent.lock.notify_all()

    def _bury(self) -> None:
        """Tell of the child's death, and start another, unless it never lives."""
        time.sleep(0.02)  # what it said last is still on its way through the sockets
        self._hear()
        self.process.read_output()
        self.process.kill()
        self.deaths += 1
        epitaph = self.process.epitaph()
        text = f"{epitaph}\nVariables are lost; the session, its files and packages are kept."
        with self.agent.lock:
            self.agent.reason = epitaph
        self._respawn(text)

    def _respawn(self, text: str, *, aborted: bool = False) -> None:
        """Replace the child, and end what the former was asked."""
        self.process.kill()
        self.process.close()
        with self.agent.lock:
            self.agent.bury(text, all_aborted=aborted)
            try:
                self._start_anew()
            except (OSError, RuntimeError) as error:
                self.state = "failed"
                self.agent.reason = f"Python cannot be started in this session: {error}"
                self.agent.refuse()
            self.agent.lock.notify_all()

    def _start_anew(self) -> None:
        if self.deaths >= ATTEMPTS:
            raise RuntimeError(self.agent.reason)
        self.launch.update(execution_count=self.agent.ledger.next_count, variables=None)
        self.process = self._new_process(self.process.generation + 1)
        self._connect()
        self.state = "starting"

    def _new_process(self, generation: int) -> Process:
        return Process(generation, self.folder, self.launch)

    def restart(self, count: int) -> None:
        """Replace the child by a fresh one that counts from `count`."""
        self.deaths = 0
        with self.agent.lock:
            self.agent.reason = ""
            self.agent.ledger.next_count = count
            self.agent.inbox.clear()
            self.agent.ledger.mark_sent()
        if self.state == "failed":
            self.process = self._new_process(self.process.generation)
        self._shut_down()
        self._respawn("Restarted.", aborted=True)

    def _shut_down(self) -> None:
        """Let the child run its exit functions, if it is idle and so can listen."""
        if self.state != "ready" or self.agent.ledger.asked:
            return
        header = json.dumps(new_header("shutdown_request", "")).encode()
        self.process.send("control", [header, b"{}", b"{}", b'{"restart": true}'])
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.popen.wait(0.5)

    def finish(self) -> None:
        """End the child and this thread, and leave nothing behind."""
        self._shut_down()
        self.process.kill()
        self.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with self.agent.lock:
            self.state = "ended"
            self.agent.lock.notify_all()
        forget_module()
        if self.exits:
            threading.Timer(LAST_WORD, os._exit, [0]).start()


def private_folder() -> str:
    """Make a folder for sockets, whose paths may be no longer than 107 bytes."""
    folder = tempfile.mkdtemp(prefix="tci-")
    if len(os.fsencode(folder)) < 80 or not os.path.isdir("/tmp"):
        return folder
    os.rmdir(folder)
    return tempfile.mkdtemp(prefix="tci-", dir="/tmp")


class Shell:
    """The session's own IPython, whose cells from other clients run in the child."""

    def __init__(self, ipython: Any, front: Front) -> None:
        self.ipython = ipython
        self.front = front
        self.history = ipython.history_manager
        self.store_inputs = self.history.store_inputs

    def install(self) -> None:
        """Turn foreign cells away from this shell, and keep requests out of its history."""
        self.history.store_inputs = self._store_inputs
        self.ipython.input_transformers_cleanup.insert(0, self._transform)

    def remove(self) -> None:
        """Leave the shell as it was."""
        del self.history.store_inputs
        self.ipython.input_transformers_cleanup.remove(self._transform)

    def _store_inputs(self, line: int, source: str, source_raw: str | None = None) -> None:
        if not (source_raw or source).startswith(MARK):
            self.store_inputs(line, source, source_raw)

    def _transform(self, lines: list[str]) -> list[str]:
        """Replace a foreign cell by a call that runs it in the child."""
        code = "".join(lines)
        if code.startswith(MARK) or not code.strip():
            return lines
        return [f"__import__('sys').modules[{NAME!r}].run_foreign({code!r})\n"]

    def forget_boot(self) -> None:
        """Remove the request that loads the agent from the history of which it became part."""
        history = self.history
        if not (history.input_hist_raw and history.input_hist_raw[-1].startswith(MARK)):
            return
        del history.input_hist_raw[-1], history.input_hist_parsed[-1]
        history._i00, history._i, history._ii = history._i, history._ii, history._iii
        names = {"_i": history._i, "_ii": history._ii, "_iii": history._iii}
        self.ipython.push(names, interactive=False)
        for number in (self.ipython.execution_count, self.ipython.execution_count - 1):
            if self.ipython.user_ns.get(f"_i{number}", "").startswith(MARK):
                self.ipython.drop_by_id({f"_i{number}": self.ipython.user_ns[f"_i{number}"]})
        with history.db_input_cache_lock, contextlib.suppress(Exception):  # a database of any state
            _forget_stored(history)

    def forget_code(self, name: str) -> None:
        """Remove a request from the caches in which IPython keeps each cell for ever."""
        linecache.cache.pop(name, None)
        getattr(self.ipython.compile, "_filename_map", {}).pop(name, None)

    def variables(self) -> dict[str, Any]:
        """Return what the user has put into the session's namespace."""
        hidden = self.ipython.user_ns_hidden
        names = self.ipython.user_ns.items()
        return {
            name: value
            for name, value in names
            if not name.startswith("_") and hidden.get(name, hidden) is not value
        }


def _forget_stored(history: Any) -> None:
    """Remove requests from the history's database, or from what is about to go there."""
    history.db_input_cache = [
        entry for entry in history.db_input_cache if not entry[2].startswith(MARK)
    ]
    with history.db:
        history.db.execute(
            "DELETE FROM history WHERE session = ? AND source_raw LIKE ?",
            (history.session_number, MARK + "%"),
        )


def save_variables(variables: dict[str, Any], path: str) -> tuple[list[str], dict[str, str]]:
    """Pickle variables into a file; return the names that could be, and why others could not.

    They are pickled together, so that what they share stays shared, and each alone, in case that
    one of them cannot be read.
    """
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    alone, failed = {}, {}
    for name, value in variables.items():
        try:
            alone[name] = dumps(value)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    together = dumps({name: variables[name] for name in alone})
    with open(path, "wb") as file:
        pickle.dump((together, alone), file)
    return list(alone), failed


class ChildError(Exception):
    """An error of the child, shown in the session as the child shows it."""

    def __init__(self, value: str, lines: list[str]) -> None:
        super().__init__(value)
        self.lines = lines

    def _render_traceback_(self) -> list[str]:
        return self.lines


class Result:
    """A result of the child, displayed in the session as the child displays it."""

    def __init__(self, content: JSONObject) -> None:
        self.content = content

    def _repr_mimebundle_(self, **_options: Any) -> tuple[JSONObject, JSONObject]:
        return self.content["data"], self.content.get("metadata", {})


def run_foreign(code: str) -> Result | None:
    """Run a cell of another client in the child, and say in the session what the child says."""
    assert front is not None
    return front.run_foreign(code.removesuffix("\n"))


class Front:
    """Answers requests in the session's main thread."""

    def __init__(self, head: JSONObject, ipython: Any) -> None:
        self.agent = Agent(head)
        self.shell = Shell(ipython, self) if ipython is not None else None
        self.batch = Batch(0, b"")
        self.results: collections.OrderedDict[str, JSONObject] = collections.OrderedDict()
        folder = private_folder()
        try:
            launch = self._launch(head, folder)
            self.pump = Pump(self.agent, head["session"], folder, launch)
        except BaseException:
            shutil.rmtree(folder)
            raise
        self.pump.start()
        if self.shell is not None:
            self.shell.forget_boot()
            self.shell.install()
        atexit.register(self._at_exit)

    def _launch(self, head: JSONObject, folder: str) -> JSONObject:
        """Return how the first child starts, after saving the variables that are to be moved."""
        variables = self.shell.variables() if self.shell is not None else {}
        self.had_variables = len(variables)
        self.moved: list[str] = []
        self.not_moved: dict[str, str] = {}
        path = None
        if head["move"] and variables:
            path = os.path.join(folder, "variables")
            self.moved, self.not_moved = save_variables(variables, path)
        return {"execution_count": head["execution_count"], "variables": path}

    def answer(self, head: JSONObject, messages: list[Numbered]) -> Batch:
        """Return the batch from which the piece for one request is printed."""
        with self.agent.lock:
            if head["op"] != "fetch" or head["batch"] != self.batch.number:
                fields, taken = self._act(head, messages)
                self.batch = Batch(self.batch.number + 1, pack({**self._state(), **fields}, taken))
            return self.batch

    def _act(self, head: JSONObject, messages: list[Numbered]) -> Answer:
        """Do what a request asks for; return what its frame says, and the messages in it."""
        op = head["op"]
        if op == "status":
            return {"result": self._status()}, []
        if not self.agent.take_over(head["relay"]):
            return {"superseded": True}, []
        if op in ("boot", "exchange", "fetch"):
            self.pump.ends_at = None
        if op == "boot":
            return {"hello": self._hello(head)}, []
        if op == "exchange":
            return self._exchange(head, messages)
        if op == "fetch":
            return self._delivery()
        return {"result": self._once(head)}, []

    def _state(self) -> JSONObject:
        """Return what every frame says."""
        return {
            "accepted": self.agent.accepted,
            "last": self.agent.acknowledged,
            "child": {
                "state": self.pump.state,
                "generation": self.pump.process.generation,
                "reason": self.agent.reason,
            },
        }

    def _exchange(self, head: JSONObject, messages: list[Numbered]) -> Answer:
        agent = self.agent
        agent.acknowledged = max(agent.acknowledged, head["acknowledged"])
        agent.outbox.acknowledge(agent.acknowledged)
        agent.accept(messages)
        if self.pump.state == "failed":
            agent.refuse()
        self.pump.wake()
        agent.wait(head["hold"], head["gather"])
        fields, taken = self._delivery()
        fields["idle"] = self._idle()
        if head["generation"] < self.pump.process.generation:
            fields["kernel_info"] = self.pump.process.kernel_info
        return fields, taken

    def _delivery(self) -> Answer:
        """Return the messages that one frame holds."""
        held, more = self.agent.outbox.take()
        last = held[-1].number if more else self.agent.outbox.last
        taken = [(message.number, message.channel, message.frames) for message in held]
        return {"last": last, "more": more}, taken

    def _idle(self) -> JSONObject | None:
        """Return what can still speak, or None while the child is at work."""
        agent = self.agent
        if agent.ledger.asked or self.pump.state != "ready":
            return None
        before, agent.speakers = agent.speakers, None
        self.pump.process.ask()
        agent.lock.wait_for(lambda: agent.speakers is not None, PATIENCE)
        agent.speakers = agent.speakers or before or {"threads": 0, "tasks": 0}
        return {**agent.speakers, "comms": len(agent.ledger.comms)}

    def _once(self, head: JSONObject) -> JSONObject:
        """Do an operation, unless it was done: then its answer was lost on the way."""
        if head["id"] not in self.results:
            act = {"restart": self._restart, "signal": self._signal, "end": self._end}[head["op"]]
            self.results[head["id"]] = act(head)
            while len(self.results) > 32:
                self.results.popitem(last=False)
        return self.results[head["id"]]

    def _restart(self, head: JSONObject) -> JSONObject:
        former = self.pump.process
        self.pump.order(lambda: self.pump.restart(head["execution_count"]))
        done = self.agent.lock.wait_for(lambda: self.pump.process is not former, 10)
        return {"restarted": done}

    def _signal(self, head: JSONObject) -> JSONObject:
        sent = self.pump.state == "ready"  # before that it could only kill
        if sent:
            self.pump.process.signal(head["signum"])
        return {"sent": sent}

    def _end(self, head: JSONObject) -> JSONObject:
        self.pump.exits = head["exit_session"]
        if head["delay"]:
            self.pump.ends_at = time.monotonic() + head["delay"]
            return {"ended": False}
        self.pump.order(self.pump.finish)
        return {"ended": self.agent.lock.wait_for(lambda: self.pump.state == "ended", 10)}

    def _hello(self, head: JSONObject) -> JSONObject:
        hello = {
            **about_session(self.shell is not None),
            "fresh": self.batch.number == 0,
            "had_variables": self.had_variables,
        }
        if self.moved and self.agent.lock.wait_for(lambda: self.agent.lost is not None, 30):
            self.not_moved.update(self.agent.lost or {})
            self.moved = [name for name in self.moved if name not in self.not_moved]
        return {**hello, "moved": self.moved, "not_moved": self.not_moved}

    def _status(self) -> JSONObject:
        process = self.pump.process
        return {
            **about_session(self.shell is not None),
            "relay": self.agent.relay,
            "memory": resident(os.getpid()),
            "buffered": self.agent.outbox.size,
            "comms": len(self.agent.ledger.comms),
            "child_pid": process.popen.pid,
            "child_memory": resident(process.popen.pid),
            "child_uptime": time.monotonic() - process.started,
        }

    def run_foreign(self, code: str) -> Result | None:
        """Run a foreign cell in the child; its messages reach the relay's front ends too."""
        header = new_header("execute_request", self.pump.identity.decode("utf-8", "replace"))
        content = {"code": code, "silent": False, "store_history": True, "stop_on_error": False}
        content.update(user_expressions={}, allow_stdin=False)
        parts = (header, {}, {}, content)
        news: collections.deque[tuple[str, Frames]] = collections.deque()
        with self.agent.lock:
            self.agent.foreign[header["msg_id"]] = news
            self.agent.ask("shell", [json.dumps(part).encode() for part in parts])
            if self.pump.state == "failed":
                self.agent.refuse()
        self.pump.wake()
        try:
            return self._republish(news)
        finally:
            self.agent.foreign.pop(header["msg_id"])

    def _republish(self, news: collections.deque[tuple[str, Frames]]) -> Result | None:
        """Say what a foreign cell says, until it is idle and has its reply."""
        result, error, missing = None, None, {"execute_reply", "idle"}
        while missing:
            msg_type, content = self._next(news)
            if msg_type == "execute_result":
                result = Result(content)
            elif msg_type == "execute_reply":
                error = content if content["status"] != "ok" else None
            elif msg_type != "status":
                republish(self.shell.ipython, msg_type, content)
            missing -= {msg_type, content.get("execution_state")}
        if error is not None:
            raise child_error(error)
        return result

    def _next(self, news: collections.deque[tuple[str, Frames]]) -> tuple[str, JSONObject]:
        """Wait for the next message; an interrupt of the session goes on to the child."""
        while True:
            try:
                with self.agent.lock:
                    self.agent.lock.wait_for(lambda: news)
                    msg_type, frames = news.popleft()
                    return msg_type, json.loads(frames[3])
            except KeyboardInterrupt:
                self.pump.process.signal(signal.SIGINT)

    def _at_exit(self) -> None:
        self.pump.order(self.pump.finish)
        self.pump.join(3)


def republish(ipython: Any, msg_type: str, content: JSONObject) -> None:
    """Say one message of a foreign cell as the session's own."""
    if msg_type == "stream":
        stream = getattr(sys, content["name"])
        stream.write(content["text"])
        stream.flush()
    elif msg_type == "clear_output":
        ipython.display_pub.clear_output(content["wait"])
    elif msg_type in ("display_data", "update_display_data"):
        ipython.display_pub.publish(
            data=content["data"],
            metadata=content["metadata"],
            transient=content.get("transient"),
            update=msg_type == "update_display_data",
        )


def child_error(reply: JSONObject) -> ChildError:
    """Return the error that makes the session's reply what the child's was."""
    name = reply.get("ename", "Aborted")
    text = reply.get("evalue", "The cell was not run, because the one before it failed.")
    kind = type(name, (ChildError,), {})
    error: ChildError = kind(text, reply.get("traceback") or [f"{name}: {text}"])
    return error


def about_session(ipython: bool) -> JSONObject:
    """Return the versions and places of this session."""
    return {
        "version": VERSION,
        "refusal": "",
        "python": platform.python_version(),
        "ipykernel": version_of("ipykernel"),
        "jupyter_client": version_of("jupyter_client"),
        "platform": platform.platform(),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "ipython": ipython,
    }


def version_of(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class Batch:
    """A packed frame, compressed where that pays; the latest is kept, to be fetched in pieces."""

    def __init__(self, number: int, packed: bytes) -> None:
        self.number = number
        sample = packed[: 2**16]
        pays = len(packed) > 2**10 and len(zlib.compress(sample, 1)) < len(sample) * 0.8
        self.encoding = "zlib" if pays else "raw"
        self.data = zlib.compress(packed, 1) if pays else packed

    def piece(self, nonce: str, offset: int, limit: int) -> str:
        """Return a piece that is at most `limit` bytes long, if that is room for its frame."""
        room = max(limit - 128, 4) // 4 * 3
        data = self.data[offset : offset + room]
        position = f"{self.number} {offset} {len(self.data)} {zlib.crc32(data):08x}"
        return f"<tci 1 {nonce} {position} {self.encoding} {base64.b64encode(data).decode()}>"


front: Front | None = None


def request(nonce: str, argument: str) -> None:
    """Answer one request of the relay by printing one piece."""
    with undisturbed():
        text = respond(nonce, argument)
    # Past IPython's own copy of whatever a cell prints, which it keeps for ever.
    type(sys.stdout).write(sys.stdout, f"\n{text}\n")
    if front is not None and front.shell is not None:
        front.shell.forget_code(sys._getframe(1).f_code.co_filename)


def respond(nonce: str, argument: str) -> str:
    """Return the piece that answers a request."""
    try:
        head, messages = unpack(zlib.decompress(read_argument(argument)))
        batch = serve(head, messages)
        offset = head["offset"] if head["op"] == "fetch" and head["batch"] == batch.number else 0
        return batch.piece(nonce, offset, head["limit"])
    except Exception:
        return Batch(0, pack({**NOBODY, "problem": traceback.format_exc()}, [])).piece(
            nonce, 0, 2**16
        )


def read_argument(argument: str) -> bytes:
    """Return a request, which stands in the code, or in a file that is not to stay."""
    if not argument.startswith("@"):
        return base64.b64decode(argument)
    with open(argument[1:], "rb") as file:
        os.unlink(argument[1:])
        return file.read()


def serve(head: JSONObject, messages: list[Numbered]) -> Batch:
    """Answer a request; the first one starts everything, or says why that cannot be."""
    global front
    if front is None:
        try:
            demand_pieces()
            front = Front(head, ipython_of_session())
        except (ImportError, OSError) as error:
            forget_module()
            hello = {**about_session(False), "refusal": str(error)}
            hello.update(fresh=True, had_variables=0, moved=[], not_moved={})
            return Batch(1, pack({**NOBODY, "hello": hello}, []))
    return front.answer(head, messages)


def demand_pieces() -> None:
    """Raise ImportError or OSError if something is missing for a child process."""
    import zmq

    if not zmq.has("ipc") or not hasattr(os, "fork"):
        raise OSError("The session's system has no Unix sockets.")
    if importlib.util.find_spec("ipykernel") is None:
        raise ImportError("The session has no ipykernel.")


def ipython_of_session() -> Any:
    """Return the shell that runs this session's cells, or None if it is no (recent) IPython."""
    core = sys.modules.get("IPython")
    ipython = core.get_ipython() if core is not None else None
    return ipython if hasattr(ipython, "input_transformers_cleanup") else None


def forget_module() -> None:
    """Leave the session as it was before the agent."""
    sys.modules.pop(NAME, None)
    if front is not None and front.shell is not None:
        front.shell.remove()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let no interrupt of the session break a request, which is short."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone is interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
