"""What a kernel remembers over its own death: a small file beside its connection file.

A kernel that Jupyter restarts gets the same connection file, so the file's name is the key.
It names a session and holds no key, no code and no output.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from tci_kernel import statefiles

if TYPE_CHECKING:
    from pathlib import Path

#: Files of kernels that ended without tidying up; a session does not live that long.
_STALE_SECONDS = 24 * 3600


class State(BaseModel):
    """One session as a kernel left it.

    `owned` tells that the kernel made the session; `fresh` that the next kernel must begin with an
    empty namespace, because a person asked for a restart. `acknowledged` is the last message of the
    session's `agent` that front ends have got. `waits_until` is when a session that was handed over
    ends. `named` is the session that the settings named then, whose place this one may have taken.
    """

    backend: str
    session_id: str
    owned: bool
    expires_at: datetime
    execution_count: int = 0
    agent: str = ""
    acknowledged: int = 0
    fresh: bool = False
    waits_until: datetime | None = None
    named: str | None = None


class StateFile:
    """The file of one kernel, in Jupyter's runtime directory."""

    def __init__(self, connection_file: Path, folder: Path) -> None:
        self._path, self._handover = statefiles.of(connection_file, folder)

    def read(self) -> State | None:
        """Return what an earlier kernel left, or None.

        A kernel that got SIGTERM (VS Code's restart) left it to whatever the same parent starts
        next in the same folder: the connection file is another one then.
        """
        state = _read(self._path)
        if state is None and (handed := _take_handover(self._handover)) is not None:
            self.write(handed)
            return handed
        return state

    def hand_over(self, seconds: float) -> None:
        """Leave the session to another connection file for a time, with an empty namespace."""
        state = _read(self._path)
        self.remove()
        if state is not None:
            until = datetime.now(timezone.utc) + timedelta(seconds=seconds)
            changes = {"fresh": True, "execution_count": 0, "waits_until": until}
            _write(self._handover, state.model_copy(update=changes))

    def write(self, state: State) -> None:
        """Replace the file at once; a full disk or a read-only folder costs only the memory."""
        _write(self._path, state)

    def remove(self) -> None:
        """Forget the session, and files that dead kernels left long ago."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            for path in self._path.parent.glob("tci-*.json"):
                if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                    path.unlink(missing_ok=True)


def _read(path: Path) -> State | None:
    try:
        return State.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _write(path: Path, state: State) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        with open(draft, "w", opener=_private) as file:
            file.write(state.model_dump_json())
        draft.replace(path)


def _take_handover(path: Path) -> State | None:
    """Return the state that was handed over if its session waits; only one kernel gets it."""
    mine = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.rename(mine)
        state = _read(mine)
    except OSError:
        return None
    finally:
        mine.unlink(missing_ok=True)
    if state is None or state.waits_until is None or state.waits_until < datetime.now(timezone.utc):
        return None
    return state.model_copy(update={"waits_until": None})


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
