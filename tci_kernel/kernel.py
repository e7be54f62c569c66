"""The kernel: a front end's requests on one side, a session on the other.

While there is a relay, what concerns the user's Python goes through it, unchanged. The rest is
answered here: handlers *return* content, and `publish` is the only sender of outputs. Nothing may
escape a `do_*` method: the front end would wait for its reply for ever.
"""

from __future__ import annotations

import asyncio
import os
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zmq.eventloop.zmqstream import ZMQStream

from tci_kernel import interrupts
from tci_kernel.ahead import import_ahead
from tci_kernel.dispatch import Dispatch
from tci_kernel.history import History, is_sessions
from tci_kernel.kernelinfo import KERNEL_INFO
from tci_kernel.lazy import LazyConnection
from tci_kernel.runner import Runner
from tci_kernel.senders import is_hidden, is_typed, stops_others
from tci_kernel.startup import StartUp

if TYPE_CHECKING:
    from collections.abc import Coroutine


Content = dict[str, Any]

#: jupyter_client kills a kernel 5 s after it asked it to shut down.
_SHUTDOWN_SECONDS = 3.0
#: VS Code kills soon after SIGTERM.
_TERMINATE_SECONDS = 1.5


class TCIKernel(Dispatch):
    """Runs each cell in one persistent TCI session."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.execution_count: int = 0
        self.connection = LazyConnection(self, Path(self.parent.connection_file))
        self.runner = Runner(self)
        self.start_up = StartUp()
        self._parent_process = os.getppid()
        self._signal_met_cell = False
        self._leaving: asyncio.Future[None] | None = None
        self.handles_cell = False

    def start(self) -> None:
        """Listen; find the child again that an earlier process of this kernel left."""
        super().start()
        self.stdin_stream = ZMQStream(self.stdin_socket, self.io_loop)
        self.stdin_stream.on_recv(partial(self._pass_on, "stdin"), copy=False)
        self.io_loop.add_callback(self.connection.resume)

    @property
    def kernel_info(self) -> Content:
        """What the kernel is; to ask the base class imports a debugger, a third of the start."""
        return KERNEL_INFO

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Answer, then use the time that the front end needs for itself."""
        await super().kernel_info_request(stream, ident, parent)
        import_ahead()

    @cached_property
    def history(self) -> History:
        """What the user has run, in the file where a local kernel would keep it."""
        return History(Path(self.parent.profile_dir.location), self.parent.config.HistoryManager)

    async def debug_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Open the session for a person who turns the debugger on; this is the control thread."""
        if self.connection.relay is None and parent["content"].get("command") == "initialize":
            from tci_kernel import debugger  # noqa: PLC0415

            self.io_loop.add_callback(debugger.begin, self, stream, ident, parent)
        else:
            await super().debug_request(stream, ident, parent)

    # -- cells --

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; requests that a person did not make do not advance the count."""
        content = parent["content"]
        hidden = is_hidden(content)
        if not hidden:
            self.start_up.end()
        if is_typed(content):
            self.history.add(content.get("code"))
        count = self.execution_count = self.execution_count or self.connection.last_count
        self.handles_cell = True
        try:
            await super().execute_request(stream, ident, parent)
        finally:
            self.handles_cell = False
        if hidden:
            self.start_up.note(content)  # not earlier: now it has run, or there is no session
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
        if hidden and not self.connection.has_session:
            return self._answer_without_session(code, silent=silent)
        reply = await self.runner.run(code, user_expressions or {}, hidden=hidden, silent=silent)
        if reply["status"] == "error" and stops_others(self.get_parent("shell")["content"]):
            self.abort_queued_cells()
        return reply

    def _answer_without_session(self, code: str, *, silent: bool) -> Content:
        """Answer what a front end runs by itself: only a person's cell makes a session."""
        from tci_kernel import versions  # noqa: PLC0415

        if not silent and (text := versions.printed(code)):
            self.publish("stream", {"name": "stdout", "text": text})
        return self.runner.reply()

    # -- what the cells of either side need --

    def publish(self, kind: str, content: Content, parent: Content | None = None) -> None:
        """Send an output or a state; its parent is the request that is handled if none is given."""
        parent = parent or self.get_parent("shell")
        self.session.send(self.iopub_socket, kind, content, parent, ident=self._topic(kind))

    @property
    def asker_of_cell(self) -> list[bytes]:
        """Return the identities of the front end whose cell runs."""
        identities: list[bytes] = self._get_shell_context_var(self._shell_parent_ident)
        return identities

    @property
    def shell_reply_socket(self) -> Any:
        """Return where the main thread sends what is to go out on shell."""
        return self.shell_channel_thread.manager.get_subshell_to_shell_channel_socket(None)

    # -- interrupts --

    def note_signal(self) -> None:
        """Note whether SIGINT meets a cell: when the loop comes to it, the next may have begun."""
        self._signal_met_cell |= interrupts.meets_cell(self)

    def interrupt(self) -> None:
        """Interrupt the cell that SIGINT has met; belongs to the main loop."""
        if self._signal_met_cell:
            self._signal_met_cell = False
            interrupts.interrupt(self)

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt by message; this runs in the control thread, the cell in the main one.

        Answered behind the cell that it ends, if that is soon: a console takes the idle of this
        request for the cell's, and then shows no traceback.
        """
        await self._in_main_loop(interrupts.interrupt_and_wait(self))
        self.session.send(stream, "interrupt_reply", {"status": "ok"}, parent, ident=ident)

    def pre_handler_hook(self) -> None:
        """Leave SIGINT to the application, which calls `interrupt`."""

    def post_handler_hook(self) -> None:
        """Leave SIGINT to the application, which calls `interrupt`."""

    # -- questions --

    async def do_complete(self, code: str, cursor_pos: int) -> Content:
        """Complete from the session's namespace, and `%tci` lines from this side."""
        arguments = {"code": code, "cursor_pos": cursor_pos}
        nothing: Content = await super().do_complete(code, cursor_pos)
        return await self._ask("complete", arguments) or nothing

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
        nothing: Content = await super().do_inspect(code, cursor_pos)
        return await self._ask("inspect", arguments) or nothing

    async def do_history(self, **query: Any) -> Content:
        """Return what the user ran: the session tells of this kernel, a file of all before."""
        if not is_sessions(query):
            return await self.history.answer(query)
        return await self._ask("history", query) or {"status": "ok", "history": []}

    async def _ask(self, question: str, arguments: Content) -> Content | None:
        """Return an answer from this side's magics or from the session, None if there is none."""
        from tci_kernel import questions  # noqa: PLC0415

        try:
            return await questions.ask(question, arguments, self.connection.get())
        except Exception as error:  # noqa: BLE001  nothing may escape
            self.log.debug("%s is not answered: %s", question, error)
            return None

    async def do_is_complete(self, code: str) -> Content:
        """Tell by IPython's own rules whether a cell can run as it is."""
        from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415

        try:
            status, indent = TransformerManager().check_complete(code)
        except Exception:  # noqa: BLE001  IPython raises many kinds for what is no Python
            return {"status": "unknown"}
        if status == "incomplete":
            return {"status": status, "indent": " " * (indent or 0)}
        return {"status": status}

    # -- the end --

    async def do_shutdown(self, restart: bool) -> Content:
        """End the session that this kernel made, or leave it to the restarted kernel.

        Runs in the control thread; the client belongs to the main loop.
        """
        await self._in_main_loop(self._leave("restart" if restart else "end", _SHUTDOWN_SECONDS))
        return {"status": "ok", "restart": restart}

    async def terminate(self) -> None:
        """End after SIGTERM, which may be a restart; belongs to the main loop.

        Where the parent is gone, nobody comes back.
        """
        orphaned = os.getppid() != self._parent_process
        try:
            await self._leave("end" if orphaned else "leave", _TERMINATE_SECONDS)
        finally:
            self.io_loop.stop()

    async def _leave(self, how: Literal["restart", "end", "leave"], timeout: float) -> None:
        """Leave the cell that runs here, and the session by a method of the connection.

        Who is told twice (jupyter_client sends SIGTERM when a shutdown takes its time) leaves once.
        """
        if self._leaving is None:
            if not self.connection.runs_in_joined_session:
                self.runner.cancel()
            self._leaving = asyncio.ensure_future(self.connection.let_go(how, timeout))
        await asyncio.shield(self._leaving)

    async def _in_main_loop(self, act: Coroutine[Any, Any, None]) -> None:
        """Wait for what belongs to the main loop: the cells, and the client."""
        loop = self.io_loop.asyncio_loop
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act, loop))
