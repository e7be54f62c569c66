"""The kernel: a front end's requests on one side, a session on the other.

While there is a relay, what concerns the user's Python goes through it, unchanged. The rest is
answered here: handlers *return* content, and `_publish` is the only sender of outputs. Nothing may
escape a `do_*` method: the front end would wait for its reply for ever.
"""

from __future__ import annotations

import asyncio
import os
import platform
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import IPython
from ipykernel._version import kernel_protocol_version
from jupyter_core.paths import jupyter_runtime_dir
from zmq.eventloop.zmqstream import ZMQStream

from tci_kernel.ahead import import_ahead
from tci_kernel.history import History, is_sessions
from tci_kernel.refusals import Refusals
from tci_kernel.senders import is_hidden, is_typed
from tci_kernel.startup import StartUp

if TYPE_CHECKING:
    from tci_kernel.connection import Connection
    from tci_kernel.relay import Relay
    from tci_kernel.transport.failure import Failure
    from tci_kernel.transport.message import Channel

Content = dict[str, Any]

_STILL_RUNNING = (
    "TCI: in plain transport remote code cannot be stopped: the cell may still run, its output is "
    "not shown, and the next cell waits behind it. `%tci new` leaves this session for a new one.\n"
)

#: How long an interrupt waits for the end of the cell; all else on control waits behind it.
_INTERRUPT_SECONDS = 0.3
#: jupyter_client kills a kernel 5 s after it asked it to shut down.
_SHUTDOWN_SECONDS = 3.0
#: VS Code kills soon after SIGTERM.
_TERMINATE_SECONDS = 1.5


class TCIKernel(Refusals):
    """Runs each cell in one persistent TCI session."""

    # What runs a user's code is an IPython, and front ends ask for it by this name.
    implementation = "ipython"
    implementation_version = IPython.__version__
    banner = f"TCI Python {version('tci-kernel')}: cells run in a TCI session; see %tci help.\n"
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
        self.execution_count: int = 0
        self.start_up = StartUp()
        self._cell: asyncio.Task[Content] | None = None
        self._parent_process = os.getppid()
        self._connection_file = Path(self.parent.connection_file)

    def start(self) -> None:
        """Listen; find the child again that an earlier process of this kernel left."""
        super().start()
        self.stdin_stream = ZMQStream(self.stdin_socket, self.io_loop)
        self.stdin_stream.on_recv(partial(self._pass_on, "stdin"), copy=False)
        if self._left_state():
            self.io_loop.add_callback(self._resume)

    @property
    def kernel_info(self) -> Content:
        """What the kernel is and can: answered at once, before anything of the session is known.

        Not the base class's, which imports a debugger first: a third of a kernel's start.
        """
        return {
            "protocol_version": kernel_protocol_version,
            "implementation": self.implementation,
            "implementation_version": self.implementation_version,
            "language_info": self.language_info,
            "banner": self.banner,
            "help_links": self.help_links,
            "supported_features": [],
        }

    async def kernel_info_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Answer, then use the time that the front end needs for itself."""
        await super().kernel_info_request(stream, ident, parent)
        import_ahead()

    @cached_property
    def connection(self) -> Connection:
        """The session and the way to it, made on first use; raises `NotConfigured`."""
        from tci_kernel.connection import Connection  # noqa: PLC0415
        from tci_kernel.state import StateFile  # noqa: PLC0415

        return Connection(self, StateFile(self._connection_file, Path(jupyter_runtime_dir())))

    @cached_property
    def history(self) -> History:
        """What the user has run, in the file where a local kernel would keep it."""
        return History(Path(self.parent.profile_dir.location), self.parent.config.HistoryManager)

    @property
    def _made_connection(self) -> Connection | None:
        return self.__dict__.get("connection")

    @property
    def _relay(self) -> Relay | None:
        """The relay while messages are handed on."""
        relay = self._made_connection.relay if self._made_connection is not None else None
        return relay if relay is not None and relay.open else None

    @property
    def runs_cell(self) -> bool:
        """Whether a cell is begun on this side."""
        return self._cell is not None

    @property
    def asker_of_cell(self) -> list[bytes]:
        """Return the identities of the front end whose cell runs."""
        identities: list[bytes] = self._get_shell_context_var(self._shell_parent_ident)
        return identities

    @property
    def shell_reply_socket(self) -> Any:
        """Return where the main thread sends what is to go out on shell."""
        return self.shell_channel_thread.manager.get_subshell_to_shell_channel_socket(None)

    # -- messages: the relay's, or this side's --

    async def shell_channel_thread_main(self, msg: Any) -> None:
        """Bring messages to the main thread, whatever their subshell: that is the child's."""
        if self._relay is None:
            await super().shell_channel_thread_main(msg)
        else:
            socket = self.shell_channel_thread.manager.get_shell_channel_to_subshell_socket(None)
            socket.send_multipart(msg, copy=False)

    async def dispatch_shell(
        self, msg: Any, /, subshell_id: str | None = None, **since_7_4: bool
    ) -> None:
        """Hand a request on, or handle it here when it is not for the child."""
        relay = self._relay
        if relay is not None and len(msg) > 1:
            if relay.routes.takes(msg, aborting=self._aborting):
                relay.pass_on("shell", msg)
                return
            if relay.routes.is_cell(msg) and not await relay.quiet():
                self._abort_queues()  # a cell before this one failed meanwhile
        await super().dispatch_shell(msg, subshell_id, **since_7_4)
        if relay is not None:
            relay.synchronise(self.execution_count)

    async def dispatch_control(self, msg: Any) -> None:
        """Hand a request on; this runs in the control thread, the relay in the main one."""
        relay = self._relay
        if relay is not None and relay.routes.takes_control(msg):
            self.io_loop.add_callback(self._pass_on, "control", msg)
        else:
            await super().dispatch_control(msg)

    async def debug_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Open the session for a person who turns the debugger on; this is the control thread."""
        if self._relay is None and parent["content"].get("command") == "initialize":
            self.io_loop.add_callback(self._begin_debugging, stream, ident, parent)
        else:
            await super().debug_request(stream, ident, parent)

    async def _begin_debugging(self, stream: Any, ident: Any, parent: Any) -> None:
        try:
            await self.connection.open()
        except Exception as error:  # noqa: BLE001  nothing may escape
            self.log.warning("The debugger finds no session: %s", error)
        if self._relay is not None:
            self._relay.synchronise(self.execution_count)
            self._relay.ask("control", ident, parent)
        else:
            content = await self.do_debug_request(parent["content"])
            self.control_thread.io_loop.add_callback(
                self.session.send, stream, "debug_reply", content, parent, ident
            )

    def _pass_on(self, channel: Channel, msg: Any) -> None:
        if self._relay is not None:
            self._relay.pass_on(channel, msg)

    # -- cells --

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Run a cell; requests that a person did not make do not advance the count."""
        content = parent["content"]
        hidden = is_hidden(content)
        if is_typed(content):
            self.history.add(parent["header"]["msg_id"], content.get("code"))
        if self.execution_count == 0:
            self._continue_count()
        count = self.execution_count
        await super().execute_request(stream, ident, parent)
        if hidden:
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
        del cell_meta, cell_id
        hidden = silent or not store_history
        if hidden and not self._has_session():
            if allow_stdin:  # VS Code's questions from the background may not ask
                self.start_up.put_off(code)
            return self._reply(None)  # no session that could be asked, and only a cell makes one
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

        connection, count = self.connection, self.execution_count
        if hidden:
            results = cell.run_hidden_cell(code, count, connection, silent=silent)
        else:
            results = cell.run_persons_cell(code, count, user_expressions, connection)
        reply = self._reply(None)
        async for result in results:
            for message in result.messages:
                self._publish(message.type, message.content)
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
            self.log.error("A fault of the kernel itself:", exc_info=error)
        failure = from_exception(error)
        if not silent:
            if interrupted and self._runs_on():
                self._publish("stream", {"name": "stderr", "text": _STILL_RUNNING})
            self._publish("error", failure.content)
        return self._reply(failure)

    def _runs_on(self) -> bool:
        """Tell whether an interrupted cell still runs in the session: plain cannot stop it."""
        connection = self._made_connection
        return connection is not None and connection.plain and connection.session.busy

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

    # -- interrupts --

    def interrupt(self) -> None:
        """Interrupt the cell that runs, here or in the child; belongs to the main loop."""
        relay = self._relay
        if self._cell is not None and (relay is None or not relay.pending.begun):
            self._cell.cancel()
        elif relay is not None and relay.working:
            relay.interrupt()

    async def _interrupt_now(self) -> None:
        try:
            self.interrupt()
            await asyncio.wait_for(self._cell_ends(), _INTERRUPT_SECONDS)
        except asyncio.TimeoutError:
            pass  # it may take as long as it likes
        except Exception:
            self.log.exception("The interrupt failed.")

    async def _cell_ends(self) -> None:
        """Wait until the cell that runs has ended, here or in the child."""
        if self._cell is not None:
            await asyncio.wait({self._cell})
        elif self._relay is not None:
            await self._relay.pending.cell_ends()

    def pre_handler_hook(self) -> None:
        """Leave SIGINT to the application, which calls `interrupt`."""

    def post_handler_hook(self) -> None:
        """Leave SIGINT to the application, which calls `interrupt`."""

    async def interrupt_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Interrupt by message; this runs in the control thread, the cell in the main one.

        Answered behind the cell that it ends, if that is soon: a console takes the idle of this
        request for the cell's, and then shows no traceback.
        """
        loop = self.io_loop.asyncio_loop
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._interrupt_now(), loop))
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
        """Return what the user ran: the session tells of this kernel, a file of all before."""
        if not is_sessions(query):
            return await self.history.answer(query)
        return await self._ask("history", query) or {"status": "ok", "history": []}

    async def _ask(self, question: str, arguments: Content) -> Content | None:
        """Return an answer from this side's magics or from the session, None if there is none."""
        from tci_kernel import questions  # noqa: PLC0415

        try:
            return await questions.ask(question, arguments, self.connection)
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

    # -- the end --

    async def do_shutdown(self, restart: bool) -> Content:
        """End the session that this kernel made, or leave it to the restarted kernel.

        Runs in the control thread; the client belongs to the main loop.
        """
        end = self._leave("restart" if restart else "end", _SHUTDOWN_SECONDS)
        leaving = asyncio.run_coroutine_threadsafe(end, self.io_loop.asyncio_loop)
        await asyncio.wrap_future(leaving)
        return {"status": "ok", "restart": restart}

    async def terminate(self) -> None:
        """End after SIGTERM, which may be a restart; belongs to the main loop.

        Where the parent is gone, nobody comes back.
        """
        orphaned = os.getppid() != self._parent_process
        await self._leave("end" if orphaned else "leave", _TERMINATE_SECONDS)
        self.io_loop.stop()

    async def _leave(self, how: str, timeout: float) -> None:
        """Let go of the session by a method of the connection, within `timeout` seconds."""
        if self._cell is not None:
            self._cell.cancel()
        if self._made_connection is None and not self._left_state():
            return
        try:
            await getattr(self.connection, how)(timeout)
        except Exception as error:  # noqa: BLE001  a kernel that is to end must end
            self.log.warning("The session could not be ended: %s", error)

    def _has_session(self) -> bool:
        """Tell whether there is a session to ask, of this process or of an earlier one."""
        made = self._made_connection
        return (made is not None and made.session.id is not None) or self._left_state()

    # -- what an earlier process of this kernel left --

    def _left_state(self) -> bool:
        return (Path(jupyter_runtime_dir()) / f"tci-{self._connection_file.stem}.json").exists()

    async def _resume(self) -> None:
        try:
            await self.connection.resume()
        except Exception as error:  # noqa: BLE001  the first cell will say it
            self.log.warning("The session could not be found again: %s", error)

    def _continue_count(self) -> None:
        """Go on with the execution count of a predecessor that died."""
        if self._made_connection is None and not self._left_state():
            return
        session = self.connection.session
        if session.id is not None and not session.fresh:
            self.execution_count = session.execution_count
