"""The two endpoints over HTTP: requests in, the API's envelope out, whatever happens."""

from __future__ import annotations

import asyncio
import hmac
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json
from tornado.web import Application, RequestHandler, stream_request_body

from tci_kernel.api import Envelope, ExecuteRequest
from tci_kernel.server.refused import Refused

if TYPE_CHECKING:
    from pydantic import SecretStr

    from tci_kernel.server.sessions import Sessions


def application(sessions: Sessions, token: SecretStr | None, max_body: int) -> Application:
    """Return the web application; `token` None lets everybody in, `max_body` is in bytes.

    Both base paths of the vendors' SDKs answer, and slashes may be doubled as theirs are.
    """
    tci = r"/+(?:v1/+)?tci/+"
    service = {"service": Service(sessions, token, max_body)}
    return Application(
        [
            (tci + "execute/*", Execute, service),
            (tci + "sessions/*", SessionsList, service),
            (".*", Nothing, service),
        ]
    )


@dataclass(frozen=True)
class Service:
    """What the endpoints work with; `max_body` is in bytes."""

    sessions: Sessions
    token: SecretStr | None
    max_body: int


class Endpoint(RequestHandler):
    """What all endpoints share: who may come in, and the form of an answer."""

    def initialize(self, service: Service) -> None:
        """Take what `application` hands to every request."""
        self.service = service

    def check_token(self) -> None:
        """Raise `Refused` (401) without the server's token; the comparison's time tells nothing."""
        token = self.service.token
        if token is None:
            return
        expected = f"Bearer {token.get_secret_value()}"
        given = self.request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise Refused(401, "The key is missing or wrong. Send `Authorization: Bearer TOKEN`.")

    def answer(self, envelope: Envelope, status: int = 200) -> None:
        """Finish with an envelope as the body."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(_json(envelope.model_dump()))

    def refuse(self, refusal: Refused) -> None:
        """Finish with the reason why not."""
        if refusal.retry_after is not None:
            self.set_header("Retry-After", str(refusal.retry_after))
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", "Bearer")
        self.answer(Envelope(errors=[refusal.message]), refusal.status)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Answer tornado's own refusals (404, 405) and our mistakes (500) in the same form."""
        reason = HTTPStatus(status_code).phrase
        text = f"{reason}: {self.request.method} {self.request.path}"
        self.answer(Envelope(errors=[text]), status_code)


@stream_request_body
class Execute(Endpoint):
    """`POST /tci/execute`.

    A body that is refused is read to its end all the same, and dropped: a client that is still
    sending would otherwise see a broken connection instead of the answer.
    """

    def initialize(self, service: Service) -> None:
        """Begin with nothing of the body."""
        super().initialize(service)
        self._body = bytearray()
        self._received = 0
        self._work: asyncio.Task[Envelope] | None = None

    def prepare(self) -> None:
        """Refuse at once where the client waits to be told; otherwise let it send."""
        self.request.connection.set_max_body_size(sys.maxsize)  # type: ignore[union-attr]
        if self.request.headers.get("Expect", "").lower() == "100-continue":
            try:
                length = self.request.headers.get("Content-Length", "")
                self._check(int(length) if length.isdecimal() else 0)
            except Refused as refusal:
                self.refuse(refusal)

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body, up to the limit."""
        self._received += len(chunk)
        if self._received <= self.service.max_body:
            self._body += chunk
        else:
            self._body.clear()

    async def post(self) -> None:
        """Run code and answer with its outputs."""
        try:
            self._check(self._received)
            request = _parsed(self._body)
            self._body.clear()
            work = self._work = asyncio.create_task(self._enveloped(request))
            await asyncio.wait({work})
            if not work.cancelled():
                self.answer(work.result())
        except Refused as refusal:
            self.refuse(refusal)

    def on_connection_close(self) -> None:
        """Drop a request whose client has left, as far as it can still be dropped."""
        if self._work is not None:
            self._work.cancel()

    async def _enveloped(self, request: ExecuteRequest) -> Envelope:
        execution = await self.service.sessions.execute(request)
        return Envelope(data=execution.model_dump(exclude={"errors"}))

    def _check(self, size: int) -> None:
        self.check_token()
        if size > self.service.max_body:
            raise Refused(
                413,
                f"The body is larger than {self.service.max_body:,} bytes; nothing has run. "
                "Send large files in several requests, or start the server with a larger "
                "--max-body.",
            )


class SessionsList(Endpoint):
    """`GET /tci/sessions`."""

    def get(self) -> None:
        """Answer with the live sessions."""
        try:
            self.check_token()
        except Refused as refusal:
            self.refuse(refusal)
        else:
            self.answer(Envelope(data=self.service.sessions.listed().model_dump()))


class Nothing(Endpoint):
    """Every other address."""

    def prepare(self) -> None:
        """Say what there is."""
        self.refuse(
            Refused(
                404,
                f"Nothing is at {self.request.path}. There are POST /tci/execute and "
                "GET /tci/sessions, also below /v1.",
            )
        )


def _parsed(body: bytearray) -> ExecuteRequest:
    try:
        request = ExecuteRequest.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise _bad_body("; ".join(map(_problem, problems))) from None
    if "language" not in request.model_fields_set:
        raise _bad_body('language: it is required, and "python" is its only value')
    return request


def _problem(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"]))
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _bad_body(reason: str) -> Refused:
    return Refused(400, f"The body is not a request: {reason}. Nothing has run.")


def _json(value: Any) -> bytes:
    """Return JSON; what is no Unicode text (a lone surrogate in an output) is replaced."""
    with suppress(ValueError):  # the quick one refuses such text
        return to_json(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="replace")
