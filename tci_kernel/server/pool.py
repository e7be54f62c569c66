"""Kernels that are started before anybody asks for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from tci_kernel.server.kernels import StartFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from tci_kernel.server.kernels import Kernel

#: Seconds between a hand-out and the start of the next spare, which would slow down a first cell.
REFILL_DELAY = 0.5


class Pool:
    """Hands out started kernels and keeps `warm` more of them ready.

    A spare is a start, under way or done: whoever comes while one starts waits for that one.
    """

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Kernel]], warm: int) -> None:
        self._start = start
        self._warm = warm
        self._spares: deque[asyncio.Task[Kernel]] = deque()

    def fill(self) -> None:
        """Begin as many starts as spares are missing."""
        while len(self._spares) < self._warm:
            self._spares.append(asyncio.create_task(self._start()))

    async def take(self) -> Kernel:
        """Return a kernel that is ready to run cells; raises `StartFailed`."""
        asyncio.get_running_loop().call_later(REFILL_DELAY, self.fill)
        while self._spares:
            try:
                kernel = await self._wait_for(self._spares.popleft())
            except StartFailed:
                continue  # it may have failed long ago
            if kernel.alive:
                return kernel
            await kernel.end()
        return await self._wait_for(asyncio.create_task(self._start()))

    async def close(self) -> None:
        """End all spares; no more are begun."""
        self._warm = 0
        await asyncio.gather(*map(_end, self._spares))
        self._spares.clear()

    async def _wait_for(self, start: asyncio.Task[Kernel]) -> Kernel:
        """Wait for a start; one that its caller no longer wants becomes a spare, or ends."""
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            if len(self._spares) < self._warm:
                self._spares.appendleft(start)
            else:
                await asyncio.shield(_end(start))
            raise


async def _end(start: asyncio.Task[Kernel]) -> None:
    start.cancel()
    try:
        kernel = await start
    except (asyncio.CancelledError, StartFailed):
        return
    await kernel.end()
