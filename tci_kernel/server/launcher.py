"""How this server starts kernels: on which interpreter, in which sandbox, a few at a time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zmq
import zmq.asyncio

from tci_kernel.server.environment import make_folder, variables
from tci_kernel.server.kernels import Kernel, StartFailed
from tci_kernel.server.storage import remove

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tci_kernel.server.environment import Folder, Interpreter
    from tci_kernel.server.sandbox import Limits, Sandbox

#: How many kernels start at the same time: each keeps a core busy for about a second.
STARTS_AT_ONCE = 4


def _context() -> zmq.asyncio.Context:
    """Return a ZeroMQ context whose sockets drop no message, however fast a kernel speaks."""
    context = zmq.asyncio.Context()
    context.set(zmq.MAX_SOCKETS, context.get(zmq.SOCKET_LIMIT))
    context.rcvhwm = 0
    return context


@dataclass(frozen=True)
class Launcher:
    """Starts kernels, each in a new folder below `root`."""

    root: Path
    interpreter: Interpreter
    sandbox: Sandbox
    limits: Limits
    _context: zmq.asyncio.Context = field(default_factory=_context)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS_AT_ONCE))
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def start(self) -> Kernel:
        """Return a kernel that answers; raises `StartFailed`."""
        async with self._slots:
            root = self.root / str(next(self._numbers))
            try:
                folder = await self._folder(root)
                argv = [str(folder.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
                command = self.sandbox.command(argv, folder, self.interpreter, self.limits)
                environment = variables(folder, self.interpreter)
                return await Kernel.start(folder, command, environment, self._context)
            except (OSError, zmq.ZMQError) as error:
                await asyncio.to_thread(remove, root)
                raise StartFailed(f"A session's kernel cannot be run: {error}.") from None

    async def _folder(self, root: Path) -> Folder:
        making = asyncio.ensure_future(asyncio.to_thread(make_folder, root, self.interpreter))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await making  # a thread cannot be stopped; what it makes must not stay
            await asyncio.to_thread(remove, root)
            raise

    def close(self) -> None:
        """Close the channels to all kernels."""
        self._context.destroy(linger=0)
