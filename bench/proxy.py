"""A network that is further away: a TCP proxy on loopback that holds bytes back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes that are read at a time.
CHUNK = 2**18


class Distance:
    """Proxies to ports of this machine that are `round_trip` seconds away; they run in a thread."""

    def __init__(self, round_trip: float) -> None:
        self.round_trip = round_trip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def to(self, port: int) -> int:
        """Return the port behind which `port` is further away: itself where no time is added."""
        if not self.round_trip:
            return port
        return asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result()

    def close(self) -> None:
        """Cut all connections."""
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self, port: int) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await self._connect(port, reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=CHUNK)
        return int(server.sockets[0].getsockname()[1])

    async def _connect(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
        await asyncio.sleep(self.round_trip)  # of the handshake
        await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction; the bandwidth is not limited, only the time is added."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(_arrive(under_way, writer))
        now = asyncio.get_running_loop().time
        data = b"begin"
        while data:
            data = await _read(reader)
            under_way.put_nowait((now() + self.round_trip / 2, data))
        await arriving


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return what comes next, nothing at the end: however the connection ends."""
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""


async def _arrive(
    under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
) -> None:
    now = asyncio.get_running_loop().time
    while True:
        due, data = await under_way.get()
        await asyncio.sleep(due - now())
        if not data:
            writer.close()
            return
        writer.write(data)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def distance(round_trip: float) -> Iterator[Distance]:
    """Open a distance of `round_trip` seconds, and close it."""
    opened = Distance(round_trip)
    try:
        yield opened
    finally:
        opened.close()
