"""The connection of a kernel that may not need one: front ends start kernels to look at them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jupyter_core.paths import jupyter_runtime_dir

from tci_kernel import statefiles

if TYPE_CHECKING:
    from tci_kernel.connection import Connection
    from tci_kernel.kernel import TCIKernel
    from tci_kernel.relay import Relay

#: Seconds after which a process that was sent SIGTERM has written down what it leaves.
_HANDOVER = 1.0


class LazyConnection:
    """Makes the kernel's `Connection` on first use, with all its imports.

    Until then a file tells whether an earlier process of this kernel left a session.
    """

    def __init__(self, kernel: TCIKernel, connection_file: Path) -> None:
        self._kernel = kernel
        self._connection_file = connection_file
        self.made: Connection | None = None

    def get(self) -> Connection:
        """Return the connection, made if need be; raises `NotConfigured`."""
        if self.made is None:
            from tci_kernel.connection import Connection  # noqa: PLC0415
            from tci_kernel.state import StateFile  # noqa: PLC0415

            remembered = StateFile(self._connection_file, Path(jupyter_runtime_dir()))
            self.made = Connection(self._kernel, remembered)
        return self.made

    @property
    def relay(self) -> Relay | None:
        """The relay while messages are handed on: not before a person knows what was lost."""
        made = self.made
        if made is None or made.relay is None or made.session.has_loss:
            return None
        return made.relay if made.relay.open else None

    @property
    def has_session(self) -> bool:
        """Whether there is a session to ask, of this process or of an earlier one."""
        return (self.made is not None and self.made.session.id is not None) or self._left_behind

    @property
    def last_count(self) -> int:
        """The execution count with which a predecessor that died left its session, else 0."""
        if self.made is None and not self._left_behind:
            return 0
        with suppress(Exception):  # the cell will say it
            session = self.get().session
            if session.id is not None and not session.fresh:
                return session.execution_count
        return 0

    async def resume(self) -> None:
        """Find the child again that an earlier process of this kernel left, if there was one.

        A predecessor that was sent SIGTERM may still be writing down what it leaves.
        """
        for pause in (0.0, _HANDOVER):
            await asyncio.sleep(pause)
            if self._waits:
                try:
                    await self.get().resume()
                except Exception as error:  # noqa: BLE001  the first cell will say it
                    self._kernel.log.warning("The session could not be found again: %s", error)

    async def let_go(self, how: Literal["restart", "end", "leave"], timeout: float) -> None:
        """Let go of the session by a method of the connection, within `timeout` seconds."""
        if self.made is None and not self._left_behind:
            return
        try:
            await getattr(self.get(), how)(timeout)
        except Exception as error:  # noqa: BLE001  a kernel that is to end must end
            self._kernel.log.warning("The session could not be ended: %s", error)

    @property
    def runs_in_joined_session(self) -> bool:
        """Whether a cell that was begun on this side runs in a session that outlives the kernel."""
        relay = self.relay
        begun = relay is not None and bool(relay.pending.begun)
        return begun and self.made is not None and not self.made.session.owned

    @property
    def _waits(self) -> bool:
        """Whether a session was left that this process has not taken up (or left again)."""
        taken = self.made is not None and self.made.relay is not None
        return not taken and any(file.exists() for file in self._files)

    @property
    def _left_behind(self) -> bool:
        """Whether an earlier process of this kernel left a session."""
        return self._files.own.exists()

    @property
    def _files(self) -> statefiles.StateFiles:
        return statefiles.of(self._connection_file, Path(jupyter_runtime_dir()))
