"""httpx, imported without its command line.

That one comes along wherever click and rich are installed, as they are here for typer's sake, and
takes longer than all the rest.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]  # makes its import fail
    import httpx

    del sys.modules[_COMMAND_LINE]

__all__ = ["httpx"]
