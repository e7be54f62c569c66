"""A proxy on loopback between a kernel and its server that faults requests as a test says.

    kernel ── FaultProxy ── embedded server

Every kind of fault is a coroutine of `Exchange`, one HTTP request and its answer. Some come before
the server has seen the request, some after it has run: whoever sent it cannot know which.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

#: Kinds of fault; those of `HELD` cost the client its whole time limit for an answer.
QUICK = (
    "refused",
    "reset_before",
    "reset_after",
    "failed_before",
    "failed_after",
    "page_before",
    "page_after",
    "cut_body",
    "cut_frame",
    "rate_limited",
)
HELD = ("lost_answer", "late_request")

_PAGE = b"<html><head><title>Bad Gateway</title></head><body><h1>Try again later</h1></body></html>"
#: RST instead of FIN when a socket is closed.
_LINGER = struct.pack("ii", 1, 0)


class FaultProxy:
    """Forwards to `upstream`; a share of `rate` of all requests is faulted, at random by `seed`.

    `counts` tells how many requests met with which kind, those without a fault as `none`.
    `coming` are faults that the next requests meet with in any case. The way there and back takes
    `round_trip` seconds.
    """

    def __init__(
        self,
        upstream: str,
        *,
        rate: float = 0.0,
        seed: int = 0,
        kinds: tuple[str, ...] = QUICK + HELD,
    ) -> None:
        parts = urlsplit(upstream)
        self.upstream = parts.hostname or "", parts.port or 0
        self.rate = rate
        self.round_trip = 0.0
        self.kinds = kinds
        self.counts: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.coming: deque[str] = deque()
        self._bag: list[str] = []
        self.connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._passage = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._begin())

    @property
    def url(self) -> str:
        """Where the kernel is to send its requests."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def gone(self, *, silent: bool) -> Iterator[None]:
        """Let the network be gone for a time: refusing everything, or silently taking it."""
        self._call(self._stand_still() if silent else self.refuse())
        try:
            yield
        finally:
            self._call(self._begin())

    def close(self) -> None:
        """Stop for good."""
        self._call(self.refuse())
        self._call(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def refuse(self) -> None:
        """Listen no more, and reset what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self.connections):
            reset(writer)

    async def listen(self) -> None:
        """Listen on the address that was given out before."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self.port, limit=2**30
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def open_road(self) -> None:
        """Wait while the network is silently gone."""
        await self._passage.wait()

    async def _begin(self) -> None:
        self._passage.set()
        await self.listen()

    async def _stand_still(self) -> None:
        self._passage.clear()

    async def _cancel(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the client until either side closes it."""
        self.connections.add(writer)
        try:
            while (request := await read_message(reader)) is not None:
                await self.open_road()
                await asyncio.sleep(self.round_trip)
                await Exchange(self, request, reader, writer).run(self._fault(request))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    def _fault(self, request: bytes) -> str:
        """Draw how a request is to fare; every kind comes before one comes again."""
        kind = "none"
        if self.coming:
            kind = self.coming.popleft()
        elif request.startswith(b"POST") and self.random.random() < self.rate:
            self._bag = [kind for kind in self._bag if kind in self.kinds]
            self._bag = self._bag or self.random.sample(self.kinds, len(self.kinds))
            kind = self._bag.pop()
        self.counts[kind] += 1
        return kind


class Exchange:
    """One request on its way, and its answer."""

    def __init__(
        self,
        proxy: FaultProxy,
        request: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy = proxy
        self.request = request
        self.reader = reader
        self.writer = writer

    async def run(self, kind: str) -> None:
        """Let the request meet with a fault, or with none."""
        await getattr(self, kind)()

    async def none(self) -> None:
        """Forward, and bring the answer."""
        await self.answer(await self.forwarded())

    async def refused(self) -> None:
        """Reset this connection, and refuse all others for a moment."""
        await self.proxy.refuse()
        await asyncio.sleep(0.15)
        await self.proxy.listen()

    async def reset_before(self) -> None:
        """Reset the connection; the server never sees the request."""
        reset(self.writer)

    async def reset_after(self) -> None:
        """Throw the answer away and reset the connection; the request has run."""
        await self.forwarded()
        reset(self.writer)

    async def lost_answer(self) -> None:
        """Let the request run, and stay silent until the client gives up."""
        await self.forwarded()
        await self.reader.read()

    async def late_request(self) -> None:
        """Stay silent until the client gives up, and only then let the request run."""
        await self.reader.read()
        await self.forwarded()

    async def rate_limited(self) -> None:
        """Ask for fewer requests."""
        await self.answer(response(429, b'{"errors": ["slow down"]}', "Retry-After: 0.1"))

    async def failed_before(self) -> None:
        """Answer as a proxy whose server is not there."""
        await self.answer(response(self.proxy.random.choice((502, 503)), _PAGE))

    async def failed_after(self) -> None:
        """Answer as a proxy that lost its server; the request has run."""
        await self.forwarded()
        await self.answer(response(self.proxy.random.choice((500, 504)), _PAGE))

    async def page_before(self) -> None:
        """Answer as a network that wants a login first: with a page, and that all is well."""
        await self.answer(response(200, _PAGE, "Content-Type: text/html"))

    async def page_after(self) -> None:
        """Answer so although the request has run."""
        await self.forwarded()
        await self.page_before()

    async def cut_body(self) -> None:
        """Close the connection in the middle of the answer's body."""
        answer = await self.forwarded()
        head = answer.index(b"\r\n\r\n") + 4
        await self.answer(answer[: self.proxy.random.randint(head, len(answer) - 1)])
        self.writer.close()

    async def cut_frame(self) -> None:
        """Bring a whole answer in which the printed text ends too early."""
        head, _, body = (await self.forwarded()).partition(b"\r\n\r\n")
        envelope = json.loads(body)
        for output in (envelope.get("data") or {}).get("outputs", []):
            output["data"] = output["data"][: self.proxy.random.randrange(len(output["data"]))]
        status = int(head.split()[1])
        await self.answer(response(status, json.dumps(envelope).encode()))

    async def forwarded(self) -> bytes:
        """Return the server's answer."""
        reader, writer = await asyncio.open_connection(*self.proxy.upstream, limit=2**30)
        try:
            writer.write(self.request)
            answer = await read_message(reader)
            assert answer is not None
            await self.proxy.open_road()
            return answer
        finally:
            writer.close()

    async def answer(self, data: bytes) -> None:
        """Send bytes to the client."""
        self.writer.write(data)
        await self.writer.drain()


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """Return one HTTP message with its body, or None at the end of a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)


def response(status: int, body: bytes, *headers: str) -> bytes:
    """Return an HTTP answer as its bytes."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a crash does."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    writer.transport.abort()


@contextlib.contextmanager
def faulting(upstream: str, **options: Any) -> Iterator[FaultProxy]:
    """Run a proxy in front of a server."""
    proxy = FaultProxy(upstream, **options)
    try:
        yield proxy
    finally:
        proxy.close()
