"""The live transport: all Jupyter messages travel through the execute endpoint.

One task, `_pump`, makes one exchange after the other while something can come. Messages of the
front ends wait in `_outgoing` until the agent has accepted them; what the child says is handed to
`deliver`, once and in order. Any exchange may be lost: it is made again with the same numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import TYPE_CHECKING

import stamina

from tci_kernel.errors import (
    InvalidRequest,
    LiveRefused,
    NotConfigured,
    RateLimited,
    SessionExpired,
    Superseded,
    TCIError,
    Unauthorized,
)
from tci_kernel.transport.frames import AgentMissing, Assembler, FrameError, health, parse
from tci_kernel.transport.message import Message
from tci_kernel.transport.requests import (
    LIMIT,
    SMALLEST_LIMIT,
    BootOptions,
    End,
    Exchange,
    Fetch,
    Request,
    Restart,
    Signal,
    Status,
    boot,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Frame, Health, Hello, Idle
    from tci_kernel.transport.message import Channel
    from tci_kernel.transport.requests import Call

#: Bounds of the wait for news in one exchange, in seconds: what a front end sends waits behind it.
_SHORTEST_HOLD, _LONGEST_HOLD = 0.2, 1.0
#: How often the hold goes into the time that a request travels.
_HOLD_PER_TRIP = 5.0
#: The hold after the service has asked for fewer requests.
_PATIENT_HOLD = 5.0

#: Pauses between two looks at what threads, tasks and open comms say, in seconds: ever longer.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 10.0
#: One look this long (seconds) after the last news, whatever the child believes of its threads.
_LAST_LOOK = 0.3

#: An answer that takes longer than this (seconds, beside the hold) is taken for lost.
_ANSWER_TIMEOUT = 60.0
#: The user is told that the service cannot be reached after so many seconds.
_TELL_AFTER = 3.0

#: Most bytes of messages in one exchange; the others wait for the next one.
_LARGEST_REQUEST = 16 * 2**20


class LiveTransport:
    """Relays between the front ends and the child ipykernel of one session.

    `deliver` gets each message of the child; `notify` gets what the user is to know meanwhile;
    `on_end` the error that ends the transport for good.
    """

    name = "live"

    def __init__(
        self,
        session: Session,
        deliver: Callable[[Message], None],
        notify: Callable[[str], None],
        on_end: Callable[[TCIError], None],
    ) -> None:
        self._session = session
        self._deliver, self._notify, self._on_end = deliver, notify, on_end
        self._relay = uuid.uuid4().hex
        self._booted_in: str | None = None
        self._limit = LIMIT
        self._hold = _SHORTEST_HOLD
        self._trip = _LONGEST_HOLD
        self._outgoing: list[Message] = []
        self._number = 0
        self._more = False
        self._working = False
        self._idle: Idle | None = None
        self._looks = 0
        self._wake = asyncio.Event()
        self._pumping: asyncio.Task[None] | None = None

    # -- the life of the transport --

    async def start(self, execution_count: int, *, jupyter_session: str) -> Hello:
        """Boot the agent, or join the one that runs in the session; then pump.

        `execution_count` is what the child's next cell counts as, if the child is new.
        Raises `LiveRefused` if the session cannot do it, else the `TCIError` of the request.
        """
        options = BootOptions(
            self._relay, jupyter_session, move=True, execution_count=execution_count
        )
        try:
            frame = await self._ask(boot(options))
        except FrameError as error:
            raise LiveRefused(f"The session does not answer the agent's call: {error}") from error
        hello = frame.hello
        if hello is None or hello.refusal or frame.problem:
            reason = hello.refusal if hello is not None else frame.problem.strip().split("\n")[-1]
            lacks_package = hello is not None and hello.lacks_package
            raise LiveRefused(
                reason or "The session's agent did not introduce itself.", installable=lacks_package
            )
        self._booted_in = self._session.id
        self._wake.set()
        self._pumping = asyncio.create_task(self._pump(), name="tci relay")
        return hello

    @property
    def in_session(self) -> bool:
        """Whether the kernel's session still is the one with this transport's agent."""
        return self._session.id is not None and self._session.id == self._booted_in

    def stop(self) -> None:
        """Make no more exchanges."""
        if self._pumping is not None:
            self._pumping.cancel()

    async def restart(self, execution_count: int = 1) -> None:
        """Replace the child by a fresh one in the same session."""
        await self._persistently(Restart(self._relay, execution_count))
        # What the former child left unsaid is not for the next kernel process.
        self._take(await self._persistently(self._exchange()))

    async def end(self, *, delay: float = 0.0, exit_session: bool = False) -> None:
        """End the child, after `delay` seconds unless a relay comes; the session's process too."""
        self.stop()
        await self._once(End(self._relay, delay, exit_session))

    async def signal(self) -> None:
        """Interrupt the child as a terminal would."""
        await self._persistently(Signal(self._relay))

    async def health(self) -> Health:
        """Return how the child is."""
        return health(await self._once(Status(self._relay)))

    # -- messages --

    def pass_on(self, channel: Channel, frames: tuple[bytes, ...]) -> None:
        """Hand a front end's message to the child: header, parent, metadata, content, buffers."""
        self._number += 1
        self._outgoing.append(Message(self._number, channel, frames))
        self._wake.set()

    async def _pump(self) -> None:
        try:
            while True:
                await self._due()
                self._take(await self._persistently(self._exchange()))
        except TCIError as error:
            self._on_end(error)
        except Exception as error:  # noqa: BLE001  a relay that stops silently loses a user's work
            self._on_end(TCIError(f"A fault of the relay itself: {error!r}. The session runs on."))

    async def _due(self) -> None:
        """Wait until an exchange can bring something."""
        self._wake.clear()
        if self._outgoing or self._more or self._working:
            return
        if self._idle:
            pause: float | None = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._looks)
        else:
            pause = None if self._looks else _LAST_LOOK
        self._looks += 1
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._wake.wait(), pause)

    def _exchange(self) -> Exchange:
        size = 0
        messages: list[Message] = []
        for message in self._outgoing:
            size += sum(map(len, message.frames))
            if messages and size > _LARGEST_REQUEST:
                break
            messages.append(message)
        return Exchange(
            self._relay,
            acknowledged=self._session.acknowledged,
            messages=tuple(messages),
            generation=2**31,  # the front ends ask the child itself
            # Nothing that a front end sends waits behind a look at an idle child.
            hold=self._hold if messages or self._working else 0.0,
        )

    def _take(self, frame: Frame) -> None:
        """Note what a frame says, and deliver its messages."""
        if frame.superseded:
            raise Superseded(
                "Another kernel has taken over this session; variables and files are kept there."
            )
        self._outgoing = [m for m in self._outgoing if m.number > frame.accepted]
        self._more = frame.more
        self._working = frame.idle is None
        self._idle = frame.idle
        news = [m for m in frame.messages if m.number > self._session.acknowledged]
        self._session.acknowledged = max(self._session.acknowledged, frame.last)
        if news or self._working:
            self._looks = 0
        for message in news:
            self._deliver(message)
        if news:
            self._session.remember()  # a successor must not deliver them again

    # -- requests --

    async def _persistently(self, request: Request) -> Frame:
        """Make a request, again after any fault that can pass; the agent acts on it once."""
        since = time.monotonic()
        told = False
        attempts = stamina.retry_context(
            on=self._can_pass, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
        )
        async for attempt in attempts:
            with attempt:
                if not told and time.monotonic() - since > _TELL_AFTER:
                    told = True
                    self._notify(
                        "TCI: the service cannot be reached; the session runs on. Trying again…"
                    )
                frame = await self._once(request)
        if told:
            self._notify("TCI: connected again; nothing was lost.")
        return frame

    def _can_pass(self, error: Exception) -> bool | float:
        """Tell whether to make an exchange again after an error, and after how many seconds."""
        match error:
            case RateLimited():
                self._hold = _PATIENT_HOLD
                return error.retry_after or True
            case AgentMissing() | SessionExpired() | LiveRefused():
                return False
            case Unauthorized() | NotConfigured() | InvalidRequest():
                return False
            case _:
                return isinstance(error, TCIError) and not self._is_over()

    def _is_over(self) -> bool:
        left = self._session.time_left
        return left is not None and not left

    async def _once(self, request: Request) -> Frame:
        """Make a request; a frame that comes damaged is asked for in smaller pieces."""
        self._demand_session()  # without one, a request would make one
        begin = time.monotonic()
        while (frame := await self._undamaged(request)) is None:
            self._limit //= 4
        self._demand_session()  # numbers of the one that was left are not those of the next
        if self._hold < _PATIENT_HOLD:
            self._trip = min(self._trip * 1.1, time.monotonic() - begin)
            self._hold = min(_LONGEST_HOLD, max(_SHORTEST_HOLD, _HOLD_PER_TRIP * self._trip))
        return frame

    def _demand_session(self) -> None:
        if not self.in_session:
            raise SessionExpired("The kernel has left this session.")

    async def _undamaged(self, request: Request) -> Frame | None:
        """Return the frame, or None if it came damaged and smaller pieces are worth a try."""
        try:
            return await self._ask(encode(request, limit=self._limit))
        except AgentMissing:
            raise
        except FrameError as error:
            if self._limit > SMALLEST_LIMIT:
                return None
            raise LiveRefused(f"The service does not return frames: {error}") from error

    async def _ask(self, call: Call) -> Frame:
        """Send a request and as many more as it takes to fetch its whole frame."""
        assembler = Assembler()
        while True:
            text = await self._stdout(call)
            frame = assembler.add(parse(text, call.nonce))
            if frame is not None:
                return frame
            fetch = Fetch(self._relay, assembler.batch, assembler.offset)
            call = encode(fetch, limit=self._limit)

    async def _stdout(self, call: Call) -> str:
        timeout = self._hold + _ANSWER_TIMEOUT
        execution = await self._session.execute(call.code, call.files, timeout=timeout, retries=0)
        return "".join(output.text for output in execution.outputs if output.type == "stdout")
