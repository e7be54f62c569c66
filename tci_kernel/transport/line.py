"""The line to the agent: a request goes out again until its whole answer is here.

The agent acts once on whatever it gets twice, so nothing but patience is needed: for faults that
pass, for frames that arrive damaged, and for services that ask for fewer requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import stamina

from tci_kernel.errors import (
    InvalidRequest,
    LiveRefused,
    NotConfigured,
    RateLimited,
    SessionExpired,
    TCIError,
    TimedOut,
    Unauthorized,
)
from tci_kernel.transport.frames import AgentMissing, FrameError
from tci_kernel.transport.pieces import Assembler, parse
from tci_kernel.transport.requests import (
    LIMIT,
    SMALLEST_LIMIT,
    BootOptions,
    Exchange,
    Fetch,
    Form,
    boot,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Frame
    from tci_kernel.transport.requests import Call, Request

#: Shortest wait for news in one exchange, in seconds; what a front end sends waits behind it.
_SHORTEST_HOLD = 0.2
#: The wait and a round trip are together no longer than this (seconds): an interrupt, which comes
#: behind them and makes a round trip of its own, is to take a second more than that at most.
_REACH = 0.8
#: How often the hold goes into the time that a request travels.
_HOLD_PER_TRIP = 5.0
#: Much text is not waited for any longer than this, in seconds: a person watches it.
_LONGEST_FLOW = 0.1
#: What is printed in so many characters travels as quickly as nothing.
_LIGHT = 2**14
#: A service that answers within so many seconds is on this machine, or next to it.
_NEAR = 0.02
#: The hold for some time after the service has asked for fewer requests, and that time. Seconds.
_PATIENT_HOLD, _PATIENT_TIME = 3.0, 30.0

#: Starting Python in the session, or ending it, may take so long. Seconds.
_OPERATION_TIME = 30.0
#: Making a session may take so long. Seconds.
_CREATION_TIME = 150.0
#: Each answer that does not come in time is waited for twice as long, up to this. Seconds.
_LONGEST_TIMEOUT = 120.0
#: Longest pause between two attempts, in seconds, whatever the service asks for.
_LONGEST_PAUSE = 60.0
#: The user is told that the service does not answer after so many seconds, and if it is to make a
#: session, which is slower, after so many.
_TELL_AFTER, _TELL_AFTER_CREATING = 4.0, 20.0
#: The limit of a frame's pieces grows up to so many bytes, while they come whole and so quickly
#: (seconds) that the loss of one is no great loss.
_LARGEST_LIMIT, _QUICK_PIECE = 2**24, 0.5
#: So many damaged frames in a row, of the smallest size, are no accident.
_TRIES = 4


class Line:
    """Carries the requests of one relay to the agent of one session.

    `relay` is the relay's id; `notify` gets what the user is to know meanwhile. `silent` tells that
    the user was told that the service does not answer, and it still does not.
    """

    def __init__(self, session: Session, relay: str, notify: Callable[[str], None]) -> None:
        self.silent = False
        self.session_id = session.id
        self._session = session
        self._relay = relay
        self._notify = notify
        self._limit, self._largest_limit = LIMIT, _LARGEST_LIMIT
        self._text = True  # until a piece comes damaged
        self._trip = _REACH
        self._patient_until = 0.0
        self._late = 0

    @property
    def hold(self) -> float:
        """How long the agent should wait for news, in seconds."""
        if time.monotonic() < self._patient_until:
            return _PATIENT_HOLD
        return max(_SHORTEST_HOLD, min(_HOLD_PER_TRIP * self._trip, _REACH - self._trip))

    @property
    def flow(self) -> float:
        """How long the agent should wait for the end of what goes on coming, in seconds.

        Far away another request takes longer than that.
        """
        return min(self._trip, _LONGEST_FLOW) if self._trip > _NEAR else 0.0

    @property
    def _form(self) -> Form:
        return Form(self._limit, self._text, compress=self._trip > _NEAR)

    async def ask(self, request: Request | BootOptions, *, attempts: int | None = None) -> Frame:
        """Return the answer to a request, made again after any fault that can pass.

        Making a session is tried as often as the setting `retries` says, because each attempt whose
        answer is lost may cost money; all else `attempts` times, None for as often as need be.
        """
        creating = self.session_id is None
        if creating:
            attempts = 1 + self._session.client.settings.retries
        retries = stamina.retry_context(
            on=self._can_pass,
            attempts=attempts,
            timeout=None,
            wait_initial=0.1,
            wait_jitter=0.3,
            wait_max=5.0,
        )
        await self._session.wait_for_turn()  # behind an upload, say, which is no silence
        with self._telling(_TELL_AFTER_CREATING if creating else _hold_of(request) + _TELL_AFTER):
            async for attempt in retries:
                with attempt:
                    return await self._once(request)
        raise AssertionError("a retry context ends by returning or raising")

    @contextlib.contextmanager
    def _telling(self, patience: float) -> Iterator[None]:
        """Tell the user if an answer takes longer than `patience` seconds, and when it is there."""
        timer = asyncio.get_running_loop().call_later(patience, self._tell)
        try:
            yield
        finally:
            timer.cancel()
        if self.silent:
            self.silent = False
            self._notify("TCI: connected again; nothing was lost.")

    def _tell(self) -> None:
        if not self.silent:
            self.silent = True
            self._notify(
                "TCI: the service does not answer; trying again until it does. Interrupt to leave "
                "the cell."
            )

    def _can_pass(self, error: Exception) -> bool | float:
        """Tell whether to ask again after an error, and after how many seconds."""
        match error:
            case RateLimited():
                self._patient_until = time.monotonic() + _PATIENT_TIME
                return min(_LONGEST_PAUSE, error.retry_after or 0.0) or True
            case TimedOut(may_have_run=True) if self.session_id is None:
                return False
            case TimedOut():
                self._late += 1
                return not self._is_over()
            case AgentMissing() | SessionExpired() | LiveRefused():
                return False
            case Unauthorized() | NotConfigured() | InvalidRequest():
                return False
            case _:
                return isinstance(error, TCIError) and not self._is_over()

    def _is_over(self) -> bool:
        left = self._session.time_left
        return left is not None and not left

    async def _once(self, request: Request | BootOptions) -> Frame:
        """Return the answer; if it comes damaged, ask again, and then for smaller pieces."""
        damaged = 0
        while True:
            try:
                frame = await self._frame(request)
            except AgentMissing:  # noqa: PERF203  to ask again is the purpose
                raise
            except FrameError as error:
                damaged += 1
                self._text = False
                if damaged >= _TRIES and self._limit <= SMALLEST_LIMIT:
                    raise LiveRefused(f"The service does not return frames: {error}") from error
                if damaged > 1:
                    self._limit = max(self._limit // 4, SMALLEST_LIMIT)
                    self._largest_limit = self._limit
            else:
                self._late = 0
                return frame

    async def _frame(self, request: Request | BootOptions) -> Frame:
        """Make a request, and as many more as it takes to fetch its whole frame."""
        timeout = self._timeout(request)
        if isinstance(request, BootOptions):
            call = boot(request, self._form)
        else:
            call = encode(request, self._form)
        assembler = Assembler()
        while True:
            begin = time.monotonic()
            text = await self._stdout(call, timeout)
            frame = assembler.add(parse(text, call.nonce))
            if frame is not None and frame.problem:
                *_, last = frame.problem.strip().split("\n")
                raise FrameError(f"The agent failed: {last}")
            seconds = time.monotonic() - begin
            if frame is not None:
                if isinstance(request, Exchange) and len(text) < _LIGHT:
                    # It may have been unlucky, and the network may have become slower.
                    self._trip = min(self._trip * 1.1, max(0.0, seconds - frame.took))
                return frame
            if seconds < _QUICK_PIECE:
                self._limit = min(4 * self._limit, self._largest_limit)
            fetch = Fetch(self._relay, assembler.batch, assembler.offset)
            call = encode(fetch, self._form)

    def _timeout(self, request: Request | BootOptions) -> float:
        """Return after how many seconds an answer is taken for lost."""
        if self.session_id is None:
            return _CREATION_TIME
        limit = self._session.client.settings.answer_timeout * (1 << min(self._late, 10))
        if isinstance(request, Exchange):
            return _hold_of(request) + min(limit, _LONGEST_TIMEOUT)
        return _OPERATION_TIME + min(limit, _LONGEST_TIMEOUT)

    async def _stdout(self, call: Call, timeout: float) -> str:
        execution = await self._session.execute(
            call.code, call.files, timeout=timeout, retries=0, within=self.session_id
        )
        self.session_id = execution.session_id
        return "".join(output.text for output in execution.outputs if output.type == "stdout")


def _hold_of(request: Request | BootOptions) -> float:
    return request.hold if isinstance(request, Exchange) else 0.0
