"""The sessions of a server: made, found, listed, expired, ended."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from tci_kernel.api import Execution, SessionInfo, SessionList
from tci_kernel.server import files
from tci_kernel.server.kernels import Died, StartFailed
from tci_kernel.server.refused import Refused

if TYPE_CHECKING:
    from tci_kernel.api import ExecuteRequest, Output
    from tci_kernel.server.files import Upload
    from tci_kernel.server.kernels import Kernel
    from tci_kernel.server.pool import Pool

#: How many ended sessions a server can still say something about.
REMEMBERED = 10_000
#: The longest time that a client is told to wait for a free session, in seconds.
RETRY_AFTER = 30


class Session:
    """A kernel under an id; its requests run one at a time, in the order in which they came.

    `known` becomes True when somebody is told the id.
    """

    def __init__(self, kernel: Kernel, lifetime: timedelta, output_limit: int) -> None:
        self.id = f"ses_{secrets.token_hex(16)}"
        self.kernel = kernel
        self.known = False
        self.started_at = self.last_execute_at = datetime.now(timezone.utc)
        self.expires_at = self.started_at + lifetime
        self.execute_count = 0
        self._output_limit = output_limit
        self._turn = asyncio.Lock()

    async def execute(self, code: str, uploads: list[Upload]) -> list[Output]:
        """Write files, then run code; raises `Refused`, and `Died` with the process.

        Cancelled while it waits for its turn, a request never runs. Cancelled while it runs, the
        code is interrupted: its client has left, and nobody can get what it gives. It keeps its
        turn until it ends.
        """
        await self._turn.acquire()
        run = asyncio.create_task(self._run(code, uploads))
        run.add_done_callback(self._pass_the_turn)
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            interrupt = asyncio.create_task(self.kernel.interrupt())
            run.add_done_callback(lambda _: interrupt.cancel())
            raise

    def info(self) -> SessionInfo:
        """Return what the API tells of a session."""
        return SessionInfo(
            id=self.id,
            started_at=self.started_at,
            last_execute_at=self.last_execute_at,
            expires_at=self.expires_at,
            execute_count=self.execute_count,
        )

    async def _run(self, code: str, uploads: list[Upload]) -> list[Output]:
        if not self.kernel.alive:
            raise self.kernel.death
        self.execute_count += 1
        self.last_execute_at = datetime.now(timezone.utc)
        if uploads:
            await asyncio.to_thread(files.write, self.kernel.folder.work, uploads)
        return await self.kernel.run(code, self._output_limit)

    def _pass_the_turn(self, run: asyncio.Task[list[Output]]) -> None:
        self._turn.release()
        if not run.cancelled():
            run.exception()  # its caller may have left: then nobody else asks for it


class Sessions:
    """All sessions of a server; `lifetime` is each one's, `most` how many there may be at once."""

    def __init__(self, pool: Pool, *, lifetime: timedelta, most: int, output_limit: int) -> None:
        self._pool = pool
        self._lifetime = lifetime
        self._most = most
        self._output_limit = output_limit
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Refused] = OrderedDict()
        self._endings: set[asyncio.Task[None]] = set()
        self._starting = 0
        self._closing = False
        self.used_at = asyncio.get_running_loop().time()

    @property
    def busy(self) -> bool:
        """Whether there is a session, or one about to be."""
        return bool(self._live or self._starting)

    async def execute(self, request: ExecuteRequest) -> Execution:
        """Run a request in its session, or in a new one; raises `Refused`."""
        uploads = files.checked(request.files or [])
        session = self._find(request.session_id) if request.session_id else await self._create()
        try:
            outputs = await session.execute(request.code, uploads)
        except Died as died:
            raise self._end(session, _dead(session, died)) from None
        except BaseException:
            if not session.known:  # nobody can ever use it
                self._end(session, _unknown(session.id))
            raise
        session.known = True
        return Execution(session_id=session.id, outputs=outputs, status="success")

    def listed(self) -> SessionList:
        """Return all live sessions, oldest first."""
        for session in self._live.values():
            session.known = True
        return SessionList(sessions=[session.info() for session in self._live.values()])

    async def close(self) -> None:
        """End all sessions; no more are made."""
        self._closing = True
        for session in list(self._live.values()):
            self._end(session, Refused(410, f"Session {session.id} has ended with its server."))
        await asyncio.gather(self._pool.close(), *self._endings)

    def _find(self, session_id: str) -> Session:
        session = self._live.get(session_id)
        if session is None:
            raise self._ended.get(session_id) or _unknown(session_id)
        return session

    async def _create(self) -> Session:
        if self._closing:
            raise Refused(429, "The server is ending; nothing has run.", retry_after=1)
        if len(self._live) + self._starting >= self._most:
            raise self._full()
        self._starting += 1
        try:
            kernel = await self._pool.take()
        except StartFailed as failure:
            raise Refused(503, f"{failure}\nNothing has run.") from None
        finally:
            self._starting -= 1
            self._mark_use()
        return self._open(kernel)

    def _open(self, kernel: Kernel) -> Session:
        session = Session(kernel, self._lifetime, self._output_limit)
        self._live[session.id] = session
        timer = asyncio.get_running_loop().call_later(
            self._lifetime.total_seconds(), self._end, session, _expired(session, self._lifetime)
        )
        kernel.watch.add_done_callback(lambda _: timer.cancel())
        kernel.watch.add_done_callback(lambda _: self._end(session, _dead(session, kernel.death)))
        return session

    def _end(self, session: Session, farewell: Refused) -> Refused:
        """End a session unless it has ended; return what its id answers from now on."""
        if self._live.pop(session.id, None) is not None:
            self._ended[session.id] = farewell
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)
            ending = asyncio.create_task(session.kernel.end())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            self._mark_use()
        return self._ended.get(session.id, farewell)

    def _mark_use(self) -> None:
        self.used_at = asyncio.get_running_loop().time()

    def _full(self) -> Refused:
        first = min((session.expires_at for session in self._live.values()), default=None)
        wait = (first - datetime.now(timezone.utc)).total_seconds() if first else RETRY_AFTER
        return Refused(
            429,
            f"All {self._most} sessions of this server are in use; nothing has run. "
            "Wait for one to end, or start the server with a larger --max-sessions.",
            retry_after=max(1, min(RETRY_AFTER, round(wait))),
        )


def _unknown(session_id: str) -> Refused:
    return Refused(
        404, f"Session {session_id} is not there: it has expired, or was never yours. {_NEW}"
    )


def _expired(session: Session, lifetime: timedelta) -> Refused:
    minutes = f"{lifetime.total_seconds() / 60:g}"
    return Refused(
        404,
        f"Session {session.id} has expired after {minutes} minutes. "
        f"Its variables and files are gone. {_NEW}",
    )


def _dead(session: Session, died: Died) -> Refused:
    return Refused(
        410,
        f"Session {session.id} has ended: {died}. Its variables and files are gone. {_NEW}",
    )


_NEW = "Leave session_id out to get a new session."
