"""Folders that only their owner may enter, made where others can write too."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from tci_kernel.errors import NotConfigured


def private_folder(path: Path) -> Path:
    """Make a folder of mode 0700, or check the one that is there; parents are made as usual.

    Raises `NotConfigured` for a link, for another user's folder, and where none can be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if not is_owned(path):
            raise NotConfigured(
                f"{path} is a link or belongs to another user, so that others could reach your "
                "sessions. Remove it, or set TCI_RUNTIME_DIR to a folder of yours."
            )
        path.chmod(0o700)
    except OSError as error:
        raise NotConfigured(
            f"The folder {path} cannot be used ({error.strerror}). "
            "Set TCI_RUNTIME_DIR to a folder that you can write."
        ) from None
    return path


def user_folder(name: str = "tci-kernel") -> Path:
    """Return this user's folder of that name below the temporary directory; it may not exist."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"{name}-{user}"


def is_owned(path: Path) -> bool:
    """Tell whether a path is a folder of this user, and no link to one."""
    try:
        found = path.lstat()
    except OSError:
        return False
    owner = os.getuid() if hasattr(os, "getuid") else found.st_uid
    return stat.S_ISDIR(found.st_mode) and found.st_uid == owner
