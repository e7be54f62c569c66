"""How requests and frames are packed and printed (transport/frames.py tells the whole wire)."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    JSONObject = dict[str, Any]
    Frames = list[bytes]
    Numbered = tuple[int, str, Frames]

#: First line of the code of every request: no cell of the user's.
MARK = "# tci-agent"

#: The agent's name among the session's modules.
NAME = "_tci_agent"
ENTRY = f"{NAME}.entry"


def pack(head: JSONObject, messages: Iterable[tuple[int, str, Iterable[bytes]]]) -> bytes:
    """Return a head and messages as they travel (the wire: transport/frames.py)."""
    parts: list[bytes] = []
    layout = []
    for number, channel, frames in messages:
        layout.append([number, channel, [len(frame) for frame in frames]])
        parts.extend(frames)
    packed = json.dumps({**head, "messages": layout}).encode()
    return b"".join([struct.pack(">I", len(packed)), packed, *parts])


def unpack(data: bytes) -> tuple[JSONObject, list[Numbered]]:
    """Return the head and the messages of a request of the relay, which is trusted."""
    position = 4 + struct.unpack_from(">I", data)[0]
    head = json.loads(data[4:position])
    messages = []
    for number, channel, lengths in head.pop("messages"):
        frames = []
        for length in lengths:
            frames.append(data[position : position + length])
            position += length
        messages.append((number, channel, frames))
    return head, messages


class Batch:
    """A packed frame, compressed where that pays; the latest is kept, to be fetched in pieces."""

    def __init__(self, number: int, packed: bytes) -> None:
        self.number = number
        sample = packed[: 2**16]
        pays = len(packed) > 2**10 and len(zlib.compress(sample, 1)) < len(sample) * 0.6
        self.encoding = "zlib" if pays else "raw"
        self.data = zlib.compress(packed, 1) if pays else packed

    def piece(self, nonce: str, offset: int, limit: int) -> str:
        """Return a piece that is at most `limit` bytes long, if that is room for its frame."""
        room = max(limit - 128, 4) // 4 * 3
        data = self.data[offset : offset + room]
        position = f"{self.number} {offset} {len(self.data)} {zlib.crc32(data):08x}"
        return f"<tci 1 {nonce} {position} {self.encoding} {base64.b64encode(data).decode()}>"
