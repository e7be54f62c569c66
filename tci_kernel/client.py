"""The client of a TCI service; the only module that knows HTTP.

A request is *built* by `_request`, *sent* by `_send`, *read* by `answers.read`; `_translated` turns
every lower exception into one of `tci_kernel.errors`.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import stamina
from pydantic import SecretStr, ValidationError
from pydantic_core import to_json

from tci_kernel import embedded, settings
from tci_kernel.answers import Answer, first_problem, read, validated
from tci_kernel.api import (
    ExecuteRequest,
    ExecuteResponse,
    Execution,
    File,
    SessionInfo,
    SessionList,
)
from tci_kernel.errors import (
    ConnectionLost,
    InvalidRequest,
    InvalidResponse,
    NotConfigured,
    RateLimited,
    ServiceError,
    SessionExpired,
    TimedOut,
    Unreachable,
)
from tci_kernel.http import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
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

#: Bytes of a body that are handed to the HTTP library at a time.
_SLICE = 2**16


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
            http, self._http = self._http, None
            await http.aclose()

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
        limit = timeout or self.settings.cell_timeout
        data = await self._request(
            "POST", "/tci/execute", body, session_id, limit, on_sent, retries
        )
        return validated(Execution, data)

    async def sessions(self) -> list[SessionInfo]:
        """Return the caller's live sessions."""
        data = await self._request("GET", "/tci/sessions", None, None, _LIST_TIMEOUT)
        return validated(SessionList, data).sessions

    async def _request(
        self,
        method: Literal["GET", "POST"],
        path: str,
        body: ExecuteRequest | None,
        session_id: str | None,
        limit: float | None,
        on_sent: Callable[[], None] | None = None,
        retries: int | None = None,
    ) -> dict[str, Any]:
        """Send a request, again while that is harmless, and return the answer's data."""
        content = to_json(body, exclude_none=True) if body else None

        def retry(error: Exception) -> bool | float:
            return _pause(error, harmless=method == "GET")

        tries = 1 + (self.settings.retries if retries is None else retries)
        attempts = stamina.retry_context(on=retry, attempts=tries, timeout=None, wait_max=10.0)
        async for attempt in attempts:
            with attempt:
                answer = await self._send(method, path, content, session_id, limit, on_sent)
                return read(answer, session_id)
        raise AssertionError("a retry context ends by returning or raising")

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        session_id: str | None,
        limit: float | None,
        on_sent: Callable[[], None] | None,
    ) -> Answer:
        """Send one request once and return what came back, whatever its status."""
        with _translated(self.settings, limit):
            http = await self._connection(session_id)
            timeout = httpx.Timeout(
                limit,
                connect=self.settings.connect_timeout,
                write=self.settings.write_timeout,
                pool=None,
            )
            headers = {}
            if content is not None:
                headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}

            async def trace(event: str, _: dict[str, Any]) -> None:
                if on_sent is not None and event.endswith("send_request_body.started"):
                    on_sent()

            try:
                response = await http.request(
                    method,
                    path,
                    content=None if content is None else _slices(content),
                    timeout=timeout,
                    headers=headers,
                    extensions={"trace": trace},
                )
            except httpx.ConnectError:
                # An embedded server ends when it is idle; the next attempt finds its successor.
                await self.close()
                raise
        key = None if self.settings.local else self.settings.key
        return Answer(response.status_code, response.headers, response.content, key)

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
            self._http = self._open(url, key, None if socket is None else str(socket))
        return self._http

    def _open(self, url: str, key: SecretStr | None, socket: str | None) -> httpx.AsyncClient:
        limits = httpx.Limits(keepalive_expiry=30.0)
        wire = self._wire
        if wire is None and socket is not None:
            wire = httpx.AsyncHTTPTransport(uds=socket, limits=limits, verify=False)
        return httpx.AsyncClient(
            base_url=url,
            auth=_Bearer(key) if key is not None else None,
            transport=wire,
            limits=limits,
            # A proxy is for reaching other machines; on loopback it would only see the key.
            trust_env=not settings.is_loopback(urlsplit(url).hostname or ""),
            # Without TLS there is nothing to verify, and reading the certificates takes longer
            # than a cell.
            verify=urlsplit(url).scheme == "https",
        )


def run(
    code: str,
    language: Literal["python"] = "python",
    session_id: str | None = None,
    files: Sequence[File | Mapping[str, str]] | None = None,
) -> ExecuteResponse:
    """Run code in a TCI session and wait for it: the vendors' SDK call, under this roof.

    Works inside a notebook too, where an event loop is running already. The answer's
    `data.session_id` continues the session in a later call. Raises a `TCIError`.
    """
    if language != "python":
        raise InvalidRequest(f"language={language!r}: only 'python' can be run. Nothing has run.")

    async def call() -> Execution:
        async with TCIClient() as client:
            return await client.execute(code, session_id, _files(files))

    with ThreadPoolExecutor(1, thread_name_prefix="tci-run") as pool:
        return ExecuteResponse(data=pool.submit(asyncio.run, call()).result())


def _files(files: Sequence[File | Mapping[str, str]] | None) -> list[File] | None:
    try:
        return [File.model_validate(file) for file in files] if files else None
    except ValidationError as error:
        raise InvalidRequest(f"files: {first_problem(error)}. Nothing has run.") from None


class _Bearer(httpx.Auth):
    """Adds the key to a request at the last moment, so that no object else holds it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


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


@contextmanager
def _translated(configured: Settings, limit: float | None) -> Iterator[None]:
    """Turn every exception of the layers below into one of ours: the one place that does."""
    where = "the embedded server" if configured.local else configured.url
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TimedOut(
            f"No connection to {where} within {configured.connect_timeout:g} s "
            "(TCI_CONNECT_TIMEOUT). Nothing has run."
        ) from error
    except httpx.ConnectError as error:
        raise Unreachable(
            f"{where} cannot be reached: {_reason(error)}. Nothing has run. "
            "Check the network and TCI_BASE_URL; `tci-kernel doctor` tells more."
        ) from error
    except httpx.WriteTimeout as error:
        raise TimedOut(
            f"Sending to {where} stood still for {configured.write_timeout:g} s "
            "(TCI_WRITE_TIMEOUT). The request was not sent whole: nothing has run."
        ) from error
    except httpx.ReadTimeout as error:
        raise TimedOut(
            f"No answer from {where} within {limit:g} s (TCI_CELL_TIMEOUT). "
            "The cell may have run, or may run still.",
            may_have_run=True,
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise NotConfigured(f"{where} is not an address: {error}. Nothing has run.") from error
    except httpx.DecodingError as error:
        raise InvalidResponse(
            f"{where} sent a body that does not decode: {error}. The cell may have run."
        ) from error
    except (httpx.HTTPError, OSError) as error:
        raise ConnectionLost(
            f"The connection to {where} was lost before the answer came ({_reason(error)}). "
            "The cell may have run: check before you run it again."
        ) from error


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    """Yield a body in small pieces: httpx keeps what it gets whole until a full collection."""
    for start in range(0, len(content), _SLICE):
        yield content[start : start + _SLICE]


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
