"""What front ends have asked and the child has not finished."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tci_kernel.begun import Begun
from tci_kernel.senders import is_hidden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tci_kernel.channels import Channels, Incoming
    from tci_kernel.transport.message import Message

#: Seconds behind its idle after which a question has no reply, because its kind is unknown.
_REPLY_GRACE = 5.0


class Pending:
    """The requests under way; who asked is remembered by `channels` for as long."""

    def __init__(self, channels: Channels) -> None:
        self.begun: dict[str, Begun] = {}
        self._channels = channels
        self._asked: dict[tuple[str, str], Incoming] = {}
        self._idle: set[str] = set()  # cells that lack their reply only
        self._replied: dict[str, dict[str, Any]] = {}  # cells that lack their idle only: headers
        self._changed = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._asked or self.begun)

    @property
    def cells(self) -> list[str]:
        """Return the ids of a person's cells, the oldest first.

        What a front end runs by itself is none: nobody would see what is said there, and VS Code
        takes it for the answer.
        """
        asked = [
            message_id
            for (_, message_id), incoming in self._asked.items()
            if _is_cell(incoming) and not is_hidden(incoming.content)
        ]
        return [*self.begun, *asked]

    @property
    def has_listener(self) -> bool:
        """Whether a person will see how a cell that is under way ends."""
        return any(name not in self.begun or not self.begun[name].hidden for name in self.cells)

    def add(self, channel: str, incoming: Incoming) -> None:
        """Note what a front end has asked."""
        self._asked[channel, incoming.header["msg_id"]] = incoming

    def get(self, message_id: str) -> Incoming | None:
        """Return what was asked on shell by that id."""
        return self._asked.get(("shell", message_id))

    @contextmanager
    def beginning(self, message_id: str, asker: list[bytes], *, hidden: bool) -> Iterator[Begun]:
        """Note, for a time, a cell that is begun on this side."""
        self._channels.remember("shell", message_id, asker)
        begun = self.begun[message_id] = Begun(hidden=hidden)
        try:
            yield begun
        finally:
            self.begun.pop(message_id, None)
            self._channels.forget("shell", message_id)
            self._changed.set()

    def finish(self, channel: str, message_id: str) -> None:
        """Note the reply to a request."""
        asked = self._asked.pop((channel, message_id), None)
        if message_id in self._idle:
            self._idle.discard(message_id)
        elif asked is not None and _is_cell(asked):
            self._replied[message_id] = asked.header
        self._channels.forget(channel, message_id)
        self._changed.set()

    def finish_idle(self, message: Message) -> None:
        """Note an idle, which is the end of a message that has no reply.

        A question of a kind that the child does not know has none either. A cell always has one.
        """
        if self._replied.pop(message.parent_id, None) is not None:
            self._changed.set()
        for channel in ("shell", "control"):
            asked = self._asked.get((channel, message.parent_id))
            if asked is None or asked.header["msg_type"] != message.parent_header.get("msg_type"):
                continue
            if not asked.header["msg_type"].endswith("_request"):
                self.finish(channel, message.parent_id)
            elif _is_cell(asked):
                self._idle.add(message.parent_id)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(_REPLY_GRACE, self.finish, channel, message.parent_id)

    def withdraw(self, channel: str, message_id: str) -> Incoming | None:
        """Return what was asked, and forget it: the child will not answer."""
        self._changed.set()
        self._channels.forget(channel, message_id)
        return self._asked.pop((channel, message_id), None)

    def forget_messages(self) -> None:
        """Forget what has no reply: of some that pass by a cell the child does not say the end."""
        for channel, message_id in list(self._asked):
            if not self._asked[channel, message_id].header["msg_type"].endswith("_request"):
                self.finish(channel, message_id)

    def drain(self) -> list[tuple[str, Incoming]]:
        """Return all with their channels, and forget them."""
        asked, self._asked = self._asked, {}
        self._idle.clear()
        for channel, message_id in asked:
            self._channels.forget(channel, message_id)
        self._changed.set()
        return [(channel, incoming) for (channel, _), incoming in asked.items()]

    def drain_idle(self) -> list[dict[str, Any]]:
        """Return the headers of the cells that have their reply and no idle, and forget them."""
        replied, self._replied = self._replied, {}
        self._changed.set()
        return list(replied.values())

    async def cells_end(self) -> None:
        """Wait until no cell is under way, whoever asked for it; subshells' do not count."""
        await self._until(
            lambda: (
                not any(
                    header.get("subshell_id") is None
                    for header in (*self._replied.values(), *self._cell_headers())
                )
            )
        )

    async def cell_ends(self) -> None:
        """Wait until the oldest of the cells has ended, if there is one: reply and idle."""
        running = set(self.cells[:1])
        await self._until(lambda: not running & {*self.cells, *self._replied})

    def _cell_headers(self) -> Iterator[dict[str, Any]]:
        return (asked.header for asked in self._asked.values() if _is_cell(asked))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def _is_cell(incoming: Incoming) -> bool:
    return bool(incoming.header["msg_type"] == "execute_request")
