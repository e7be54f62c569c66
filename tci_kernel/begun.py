"""A cell that is begun on this side and goes on in the child."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tci_kernel.transport.failure import Failure
from tci_kernel.transport.plain import Result

if TYPE_CHECKING:
    from tci_kernel.transport.message import Message


class Begun:
    """One such cell, whose reply this side gives: `finished` by the child's reply *and* idle.

    `hidden` tells that a front end has sent it by itself.
    """

    def __init__(self, *, hidden: bool) -> None:
        self.hidden = hidden
        self.finished: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._reply: dict[str, Any] | None = None
        self._idle = False

    async def result(self) -> Result:
        """Return what the cell's reply says; its outputs have gone straight to the front ends."""
        return _result(await self.finished)

    def hears(self, message: Message) -> bool:
        """Take what is not for the front end, which gets state, input and reply from this side."""
        if message.msg_type == "execute_reply":
            self._reply = message.content
        elif message.msg_type == "status":
            self._idle |= message.is_idle
        elif message.msg_type != "execute_input":
            return False
        if self._reply is not None and self._idle and not self.finished.done():
            self.finished.set_result(self._reply)
        return True

    def fail(self, error: Exception) -> None:
        """End the cell, because the child's reply cannot come any more."""
        if not self.finished.done():
            self.finished.set_exception(error)


def _result(reply: dict[str, Any]) -> Result:
    """Return what a reply says."""
    payload = tuple(reply.get("payload") or ())
    if reply.get("status") == "ok":
        return Result([], None, payload, reply.get("user_expressions"))
    lines = reply.get("traceback") or []
    ename = str(reply.get("ename", "Aborted"))
    return Result([], Failure(ename, str(reply.get("evalue", "")), lines), payload)
