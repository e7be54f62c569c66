"""`python -m tci_kernel -f FILE` is a kernel; everything else is the command line.

The two never meet, so that a kernel does not wait for the command line's imports.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Start a kernel if a connection file is named, else the command line."""
    if sys.argv[1:2] == ["-f"]:
        from tci_kernel import ports  # noqa: PLC0415  see the module's docstring

        ports.listen("".join(sys.argv[2:3]))
        from tci_kernel.kernelapp import main as launch  # noqa: PLC0415

        launch()
    else:
        from tci_kernel.cli import app  # noqa: PLC0415

        app()


if __name__ == "__main__":
    main()
