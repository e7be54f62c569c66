"""An interrupt, by signal or by message: it ends the cell that runs, here or in the child.

Both belong to the main loop, and neither raises anything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tci_kernel.kernel import TCIKernel

#: How long an interrupt waits for the end of the cell; all else on control waits behind it.
_WAIT_SECONDS = 0.3


def interrupt(kernel: TCIKernel) -> None:
    """Interrupt the cell that runs."""
    relay = kernel.connection.relay
    if kernel.runner.busy and (relay is None or not relay.pending.begun):
        kernel.runner.cancel()
    elif relay is not None and relay.working:
        relay.interrupt()


async def interrupt_and_wait(kernel: TCIKernel) -> None:
    """Interrupt the cell that runs, and wait a moment for its end."""
    try:
        interrupt(kernel)
        await asyncio.wait_for(_cell_ends(kernel), _WAIT_SECONDS)
    except asyncio.TimeoutError:
        pass  # it may take as long as it likes
    except Exception:
        kernel.log.exception("The interrupt failed.")


async def _cell_ends(kernel: TCIKernel) -> None:
    """Wait until the cell that runs has ended, here or in the child."""
    if kernel.runner.busy:
        await kernel.runner.ends()
    elif (relay := kernel.connection.relay) is not None:
        await relay.pending.cell_ends()
