"""What a first cell needs, imported while the front end still makes itself ready.

A kernel answers `kernel_info` before any of it is there: it takes longer than all the rest of the
start, and a first cell that waited for it would come later than on a local kernel.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from importlib import import_module

#: The last two are what httpx imports when it connects.
_MODULES = ("tci_kernel.connection", "tci_kernel.cell", "httpcore", "anyio._backends._asyncio")


@cache
def import_ahead() -> None:
    """Begin to import, once; whoever needs a module meanwhile waits for it as ever."""
    threading.Thread(target=_import, daemon=True, name="import ahead").start()


def _import() -> None:
    for name in _MODULES:
        with suppress(ImportError):  # the first cell will say it
            import_module(name)
