"""HTTP: who may come in, what is a bad request, and the one form of every answer."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from conftest import TOKEN
from tci_kernel.server.app import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conftest import Server

GOOD = {"code": "1", "language": "python"}


def failure(answer: httpx.Response) -> str:
    """Return what went wrong; the answer must be the API's envelope."""
    assert answer.headers["Content-Type"] == "application/json"
    envelope = answer.json()
    assert envelope["data"] is None
    (error,) = envelope["errors"]
    assert "Traceback" not in error
    return str(error)


@pytest.mark.parametrize("path", ["/tci", "/v1/tci", "/v1//tci", "//tci", "//v1//tci/"])
def test_all_base_paths_answer(server: Server, path: str) -> None:
    """Both base paths of the SDKs work, with slashes doubled anywhere."""
    assert server.client.get(f"{server.url}{path}/sessions").status_code == 200
    assert server.client.post(f"{server.url}{path}//execute", json=GOOD).status_code == 200


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer wrong", TOKEN, f"Basic {TOKEN}", "ü"])
@pytest.mark.parametrize("endpoint", ["GET /tci/sessions", "POST /tci/execute"])
def test_a_wrong_key_is_a_401(server: Server, key: str | None, endpoint: str) -> None:
    """Without the token nothing is told and nothing runs."""
    method, path = endpoint.split()
    headers = {} if key is None else {"Authorization": key.encode()}
    answer = httpx.request(method, server.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 401
    assert "key is missing or wrong" in failure(answer)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'{"language": "python"}', "code"),
        (b'{"code": "1"}', "language"),
        (b'{"code": 1, "language": "python"}', "code"),
        (b'{"code": "1", "language": "r"}', "language"),
        (b'{"code": "\\ud800", "language": "python"}', "JSON"),
        (b'{"code": "1", "language": "python", "typo": 1}', "typo"),
        (b'{"code": "1", "language": "python", "session_id": 1}', "session_id"),
        (b'{"code": "1", "language": "python", "files": {}}', "files"),
        (b'{"code": "1", "language": "python", "files": [{"name": "a"}]}', "files.0.encoding"),
        (b'{"code": "1", "language": "python", "files": [{"encoding": "hex"}]}', "'base64'"),
    ],
)
def test_a_bad_body_is_a_400_with_the_reason(server: Server, body: bytes, reason: str) -> None:
    """The answer names the field, or says that the body is no JSON; no session is made."""
    before = set(server.sessions())
    answer = server.client.post("/tci/execute", content=body)
    assert answer.status_code == 400
    assert reason in failure(answer)
    assert set(server.sessions()) == before


@pytest.mark.parametrize("path", ["/", "/tci", "/tci/stop", "/execute", "/v2/tci/execute"])
def test_an_unknown_path_is_a_404(server: Server, path: str) -> None:
    """Any other address says what there is."""
    answer = server.client.get(path)
    assert answer.status_code == 404
    assert "POST /tci/execute" in failure(answer)


@pytest.mark.parametrize("endpoint", ["GET /tci/execute", "DELETE /tci/sessions"])
def test_a_wrong_method_is_a_405(server: Server, endpoint: str) -> None:
    """An endpoint under another method than its own answers in the same form."""
    answer = server.client.request(*endpoint.split())
    assert answer.status_code == 405
    assert "Method Not Allowed" in failure(answer)


def pieces(size: int) -> Iterable[bytes]:
    """Return a body of that size that tells nobody how long it will be."""
    yield from (b" " * 10_000 for _ in range(size // 10_000))


def test_a_body_over_the_limit_is_a_413(make_server: Callable[..., Server]) -> None:
    """Too large a body is answered, announced or not, and the server goes on."""
    server = make_server(max_body=1)
    body = {"code": "#" * 3_000_000, "language": "python"}
    announced = server.client.post("/tci/execute", json=body)
    chunked = server.client.post("/tci/execute", content=pieces(3_000_000))
    for answer in (announced, chunked):
        assert answer.status_code == 413
        assert "larger than 1,048,576 bytes" in failure(answer)
    assert server.run("1")


def test_a_client_that_asks_first_is_told_before_it_sends(server: Server) -> None:
    """`Expect: 100-continue` with too long a body is refused while the body is unsent."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(
            f"POST /tci/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Expect: 100-continue\r\nContent-Length: {2**40}\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_the_largest_body_that_is_allowed_works(server: Server) -> None:
    """A request just below the limit of 64 MiB runs."""
    content = "x" * (60 * 2**20)
    files = [{"name": "x", "encoding": "string", "content": content}]
    assert server.stdout("import os; print(os.path.getsize('x'))", files=files) == "62914560\n"


def test_curl_works(server: Server) -> None:
    """The request of the vendors' documentation works as a curl command."""
    answer = subprocess.run(
        [
            *("curl", "--silent", "--noproxy", "*", "-X", "POST", f"{server.url}/tci/execute"),
            *("-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"),
            *("-d", '{"language": "python", "code": "print(\'Hello, world!\')"}'),
        ],
        check=True,
        capture_output=True,
    )
    envelope: dict[str, Any] = json.loads(answer.stdout)
    assert envelope["errors"] is None
    assert envelope["data"]["outputs"] == [{"type": "stdout", "data": "Hello, world!\n"}]
    assert envelope["data"]["session_id"].startswith("ses_")


class FailingSessions:
    """Sessions with a mistake in them, which no request to the real ones brings out."""

    async def execute(self, request: object) -> None:
        """Fail as no real one does."""
        raise ZeroDivisionError


def test_a_mistake_of_the_server_is_a_500_without_its_traceback() -> None:
    """An unforeseen exception is answered in the API's form and tells nothing of the inside."""

    async def answer() -> httpx.Response:
        server = HTTPServer(application(cast("Any", FailingSessions()), None, 1000))
        listening = bind_sockets(0, "127.0.0.1")
        server.add_sockets(listening)
        url = f"http://127.0.0.1:{listening[0].getsockname()[1]}/tci/execute"
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.post(url, json=GOOD)
        server.stop()
        return response

    response = asyncio.run(answer())
    assert response.status_code == 500
    assert failure(response) == "Internal Server Error: POST /tci/execute"


def test_no_key_is_logged(make_server: Callable[..., Server]) -> None:
    """Whatever is refused, the server's log holds no Authorization header of a request."""
    server = make_server()
    headers = {"Authorization": "Bearer a-strangers-key"}
    for path in ("/tci/sessions", "/tci/execute", "/else"):
        server.client.post(path, content=b"{", headers=headers)
    log = server.log.read_text()
    assert "401" in log
    assert "a-strangers-key" not in log
    assert log.count(TOKEN) == 1  # where it is told to whoever started the server
