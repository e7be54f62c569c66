"""The client of a TCI service; the only module that speaks HTTP.

A request is *sent* by `_send`, again by `_answered` while that is harmless, and its answer *read*
by `answers.read`; `faults.translated` turns every lower exception into one of `tci_kernel.errors`.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import stamina
from pydantic_core import to_json

from tci_kernel import embedded, settings
from tci_kernel.answers import Answer, read, validated
from tci_kernel.api import ExecuteRequest, Execution, File, SessionInfo, SessionList
from tci_kernel.errors import (
    MAY_HAVE_RUN,
    ConnectionLost,
    RateLimited,
    ServiceError,
    SessionExpired,
    TimedOut,
    Unreachable,
)
from tci_kernel.faults import translated
from tci_kernel.http import connections, httpx, slices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from tci_kernel.settings import Settings

# Who configures logging sees that a request is repeated; for others, Python itself would print a
# bare line each time.
logging.getLogger("stamina").addHandler(logging.NullHandler())

#: An answer to `sessions` that takes longer than this will not come.
_LIST_TIMEOUT = 30.0

#: A service may ask for any pause; longer ones are reported instead of waited for.
_LONGEST_PAUSE = 60.0


class _Request(NamedTuple):
    """One request: its answer is waited for at most `limit` seconds."""

    method: Literal["GET", "POST"]
    path: str
    limit: float | None
    session_id: str | None = None
    content: bytes | None = None
    on_sent: Callable[[], None] | None = None

    @property
    def fate(self) -> str:
        """What an error says of the cell that may have run, where there is one."""
        return MAY_HAVE_RUN if self.method == "POST" else ""

    @property
    def headers(self) -> dict[str, str]:
        """What httpx cannot know of a body that it gets in slices."""
        if self.content is None:
            return {}
        return {"Content-Type": "application/json", "Content-Length": str(len(self.content))}


class TCIClient:
    """Speaks to one TCI service, over kept connections; belongs to one event loop.

    Takes the settings in force unless some are given. `wire` replaces the network in tests.
    """

    def __init__(
        self,
        configured: Settings | None = None,
        *,
        wire: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = configured or settings.load()
        self._wire = wire
        self._http: httpx.AsyncClient | None = None
        self._left: list[httpx.AsyncClient] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client may be used again afterwards."""
        if self._http is not None:
            self._leave(self._http)
        while self._left:
            await self._left.pop().aclose()

    async def execute(
        self,
        code: str,
        session_id: str | None = None,
        files: Sequence[File] | None = None,
        *,
        timeout: float | None = None,
        on_sent: Callable[[], None] | None = None,
        retries: int | None = None,
    ) -> Execution:
        """Run code in a session, a new one unless `session_id` is given; return its outputs.

        `timeout` (seconds) replaces the setting `cell_timeout` for this request, `retries` the
        setting of that name. `on_sent` is called when the request begins to leave: from then on
        its code may run.
        Raises a `TCIError`; its `may_have_run` tells whether the code can have run.
        """
        body = ExecuteRequest(
            code=code, session_id=session_id, files=list(files) if files else None
        )
        content = to_json(body, exclude_none=True)
        limit = timeout or self.settings.cell_timeout
        request = _Request("POST", "/tci/execute", limit, session_id, content, on_sent)
        return validated(Execution, await self._answered(request, retries))

    async def sessions(self) -> list[SessionInfo]:
        """Return the caller's live sessions."""
        request = _Request("GET", "/tci/sessions", _LIST_TIMEOUT)
        return validated(SessionList, await self._answered(request), request.fate).sessions

    async def _answered(self, request: _Request, retries: int | None = None) -> dict[str, Any]:
        """Send a request, again while that is harmless, and return the answer's data."""
        # Kept until a full collection: what decides on a repetition must not hold the content.
        retry = partial(_pause, harmless=request.method == "GET")
        tries = 1 + (self.settings.retries if retries is None else retries)
        attempts = stamina.retry_context(on=retry, attempts=tries, timeout=None, wait_max=10.0)
        async for attempt in attempts:
            with attempt:
                return read(await self._send(request), request.session_id)
        raise AssertionError("a retry context ends by returning or raising")

    async def _send(self, request: _Request) -> Answer:
        """Send one request once and return what came back, whatever its status."""
        with translated(self.settings, request.limit, request.fate):
            http = await self._connection(request.session_id)
            try:
                response = await http.request(
                    request.method,
                    request.path,
                    content=None if request.content is None else slices(request.content),
                    timeout=self._timeout(request.limit),
                    headers=request.headers,
                    extensions={"trace": _trace(request.on_sent)},
                )
            except httpx.ConnectError:
                # An embedded server ends when it is idle; the next attempt finds its successor.
                if self.settings.local:
                    self._leave(http)
                raise
        key = None if self.settings.local else self.settings.key
        return Answer(response.status_code, response.headers, response.content, key, request.fate)

    def _leave(self, http: httpx.AsyncClient) -> None:
        """Let go of a connection pool without closing it: other requests may be under way there."""
        if http is self._http:
            self._http = None
            self._left.append(http)

    def _timeout(self, limit: float | None) -> httpx.Timeout:
        connect, write = self.settings.connect_timeout, self.settings.write_timeout
        return httpx.Timeout(limit, connect=connect, write=write, pool=None)

    async def _connection(self, session_id: str | None) -> httpx.AsyncClient:
        """Return the open connection pool; for the embedded backend, start its server.

        Raises `SessionExpired` for a session of an embedded server that has ended.
        """
        if self._http is None:
            if self.settings.local:
                address = embedded.running(self.settings)
                if address is None and session_id is not None:
                    raise SessionExpired(
                        f"The session {session_id} has ended with the embedded server that it ran "
                        "in. Its variables and files are gone. Run again to start a new session, "
                        "from the first cell."
                    )
                address = address or await embedded.address(self.settings)
                url, key, socket = address.url, address.token, address.socket
            else:
                url, key, socket = self.settings.url, self.settings.key, None
            self._http = connections(url, key, socket, self._wire)
        return self._http


def _trace(on_sent: Callable[[], None] | None) -> Callable[..., Awaitable[None]]:
    """Return what hears from httpx how far a request is.

    httpx keeps it until a full collection, so it must not hold the request's content.
    """

    async def trace(event: str, _: dict[str, Any]) -> None:
        if on_sent is not None and event.endswith("send_request_body.started"):
            on_sent()

    return trace


def _pause(error: Exception, *, harmless: bool) -> bool | float:
    """Tell whether to send again after an error, and after how many seconds.

    Sent again is only what cannot have run; a `harmless` request runs nothing at all.
    """
    match error:
        case RateLimited(retry_after=float(pause)):
            return pause if pause <= _LONGEST_PAUSE else False
        case RateLimited() | Unreachable():
            return True
        case TimedOut() | ConnectionLost() | ServiceError():
            return harmless or not error.may_have_run
        case _:
            return False
