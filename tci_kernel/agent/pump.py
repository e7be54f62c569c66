"""The thread between the session and the child."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import traceback
import uuid
from collections import deque
from typing import TYPE_CHECKING

import zmq

from .interrupts import Interrupts
from .process import Process
from .session import unload
from .wire import NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conversation import Conversation
    from .wire import Frames, JSONObject

#: Deaths in a row, without one answer, after which the child is given up.
ATTEMPTS = 3

#: What a message raises that the user's code has made up; it is dropped.
ODD = (AttributeError, KeyError, RecursionError, TypeError, ValueError)

#: Time for the answer to a last request to leave a session that ends. Seconds.
LAST_WORD = 0.5


class Pump(threading.Thread):
    """The one thread that owns the sockets, sends, and watches the child."""

    def __init__(
        self, conversation: Conversation, session: str, folder: str, launch: JSONObject
    ) -> None:
        super().__init__(name=NAME, daemon=True)
        self.conversation = conversation
        self.session = session or uuid.uuid4().hex
        self.launch = launch
        self.folder = folder
        self.on_end: Callable[[], None] = unload
        self.state = "starting"
        self.deaths = self.restarts = 0
        self.ends_at: float | None = None
        self.exits = self.is_leased = False
        self.orders: deque[Callable[[], None]] = deque()
        self.interrupts = Interrupts(conversation)
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

    def end_in(self, seconds: float, *, exit_session: bool, is_leased: bool = False) -> None:
        """End the child, and the session if told so, unless a relay asks something before.

        What `is_leased` belongs to nobody who is known: then any request will do.
        """
        self.exits, self.is_leased = exit_session, is_leased
        self.ends_at = time.monotonic() + seconds

    def go_on(self) -> None:
        """Do not end."""
        self.ends_at, self.exits, self.is_leased = None, False, False

    def end_lease(self) -> None:
        """Go on for somebody who knows the session, whoever that is."""
        if self.is_leased:
            self.go_on()

    def run(self) -> None:
        """Pump until the end, whatever happens."""
        self.context = zmq.Context()
        self._connect()
        while self.state != "ended":
            try:
                self._turn()
            except Exception:
                self.deaths += 1
                with self.conversation.lock:
                    self.conversation.reason = traceback.format_exc()
                self._respawn("The agent of this session had a fault. Variables are lost.")
        self.context.term()

    def _turn(self) -> None:
        """Wait for anything to happen, and see to it."""
        happened = dict(self.poller.poll(self._patience()))
        if self.ear.fileno() in happened:
            self.ear.recv(2**12)
        while self.orders:
            self.orders.popleft()()
        if not self.has_ended:
            self._hear()
            self._send()
            self._watch(happened)
        if self.ends_at is not None and time.monotonic() >= self.ends_at:
            self.finish()

    def _patience(self) -> int:
        """Return the milliseconds until something is due: a ping, a look at the child, the end."""
        return 20 if self.state == "starting" else 200

    def _connect(self) -> None:
        """Connect to a process that has just been started."""
        self.process.connect(self.context, self.session)
        self._listen()

    def _listen(self) -> None:
        """Watch all that the process can be heard on, and make it answer once."""
        self.poller = zmq.Poller()
        files = [self.ear.fileno(), self.process.link.fileno(), self.process.output.fileno()]
        for source in (*self.process.sockets.values(), *files):
            self.poller.register(source, zmq.POLLIN)
        self.process.ping()

    @property
    def has_ended(self) -> bool:
        """Whether there is no child, and none is to come."""
        return self.state not in ("starting", "ready")

    def ping(self) -> None:
        """Make the child say a word."""
        if not self.has_ended:
            self.process.ping()

    def speak_for(self, session: str) -> None:
        """Be the client of another Jupyter session; the child has heard nothing of the former."""
        self.session = session
        if not self.has_ended:
            self.process.introduce(self.context, self.session)
            self._listen()

    def _hear(self) -> None:
        news = [(channel, frames) for channel, frames in self.process.receive()]
        if not news:
            return
        with self.conversation.lock:
            for channel, frames in news:
                with contextlib.suppress(*ODD):
                    if not self._is_about_itself(channel, frames):
                        self.conversation.hear_child(channel, frames)
            self.conversation.lock.notify_all()

    def _is_about_itself(self, channel: str, frames: Frames) -> bool:
        """See to what the child says of its own start, which is nothing for the relay."""
        if not self.process.takes_answer(channel, frames):
            return self.state == "starting"
        if self.state == "starting" and self.process.listens:
            self.state = "ready"
            self.deaths = 0
        return True

    def _send(self) -> None:
        if self.state == "starting":
            if "shell" in self.process.answered:
                self.process.ping()  # iopub was not yet connected, or it would have answered too
            return
        with self.conversation.lock:
            if self.conversation.ledger.unanswered_since() > self.process.pinged:
                self.process.ping()
            self.conversation.end_unanswered(self.process.reached)
            due = self.conversation.due()
        for message in due:
            asked = message.asked
            if asked is not None and asked.msg_type == "interrupt_request":
                self.interrupts.waiting.append((asked, message.frames))
            else:
                self.process.send(message.channel, message.frames)
        self.interrupts.send(self.process)

    def _watch(self, happened: dict[object, int]) -> None:
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
        with self.conversation.lock:
            for answer in answers:
                if "lost" in answer:
                    self.conversation.lost = answer["lost"]
                else:
                    self.conversation.speakers = answer
            self.conversation.lock.notify_all()

    def _bury(self) -> None:
        """Tell of the child's death, and start another, unless it never lives."""
        time.sleep(0.02)  # what it said last is still on its way through the sockets
        self._hear()
        self.process.read_output()
        self.process.kill()
        self.deaths += 1
        epitaph = self.process.epitaph()
        text = f"{epitaph}\nVariables are lost; the session, its files and packages are kept."
        with self.conversation.lock:
            self.conversation.reason = epitaph
        self._respawn(text)

    def _respawn(self, text: str, *, aborted: bool = False) -> None:
        """Replace the child, and end what the former was asked."""
        self.process.kill()
        self.process.close()
        self.interrupts.waiting.clear()
        with self.conversation.lock:
            self.conversation.bury(text, all_aborted=aborted)
            try:
                self._start_anew()
            except (OSError, RuntimeError, zmq.ZMQError) as error:
                self.state = "failed"
                self.poller = zmq.Poller()
                self.poller.register(self.ear.fileno(), zmq.POLLIN)
                self.conversation.reason = f"Python cannot be started in this session: {error}"
                self.conversation.refuse()
            self.conversation.lock.notify_all()

    def _start_anew(self) -> None:
        if self.deaths >= ATTEMPTS:
            raise RuntimeError(self.conversation.reason)
        self.launch.update(execution_count=self.conversation.ledger.next_count, variables=None)
        self.process = self._new_process(self.process.generation + 1)
        self._connect()
        self.state = "starting"

    def _new_process(self, generation: int) -> Process:
        return Process(generation, self.folder, self.launch)

    def restart(self, count: int) -> None:
        """Replace the child by a fresh one that counts from `count`."""
        self.deaths = 0
        with self.conversation.lock:
            self.conversation.reason = ""
            self.conversation.ledger.next_count = count
            self.conversation.inbox.clear()
            self.conversation.ledger.mark_sent()
        self._shut_down()
        self._respawn("Restarted.", aborted=True)
        with self.conversation.lock:
            self.restarts += 1
            self.conversation.lock.notify_all()

    def _shut_down(self) -> None:
        """Let the child end by itself, if it is idle and so can listen."""
        if self.state == "ready" and not self.conversation.ledger.asked:
            self.process.shut_down()

    def finish(self) -> None:
        """End the child and this thread, and leave nothing behind."""
        self._shut_down()
        self.process.kill()
        self.process.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with self.conversation.lock:
            self.conversation.bury("The session has ended.", all_aborted=True)
            self.state = "ended"
            self.conversation.lock.notify_all()
        self.on_end()
        if self.exits:
            threading.Timer(LAST_WORD, os._exit, [0]).start()
