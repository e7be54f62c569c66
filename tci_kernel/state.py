"""What a kernel remembers over its own death: a small file beside its connection file.

A kernel that Jupyter restarts gets the same connection file, so the file's name is the key.
It names a session and holds no key, no code and no output.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime  # noqa: TC003  pydantic resolves annotations at run time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

#: Files of kernels that ended without tidying up; a session does not live that long.
_STALE_SECONDS = 24 * 3600


class State(BaseModel):
    """One session as a kernel left it.

    `owned` tells that the kernel made the session; `fresh` that the next kernel must begin with an
    empty namespace, because a person asked for a restart.
    """

    backend: str
    session_id: str
    owned: bool
    expires_at: datetime
    execution_count: int = 0
    fresh: bool = False


class StateFile:
    """The file of one kernel, in Jupyter's runtime directory."""

    def __init__(self, connection_file: Path, folder: Path) -> None:
        self._path = folder / f"tci-{connection_file.stem}.json"

    def read(self) -> State | None:
        """Return what an earlier kernel left, or None."""
        try:
            return State.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None

    def write(self, state: State) -> None:
        """Replace the file at once; a full disk or a read-only folder costs only the memory."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self._path.with_suffix(f".{os.getpid()}.tmp")
            with open(draft, "w", opener=_private) as file:
                file.write(state.model_dump_json())
            draft.replace(self._path)

    def remove(self) -> None:
        """Forget the session, and files that dead kernels left long ago."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            for path in self._path.parent.glob("tci-*.json"):
                if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                    path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
