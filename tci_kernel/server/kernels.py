"""The ipykernel of one session: started in its own folder, asked to run cells, watched, ended."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.session import Session, json_unpacker
from pydantic_core import from_json

from tci_kernel.server.cells import Cell
from tci_kernel.server.storage import remove
from tci_kernel.transport.requests import mend_source

if TYPE_CHECKING:
    from collections.abc import Coroutine

    import zmq.asyncio
    from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase

    from tci_kernel.api import Output
    from tci_kernel.server.environment import Folder

#: Seconds a kernel may take to start; twenty of them may be starting on two cores.
START_TIMEOUT = 120.0
#: Seconds to wait for IOPub's half of an answer before asking again.
PROBE_INTERVAL = 0.3
#: Seconds behind its idle after which a cell has no reply, and what is said then.
REPLY_GRACE = 1.0
NO_REPLY = "KernelError: The kernel has not said how this cell ended; variables are kept."
#: Seconds between two looks at whether the process is there.
WATCH_INTERVAL = 0.1
#: Seconds that a process has between SIGTERM and SIGKILL.
END_GRACE = 1.0
#: How many bytes of what a kernel wrote before it failed are shown.
LOG_TAIL = 2_000

#: Run in each kernel before anything else, without a name in its namespace. A busy kernel's IOPub
#: socket otherwise drops what goes beyond a thousand waiting messages, the one that ends a cell
#: among them. The socket is the IOPub thread's own, which is sending just then that this cell has
#: begun. What a stock kernel loses besides is the same as in the child of live transport.
PREPARE = f"""
(lambda iopub: iopub.schedule(lambda: setattr(iopub.socket, 'sndhwm', 0)))(
    get_ipython().kernel.iopub_thread
)
(lambda scope: exec({mend_source()!r}, scope) or scope["mend"])({{}})(get_ipython().kernel)
"""

T = TypeVar("T")


class StartFailed(Exception):
    """A kernel did not start; the message holds the last lines that it wrote."""


class Died(Exception):
    """A kernel's process has ended by itself; the message says how."""


class SpecifiedManager(AsyncKernelManager):
    """A kernel manager whose kernelspec is made in code instead of found on disk."""

    def __init__(self, spec: KernelSpec, **traits: Any) -> None:
        super().__init__(**traits)
        self._kernel_spec = spec


class Kernel:
    """One ipykernel process and the channels to it; `watch` gives its exit code."""

    def __init__(self, folder: Folder, manager: AsyncKernelManager, log: IO[bytes]) -> None:
        self.folder = folder
        self._manager = manager
        self._provisioner = cast("KernelProvisionerBase", manager.provisioner)  # it has started
        self._log = log
        self._cell: Cell | None = None
        self._begun = asyncio.Event()
        self._client = manager.client()
        self._client.start_channels(stdin=False, hb=False, control=False)
        self._listener = asyncio.create_task(self._listen())
        self.watch = asyncio.create_task(self._wait_for_exit())

    @classmethod
    async def start(
        cls,
        folder: Folder,
        command: list[str],
        environment: dict[str, str],
        context: zmq.asyncio.Context,
    ) -> Kernel:
        """Start a process and return once it answers; raises `StartFailed`, or `OSError`.

        `command` may hold `{connection_file}`. A failed or cancelled start leaves nothing behind.
        """
        launch = asyncio.create_task(cls._launch(folder, command, environment, context))
        try:
            kernel = await asyncio.shield(launch)  # cancelled halfway, it would lose its process
            await asyncio.wait_for(kernel.ready(), START_TIMEOUT)
        except asyncio.CancelledError:
            await (await launch).end()
            raise
        except (Died, asyncio.TimeoutError) as error:
            reason = str(error) or f"it did not answer within {START_TIMEOUT:.0f} seconds"
            message = f"A session's kernel did not start: {reason}. It wrote:\n{kernel.log_tail()}"
            await kernel.end()
            raise StartFailed(message) from None
        return kernel

    @classmethod
    async def _launch(
        cls,
        folder: Folder,
        command: list[str],
        environment: dict[str, str],
        context: zmq.asyncio.Context,
    ) -> Kernel:
        log = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`; nameless, so never replaced
        manager = SpecifiedManager(
            KernelSpec(argv=command, language="python"),
            # No key: only this user can open the sockets, and unsigned is faster.
            session=Session(key=b"", unpacker=f"{__name__}.unpack"),
            context=context,
            transport="ipc",
            ip=str(folder.run / "k"),
            connection_file=str(folder.run / "kernel.json"),
        )
        # `independent` leaves JPY_PARENT_PID out: in a PID namespace of its own a kernel would take
        # its parent for dead. It is the sandbox that ends it with this server.
        await manager.start_kernel(
            env=environment, cwd=str(folder.work), stdout=log, stderr=log, independent=True
        )
        return cls(folder, manager, log)

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return not self.watch.done()

    @property
    def death(self) -> Died:
        """How the process ended, once it is not `alive`."""
        return Died(describe_exit(self.watch.result()))

    async def ready(self) -> None:
        """Wait until the kernel answers; raises `Died` if the process ends before that."""
        await self._unless_it_dies(self._answers())

    async def run(self, code: str, output_limit: int) -> list[Output]:
        """Run a cell and return its outputs; raises `Died` if the process ends meanwhile.

        Cells are run one after the other, so there is nothing queued that an error could abort.
        A cell's end is its idle. One that has no reply then has met a fault of IPython, or an
        interrupt at its very end: it has not succeeded.
        """
        while await self._client.shell_channel.msg_ready():  # the reply of the cell before
            await self._client.get_shell_msg()
        message_id = self._client.execute(code, allow_stdin=False, stop_on_error=False)
        cell = self._cell = Cell(message_id, output_limit)
        try:
            await self._unless_it_dies(cell.idle.wait())
            if not await self._unless_it_dies(self._has_replied(message_id)):
                cell.fail(NO_REPLY)
        finally:
            self._begun.clear()
        return cell.outputs()

    async def interrupt(self) -> None:
        """Interrupt the cell that runs, as Ctrl-C would, or the next one as soon as it does.

        Between cells a kernel ignores the signal.
        """
        await self._begun.wait()
        await self._provisioner.send_signal(signal.SIGINT)

    async def end(self) -> None:
        """End the process with all that it has started, and remove its folder."""
        self._listener.cancel()
        if self.alive:
            await self._provisioner.terminate()
            ended, _ = await asyncio.wait({self.watch}, timeout=END_GRACE)
            if not ended:
                await self._provisioner.kill()
            await self.watch
        self._client.stop_channels()
        await self._manager.cleanup_resources()
        self._log.close()
        await asyncio.to_thread(remove, self.folder.root)

    def log_tail(self) -> str:
        """Return the end of what the process wrote outside of any cell."""
        self._log.seek(max(0, self._log.seek(0, 2) - LOG_TAIL))
        return self._log.read().decode(errors="replace").strip()

    async def _answers(self) -> None:
        """Wait for one request to be answered on shell *and* IOPub, which connects later."""
        while True:
            probe = self._cell = Cell(self._client.execute(PREPARE, silent=True), limit=0)
            await self._reply(probe.message_id)
            try:
                await asyncio.wait_for(probe.idle.wait(), PROBE_INTERVAL)
            except asyncio.TimeoutError:
                continue
            return

    async def _has_replied(self, message_id: str) -> bool:
        """Wait for a reply behind its idle; the reply to a later question tells that none comes.

        A thread of the user's that keeps Python's lock can hold it up for long.
        """
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._reply(message_id), REPLY_GRACE)
            return True
        question = self._client.kernel_info()
        return await self._reply(message_id, question) == message_id

    async def _reply(self, *message_ids: str) -> str:
        """Wait for the reply to one of these requests, and return which."""
        while True:
            answered = (await self._client.get_shell_msg())["parent_header"].get("msg_id")
            if answered in message_ids:
                return str(answered)

    async def _listen(self) -> None:
        """Read IOPub without a pause: what is said outside of cells must not pile up."""
        while self._client.iopub_channel.is_alive():
            # The session's own code can say anything here, also what is no message at all.
            with suppress(Exception):
                message = await self._client.get_iopub_msg()
                if self._cell is not None:
                    self._cell.take(message)
                    if self._cell.begun:
                        self._begun.set()

    async def _unless_it_dies(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self.watch}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise self.death
        finally:
            task.cancel()

    async def _wait_for_exit(self) -> int:
        while (code := await self._provisioner.poll()) is None:  # noqa: ASYNC110  it has no event
            await asyncio.sleep(WATCH_INTERVAL)
        await self._provisioner.wait()
        return code


def unpack(data: bytes) -> Any:
    """Parse JSON several times as quickly as `jupyter_client`, and the same."""
    try:
        return from_json(data)
    except ValueError:  # half a surrogate pair, bytes that are no UTF-8
        return json_unpacker(data)


def describe_exit(code: int) -> str:
    """Say in words how a process ended; a shell's 128 + n counts as signal n."""
    number = -code if code < 0 else code - 128
    if number <= 0:
        return f"its process ended with exit code {code}"
    if number == signal.SIGKILL:
        return "its process was killed (signal 9), probably because it ran out of memory"
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"its process ended with exit code {code}"
    return f"its process was ended by signal {number} ({name})"
