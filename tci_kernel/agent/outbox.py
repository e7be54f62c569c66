"""What the child has said, until the relay has it."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from .wire import loads, name_of

if TYPE_CHECKING:
    from .wire import Frames, Name

#: Bytes of messages in one frame, unless one message alone is longer.
BATCH = 16 * 2**20

#: When so many messages wait, stream text joins the message before it, up to so many bytes: a front
#: end would otherwise be busy with a cell that prints for ever long after its interrupt.
CROWD, JOINED = 50, 2**12

#: Stands for stream text that was dropped.
NOTE = "\n[… %d bytes of output dropped …]\n"


class Held(NamedTuple):
    """A message of the child that the relay may not have yet.

    `parent` is the parent's id if this is stream text; `dropped` the bytes whose place it takes;
    `is_note` whether it takes all that more of its stream's text gives way to.
    """

    number: int
    channel: str
    frames: Frames
    size: int
    parent: str | None = None
    dropped: int = 0
    is_note: bool = False


class Outbox:
    """The child's messages, numbered from 1, until they are acknowledged.

    Over `limit` bytes that were in no frame yet, the middle of their stream text gives way to a
    line that says how much; nothing else is ever dropped.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = self.in_frames = 0
        self.last = 0
        self.sent = 0
        self.held: OrderedDict[int, Held] = OrderedDict()
        self.notes: dict[tuple[str | None, str], int] = {}

    def add(self, channel: str, frames: Frames, parent: str | None = None) -> None:
        """Hold one message; `parent` marks it as stream text of that request."""
        self.last += 1
        if parent is not None and len(self.held) > CROWD:
            frames = self._joined(frames, parent)
        size = sum(map(len, frames)) + 64
        self.held[self.last] = Held(self.last, channel, frames, size, parent)
        self.size += size
        if self.size - self.in_frames > self.limit:
            self._cut()

    def rename(self, name: Name, header: bytes) -> None:
        """Let what is about the request of this type and id have another parent."""
        for held in list(self.held.values()):
            if name_of(loads(held.frames[1])) == name:
                frames = [held.frames[0], header, *held.frames[2:]]
                text_of = held.parent and loads(header)["msg_id"]
                self.held[held.number] = held._replace(frames=frames, parent=text_of)

    def acknowledge(self, number: int) -> None:
        """Forget the messages up to `number`."""
        while self.held and next(iter(self.held)) <= number:
            forgotten = self.held.popitem(last=False)[1].size
            self.size -= forgotten
            self.in_frames = max(0, self.in_frames - forgotten)

    def take(self) -> tuple[list[Held], bool]:
        """Return what one frame can hold, and whether there is more."""
        taken: list[Held] = []
        size = 0
        for message in self.held.values():
            size += message.size
            if taken and size > BATCH:
                return taken, True
            taken.append(message)
            self.sent = max(self.sent, message.number)
            self.in_frames = max(self.in_frames, size)
        self.sent = self.last
        return taken, False

    def _joined(self, frames: Frames, parent: str) -> Frames:
        """Return stream text with that of the message before it, if it is the same stream's."""
        before = next(reversed(self.held.values()))
        if before.parent != parent or before.number <= self.sent or before.size > JOINED:
            return frames
        first, content = loads(before.frames[3]), loads(frames[3])
        if before.dropped or first["name"] != content["name"]:
            return frames
        content["text"] = first["text"] + content["text"]
        del self.held[before.number]
        self.size -= before.size
        return [*frames[:3], json.dumps(content).encode()]

    def _cut(self) -> None:
        """Drop the oldest stream text, but its beginning, until a quarter of the room is free."""
        excess = self.size - self.in_frames - self.limit * 3 // 4
        kept = 0
        untold: Counter[int] = Counter()
        for message in [held for held in self.held.values() if self._can_drop(held)]:
            kept += message.size
            if kept > self.limit // 8:
                excess -= self._shorten(message, untold)
            if excess <= 0:
                break
        for number, dropped in untold.items():
            note = self.held[number]
            self._replace(note, _ends(note), note.dropped + dropped, is_note=True)

    def _can_drop(self, message: Held) -> bool:
        return message.parent is not None and not message.is_note and message.number > self.sent

    def _shorten(self, message: Held, untold: Counter[int]) -> int:
        """Drop a text, or of a huge one first the middle and later the end; return bytes gained.

        What its stream's note has to tell is added to `untold`.
        """
        start, end = _ends(message)
        keep = self.limit // 8
        if not message.dropped and len(end) > 2 * keep:
            start, middle, end = end[:keep], end[keep:-keep], end[-keep:]
            return self._replace(message, (start, end), _bytes(middle))
        stream = message.parent, loads(message.frames[3]).get("name", "")
        note = self.held.get(self.notes.get(stream, 0))
        if note is None or note.number <= self.sent:
            self.notes[stream] = message.number
            return self._replace(message, (start, ""), message.dropped + _bytes(end), is_note=True)
        untold[note.number] += message.dropped + _bytes(start + end)
        del self.held[message.number]
        self.size -= message.size
        return message.size

    def _replace(
        self, held: Held, ends: tuple[str, str], dropped: int, *, is_note: bool = False
    ) -> int:
        """Leave the ends of a text, and between them a note; return the bytes gained."""
        content = loads(held.frames[3])
        content["text"] = (NOTE % dropped).join(ends)
        frames = [*held.frames[:3], json.dumps(content).encode()]
        size = sum(map(len, frames)) + 64
        self.held[held.number] = held._replace(
            frames=frames, size=size, dropped=dropped, is_note=is_note
        )
        self.size += size - held.size
        return held.size - size


def _ends(message: Held) -> tuple[str, str]:
    """Return what stands before and behind the note in a text; without one, all is behind."""
    text = loads(message.frames[3]).get("text", "")
    start, _, end = text.rpartition(NOTE % message.dropped) if message.dropped else ("", "", text)
    return start, end


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
