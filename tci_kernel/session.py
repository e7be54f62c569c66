"""The life of one session as one kernel uses it: made, joined, warned about, expired, ended."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from tci_kernel.agent.wire import MARK
from tci_kernel.errors import SessionExpired, TCIError
from tci_kernel.state import State, StateFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.api import Execution, File, SessionInfo
    from tci_kernel.client import TCIClient

#: How long a session lives where the service does not say it.
LIFETIME = timedelta(minutes=60)

#: What a session costs on the hosted services, whatever it runs, in US dollars.
PRICE = 0.03

#: Time left at which a user is warned.
_WARNINGS = (timedelta(minutes=10), timedelta(minutes=2))

#: Ends the session's process: the API has no request for that. The answer cannot come.
#: The mark keeps the live transport's agent from running it in the child.
_EXIT = f"{MARK}\nimport os as _os; _os._exit(0)"


class Session:
    """One session at a time, made by the first request that needs it.

    Requests go out one after the other, in the order of the calls, as a session runs them anyway:
    so a second request never makes a second session. `remembered` is where the kernel's successor
    will look.
    """

    def __init__(self, client: TCIClient, remembered: StateFile) -> None:
        self.client = client
        self.id: str | None = client.settings.session_id
        self.owned = False
        self.created = 0
        self.expires_at: datetime | None = None
        self._made_at: datetime | None = None
        self.execution_count = 0
        self.agent = ""
        self.acknowledged = 0
        self.fresh = False
        self._only_named = self.id is not None  # by the setting: nobody has seen it yet
        self._loss: TCIError | None = None
        self._remembered = remembered
        self._turn = asyncio.Lock()
        self._under_way: asyncio.Task[Execution] | None = None
        self._warned: set[timedelta] = set()
        self._learning: asyncio.Task[None] | None = None
        self._recall()

    @property
    def busy(self) -> bool:
        """Whether a request is under way: another one would wait behind it."""
        return self._turn.locked()

    async def wait_for_turn(self) -> None:
        """Wait until no other request is under way."""
        async with self._turn:
            pass

    @property
    def time_left(self) -> timedelta | None:
        """Time until the session ends, or None without a session."""
        if self.id is None or self.expires_at is None:
            return None
        return max(self.expires_at - _now(), timedelta())

    async def execute(
        self,
        code: str,
        files: Sequence[File] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        within: str | None = None,
    ) -> Execution:
        """Run code in the session, which is made if there is none; return its outputs.

        With `within` it runs in the session of that id or not at all.

        A caller that is cancelled after the request was sent leaves it under way, and the session
        busy: nothing stops code that runs. One that is cancelled earlier takes it back.

        Raises a `TCIError`, after the end of a session that same `SessionExpired` until `take_loss`
        tells that a person knows of it; the next call makes a new session.
        """
        turn = self._turn
        await turn.acquire()
        sent = asyncio.Event()
        request = asyncio.create_task(
            self._request(code, files, timeout, retries, within, turn, sent)
        )
        request.add_done_callback(_retrieved)
        self._under_way = request
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            if not sent.is_set():
                request.cancel()
                await asyncio.wait({request})  # from then on the session is not busy
            raise

    async def _request(
        self,
        code: str,
        files: Sequence[File] | None,
        timeout: float | None,
        retries: int | None,
        within: str | None,
        turn: asyncio.Lock,
        sent: asyncio.Event,
    ) -> Execution:
        """Send one request in its turn, which lasts until the answer comes."""
        try:
            self._demand(within, turn)
            begin = _now()
            execution = await self.client.execute(
                code, self.id, files, timeout=timeout, on_sent=sent.set, retries=retries
            )
        except SessionExpired as error:
            if turn is not self._turn or within not in {None, self.id}:
                raise
            self._loss = loss = _not_there(self.id, error) if self._only_named else error
            self.forget()
            raise loss from None
        finally:
            turn.release()
        self._only_named = False
        if turn is self._turn and execution.session_id != self.id:
            self._made(execution.session_id, begin)
        return execution

    def _demand(self, session_id: str | None, turn: asyncio.Lock) -> None:
        """Raise `SessionExpired` if a request is for a session that this kernel no longer uses.

        One that has waited for its turn, or was on its way here, may have lost its session: in the
        next one, code would run without all that it is built on, and nobody would know.
        """
        if self.id is None and self._loss is not None:
            raise self._loss
        if turn is not self._turn:
            raise SessionExpired(
                "This kernel has left the session for which this waited. Nothing has run."
            )
        if session_id not in {None, self.id}:
            raise SessionExpired(f"This kernel has left session {session_id}. Nothing has run.")

    async def info(self) -> SessionInfo | None:
        """Return what the service lists about this session, and learn its end from it."""
        listed = await self.client.sessions()
        mine = next((info for info in listed if info.id == self.id), None)
        if mine is not None and mine.expires_at is not None:
            self.expires_at = _as_utc(mine.expires_at)
            if mine.started_at is not None and self._made_at is not None:
                # The service's clock and this machine's may tell different times.
                self.expires_at = self._made_at + (self.expires_at - _as_utc(mine.started_at))
        return mine

    def forget(self) -> None:
        """Let go of the session without ending it."""
        self.id = None
        self.owned = False
        self.fresh = False
        self._only_named = False
        self.agent = ""
        self.acknowledged = 0
        self.expires_at = self._made_at = None
        self._turn = asyncio.Lock()  # what the old session still runs is no concern of the next
        self._warned.clear()
        self._remembered.remove()

    async def end(self, timeout: float) -> None:
        """End the session's process if this kernel made it; give up after `timeout` seconds.

        Does not wait for its turn: a cell that runs is to end too. Leaving its request lets a
        service that heeds it (the embedded server does) interrupt the cell.
        """
        session_id, owned = self.id, self.owned
        self.forget()
        if self._under_way is not None:
            self._under_way.cancel()
        if session_id is not None and owned:
            with contextlib.suppress(TCIError, asyncio.TimeoutError):
                await asyncio.wait_for(self.client.execute(_EXIT, session_id), timeout)

    def remember(self, *, fresh: bool | None = None, execution_count: int | None = None) -> None:
        """Write down the session for a successor; `fresh` asks it for an empty namespace."""
        self.fresh = self.fresh if fresh is None else fresh
        if execution_count is not None:
            self.execution_count = execution_count
        if self.id is not None:
            state = State(
                backend=self._backend(),
                session_id=self.id,
                owned=self.owned,
                expires_at=self.expires_at or _now() + LIFETIME,
                execution_count=0 if self.fresh else self.execution_count,
                agent=self.agent,
                acknowledged=self.acknowledged,
                fresh=self.fresh,
                named=self.client.settings.session_id,
            )
            self._remembered.write(state)

    def hand_over(self, seconds: float) -> None:
        """Leave the session to the next kernel that the same parent soon starts in this folder."""
        self._remembered.hand_over(seconds)

    @property
    def has_loss(self) -> bool:
        """Whether something was lost of which no person knows yet."""
        return self._loss is not None

    def note_loss(self, loss: TCIError) -> None:
        """Let the next cell tell of a loss in the session, and not run on what is gone."""
        self._loss = loss

    def take_loss(self) -> TCIError | None:
        """Return the end that the session was found to have come to, or a loss in it, once.

        What a front end asks by itself may find it: then a person is still to be told.
        """
        loss, self._loss = self._loss, None
        return loss

    def warning(self) -> str | None:
        """Return a sentence about the near end of the session, once for each mark passed."""
        left = self.time_left
        passed = {mark for mark in _WARNINGS if left is not None and left <= mark}
        if passed <= self._warned or left is None:
            return None
        self._warned |= passed
        minutes = max(1, round(left.total_seconds() / 60))
        return (
            f"TCI: this session ends in about {minutes} min; its variables and files end with it. "
            "Save what you need."
        )

    def _made(self, session_id: str, begin: datetime) -> None:
        self.id = session_id
        self.owned = True
        self.created += 1
        self._made_at = begin
        self.expires_at = begin + LIFETIME
        self.remember()
        self._learning = asyncio.create_task(self._learn_end())

    async def _learn_end(self) -> None:
        """Replace the assumed end of a new session by the one that the service gives it."""
        with contextlib.suppress(TCIError):
            await self.info()
            self.remember()

    def _recall(self) -> None:
        """Take up the session that this kernel had before it died, if it can still be alive."""
        state = self._remembered.read()
        if state is None or state.backend != self._backend() or state.expires_at <= _now():
            return
        if state.named != self.client.settings.session_id:
            return
        self.id = state.session_id
        self._only_named = False
        self.owned = state.owned
        self.expires_at = state.expires_at
        self.execution_count = state.execution_count
        self.agent = state.agent
        self.acknowledged = state.acknowledged
        self.fresh = state.fresh

    def _backend(self) -> str:
        settings = self.client.settings
        return "local" if settings.local else settings.shown_url


def _not_there(session_id: str | None, error: SessionExpired) -> SessionExpired:
    """Return the error for a session that a setting names and that has never answered."""
    cause = f" ({error.cause})" if error.cause else ""
    return SessionExpired(
        f"The session {session_id} that TCI_SESSION_ID names is not there{cause}. It never existed,"
        " has ended (the cell has run only if that is what ended it), or belongs to another key. "
        "Correct TCI_SESSION_ID (`%tci sessions` lists your sessions) or unset it, and start the "
        "kernel anew; if you run again without that, a new session is made."
    )


def _retrieved(request: asyncio.Task[Execution]) -> None:
    """Take note of a request's end, for one that nobody waits for any more."""
    if not request.cancelled():
        request.exception()


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _as_utc(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=timezone.utc)
