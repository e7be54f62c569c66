"""A bar that one display shows while a transfer goes on."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from tci_kernel.magics.display import Display
from tci_kernel.magics.tables import size

if TYPE_CHECKING:
    from tci_kernel.api import MimeBundle

#: Seconds between two pictures: more often no eye needs, and every one is a message.
_INTERVAL = 0.2

_WIDTH = 30


class Progress:
    """The display of one transfer of `total` bytes: bars, and at last its result."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._id = secrets.token_hex(8)
        self._began = time.monotonic()
        self._shown: float | None = None

    @property
    def due(self) -> bool:
        """Whether it is time for another picture."""
        return self._shown is None or time.monotonic() >= self._shown + _INTERVAL

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._began

    def bar(self, done: int) -> Display:
        """Return the picture after `done` bytes."""
        share = done / self._total if self._total else 1.0
        rate = f" at {size(done / self.seconds)}/s" if done else ""
        words = f"{share:4.0%}  {size(done)} of {size(self._total)}{rate}"
        return self.show(
            {
                "text/plain": f"[{'#' * int(share * _WIDTH):{_WIDTH}}] {words}",
                "text/html": f'<progress value="{done}" max="{self._total}"></progress> {words}',
            }
        )

    def show(self, bundle: MimeBundle) -> Display:
        """Return a display that takes the place of the one before."""
        first, self._shown = self._shown is None, time.monotonic()
        return Display(bundle, self._id, update=not first)
