"""What the front ends have sent, until the agent has accepted it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tci_kernel.transport.message import Message

if TYPE_CHECKING:
    from tci_kernel.transport.message import Channel

#: Most bytes of messages in one exchange; the others wait for the next one. A service that takes
#: less gets less.
_LARGEST_REQUEST = 16 * 2**20


class Outgoing:
    """Messages for the child, numbered from 1 without gaps; in order."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._number = 0
        self._largest_request = _LARGEST_REQUEST

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, channel: Channel, frames: tuple[bytes, ...], heard: int | None) -> None:
        """Let a message wait: header, parent, metadata, content, buffers (`Message.heard`)."""
        self._number += 1
        self._messages.append(Message(self._number, channel, frames, heard))

    def batch(self) -> tuple[Message, ...]:
        """Return what the next exchange takes along."""
        size = 0
        messages: list[Message] = []
        for message in self._messages:
            size += _size(message)
            if messages and size > self._largest_request:
                break
            messages.append(message)
        return tuple(messages)

    def accept(self, number: int) -> None:
        """Forget the messages up to `number`, which the agent has."""
        self._messages = [message for message in self._messages if message.number > number]

    def clear(self) -> None:
        """Forget all messages."""
        self._messages.clear()

    def lighten(self, refused: tuple[Message, ...]) -> Message | None:
        """Send less at a time, because the service has refused a batch.

        Returns the message that it does not take even alone, which is withdrawn. Its number stays
        taken: an earlier attempt may have reached the agent.
        """
        if len(refused) > 1:
            self._largest_request = min(self._largest_request, sum(map(_size, refused))) // 2
            return None
        withdrawn = self._messages[0]
        self._messages[0] = replace(withdrawn, frames=())
        return withdrawn

    def has_question_of(self, message: Message) -> bool:
        """Tell whether a message of the child seems to answer one that has not arrived there."""
        return any(waiting.frames and message.answers(waiting) for waiting in self._messages)


def _size(message: Message) -> int:
    return sum(map(len, message.frames))
