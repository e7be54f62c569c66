"""ipykernel's `Kernel`, which hears every request and aborts the cells that a failure stops."""

from __future__ import annotations

import asyncio

from ipykernel.kernelbase import Kernel
from zmq import POLLIN


class MendedKernel(Kernel):  # type: ignore[misc]  # ipykernel's base class is untyped
    """What the base class does on shell, without the moments in which it goes wrong."""

    def start(self) -> None:
        """Listen, also while a reply goes out."""
        super().start()
        manager = self.shell_channel_thread.manager
        if hasattr(manager, "_shell_socket"):
            # Until 7.4 replies pass by the stream, which then misses what comes meanwhile.
            manager._shell_socket = self.shell_stream  # noqa: SLF001

    def abort_queued_cells(self) -> None:
        """Abort the cells that have come and have not begun, and none that comes later.

        This belongs before the reply of the cell that failed: what its reader sends is to run.
        """
        super()._abort_queues()

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        """Do nothing: the base class calls this behind the reply, which is too late."""

    async def _post_dummy_stop_aborting_message(self, subshell_id: str | None) -> None:
        """Abort what has reached the socket before; this is the shell channel's thread."""
        self.shell_stream.flush(POLLIN)
        await asyncio.sleep(0)  # what it has read is handled by tasks, which wait for the lock
        async with self.shell_channel_thread.asyncio_lock:
            super()._post_dummy_stop_aborting_message(subshell_id)
