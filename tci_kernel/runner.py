"""What runs a cell on this side: outputs are published as they come, the reply is *returned*."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tci_kernel.kernel import TCIKernel
    from tci_kernel.transport.failure import Failure

Content = dict[str, Any]

_STILL_RUNNING = (
    "TCI: in plain transport remote code cannot be stopped: the cell may still run, its output is "
    "not shown, and the next cell waits behind it. `%tci new` leaves this session for a new one.\n"
)


class Runner:
    """Runs the cells that the relay does not hand on, one after the other.

    `request` is the header of the one under way.
    """

    def __init__(self, kernel: TCIKernel) -> None:
        self._kernel = kernel
        self._cell: asyncio.Task[Content] | None = None
        self.request: Content | None = None

    @property
    def busy(self) -> bool:
        """Whether a cell is under way on this side."""
        return self._cell is not None

    def cancel(self) -> None:
        """Leave the cell that is under way, if there is one."""
        if self._cell is not None:
            self._cell.cancel()

    async def ends(self) -> None:
        """Wait until the cell that is under way has ended."""
        if self._cell is not None:
            await asyncio.wait({self._cell})

    async def run(
        self, code: str, expressions: dict[str, str], *, hidden: bool, silent: bool
    ) -> Content:
        """Run a cell and return the content of its execute_reply, whatever happens."""
        self.request = self._kernel.get_parent("shell")["header"]
        self._cell = asyncio.create_task(self._run(code, expressions, hidden, silent))
        try:
            return await self._cell
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  nothing may escape
            return self._failed(error, silent=silent)
        finally:
            self._cell = self.request = None

    def reply(self, failure: Failure | None = None) -> Content:
        """Return the content of an execute_reply."""
        count = self._kernel.execution_count
        reply = {"execution_count": count, "user_expressions": {}, "payload": []}
        if failure is None:
            return {"status": "ok", **reply}
        return {"status": "error", **failure.content, **reply}

    async def _run(
        self, code: str, expressions: dict[str, str], hidden: bool, silent: bool
    ) -> Content:
        """Publish what a cell gives as it comes, and return the reply."""
        from tci_kernel import cell  # noqa: PLC0415

        connection, count = self._kernel.connection.get(), self._kernel.execution_count
        if hidden:
            results = cell.run_hidden_cell(code, count, connection, silent=silent)
        else:
            results = cell.run_persons_cell(code, count, expressions, connection)
        reply = self.reply()
        async for result in results:
            for message in result.messages:
                self._kernel.publish(message.type, message.content)
            reply["payload"] += result.payload
            reply["user_expressions"].update(result.expressions or {})
            if result.failure is not None:
                reply.update(status="error", **result.failure.content)
        return reply

    def _failed(self, error: BaseException, *, silent: bool) -> Content:
        """Publish an exception of this side as the cell's failure and return the reply."""
        from tci_kernel.errors import TCIError  # noqa: PLC0415
        from tci_kernel.transport.failure import from_exception  # noqa: PLC0415

        interrupted = isinstance(error, asyncio.CancelledError)
        if not interrupted and not isinstance(error, TCIError):
            self._kernel.log.error("A fault of the kernel itself:", exc_info=error)
        failure = from_exception(error)
        if not silent:
            if interrupted and self._runs_on():
                self._kernel.publish("stream", {"name": "stderr", "text": _STILL_RUNNING})
            self._kernel.publish("error", failure.content)
        return self.reply(failure)

    def _runs_on(self) -> bool:
        """Tell whether an interrupted cell still runs in the session: plain cannot stop it."""
        connection = self._kernel.connection.made
        return connection is not None and connection.plain and connection.session.busy
