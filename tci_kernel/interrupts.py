"""An interrupt, by signal or by message: it ends the cell that runs, here or in the child.

All of it belongs to the main loop, and nothing here raises anything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tci_kernel.kernel import TCIKernel
    from tci_kernel.pending import Pending
    from tci_kernel.transport.live import LiveTransport
    from tci_kernel.unseen import Unseen

#: How long an interrupt waits for the end of the cell; all else on control waits behind it.
_WAIT_SECONDS = 1.0

#: The user is told that a cell does not heed an interrupt after so many seconds.
_PATIENCE = 10.0

_NOT_HEEDED = (
    "TCI: the cell does not react to the interrupt; it may be in code that cannot be "
    "interrupted. Restart the kernel to end it: files and packages are kept."
)
_UNDER_WAY = (
    "TCI: the interrupt takes effect when the service answers again. Interrupt once more to leave "
    "the cell now; it may run on in the session."
)


def meets_cell(kernel: TCIKernel) -> bool:
    """Tell whether there is something that an interrupt ends."""
    relay = kernel.connection.relay
    return kernel.handles_cell or (relay is not None and relay.working)


def interrupt(kernel: TCIKernel) -> None:
    """Interrupt the cell that runs."""
    relay = kernel.connection.relay
    if kernel.runner.busy and (relay is None or not relay.pending.begun):
        kernel.runner.cancel()
    elif relay is not None and relay.working:
        relay.interrupts.send()


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


class ChildInterrupts:
    """The interrupts of the child's cells; `notify` tells the user of those that take their time.

    While the service does not answer, an interrupt waits for it; a second one does not.
    """

    def __init__(
        self, live: LiveTransport, pending: Pending, unseen: Unseen, notify: Callable[[str], None]
    ) -> None:
        self._live = live
        self._pending = pending
        self._unseen = unseen
        self._notify = notify
        self._interrupted = ""

    def send(self) -> None:
        """Interrupt the cell that runs; say so if it does not heed that."""
        running = self._pending.cells[:1]
        if self._live.silent and self._interrupted in running:
            self._live.give_up()
            return
        self._interrupted = running[0] if running else ""
        self._unseen.ask("control", "interrupt_request", {})
        self.remind()
        if running:
            asyncio.get_running_loop().call_later(_PATIENCE, self._tell_not_heeded, running[0])

    def remind(self) -> None:
        """Tell of an interrupt that waits for the service."""
        if self._live.silent and self._interrupted in self._pending.cells:
            self._notify(_UNDER_WAY)

    def _tell_not_heeded(self, message_id: str) -> None:
        if message_id in self._pending.cells and not self._live.silent:
            self._notify(_NOT_HEEDED)
