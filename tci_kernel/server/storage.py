"""Where a server keeps its sessions' folders, and how they go away, a killed server's too."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from tci_kernel.private import private_folder, user_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def storage() -> Path:
    """Return the folder in which the servers of this user keep theirs.

    Its name is short: a Unix socket's path may have 104 bytes (macOS; Linux 108).
    """
    return private_folder(user_folder("tci"))


@contextmanager
def server_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder for one server; its lock tells other servers that it is in use."""
    folder = parent / secrets.token_hex(3)
    with FileLock(_lock_file(folder)):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove(folder)
            _lock_file(folder).unlink(missing_ok=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of servers that were killed; blocks for as long as that takes."""
    for folder in parent.iterdir():
        if folder.is_dir():
            try:
                with FileLock(_lock_file(folder), timeout=0):
                    remove(folder)
                    _lock_file(folder).unlink(missing_ok=True)
            except Timeout:
                continue


def remove(folder: Path) -> None:
    """Remove a folder and all in it, also where a session took away its own permissions."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with suppress(OSError):
            _permit(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _permit(folder: Path) -> None:
    """Give the owner all rights to a folder and the folders below it."""
    folder.chmod(0o700)
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _permit(entry)


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")
