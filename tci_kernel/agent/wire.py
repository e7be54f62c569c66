"""How requests and frames are packed and printed (transport/frames.py tells the whole wire)."""

from __future__ import annotations

import binascii
import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    JSONObject = dict[str, Any]
    Frames = list[bytes]
    Numbered = tuple[int, str, Frames]
    #: What a request is told by: its type and its id.
    Name = tuple[str, str]

#: First line of the code of every request: no cell of the user's.
MARK = "# tci-agent"

#: The agent's name among the session's modules.
NAME = "_tci_agent"
ENTRY = f"{NAME}.entry"

#: Where cells have their source files for a debugger, as front ends see it: a prefix that is known
#: before there is a child, because front ends ask for it then.
CELLS = "/tmp/ipykernel_tci/"  # noqa: S108  nothing is written there


#: Compression pays for frames of more bytes than this that shrink to less than this share: over a
#: network; and on the same machine, where it takes longer than a copy, but less than many copies.
WORTH_IT_FAR = 2**10, 0.5
WORTH_IT_HERE = 2**18, 0.25


def loads(data: bytes) -> Any:
    """Parse JSON as Jupyter packs it: a name that is no UTF-8 travels as the bytes that it has."""
    return json.loads(data.decode("utf-8", "replace"))


def name_of(header: JSONObject) -> Name:
    """Return what a request is told by: ids are unique among those of one type only.

    The user's code can make up any parent.
    """
    return str(header.get("msg_type", "")), str(header.get("msg_id", ""))


def pack(head: JSONObject, messages: Iterable[tuple[int, str, Iterable[bytes]]]) -> bytes:
    """Return a head and messages as they travel (the wire: transport/frames.py)."""
    parts: list[bytes] = []
    layout = []
    for number, channel, frames in messages:
        layout.append([number, channel, [len(frame) for frame in frames]])
        parts.extend(frames)
    packed = json.dumps({**head, "messages": layout}).encode()
    return b"".join([b"%08x" % len(packed), packed, *parts])


def unpack(data: bytes) -> tuple[JSONObject, list[Numbered]]:
    """Return the head and the messages of a request of the relay, which is trusted."""
    position = 8 + int(data[:8], 16)
    head = json.loads(data[8:position])
    messages = []
    for number, channel, lengths in head.pop("messages"):
        frames = []
        for length in lengths:
            frames.append(data[position : position + length])
            position += length
        messages.append((number, channel, frames))
    return head, messages


class Batch:
    """A packed frame, compressed where that pays; the latest is kept, to be fetched in pieces.

    `text` allows that what is all ASCII is printed as it is: an image in base64 is not encoded a
    second time.
    """

    def __init__(
        self, number: int, packed: bytes, *, compress: bool = True, text: bool = False
    ) -> None:
        self.number = number
        self.data = packed
        if _shrinks(packed, *(WORTH_IT_FAR if compress else WORTH_IT_HERE)):
            self.encoding = "deflate"
            # Bare, because zlib's own checksum takes a fifth of the time, and a piece has one.
            deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
            self.data = deflater.compress(packed) + deflater.flush()
        elif text and packed.isascii():
            self.encoding = "text"
        else:
            self.encoding = "raw"

    def piece(self, nonce: str, offset: int, limit: int) -> str:
        """Return a piece that is at most `limit` bytes long, if that is room for its frame."""
        room = max(limit - 128, 4)
        if self.encoding == "text":
            data = self.data[offset : offset + room]
            printed = data
        else:
            data = self.data[offset : offset + room // 4 * 3]
            printed = binascii.b2a_base64(data, newline=False)
        position = f"{self.number} {offset} {len(data)} {len(self.data)} {zlib.crc32(data):08x}"
        return f"<tci 1 {nonce} {position} {self.encoding} {printed.decode()}>"


def _shrinks(packed: bytes, smallest: int, share: float) -> bool:
    """Tell whether compression pays, by the beginning."""
    sample = packed[: 2**16]
    return len(packed) > smallest and len(zlib.compress(sample, 1)) < len(sample) * share
