"""Between the front ends' sockets and the live transport.

All that concerns the user's Python is handed on as it is. A cell with `%tci` lines is begun on
this side; the rest of it runs in the child under the same parent, and its reply comes back here.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from tci_kernel import questions
from tci_kernel.channels import Channels, Incoming
from tci_kernel.errors import LiveRefused, TCIError
from tci_kernel.interrupts import ChildInterrupts
from tci_kernel.notices import Notices
from tci_kernel.pending import Pending
from tci_kernel.routes import Routes
from tci_kernel.senders import is_hidden, is_typed, stops_others
from tci_kernel.startup import SetUp
from tci_kernel.transport.failure import from_exception
from tci_kernel.transport.frames import AgentMissing
from tci_kernel.transport.live import LiveTransport
from tci_kernel.unseen import Unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.kernel import TCIKernel
    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Health, Hello
    from tci_kernel.transport.message import Channel, Message
    from tci_kernel.transport.plain import Result


class Relay:
    """Hands messages on between the front ends of one kernel and the child of its session."""

    name = "live"

    def __init__(self, kernel: TCIKernel, session: Session) -> None:
        self._kernel = kernel
        self._session = session
        self._channels = Channels(kernel)
        self.routes = Routes(self._channels)
        self._live = LiveTransport(session, self._deliver, self._refused, self._tell, self._ended)
        self.pending = Pending(self._channels)
        self._unseen = Unseen(kernel.session, partial(self._live.pass_on, own=True))
        self._notices = Notices(kernel, self.pending)
        tell = self._notices.tell
        self._set_up = SetUp(kernel.start_up, self._unseen, tell)
        self.interrupts = ChildInterrupts(self._live, self.pending, self._unseen, tell)
        self._open = False
        self._told_busy = ""
        self._unnoted: set[str] = set()
        self._failed = False
        self._refusal: LiveRefused | None = None
        self._count = 0

    # -- life --

    @property
    def open(self) -> bool:
        """Whether messages are handed on."""
        return self._open and self._live.in_session

    @property
    def refusal(self) -> LiveRefused | None:
        """What ended the live transport, if that is a thing that this session cannot do."""
        return self._refusal if self._live.in_session else None

    @property
    def working(self) -> bool:
        """Whether a request of a front end is not finished, or one of an earlier process."""
        return bool(self.pending) or self._live.working

    @property
    def silent(self) -> bool:
        """Whether the service has not answered for so long that the user was told."""
        return self._live.silent

    async def start(self, execution_count: int) -> Hello:
        """Start the child, or find the one that runs; from then on hand on.

        Raises `LiveRefused` if the session cannot do it, else the `TCIError` of the request.
        """
        asked_by = self._kernel.get_parent("shell").get("header", {}).get("session", "")
        hello = await self._live.start(execution_count, jupyter_session=asked_by)
        self._open = True
        if not hello.fresh:
            self._set_up.pass_by(self._live.generation)
        self._count = hello.execution_count - 1
        self.synchronise(execution_count - 1)  # for a child that was there before
        return hello

    async def restart(self) -> None:
        """Replace the child by a fresh one."""
        await self._live.restart()

    async def leave_fresh(self) -> None:
        """Replace the child by one for the next kernel process, which gets nothing of this one."""
        self._live.stop()
        await self._live.restart()

    def stop(self) -> None:
        """Let the child go, whose session the kernel has left."""
        self._open = False
        self._live.stop()

    def abandon(self) -> None:
        """Let the child go because the kernel turns to another session; what it was asked ends."""
        self._open = False
        if self.pending:
            self._live.leave()
        else:
            self._live.stop()

    async def end(self, *, delay: float = 0.0, exit_session: bool) -> None:
        """End the child, and the session's process with it if told so."""
        self._open = False
        await self._live.end(delay=delay, exit_session=exit_session)

    async def health(self) -> Health:
        """Return how the child is."""
        return await self._live.health()

    # -- from the front ends to the child --

    def pass_on(self, channel: Channel, raw: Sequence[Any]) -> None:
        """Hand a front end's message on to the child."""
        try:
            incoming = self._channels.receive(channel, raw)
        except (ValueError, TypeError, KeyError):
            self._kernel.log.exception("A message on %s that nobody could have sent.", channel)
            return
        if channel != "stdin":
            if incoming.header["msg_type"] == "execute_request":
                self._note_sent(incoming)
            self.pending.add(channel, incoming)
        self._live.pass_on(channel, incoming.frames)

    def for_main_shell(self, raw: Sequence[Any]) -> Sequence[Any]:
        """Return a request that is answered on this side as it is handled there."""
        return self._channels.for_main_shell(raw)

    def ask(self, channel: Channel, identities: list[bytes], request: dict[str, Any]) -> None:
        """Hand on a request that was read on this side, before messages were handed on."""
        header, content = request["header"], request["content"]
        self._channels.remember(channel, header["msg_id"], identities)
        self.pending.add(channel, Incoming(identities, header, content, ()))
        self._send(channel, header, request["metadata"], content)

    def _note_sent(self, incoming: Incoming) -> None:
        """Note a cell: what a person typed is for the history once it runs."""
        self._set_up.run(self._live.generation)
        if is_hidden(incoming.content):
            self._kernel.start_up.note(incoming.content)
        else:
            self._kernel.start_up.end()
        if is_typed(incoming.content):
            self._unnoted.add(incoming.header["msg_id"])
        if not self.working:
            self._tell_busy(incoming.header)

    def _tell_busy(self, header: dict[str, Any]) -> None:
        """Say that a cell begins without waiting for the session to say so.

        A console that hears of no cell within 50 ms takes the last idle for this cell's, and from
        then on shows neither its output nor its questions.
        """
        self._told_busy = header["msg_id"]
        self._kernel.publish("status", {"execution_state": "busy"}, {"header": header})

    async def quiet(self) -> bool:
        """Wait until the child has finished its cells; False if one failed that aborts others."""
        self._failed = False  # what had failed before is over, and aborts nothing
        await self.pending.cells_end()
        return not self._failed

    async def execute(self, code: str, execution_count: int, expressions: dict[str, str]) -> Result:
        """Run the rest of a cell that was begun on this side; its outputs go straight on."""
        del execution_count, expressions  # the child counts by itself, and has the whole request
        self._set_up.run(self._live.generation)
        parent = self._kernel.get_parent("shell")
        message_id = parent["header"]["msg_id"]
        asker, hidden = self._kernel.asker_of_cell, is_hidden(parent["content"])
        with self.pending.beginning(message_id, asker, hidden=hidden) as begun:
            content = {**parent["content"], "code": code}
            self._send("shell", parent["header"], parent["metadata"], content)
            return await begun.result()

    def synchronise(self, execution_count: int) -> None:
        """Let the child count a cell that it did not get, as one of `%tci` lines only."""
        if execution_count > self._count:
            self._count = execution_count
            self._unseen.skip_to(execution_count + 1)

    def _send(
        self, channel: Channel, header: Any, metadata: dict[str, Any], content: dict[str, Any]
    ) -> None:
        pack = self._kernel.session.pack
        self._live.pass_on(channel, (pack(header), b"{}", pack(metadata), pack(content)))

    # -- from the child to the front ends --

    def _deliver(self, messages: list[Message]) -> None:
        """Hand on what the child said; warn the user in time of the session's end."""
        if self.pending.cells and (warning := self._session.warning()):
            self._notices.tell(warning)
        for message in messages:
            self._hand_out(message)
        if self._live.at_rest:
            self.pending.forget_messages()

    def _hand_out(self, message: Message) -> None:
        """Hand a message of the child to whom it concerns."""
        if self._unseen.takes(message):
            return
        parent = message.parent_id
        is_reply = message.channel in {"shell", "control"}
        if is_reply and message.msg_type == "execute_reply":
            self._note_cell(message)
        elif message.msg_type == "execute_input":
            self._note_begin(parent)
        begun = self.pending.begun.get(parent)
        if begun is not None and message.channel != "stdin" and begun.hears(message):
            return
        if message.is_busy and parent == self._told_busy:
            self._told_busy = ""
            return
        if message.msg_type == "complete_reply" and (asked := self.pending.get(parent)):
            message = questions.completed(message, asked.content)
        self._channels.send(message)
        if is_reply:
            self.pending.finish(message.channel, parent)
        elif message.is_idle:
            self.pending.finish_idle(message)

    def _note_begin(self, message_id: str) -> None:
        """Put a cell into the user's history when it runs: once, however often that is said."""
        asked = self.pending.get(message_id)
        if asked is not None and message_id in self._unnoted:
            self._unnoted.discard(message_id)
            self._kernel.history.add(asked.content.get("code"))

    def _note_cell(self, message: Message) -> None:
        """Learn from a cell's reply: its number, and whether those behind it are aborted."""
        count = message.execution_count
        if count is not None:
            self._kernel.execution_count = self._count = count
            self._session.execution_count = count
        self._unnoted.discard(message.parent_id)
        asked = self.pending.get(message.parent_id)
        if asked is not None and message.content.get("status") == "error":
            self._note_failure(asked)

    def _note_failure(self, asked: Incoming) -> None:
        """Abort the cells that have come already: before anybody can know of the failure."""
        if stops_others(asked.content) and asked.header.get("subshell_id") is None:
            self._failed = True
            self._kernel.abort_queued_cells()

    def _refused(self, message: Message, error: TCIError) -> None:
        """Answer a message that the service does not take; all else goes on."""
        message_id = str(message.header.get("msg_id"))
        if begun := self.pending.begun.get(message_id):
            begun.fail(error)
            return
        asked = self.pending.withdraw(message.channel, message_id)
        kind = message.header.get("msg_type", "")
        if not kind.endswith("_request"):
            self._notices.tell(f"TCI: a message of the front end is lost. {error}")
        if asked is not None:
            if kind == "execute_request":
                self._note_failure(asked)
            self._channels.bury(message.channel, asked, from_exception(error))

    # -- what this side says --

    def _tell(self, text: str) -> None:
        """Tell the user what the transport says, and of an interrupt that waits for the service."""
        self._notices.tell(text)
        self.interrupts.remind()

    def _ended(self, error: TCIError) -> None:
        """End all that is under way, because the transport has ended for good."""
        self._open = False
        self._failed = True
        self._refusal = error if isinstance(error, LiveRefused) else None
        if self._session.id is not None:
            self._kernel.log.warning("The live transport has ended: %s", error)
        if self._live.in_session:
            self._note_loss(error)
        if self.pending.has_listener:
            self._session.take_loss()  # who listens is told
        for begun in self.pending.begun.values():
            begun.fail(error)
        failure = from_exception(error)
        for header in self.pending.drain_idle():
            self._kernel.publish("status", {"execution_state": "idle"}, {"header": header})
        for channel, incoming in self.pending.drain():
            with contextlib.suppress(Exception):
                self._channels.bury(channel, incoming, failure)
        self._unnoted.clear()

    def _note_loss(self, error: TCIError) -> None:
        """Have the next cell tell what has ended with the transport."""
        if isinstance(error, AgentMissing):
            self._session.agent = ""
            self._session.note_loss(AgentMissing.between_cells())
        if isinstance(error, LiveRefused) and self._count:
            self._session.note_loss(error.between_cells())
