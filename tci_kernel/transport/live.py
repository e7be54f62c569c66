"""The live transport: all Jupyter messages travel through the execute endpoint.

One task, `_pump`, makes one exchange after the other while something can come. Messages of the
front ends wait in `Outgoing` until the agent has accepted them; what the child says is handed to
`deliver`, once and in order. Any exchange may be lost: the line makes it again (line.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING

from tci_kernel.errors import (
    ConnectionLost,
    InvalidRequest,
    LiveRefused,
    SessionExpired,
    Superseded,
    TCIError,
)
from tci_kernel.transport.frames import AgentMissing, health
from tci_kernel.transport.line import Line
from tci_kernel.transport.outgoing import Outgoing
from tci_kernel.transport.requests import BootOptions, End, Exchange, Restart, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Frame, Health, Hello, Idle
    from tci_kernel.transport.message import Channel, Message

#: Pauses between two looks at what threads, tasks and open comms say, in seconds: ever longer.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
#: One look this long (seconds) after the last news, whatever the child believes of its threads.
_LAST_LOOK = 0.3

#: A new session of which this side does not learn, because the answer is lost, ends after so many
#: seconds.
_LEASE = 300.0

_LEFT = "This kernel has left the session. It is not known what has run."


class LiveTransport:
    """Relays between the front ends and the child ipykernel of one session.

    `deliver` gets the child's messages of each exchange, none too; `refuse` a message that the
    service does not take, with the error; `notify` what the user is to know meanwhile; `on_end` the
    error that ends the transport for good. `generation` counts the session's children: it rises
    when one has died or is restarted.
    """

    def __init__(
        self,
        session: Session,
        deliver: Callable[[list[Message]], None],
        refuse: Callable[[Message, TCIError], None],
        notify: Callable[[str], None],
        on_end: Callable[[TCIError], None],
    ) -> None:
        self._session = session
        self._deliver, self._refuse, self._on_end = deliver, refuse, on_end
        self.generation = 0
        self._relay = uuid.uuid4().hex
        self._line = Line(session, self._relay, notify)
        self._outgoing = Outgoing()
        self._more = False
        self._working = self._asks = False
        self._idle: Idle | None = None
        self._looks = 0
        self._wake = asyncio.Event()
        self._pumping: asyncio.Task[None] | None = None
        self._stopped = False

    # -- the life of the transport --

    @property
    def in_session(self) -> bool:
        """Whether the kernel's session still is the one with this transport's agent."""
        return self._line.session_id is not None and self._line.session_id == self._session.id

    @property
    def working(self) -> bool:
        """Whether the child is at work, as far as is known, or has more to say."""
        return self._working or self._more

    @property
    def at_rest(self) -> bool:
        """Whether the child has finished all that it was handed, and said all of it."""
        return not self.working and not self._outgoing

    @property
    def silent(self) -> bool:
        """Whether the service has not answered for so long that the user was told."""
        return self._line.silent

    async def start(self, execution_count: int, *, jupyter_session: str) -> Hello:
        """Boot the agent, or join the one that runs in the session; then pump.

        `execution_count` is what the child's next cell counts as, if the child is new.
        Raises `LiveRefused` if the session cannot do it, else the `TCIError` of the request.
        """
        options = BootOptions(
            self._relay,
            jupyter_session,
            move=True,
            execution_count=execution_count,
            lease=_LEASE if self._line.session_id is None else 0.0,
        )
        try:
            hello = await self._boot(options)
        except LiveRefused:
            await self._leave_plain()
            raise
        if hello.agent != self._session.agent:  # it counts its messages from 1
            self._session.agent, self._session.acknowledged = hello.agent, 0
        self._wake.set()
        self._pumping = asyncio.create_task(self._pump(), name="tci relay")
        return hello

    async def _boot(self, options: BootOptions) -> Hello:
        frame = await self._line.ask(options)
        hello, self.generation = frame.hello, frame.child.generation
        if hello is None:
            raise LiveRefused("The session's agent did not introduce itself.")
        if hello.refusal:
            raise LiveRefused(hello.refusal, installable=hello.lacks_package)
        _demand_child(frame)
        if hello.fresh and not self._session.client.settings.local:
            await self._demand_lasting_child()
        return hello

    def stop(self) -> None:
        """Pump no more, and hand nothing on that the agent has not accepted."""
        self._stopped = True
        self._outgoing.clear()
        if self._pumping is not None:
            self._pumping.cancel()

    def leave(self) -> None:
        """End the transport because the kernel turns to another session."""
        self.stop()
        self._on_end(SessionExpired(_LEFT))

    def give_up(self) -> None:
        """End the transport because a person does not want to wait for the service any more."""
        self.stop()
        self._on_end(
            ConnectionLost(
                "Interrupted while the service did not answer. The cell may run on in the session, "
                "whose variables and files are kept. The next cell tries to reach it again."
            )
        )

    async def restart(self, execution_count: int = 1) -> None:
        """Replace the child by a fresh one in the same session."""
        await self._line.ask(Restart(self._relay, execution_count))
        # What the former child left unsaid is not for the next kernel process.
        while self._take(await self._line.ask(self._exchange(hold=0.0))) and self._more:
            pass

    async def end(self, *, delay: float = 0.0, exit_session: bool = False) -> None:
        """End the child, after `delay` seconds unless a relay comes; the session's process too."""
        self.stop()
        await self._line.ask(End(self._relay, delay, exit_session))

    async def health(self) -> Health:
        """Return how the child is."""
        return health(await self._line.ask(Status(self._relay), attempts=1))

    # -- messages --

    def pass_on(self, channel: Channel, frames: tuple[bytes, ...], *, own: bool = False) -> None:
        """Hand a front end's message to the child: header, parent, metadata, content, buffers.

        One of the relay's `own` runs whatever has failed meanwhile.
        """
        if self._stopped:
            return
        self._outgoing.add(channel, frames, None if own else self._session.acknowledged)
        self._wake.set()

    async def _pump(self) -> None:
        try:
            while True:
                await self._due()
                await self._exchange_once()
        except LiveRefused as error:
            await self._leave_plain()
            self._on_end(error)
        except TCIError as error:
            self._on_end(error)
        except asyncio.CancelledError:
            if not self._stopped:  # the session was left under a request
                self._on_end(SessionExpired(_LEFT))
            raise
        except Exception as error:  # noqa: BLE001  a relay that stops silently loses a user's work
            self._on_end(TCIError(f"A fault of the relay itself: {error!r}. The session runs on."))

    async def _exchange_once(self) -> None:
        hold, begin = self._line.hold, time.monotonic()
        exchange = self._exchange(hold)
        try:
            frame = await self._line.ask(exchange)
            brought = self._take(frame)
            if exchange.messages and frame.accepted < exchange.messages[-1].number:
                raise LiveRefused("The session's agent does not take what it is sent.")
            _demand_child(frame)
            if not brought and self.working:  # a session that does not hold is not asked more often
                await self._pause(begin + hold - time.monotonic())
        except InvalidRequest as error:
            if not exchange.messages:
                raise
            withdrawn = self._outgoing.lighten(exchange.messages)
            if withdrawn is not None:
                self._refuse(withdrawn, error)

    async def _demand_lasting_child(self) -> None:
        """Raise `LiveRefused` where what a request starts ends with it: no variable would last."""
        try:
            child = (await self._line.ask(Status(self._relay, hear=True))).child
        except AgentMissing:
            raise LiveRefused("Its Python does not live on from one request to the next.") from None
        if child.state == "failed" or child.generation > self.generation:
            raise LiveRefused(
                f"Python that it starts does not live on until the next request. {child.reason}"
            )

    async def _leave_plain(self) -> None:
        """End agent and child, which would take cells from plain transport; it may not answer."""
        with contextlib.suppress(TCIError):
            await self._line.ask(End(self._relay), attempts=1)

    async def _due(self) -> None:
        """Wait until an exchange can bring something."""
        self._wake.clear()
        if self._outgoing or self._more or self._working:
            return
        if self._idle:
            pause: float | None = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._looks, 10))
        else:
            pause = None if self._looks else _LAST_LOOK
        self._looks += 1
        await self._pause(pause)

    async def _pause(self, seconds: float | None) -> None:
        """Wait until there is something to send, for so many seconds at most."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _exchange(self, hold: float) -> Exchange:
        messages = self._outgoing.batch()
        return Exchange(
            self._relay,
            acknowledged=self._session.acknowledged,
            messages=messages,
            # Nothing that a front end sends waits behind a look at an idle child, nor behind one
            # while a question is open, as far as is known.
            hold=hold if messages or (self._working and not self._asks) else 0.0,
            flow=self._line.flow,
        )

    def _take(self, frame: Frame) -> bool:
        """Note what a frame says, and deliver its messages; tell whether there were any."""
        if frame.superseded:
            raise Superseded(
                "Another kernel has taken over this session; variables and files are kept there."
            )
        self.generation = frame.child.generation
        self._outgoing.accept(frame.accepted)
        self._more = frame.more
        self._working, self._asks = frame.idle is None, frame.asks
        # What the last thread said may still be in the child's buffer when the thread is gone.
        silenced = bool(self._idle) and not frame.idle
        self._idle = frame.idle
        news = [m for m in frame.messages if m.number > self._session.acknowledged]
        self._session.acknowledged = max(self._session.acknowledged, frame.last)
        if news or self._working or silenced:
            self._looks = 0
        self._deliver([self._told_apart(message) for message in news])
        if news:
            self._session.remember()  # a successor must not deliver them again
        return bool(news)

    def _told_apart(self, message: Message) -> Message:
        """Return a message as it is, unless it can only be about the request of a former kernel.

        A front end that counts anew gives its requests ids that are known; what has not arrived
        there yet has no answer.
        """
        is_early = self._outgoing.has_question_of(message)
        return message.for_nobody() if is_early else message


def _demand_child(frame: Frame) -> None:
    """Raise `LiveRefused` where no child lives."""
    if frame.child.state == "failed":
        raise LiveRefused(frame.child.reason)
