"""Where a front end's message is handled: by the child, while there is a relay, or on this side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tci_kernel.refusals import Refusals

if TYPE_CHECKING:
    from tci_kernel.lazy import LazyConnection
    from tci_kernel.transport.message import Channel


class Dispatch(Refusals):
    """Hands what concerns the user's Python on, unchanged; the rest goes to its handler here."""

    connection: LazyConnection

    async def shell_channel_thread_main(self, msg: Any) -> None:
        """Bring messages to the main thread, whatever their subshell: that is the child's."""
        if self.connection.relay is None:
            await super().shell_channel_thread_main(msg)
        else:
            socket = self.shell_channel_thread.manager.get_shell_channel_to_subshell_socket(None)
            socket.send_multipart(msg, copy=False)

    async def shell_main(self, subshell_id: str | None, msg: Any) -> None:
        """Hand on at once what a cell that is begun on this side does not hold up."""
        relay = self.connection.relay
        if relay is not None and len(msg) > 1 and relay.routes.passes_by(msg):
            relay.pass_on("shell", msg)
        else:
            await super().shell_main(subshell_id, msg)

    async def dispatch_shell(
        self, msg: Any, /, subshell_id: str | None = None, **since_7_4: bool
    ) -> None:
        """Hand a request on, or handle it here when it is not for the child."""
        relay = self.connection.relay
        if relay is not None and len(msg) > 1:
            if relay.routes.takes(msg, aborting=self._aborting, working=relay.working):
                relay.pass_on("shell", msg)
                return
            if relay.routes.is_cell(msg) and not await relay.quiet():
                self.abort_queued_cells()  # a cell before this one failed meanwhile
            msg = relay.for_main_shell(msg)
        await super().dispatch_shell(msg, subshell_id, **since_7_4)
        if (relay := self.connection.relay) is not None:
            relay.synchronise(self.execution_count)

    async def dispatch_control(self, msg: Any) -> None:
        """Hand a request on; this runs in the control thread, the relay in the main one."""
        relay = self.connection.relay
        if relay is not None and relay.routes.takes_control(msg, silent=relay.silent):
            self.io_loop.add_callback(self._pass_on, "control", msg)
        else:
            await super().dispatch_control(msg)

    def _pass_on(self, channel: Channel, msg: Any) -> None:
        if (relay := self.connection.relay) is not None:
            relay.pass_on(channel, msg)
        elif channel == "control":  # the relay has ended since
            self.control_thread.io_loop.add_callback(self.dispatch_control, msg)
