"""The `files` of a request: checked as a whole, then written below the session's directory.

The code of a session may plant symbolic links where the next upload goes. No component of a name
is therefore followed through a link: each folder is opened from the one above it.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tci_kernel.server.refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tci_kernel.api import File

#: The longest name of a file or folder, in bytes, on the file systems in use.
NAME_MAX = 255


@dataclass(frozen=True)
class Upload:
    """A file that may be written: the components of its name, and its bytes."""

    parts: tuple[str, ...]
    content: bytes = field(repr=False)


def checked(files: Iterable[File]) -> list[Upload]:
    """Return the uploads of a request; raises `Refused` (400) if any of them cannot be."""
    return [Upload(_parts(file.name), _content(file)) for file in files]


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if not parts or name.endswith("/"):
        raise _refused(name, "it names no file")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise _refused(name, "it is absolute; names are relative to the session's directory")
    if ".." in parts:
        raise _refused(name, "it leaves the session's directory")
    if "\\" in name or "\0" in name:
        raise _refused(name, "it contains a backslash or a NUL")
    if any(len(os.fsencode(part)) > NAME_MAX for part in parts):
        raise _refused(name[:NAME_MAX], f"a part of it is longer than {NAME_MAX} bytes")
    return parts


def _content(file: File) -> bytes:
    if file.encoding == "string":
        return file.content.encode()
    try:
        return base64.b64decode(file.content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(file.name, f"its content is not base64 ({error})") from None


def _refused(name: str, reason: str) -> Refused:
    return Refused(400, f"The file name {name!r} is refused: {reason}. Nothing has been written.")


def write(directory: Path, uploads: Iterable[Upload]) -> None:
    """Write uploads below a directory, each of them wholly or not at all.

    Raises `Refused` (400) where the session's own files stand in the way.
    """
    for upload in uploads:
        _write_one(directory, upload)


def _write_one(directory: Path, upload: Upload) -> None:
    try:
        if os.open in os.supports_dir_fd:
            _write_below(directory, upload)
        else:
            _write_resolved(directory, upload)
    except OSError as error:
        raise Refused(
            400,
            f"The file {'/'.join(upload.parts)!r} cannot be written in the session: "
            f"{error.strerror}. The code has not run.",
        ) from None


def _write_below(directory: Path, upload: Upload) -> None:
    *folders, name = upload.parts
    here = _open_folder(os.fspath(directory), None)
    try:
        for folder in folders:
            here = _step_into(folder, here)
        _replace(name, upload.content, here)
    finally:
        os.close(here)


def _open_folder(name: str, parent: int | None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


def _step_into(folder: str, parent: int) -> int:
    """Return the descriptor of a folder, made if need be, in place of its parent's."""
    with suppress(FileExistsError):
        os.mkdir(folder, dir_fd=parent)
    descriptor = _open_folder(folder, parent)
    os.close(parent)
    return descriptor


def _replace(name: str, content: bytes, folder: int) -> None:
    """Write a file under another name and rename it: nobody sees half of it."""
    draft = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with open(os.open(draft, flags, 0o666, dir_fd=folder), "wb") as file:  # noqa: PTH123  a descriptor
            file.write(content)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(draft, dir_fd=folder)
        raise


def _write_resolved(directory: Path, upload: Upload) -> None:
    """Write a file where folders cannot be opened (Windows): links are resolved, then checked."""
    target = directory.joinpath(*upload.parts)
    if not target.parent.resolve().is_relative_to(directory.resolve()):
        raise _refused("/".join(upload.parts), "it leaves the session's directory through a link")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    draft.write_bytes(upload.content)
    draft.replace(target)
