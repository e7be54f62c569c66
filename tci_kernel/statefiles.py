"""Where a kernel writes what it leaves to its successor (state.py); a look takes no imports."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple


class StateFiles(NamedTuple):
    """The files of one kernel in Jupyter's runtime directory.

    `own` is for a process that gets the same connection file; `handover` for whatever the same
    parent starts next in the same folder.
    """

    own: Path
    handover: Path


def of(connection_file: Path, folder: Path) -> StateFiles:
    """Return the files of the kernel of this process."""
    here = Path()
    with contextlib.suppress(OSError):  # the folder of the notebook may have been deleted
        here = Path.cwd()
    place = hashlib.sha256(f"{os.getppid()} {here}".encode()).hexdigest()[:16]
    return StateFiles(
        folder / f"tci-{connection_file.stem}.json", folder / f"tci-handover-{place}.json"
    )
