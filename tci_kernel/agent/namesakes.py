"""Requests that have the id of one that a former relay asked."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from .wire import loads, name_of

if TYPE_CHECKING:
    from .ledger import Ledger
    from .outbox import Outbox
    from .wire import Frames, JSONObject, Name


class Namesakes:
    """Keeps apart requests that have one id: a front end may count anew when its kernel is new.

    The later one has another id towards the child. What answers the former, if that is not over
    and heard, is told to be about a request of an id that nobody waits for.
    """

    def __init__(self, ledger: Ledger, outbox: Outbox) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._former: set[Name] = set()
        self._shown: dict[Name, bytes] = {}

    def take_over(self) -> None:
        """Note the requests of the relay so far: the next one may use their ids again."""
        headers = {held.frames[1] for held in self._outbox.held.values()}
        headers |= {asked.raw_header for asked in self._ledger.asked.values()}
        self._former = {name_of(loads(header)) for header in headers}

    def to_child(self, frames: Frames) -> Frames:
        """Return a request as the child gets it."""
        header = loads(frames[0])
        name = name_of(header)
        if name not in self._former and name not in self._shown:
            return frames
        self._former.discard(name)
        self._set_aside(name, header)
        new = _with_new_id(header)
        self._shown[name_of(loads(new))] = frames[0]
        return [new, *frames[1:]]

    def from_child(self, frames: Frames) -> Frames:
        """Return a message of the child with the parent that it is to have."""
        shown = self._shown.get(name_of(loads(frames[1]))) if self._shown else None
        return frames if shown is None else [frames[0], shown, *frames[2:]]

    def _set_aside(self, name: Name, header: JSONObject) -> None:
        """Give what has this name, and what was said of it, an id of nobody's."""
        aside = _with_new_id(header)
        for theirs, shown in list(self._shown.items()):
            if name_of(loads(shown)) == name:
                self._shown[theirs] = aside
        self._shown.setdefault(name, aside)  # it may be one that was set aside before
        self._ledger.rename(name, aside)
        self._outbox.rename(name, aside)


def _with_new_id(header: JSONObject) -> bytes:
    return json.dumps({**header, "msg_id": uuid.uuid4().hex}).encode()
