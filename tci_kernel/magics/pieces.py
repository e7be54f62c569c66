"""Local files cut into pieces that fit into requests; no more than one request's worth is read."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from tci_kernel.api import File
from tci_kernel.errors import MagicError
from tci_kernel.magics.files import LocalFile, Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What a piece takes in a request besides its content, in bytes: names, numbers, punctuation.
_OVERHEAD = 512


@dataclass(frozen=True)
class Piece:
    """Bytes of a file from `offset` on; the last piece has the SHA-256 of the whole file.

    Only their base64 form is kept: of a large file, each copy counts.
    """

    file: LocalFile
    offset: int
    size: int
    encoded: str = field(repr=False)
    digest: str | None

    def as_file(self, name: str) -> File:
        """Return the piece as a file of a request."""
        return File(name=name, encoding="base64", content=self.encoded)


def batches(files: Iterable[LocalFile], limit: int) -> Iterator[list[Piece]]:
    """Yield the pieces of all files, together for one request of at most `limit` bytes.

    Raises `MagicError` for a file that changes meanwhile.
    """
    batch: list[Piece] = []
    room = limit
    for file in files:
        with _opened(file) as stream:
            reading = _Reading(file, stream)
            while not reading.finished:
                if batch and room <= _OVERHEAD:
                    yield batch
                    batch, room = [], limit
                batch.append(reading.next((room - _OVERHEAD) // 4 * 3))
                room -= len(batch[-1].encoded) + _OVERHEAD
    if batch:
        yield batch


class _Reading:
    """A file that is being read, and the checksum of what has been read."""

    def __init__(self, file: LocalFile, stream: BinaryIO) -> None:
        self._file = file
        self._stream = stream
        self._offset = 0
        self._hash = hashlib.sha256()
        self.finished = False

    def next(self, most: int) -> Piece:
        """Return the next piece, of `most` bytes unless the file ends."""
        offset, size = self._offset, min(most, self._file.size - self._offset)
        content = self._stream.read(size)
        if len(content) < size:
            raise _changed(self._file)
        self._offset += size
        self._hash.update(content)
        self.finished = self._offset == self._file.size
        if self.finished and Stamp.of(os.fstat(self._stream.fileno())) != self._file.stamp:
            raise _changed(self._file)
        digest = self._hash.hexdigest() if self.finished else None
        encoded = base64.b64encode(content).decode("ascii")
        return Piece(self._file, offset, size, encoded, digest)


def _opened(file: LocalFile) -> BinaryIO:
    try:
        return file.path.open("rb")
    except OSError as error:
        raise MagicError(f"{file.path} cannot be read: {error.strerror}.") from None


def _changed(file: LocalFile) -> MagicError:
    return MagicError(
        f"{file.path} changed while it was uploaded. What the session had under that name is kept. "
        "Upload it again when nothing writes to it."
    )
