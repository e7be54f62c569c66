"""The far half of `%tci upload`: puts files together inside the session.

It is sent as source, after `transport/far_side.py` and under its `__future__` import (Python 3.8 or
newer, standard library only), and is never imported on this side. A file grows as a hidden draft
near its target, and takes its name, in folders that are made for it, only when its checksum is
right.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

_CHUNK = 2**20


def receive(shell: Any, upload: str, pieces: list[dict[str, Any]]) -> None:
    """Take over the pieces that the service has just written."""
    folder = _working_directory(shell, pieces[0]["part"])
    for piece in pieces:
        target = folder / piece["name"]
        draft = _draft(target, upload)
        _move(folder / piece["part"], draft, piece["offset"])
        if piece["digest"] is not None:
            _finish(draft, target, piece["digest"])


def discard(shell: Any, upload: str, names: list[str]) -> None:
    """Remove what an upload that failed has left of these files."""
    for folder in _candidates(shell):
        drafts = [_draft(folder / name, upload) for name in names]
        for path in [*folder.glob(f"{upload}*"), *drafts]:
            if path.exists():
                path.unlink()


def _working_directory(shell: Any, part: str) -> Path:
    """Return the folder into which the service wrote; the user may have gone elsewhere."""
    for folder in _candidates(shell):
        if (folder / part).exists():
            return folder
    raise FileNotFoundError("the service did not write the files where code can find them")


def _candidates(shell: Any) -> list[Path]:
    return [Path(getattr(shell, "starting_dir", ".")), Path.cwd(), Path.home()]


def _draft(target: Path, upload: str) -> Path:
    """Return where a file grows: in the nearest folder that is there."""
    return next(folder for folder in target.parents if folder.is_dir()) / f".{upload}"


def _move(part: Path, draft: Path, offset: int) -> None:
    with part.open("rb") as source, draft.open("r+b" if offset else "wb") as sink:
        sink.seek(offset)
        shutil.copyfileobj(source, sink, _CHUNK)
        sink.truncate()
    part.unlink()


def _finish(draft: Path, target: Path, digest: str) -> None:
    checksum = hashlib.sha256()
    with draft.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            checksum.update(chunk)
    if checksum.hexdigest() != digest:
        raise OSError(f"{target} did not arrive whole; what had that name before is kept")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(target)
