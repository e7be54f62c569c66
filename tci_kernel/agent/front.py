"""Answers the requests of the relay."""

from __future__ import annotations

import atexit
import os
import shutil
import time
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING

from .conversation import Conversation
from .foreign import ForeignCells
from .process import private_folder, resident
from .pump import Pump
from .session import about, unload
from .variables import save_variables
from .wire import Batch, pack

if TYPE_CHECKING:
    from .shell import Shell
    from .wire import JSONObject, Numbered

    Answer = tuple[JSONObject, list[Numbered]]

#: Longest wait for the child's word on what can still speak. Seconds.
PATIENCE = 0.005

#: Longest wait for a child to start, or to end. Seconds.
START = 20

#: Operations of which the result is kept, in case that its answer was lost.
RESULTS = 32


class Front:
    """Answers requests in the session's main thread."""

    def __init__(self, head: JSONObject, shell: Shell | None) -> None:
        self.id = uuid.uuid4().hex
        self.conversation = Conversation(head)
        self.shell = shell
        self.batch = Batch(0, b"")
        self.results: OrderedDict[str, JSONObject] = OrderedDict()
        folder = private_folder()
        try:
            launch = self._launch(head, folder)
            self.pump = Pump(self.conversation, head["session"], folder, launch)
        except BaseException:
            shutil.rmtree(folder)
            raise
        self.foreign: ForeignCells | None = None
        if self.shell is not None:
            self.foreign = ForeignCells(self.conversation, self.pump, self.shell.ipython)
            self.shell.install(self.pump.end_lease)
        self.pump.on_end = self._leave
        self.pump.start()
        atexit.register(self._at_exit)

    def _launch(self, head: JSONObject, folder: str) -> JSONObject:
        """Return how the first child starts, after saving the variables that are to be moved."""
        variables = self.shell.variables() if self.shell is not None else {}
        self.moved: list[str] = []
        self.not_moved: dict[str, str] = {}
        path = None
        if head["move"] and variables:
            path = os.path.join(folder, "variables")
            self.moved, self.not_moved = save_variables(variables, path)
        return {"execution_count": head["execution_count"], "variables": path}

    def answer(self, head: JSONObject, messages: list[Numbered]) -> Batch:
        """Return the batch from which the piece for one request is printed."""
        with self.conversation.lock:
            if head["op"] != "fetch" or head["batch"] != self.batch.number:
                begin = time.monotonic()
                fields, taken = self._act(head, messages)
                took = time.monotonic() - begin
                packed = pack({**self._state(), **fields, "took": took}, taken)
                binary = any(len(frames) > 4 for _, _, frames in taken)  # noqa: PLR2004  buffers
                text = head["text"] and not binary
                self.batch = Batch(
                    self.batch.number + 1, packed, compress=head["compress"], text=text
                )
            return self.batch

    def _act(self, head: JSONObject, messages: list[Numbered]) -> Answer:
        """Do what a request asks for; return what its frame says, and the messages in it."""
        op = head["op"]
        if op == "status":
            if head["hear"]:
                self._hear_child()
            return {"result": self._status()}, []
        is_new = head["relay"] != self.conversation.relay
        if not self.conversation.take_over(head["relay"]):
            return {"superseded": True}, []
        if is_new and self.conversation.asks:
            self.pump.order(lambda: self.pump.interrupts.leave_question(self.pump.process))
        if op in ("boot", "exchange", "fetch"):
            self.pump.go_on()
        if op == "boot":
            if head["lease"]:
                self.pump.end_in(head["lease"], exit_session=True, is_leased=True)
            return {"hello": self._hello(head["session"])}, []
        if op == "exchange":
            return self._exchange(head, messages)
        if op == "fetch":
            return self._delivery()
        return {"result": self._once(head)}, []

    def _state(self) -> JSONObject:
        """Return what every frame says."""
        return {
            "accepted": self.conversation.accepted,
            "last": self.conversation.acknowledged,
            "child": {
                "state": self.pump.state,
                "generation": self.pump.process.generation,
                "reason": self.conversation.reason,
            },
        }

    def _exchange(self, head: JSONObject, messages: list[Numbered]) -> Answer:
        conversation = self.conversation
        conversation.acknowledged = max(conversation.acknowledged, head["acknowledged"])
        conversation.outbox.acknowledge(conversation.acknowledged)
        conversation.accept(messages, head["heard"])
        if self.pump.state == "failed":
            conversation.refuse()
        self.pump.wake()
        conversation.wait(head["hold"], head["gather"], head["flow"])
        fields, taken = self._delivery()
        fields.update(idle=self._idle(), asks=conversation.asks)
        return fields, taken

    def _delivery(self) -> Answer:
        """Return the messages that one frame holds."""
        held, more = self.conversation.outbox.take()
        last = held[-1].number if more else self.conversation.outbox.last
        taken = [(message.number, message.channel, message.frames) for message in held]
        return {"last": last, "more": more}, taken

    def _idle(self) -> JSONObject | None:
        """Return what can still speak, or None while the child is at work."""
        conversation = self.conversation
        if conversation.ledger.asked or self.pump.state == "starting":
            return None
        if self.pump.state == "failed":
            return {"threads": 0, "tasks": 0, "comms": 0}
        before, conversation.speakers = conversation.speakers, None
        self.pump.process.ask()
        conversation.lock.wait_for(lambda: conversation.speakers is not None, PATIENCE)
        conversation.speakers = conversation.speakers or before or {"threads": 0, "tasks": 0}
        return {**conversation.speakers, "comms": len(conversation.ledger.comms)}

    def _once(self, head: JSONObject) -> JSONObject:
        """Do an operation, unless it was done: then its answer was lost on the way."""
        if head["id"] not in self.results:
            act = {"restart": self._restart, "end": self._end}[head["op"]]
            self.results[head["id"]] = act(head)
            while len(self.results) > RESULTS:
                self.results.popitem(last=False)
        return self.results[head["id"]]

    def _restart(self, head: JSONObject) -> JSONObject:
        pump, before = self.pump, self.pump.restarts
        pump.order(lambda: pump.restart(head["execution_count"]))
        done = self.conversation.lock.wait_for(lambda: pump.restarts > before, START)
        return {"restarted": done and pump.state != "failed"}

    def _end(self, head: JSONObject) -> JSONObject:
        if head["delay"]:
            self.pump.end_in(head["delay"], exit_session=head["exit_session"])
            return {"ended": False}
        self.pump.exits = head["exit_session"]
        self.pump.order(self.pump.finish)
        return {"ended": self.conversation.lock.wait_for(lambda: self.pump.state == "ended", START)}

    def _hello(self, session: str) -> JSONObject:
        conversation = self.conversation
        if conversation.untouched and session not in ("", self.pump.session):
            self.pump.order(lambda: self.pump.speak_for(session))
        if self.moved:
            conversation.lock.wait_for(
                lambda: conversation.lost is not None or self.pump.has_ended, START
            )
        not_moved = {**self.not_moved, **(conversation.lost or {})}
        return {
            **about(ipython=self.shell is not None),
            "agent": self.id,
            "fresh": conversation.untouched,
            "execution_count": conversation.ledger.next_count,
            "moved": [name for name in self.moved if name not in not_moved],
            "not_moved": not_moved,
        }

    def _status(self) -> JSONObject:
        process = self.pump.process
        return {
            **about(ipython=self.shell is not None),
            "relay": self.conversation.relay,
            "memory": resident(os.getpid()),
            "buffered": self.conversation.outbox.size,
            "comms": len(self.conversation.ledger.comms),
            "child_pid": process.popen.pid,
            "child_memory": resident(process.popen.pid),
            "child_uptime": time.monotonic() - process.started,
        }

    def _hear_child(self) -> None:
        """Wait until the child says a word, or is found to have ended since the last request.

        That a process is there does not tell that it lives: one that is killed takes its time.
        """
        pump, process, begin = self.pump, self.pump.process, time.monotonic()
        pump.order(pump.ping)
        self.conversation.lock.wait_for(
            lambda: process.reached >= begin or pump.process is not process or pump.has_ended, START
        )

    def _leave(self) -> None:
        """Leave the session as it was before the agent."""
        if self.shell is not None:
            self.shell.remove()
        unload()

    def _at_exit(self) -> None:
        self.pump.order(self.pump.finish)
        self.pump.join(3)
