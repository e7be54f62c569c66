"""A service on loopback that answers as a test says: for faults that no healthy service makes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conftest import Server


@dataclass
class Reply:
    """One answer; `cut` ends the connection instead, `body` may be bytes or anything JSON."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def success(*outputs: dict[str, Any], session_id: str = "ses_scripted") -> Reply:
    """Return the answer to an execute request that went well."""
    data = {"session_id": session_id, "status": "success", "outputs": list(outputs)}
    return Reply(body={"errors": None, "data": data})


class ScriptedService:
    """Gives its replies one after the other, the last one for ever; records what it was asked."""

    def __init__(self, *replies: Reply, port: int = 0) -> None:
        self.replies = list(replies)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                service._answer(self)

            do_GET = do_POST  # noqa: N815  the base class's name

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.requests.append((handler.command, handler.path, dict(handler.headers), body))
        self.hold.wait(30)
        reply = self.reply_to(handler.command, handler.path, body)
        handler.close_connection = True
        if reply.cut:
            return
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        handler.send_response(reply.status)
        for name, value in {"Connection": "close", **reply.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Return the answer to a request."""
        del method, path, body
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def stop_listening(self) -> None:
        """Refuse further connections; requests that are held stay so."""
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        """Answer what is held, and stop listening."""
        self.hold.set()
        self.stop_listening()


#: What makes a session end the processes that it started, behind each request.
ENDS_CHILDREN = """
import contextlib, os, pathlib, signal
def end(*_):
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended by itself
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                os.kill(int(stat.parent.name), signal.SIGKILL)
get_ipython().events.register("post_run_cell", end)
"""


class LimitedService(ScriptedService):
    """A real server whose sessions lack things: `prelude` runs in each, `cut` bounds its stdout."""

    def __init__(self, server: Server, prelude: str = "", cut: int | None = None) -> None:
        super().__init__()
        self._real, self._prelude, self.cut = server, prelude, cut

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Return the real server's answer, with no more of stdout than is allowed."""
        content = json.loads(body) if body else None
        if content is not None and not content.get("session_id"):
            content["session_id"] = self._real.run(self._prelude)["session_id"]
        answer = self._real.client.request(method, path, json=content)
        return Reply(answer.status_code, self._limited(answer.json()))

    def _limited(self, answer: dict[str, Any]) -> dict[str, Any]:
        for output in (answer.get("data") or {}).get("outputs", ()):
            if output["type"] == "stdout":
                output["data"] = output["data"][: self.cut]
        return answer


class UnorderlyService(LimitedService):
    """A real server beside whose busy session a second request is `refused`, or runs at once."""

    def __init__(self, server: Server, *, refuses: bool) -> None:
        super().__init__(server)
        self._refuses = refuses
        self._turn = threading.Lock()

    def reply_to(self, method: str, path: str, body: bytes) -> Reply:
        """Return the real server's answer, if it does not run other code just then."""
        if method == "GET":
            return super().reply_to(method, path, body)
        mine = self._turn.acquire(blocking=False)
        try:
            if not mine and self._refuses:
                return Reply(409, {"errors": ["the session is busy"], "data": None})
            if not mine:  # what only another session can do here
                body = json.dumps({**json.loads(body), "session_id": None}).encode()
            return super().reply_to(method, path, body)
        finally:
            if mine:
                self._turn.release()


@contextlib.contextmanager
def serving(*replies: Reply) -> Iterator[ScriptedService]:
    """Run a service with these replies."""
    service = ScriptedService(*replies)
    try:
        yield service
    finally:
        service.close()
