"""Which local files the words of `%tci upload` mean, and what they are called in the session."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from tci_kernel.errors import MagicError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tci_kernel.magics.roots import Roots


class Stamp(NamedTuple):
    """What tells that a file is still the same: its inode, its size in bytes, its time in ns."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp in a file's status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class LocalFile:
    """A file to upload; `name` is relative to the session's working directory."""

    path: Path
    name: str
    stamp: Stamp

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.stamp.size


class LeftOut(NamedTuple):
    """Something in a folder that is not uploaded."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What the words of a line mean."""

    files: list[LocalFile]
    left_out: list[LeftOut]


def find(words: Sequence[str], to: str, roots: Roots) -> Found:
    """Return the files below some paths or globs, to be put in the session's folder `to`.

    In folders, hidden entries and what is no regular file are left out, and so are links that
    lead out of the roots. Raises `FileRefused` for a path outside of them, else `MagicError`.
    """
    if "" in words:
        raise MagicError('There is no file "". Nothing was uploaded.')
    folder = _folder(to)
    files: dict[str, LocalFile] = {}
    left_out: list[LeftOut] = []
    try:
        for path, name in _named(words, roots):
            for entry in _entries(path, "/".join(filter(None, (folder, name))), roots, ()):
                if isinstance(entry, LeftOut):
                    left_out.append(entry)
                else:
                    _add(files, entry)
    except OSError as error:
        raise MagicError(
            f"{error.filename} cannot be read: {error.strerror}. Nothing was uploaded."
        ) from None
    if not files:
        raise MagicError(f"No files to upload in {' '.join(words)}.")
    return Found(list(files.values()), left_out)


def _folder(to: str) -> str:
    folder = PurePosixPath(to)
    if folder.is_absolute() or ".." in folder.parts or "\\" in to:
        raise MagicError(
            f"--to {to}: the folder lies below the session's working directory, and is written "
            "with / between its parts. Nothing was uploaded."
        )
    return "/".join(folder.parts)


def _named(words: Sequence[str], roots: Roots) -> Iterator[tuple[Path, str]]:
    """Yield the paths that words stand for, with their base names; `.` means what is in it."""
    for word in words:
        for match in _matches(os.path.expanduser(word), roots):  # noqa: PTH111  keeps the last "."
            path = roots.resolve(match)
            roots.check(path)
            if not path.exists():
                raise MagicError(f"There is no file {path}. Nothing was uploaded.")
            name = os.path.basename(os.path.normpath(match))  # noqa: PTH119  Path drops a "."
            yield path, "" if name in {".", ".."} else name


def _matches(word: str, roots: Roots) -> list[str]:
    """Return the paths of a glob; a file that is really called so comes first."""
    if roots.resolve(word).exists():
        return [word]
    # Path.glob takes no absolute pattern.
    found = glob.glob(word, root_dir=roots.here, recursive=True)  # noqa: PTH207
    return sorted(found) or [word]


def _entries(
    path: Path, name: str, roots: Roots, above: tuple[Path, ...]
) -> Iterator[LocalFile | LeftOut]:
    """Yield a file, or all that a folder holds; `above` are the folders it was reached through."""
    real = path.resolve()
    if above and path.name.startswith("."):
        yield LeftOut(name, "hidden")
    elif not roots.allow(path):
        yield LeftOut(name, "links out of the notebook's folder")
    elif path.is_file():
        yield LocalFile(path, name, Stamp.of(path.stat()))
    elif not path.is_dir():
        yield LeftOut(name, "no regular files")
    elif real in above:
        yield LeftOut(name, "links to a folder around them")
    else:
        for entry in sorted(path.iterdir()):
            inner = "/".join(filter(None, (name, entry.name)))
            yield from _entries(entry, inner, roots, (*above, real))


def _add(files: dict[str, LocalFile], file: LocalFile) -> None:
    other = files.setdefault(file.name, file)
    if not other.path.samefile(file.path):
        raise MagicError(
            f"{other.path} and {file.path} would both become {file.name}. Upload a folder that "
            "holds both, or one of them with --to. Nothing was uploaded."
        )
