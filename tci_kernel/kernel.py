"""The kernel: a front end's requests on one side, a session on the other.

Handlers *return* content; `_publish` is the only sender of outputs. Nothing may escape a `do_*`
method: the front end would wait for its reply for ever.
"""

from __future__ import annotations

import asyncio
import platform
import signal
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipykernel.kernelbase import Kernel
from jupyter_core.paths import jupyter_runtime_dir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tci_kernel.session import Session
    from tci_kernel.transport.failure import Failure
    from tci_kernel.transport.plain import PlainTransport, Result

Content = dict[str, Any]

_STILL_RUNNING = (
    "TCI: in plain transport remote code cannot be stopped: the cell may still run, its output is "
    "not shown, and the next cell waits behind it. `%tci new` leaves this session for a new one.\n"
)


class TCIKernel(Kernel):  # type: ignore[misc]  # ipykernel's base class is untyped
    """Runs each cell in one persistent TCI session."""

    implementation = "tci_kernel"
    implementation_version = version("tci-kernel")
    banner = f"TCI Python {implementation_version}: cells run in a TCI session; see %tci help."
    language_info = {  # noqa: RUF012  the base class declares it so
        "name": "python",
        "version": platform.python_version(),
        "mimetype": "text/x-python",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "pygments_lexer": "ipython3",
        "nbconvert_exporter": "python",
        "file_extension": ".py",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for message_type in ("comm_open", "comm_msg", "comm_close"):
            self.shell_handlers[message_type] = getattr(self, message_type)
        self.execution_count: int = 0
        self._cell: asyncio.Task[Content] | None = None
        self._connection_file = Path(self.parent.connection_file)

    @property
    def kernel_info(self) -> Content:
        """What the kernel is and can: answered at once, before anything of the session is known."""
        return {**super().kernel_info, "supported_features": []}

    # Made on first use: a kernel answers kernel_info before it imports a client.

    @cached_property
    def tci_session(self) -> Session:
        """The session, which the first cell makes; raises `NotConfigured`."""
        from tci_kernel.client import TCIClient  # noqa: PLC0415
        from tci_kernel.session import Session  # noqa: PLC0415
        from tci_kernel.state import StateFile  # noqa: PLC0415

        state_file = StateFile(self._connection_file, Path(jupyter_runtime_dir()))
        return Session(TCIClient(), state_file)

    @cached_property
    def transport(self) -> PlainTransport:
        """The way to the session; raises `NotConfigured`."""
        from tci_kernel.transport.plain import PlainTransport  # noqa: PLC0415

        return PlainTransport(self.tci_session)

    # -- cells --

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; requests that a person did not make do not advance the count."""
        content = parent["content"]
        silent = content.get("silent", False)
        if self.execution_count == 0:
            self._continue_count()
        count = self.execution_count
        await super().execute_request(stream, ident, parent)
        if silent or not content.get("store_history", True):
            self.execution_count = count

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        *,
        cell_meta: Any = None,
        cell_id: Any = None,
    ) -> Content:
        """Return the content of the execute_reply, having published the cell's outputs."""
        del allow_stdin, cell_meta, cell_id
        hidden = silent or not store_history
        self._cell = asyncio.create_task(self._run(code, hidden, silent, user_expressions or {}))
        try:
            return await self._cell
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  nothing may escape
            return self._failed(error, silent=silent)
        finally:
            self._cell = None

    async def _run(
        self, code: str, hidden: bool, silent: bool, user_expressions: dict[str, str]
    ) -> Content:
        """Run a cell, publish what it gives as it comes, and return the reply."""
        from tci_kernel import cell  # noqa: PLC0415

        where = (code, self.execution_count, self.tci_session, self.transport)
        results = (
            cell.run_hidden_cell(*where, silent=silent) if hidden else cell.run_persons_cell(*where)
        )
        failure, payload = await self._publish_results(results)
        if failure is not None:
            return self._reply(failure)
        expressions: Content = {}
        if user_expressions and self.tci_session.id is not None:
            expressions = await self.transport.expressions(user_expressions)
        return {**self._reply(None), "user_expressions": expressions, "payload": payload}

    def _failed(self, error: BaseException, *, silent: bool) -> Content:
        """Publish an exception of this side as the cell's failure and return the reply."""
        from tci_kernel.errors import TCIError  # noqa: PLC0415
        from tci_kernel.transport.failure import from_exception  # noqa: PLC0415

        interrupted = isinstance(error, asyncio.CancelledError)
        if not interrupted and not isinstance(error, TCIError):
            self.log.error("A fault of the kernel itself:", exc_info=error)
        failure = from_exception(error)
        if not silent:
            session = self._made_session()
            if interrupted and session is not None and session.busy:
                self._publish("stream", {"name": "stderr", "text": _STILL_RUNNING})
            self._publish("error", failure.content)
        return self._reply(failure)

    def _reply(self, failure: Failure | None) -> Content:
        """Return the content of an execute_reply."""
        reply = {"execution_count": self.execution_count, "user_expressions": {}, "payload": []}
        if failure is None:
            return {"status": "ok", **reply}
        return {"status": "error", **failure.content, **reply}

    # -- publishing --

    def _publish(self, message_type: str, content: Content) -> None:
        topic = self._topic(message_type)
        self.send_response(self.iopub_socket, message_type, content, ident=topic)

    async def _publish_results(
        self, results: AsyncIterator[Result]
    ) -> tuple[Failure | None, list[Content]]:
        """Publish the pieces of a cell as they come; return its failure and pages."""
        failure: Failure | None = None
        payload: list[Content] = []
        async for result in results:
            for message in result.messages:
                self._publish(message.type, message.content)
            failure = failure or result.failure
            payload += result.payload
        return failure, payload

    # -- interrupts --

    def interrupt(self) -> None:
        """End the waiting for the cell that runs, if one does; belongs to the main loop."""
        if self._cell is not None:
            self._cell.cancel()

    def pre_handler_hook(self) -> None:
        """Let SIGINT end the cell, not the event loop, while a request is handled."""

        def on_sigint(*_: object) -> None:
            self.io_loop.add_callback_from_signal(self.interrupt)

        self.saved_sigint_handler = signal.signal(signal.SIGINT, on_sigint)

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt by message; this runs in the control thread, the cell in the main one."""
        self.io_loop.add_callback(self.interrupt)
        self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    # -- questions --

    async def do_complete(self, code: str, cursor_pos: int) -> Content:
        """Complete from the session's namespace, and `%tci` lines from this side."""
        arguments = {"code": code, "cursor_pos": cursor_pos}
        return await self._ask("complete", arguments) or {
            "status": "ok",
            "matches": [],
            "cursor_start": cursor_pos,
            "cursor_end": cursor_pos,
            "metadata": {},
        }

    async def do_inspect(
        self, code: str, cursor_pos: int, detail_level: int = 0, omit_sections: Any = ()
    ) -> Content:
        """Explain a name of the session, or a `%tci` line."""
        arguments = {
            "code": code,
            "cursor_pos": cursor_pos,
            "detail_level": detail_level,
            "omit_sections": sorted(omit_sections),
        }
        nothing = {"status": "ok", "found": False, "data": {}, "metadata": {}}
        return await self._ask("inspect", arguments) or nothing

    async def do_history(self, **query: Any) -> Content:
        """Return the session's history."""
        return await self._ask("history", query) or {"status": "ok", "history": []}

    async def _ask(self, question: str, arguments: Content) -> Content | None:
        """Return an answer from this side's magics or from the session, None if there is none."""
        from tci_kernel import questions  # noqa: PLC0415

        try:
            return await questions.ask(question, arguments, self.tci_session, self.transport)
        except Exception as error:  # noqa: BLE001  nothing may escape
            self.log.debug("%s is not answered: %s", question, error)
            return None

    async def do_is_complete(self, code: str) -> Content:
        """Tell by IPython's own rules whether a cell can run as it is."""
        from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415

        status, indent = TransformerManager().check_complete(code)
        if status == "incomplete":
            return {"status": status, "indent": " " * (indent or 0)}
        return {"status": status}

    # -- what plain transport cannot carry is refused, so that nobody waits --

    async def comm_open(self, stream: Any, ident: Any, parent: Any) -> None:
        """Refuse a comm as the protocol has it: by closing it."""
        del stream, ident
        self._publish("comm_close", {"comm_id": parent["content"].get("comm_id"), "data": {}})

    async def comm_msg(self, stream: Any, ident: Any, parent: Any) -> None:
        """Ignore a message of a comm that was refused."""

    async def comm_close(self, stream: Any, ident: Any, parent: Any) -> None:
        """Ignore the end of a comm that was refused."""

    async def do_debug_request(self, msg: Content) -> Content:
        """Refuse in the debug adapter protocol's own form."""
        return {
            "type": "response",
            "request_seq": msg.get("seq", 0),
            "command": msg.get("command", ""),
            "success": False,
            "message": "The debugger is not available in plain transport.",
        }

    async def create_subshell_request(self, socket: Any, ident: Any, parent: Any) -> None:
        """Refuse a subshell: a session runs one request at a time."""
        content = {"status": "error", "ename": "NotImplementedError", "traceback": []}
        content["evalue"] = "subshells are not available in plain transport"
        self.session.send(socket, "create_subshell_reply", content, parent, ident)

    # -- the end --

    async def do_shutdown(self, restart: bool) -> Content:
        """End the session that this kernel made, or leave it to the restarted kernel.

        Runs in the control thread; the client belongs to the main loop.
        """
        leaving = asyncio.run_coroutine_threadsafe(
            self.leave(restart=restart, timeout=3.0), self.io_loop.asyncio_loop
        )
        await asyncio.wrap_future(leaving)
        return {"status": "ok", "restart": restart}

    async def leave(self, *, restart: bool, timeout: float) -> None:
        """Let go of the session within `timeout` seconds; belongs to the main loop."""
        self.interrupt()
        try:
            session = self._made_session(or_left=True)
            if session is not None and restart:
                session.remember(fresh=True)
            elif session is not None:
                await session.end(timeout)
        except Exception as error:  # noqa: BLE001  a kernel that is to end must end
            self.log.warning("The session could not be ended: %s", error)

    # -- what an earlier process of this kernel left --

    def _made_session(self, *, or_left: bool = False) -> Session | None:
        """Return the session if this kernel, or a predecessor whose state is there, has one."""
        if "tci_session" in self.__dict__ or (or_left and self._left_state()):
            return self.tci_session
        return None

    def _left_state(self) -> bool:
        return (Path(jupyter_runtime_dir()) / f"tci-{self._connection_file.stem}.json").exists()

    def _continue_count(self) -> None:
        """Go on with the execution count of a predecessor that died."""
        session = self._made_session(or_left=True)
        if session is not None and session.id is not None and not session.fresh:
            self.execution_count = session.execution_count
