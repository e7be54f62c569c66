"""A kernel's session and the way to it: opened by the first cell, left at the end."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from tci_kernel import interrupts, magics
from tci_kernel.client import TCIClient
from tci_kernel.errors import LiveRefused, TCIError
from tci_kernel.relay import Relay
from tci_kernel.session import Session
from tci_kernel.transport import install
from tci_kernel.transport.frames import AgentMissing
from tci_kernel.transport.plain import PlainTransport

if TYPE_CHECKING:
    from tci_kernel.cell import Transport
    from tci_kernel.kernel import TCIKernel
    from tci_kernel.state import StateFile

_FALLBACK = (
    "TCI: this session cannot do live transport ({reason}), so output comes when a cell ends, and "
    "there are no input() and widgets. TCI_TRANSPORT=plain chooses that silently."
)


class Connection:
    """The session of one kernel, and the transport that the settings and the session allow."""

    def __init__(self, kernel: TCIKernel, remembered: StateFile) -> None:
        self._kernel = kernel
        self.session = Session(TCIClient(), remembered)
        self.relay: Relay | None = None
        self._plain: PlainTransport | None = None
        self._refusal = ""
        self._notices: list[str] = []
        self._opening = asyncio.Lock()

    @property
    def context(self) -> magics.Context:
        """The session and the way to it, as `%tci` lines see them."""
        health = self.relay.health if self.relay is not None and self.relay.open else None
        return magics.Context(self.session, self._transport_name, self._refusal, health)

    @property
    def plain(self) -> bool:
        """Whether cells travel by plain transport, or will."""
        return self._transport_name == PlainTransport.name

    @property
    def _transport_name(self) -> str:
        """What cells travel by, or what the settings want for the first one."""
        if self.relay is not None and self.relay.open:
            return Relay.name
        return PlainTransport.name if self._stays_plain else self._wanted

    @property
    def _stays_plain(self) -> bool:
        return self._plain is not None and self.session.id is not None

    @property
    def _wanted(self) -> str:
        return self.session.client.settings.transport

    def notices(self) -> list[str]:
        """Return what the user is to know of the way to the session, each time only what is new."""
        notices, self._notices = self._notices, []
        return notices

    def tell(self, notice: str) -> None:
        """Have the next cell say something, once."""
        if notice not in self._notices:
            self._notices.append(notice)

    async def open(self) -> Transport:
        """Return the way to the session, opened if need be; raises a `TCIError` if none is."""
        async with self._opening:
            if self.relay is not None and self.relay.open:
                return self.relay
            if self._wanted == "plain" or self._stays_plain:
                return self._open_plain()
            try:
                return await self._open_relay()
            except LiveRefused as error:
                if self._wanted == "live":
                    raise
                self._refusal = str(error)
                self._notices.append(_FALLBACK.format(reason=error))
                return self._open_plain()

    def _open_plain(self) -> PlainTransport:
        self._plain = self._plain or PlainTransport(self.session, self._kernel.start_up.codes)
        return self._plain

    async def _open_relay(self) -> Relay:
        if self.relay is not None:
            self.relay.abandon()
            if self.relay.refusal is not None:
                raise self.relay.refusal
        relay, former = Relay(self._kernel, self.session), self.session.agent
        count = max(1, self._kernel.execution_count)
        hello, notice = await install.start(partial(relay.start, count), self.session)
        if self.session.fresh and not hello.fresh:
            await relay.restart()
        if former not in {"", self.session.agent} and not self.session.fresh:
            self.session.note_loss(AgentMissing.between_cells())
        self.session.remember(fresh=False)
        self.relay, self._plain, self._refusal = relay, None, ""
        self._notices += [notice] if notice else []
        if hello.not_moved:
            self._notices.append(_left_behind(hello.not_moved))
        return relay

    async def question(self, function: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return the session's answer in plain transport; the relay hands questions on itself."""
        return await self._plain.question(function, arguments) if self._plain is not None else None

    async def resume(self) -> None:
        """Find the child of an earlier process of this kernel, and hear what it has said since."""
        if self.session.id is not None and self._wanted != "plain":
            with contextlib.suppress(TCIError):
                await self.open()

    async def restart(self, timeout: float) -> None:
        """Give the next process of this kernel an empty namespace, at once if that can be had."""
        fresh = True
        if self.relay is not None and self.relay.open:
            with contextlib.suppress(TCIError, asyncio.TimeoutError):
                await asyncio.wait_for(self.relay.leave_fresh(), timeout)
                fresh = False
        self.session.remember(fresh=fresh, execution_count=0)

    async def end(self, timeout: float) -> None:
        """End the session if this kernel made it; in another's, leave the child and its variables.

        The other clients of that session use the child too.
        """
        if self.relay is None or not self.relay.open:
            await self.session.end(timeout)
            return
        if not self.session.owned:
            await self._part()
            return
        try:
            await asyncio.wait_for(self.relay.end(exit_session=True), timeout)
        except AgentMissing:
            await self.session.end(timeout)
        except (TCIError, asyncio.TimeoutError):
            pass  # it ends when its time is over
        self.session.forget()

    async def leave(self, timeout: float) -> None:
        """End in a while, unless a kernel comes back: SIGTERM may be a restart.

        Plain transport has nobody on the far side who could wait.
        """
        if self.plain or not self.session.agent:
            await self.session.end(timeout)
            return
        grace = self.session.client.settings.handover_timeout
        self.session.hand_over(grace)  # first: the next kernel may have been started already
        if not self.session.owned:
            await interrupts.interrupt_and_wait(self._kernel)
        else:
            relay = self.relay or Relay(self._kernel, self.session)  # `resume` is not done
            with contextlib.suppress(TCIError, asyncio.TimeoutError):
                ending = relay.end(delay=grace, exit_session=True)
                await asyncio.wait_for(ending, timeout)

    async def _part(self) -> None:
        """Leave a session that others use, and no cell of this kernel's running in it."""
        await interrupts.interrupt_and_wait(self._kernel)
        if self.relay is not None:
            self.relay.stop()
        self.session.forget()


def _left_behind(not_moved: dict[str, str]) -> str:
    names = ", ".join(sorted(not_moved)[:10])
    return f"TCI: these variables of the session could not be taken along: {names}."
