"""What this side has to say to the user while the session is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tci_kernel.kernel import TCIKernel
    from tci_kernel.pending import Pending


class Notices:
    """Says things in the cell that runs, whatever task has them to say."""

    def __init__(self, kernel: TCIKernel, pending: Pending) -> None:
        self._kernel = kernel
        self._pending = pending

    def tell(self, text: str) -> None:
        """Tell the user something; without a cell it goes to the log."""
        running = self._pending.cells
        incoming = self._pending.get(running[0]) if running else None
        header = self._kernel.runner.request if incoming is None else incoming.header
        if header is None:
            self._kernel.log.warning("%s", text)
            return
        content = {"name": "stderr", "text": f"{text}\n"}
        self._kernel.publish("stream", content, {"header": header})
