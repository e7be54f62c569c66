"""The pieces in which a frame is printed: found among other text, checked, joined (frames.py)."""

from __future__ import annotations

import binascii
import re
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tci_kernel.transport.frames import AgentMissing, FrameError, decode

if TYPE_CHECKING:
    from tci_kernel.transport.frames import Frame

#: Most bytes of one frame, compressed or not: a bomb ends here.
MAX_FRAME = 256 * 2**20

#: What a piece begins with; SIZE and ENCODING tell where it ends.
_PIECE = re.compile(
    r"<tci 1 (?P<nonce>[0-9a-f]{1,32}) (?P<batch>[0-9]{1,18}) (?P<offset>[0-9]{1,12})"
    r" (?P<size>[0-9]{1,12}) (?P<total>[0-9]{1,12}) (?P<crc>[0-9a-f]{8})"
    r" (?P<encoding>raw|deflate|text) "
)


@dataclass(frozen=True)
class Piece:
    """A part of a batch, as it was printed: whole and undamaged."""

    batch: int
    offset: int
    total: int
    compressed: bool
    data: bytes = field(repr=False)


def parse(text: str, nonce: str) -> Piece:
    """Return the piece that answers the request with `nonce`, wherever it stands in stdout.

    Raises `AgentMissing` if the session has no agent, else `FrameError` if there is no such piece
    or it is damaged.
    """
    if f"<tci 1 {nonce} missing>" in text:
        raise AgentMissing(
            "The session has no agent: its Python process has been started anew. Variables, and a "
            "cell that ran, are lost; files are kept. The next cell starts afresh."
        )
    for match in _PIECE.finditer(text):
        if match["nonce"] == nonce:
            return _checked(match)
    raise FrameError(f"The session printed no whole frame in {len(text)} characters.")


def _checked(match: re.Match[str]) -> Piece:
    size = int(match["size"])
    length = size if match["encoding"] == "text" else -(-size // 3) * 4
    printed = match.string[match.end() : match.end() + length]
    try:
        data = printed.encode("ascii")
        if match["encoding"] != "text":
            data = binascii.a2b_base64(data)
    except ValueError as error:
        raise FrameError(f"The session printed a damaged frame: {error}.") from None
    if len(data) != size or zlib.crc32(data) != int(match["crc"], 16):
        raise FrameError("The session printed a damaged frame: its checksum is wrong.")
    return Piece(
        batch=int(match["batch"]),
        offset=int(match["offset"]),
        total=int(match["total"]),
        compressed=match["encoding"] == "deflate",
        data=data,
    )


class Assembler:
    """Joins pieces to a frame.

    `batch` and `offset` say what to fetch next. A piece of another batch that starts at 0 starts
    over, because the agent no longer has the one before.
    """

    def __init__(self) -> None:
        self.batch = 0
        self._total = 0
        self._parts: list[bytes] = []
        self.offset = 0

    def add(self, piece: Piece) -> Frame | None:
        """Return the frame if this piece completes it; raises `FrameError` if it does not fit."""
        if piece.offset == 0:
            self.batch, self._total, self._parts, self.offset = piece.batch, piece.total, [], 0
        end = piece.offset + len(piece.data)
        if (piece.batch, piece.offset, piece.total) != (self.batch, self.offset, self._total):
            raise FrameError(
                "The session printed another piece of its frame than it was asked for."
            )
        if not piece.data or end > piece.total or piece.total > MAX_FRAME:
            raise FrameError(
                f"The session printed a frame of impossible size ({piece.total} bytes)."
            )
        self._parts.append(piece.data)
        self.offset = end
        if end < piece.total:
            return None
        batch = b"".join(self._parts)
        self._parts = []
        return decode(_inflated(batch) if piece.compressed else batch)


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(data, MAX_FRAME)
    except zlib.error as error:
        raise FrameError(f"The session printed a damaged frame: {error}.") from None
    if not inflater.eof or inflater.unused_data:
        raise FrameError(
            f"The session printed a frame of more than {MAX_FRAME} bytes, or half a one."
        )
    return inflated
