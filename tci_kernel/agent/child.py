"""Starts the child ipykernel inside the session, and answers its agent's one question.

The agent sends this source down a socket, `link`, with these options: `execution_count` of the
first cell, `folder` with the sockets, `variables`, a file of pickles or None, and `cells`, below
which a debugger sees the cells' sources. The child then says on `link`, as JSON lines, which
variables it could not take, and, whenever it is asked, what can still speak although no cell runs.

The embedded server takes `mend` from here for the sessions' own kernels.

Runs on Python 3.8 or newer with any ipykernel from 5 on; imports nothing of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import os
import pickle
import shutil
import signal
import sys
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: Packages whose own threads and tasks never speak by themselves.
QUIET = ("ipykernel", "IPython", "tornado", "zmq", "debugpy", "pydevd", "_pydevd_bundle")

#: Words in the command lines of processes that never print.
SILENT = (b"resource_tracker", b"multiprocessing.forkserver", b"debugpy")

#: Names of threads that wait for work of the main loop.
WAITING = ("asyncio_", "pydevd")


def main(link: socket.socket, options: dict[str, Any]) -> None:
    """Run a kernel as `python -m ipykernel_launcher` does, until it is shut down."""
    # A KeyboardInterrupt during the imports would end a kernel that has just been started.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link.set_inheritable(False)
    os.register_at_fork(after_in_child=link.close)
    _hide_launcher()
    from ipykernel.kernelapp import IPKernelApp

    app: Any = IPKernelApp.instance()
    _drop_nothing(app)
    app.initialize()
    _count_from(app.shell, options["execution_count"])
    mend(app.kernel)
    _debug_cells_in(options["cells"], app.kernel)
    lost = load_variables(options["variables"], app.shell.user_ns)
    link.sendall(_line({"lost": lost}))
    own = frozenset(threading.enumerate())
    threading.Thread(
        target=_answer,
        args=(link, options["folder"], lambda: speakers(own, app.io_loop.asyncio_loop)),
        daemon=True,
    ).start()
    app.start()


def _hide_launcher() -> None:
    """Leave sys.argv as the stock launcher does."""
    spec = find_spec("ipykernel_launcher")
    if spec is not None and spec.origin:
        sys.argv[0] = spec.origin


def _drop_nothing(app: Any) -> None:
    """Let output wait for the agent; by default ZeroMQ drops what is over a thousand messages."""
    init_iopub = app.init_iopub

    def init_unbounded(context: Any) -> None:
        context.sndhwm = 0
        init_iopub(context)

    app.init_iopub = init_unbounded


def _count_from(shell: Any, count: int) -> None:
    """Make `count` the number of the next cell, with `In` as long as it then is."""
    shell.execution_count = count
    history = shell.history_manager
    for inputs in (history.input_hist_parsed, history.input_hist_raw):
        inputs.extend([""] * (count - len(inputs)))


def _debug_cells_in(prefix: str, kernel: Any) -> None:
    """Let a debugger see the sources of cells below `prefix`, wherever they are written."""
    debug_request = getattr(kernel, "do_debug_request", None)
    if getattr(kernel, "debugger", None) is None or debug_request is None:
        return
    from ipykernel.compiler import get_tmp_directory

    written = get_tmp_directory() + os.sep

    async def do_debug_request(message: Any) -> Any:
        return _renamed(await debug_request(_renamed(message, prefix, written)), written, prefix)

    kernel.do_debug_request = do_debug_request


def _renamed(message: Any, old: str, new: str) -> Any:
    """Return a message in which all strings, keys aside, that begin with `old` begin with `new`."""
    if isinstance(message, dict):
        return {key: _renamed(value, old, new) for key, value in message.items()}
    if isinstance(message, (list, tuple)):
        return [_renamed(value, old, new) for value in message]
    if isinstance(message, str) and message.startswith(old):
        return new + message[len(old) :]
    return message


def mend(kernel: Any) -> None:
    """Keep a stock kernel from losing requests and replies."""
    _hear_every_request(kernel)
    _interrupt_cells_only(kernel)


def _hear_every_request(kernel: Any) -> None:
    """Notice a request that comes just as a reply goes out.

    ipykernel 7.0 to 7.3 sends past the stream that listens on the same socket, which then is not
    told of what has come, until more comes.
    """
    manager: Any = getattr(getattr(kernel, "shell_channel_thread", None), "manager", None)
    if hasattr(manager, "_shell_socket"):
        manager._shell_socket = kernel.shell_stream


def _interrupt_cells_only(kernel: Any) -> None:
    """Let an interrupt end a cell, and nothing that the kernel does around it.

    In a stock kernel a SIGINT just before or behind the user's code costs the cell its reply, and
    one right after that the kernel its life. Here one that comes before it waits for the code. What
    else can take long, as a completion does, is interrupted once, and only inside its handler.
    """
    if not inspect.iscoroutinefunction(kernel.do_execute):  # ipykernel 5
        return
    execute = kernel.do_execute
    early = threading.Event()

    def note(*_: object) -> None:
        early.set()

    def begin_request() -> None:
        early.clear()
        kind = kernel.get_parent("shell")["header"]["msg_type"]
        code = getattr(kernel.shell_handlers.get(kind), "__code__", None)
        once = functools.partial(_interrupt_once, code)
        handler: Any = note if kind == "execute_request" else once
        kernel.saved_sigint_handler = signal.signal(signal.SIGINT, handler)

    @functools.wraps(execute)
    async def do_execute(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():  # a subshell has no signals
            return await execute(*arguments, **options)
        count = kernel.execution_count
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            try:
                if early.is_set():
                    raise KeyboardInterrupt
                return await execute(*arguments, **options)
            finally:
                signal.signal(signal.SIGINT, before)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, before)
            return _interrupted(kernel, count)

    kernel.pre_handler_hook, kernel.do_execute = begin_request, do_execute


def _interrupt_once(code: Any, _: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, if that happens below a frame that runs this code."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    if frame is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt


def _interrupted(kernel: Any, count: int) -> dict[str, Any]:
    """Fail a cell that an interrupt has met outside of the user's code; return its reply."""
    error = {"ename": "KeyboardInterrupt", "evalue": "", "traceback": ["KeyboardInterrupt"]}
    kernel.send_response(kernel.iopub_socket, "error", error)
    reply = {"status": "error", "execution_count": count, "user_expressions": {}, "payload": []}
    return {**reply, **error}


def load_variables(path: str | None, namespace: dict[str, Any]) -> dict[str, str]:
    """Put the pickled variables of a file into a namespace; return why which one was lost."""
    if path is None:
        return {}
    with open(path, "rb") as file:
        together, alone = pickle.load(file)  # noqa: S301  the agent wrote it in its private folder
    os.unlink(path)
    try:
        namespace.update(pickle.loads(together))  # noqa: S301
    except Exception:
        return {name: reason for name in alone if (reason := _load(alone, name, namespace))}
    return {}


def _load(pickles: dict[str, bytes], name: str, namespace: dict[str, Any]) -> str:
    try:
        namespace[name] = pickle.loads(pickles[name])  # noqa: S301
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _answer(link: socket.socket, folder: str, speakers: Callable[[], dict[str, int]]) -> None:
    """Answer until the agent is gone; then leave nothing of this session's work running."""
    with contextlib.suppress(OSError):  # of an agent that was killed while it asked
        while link.recv(1):
            link.sendall(_line(_counted(speakers)))
    shutil.rmtree(folder, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _counted(speakers: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what can still speak: something, where the user's own classes let nobody count."""
    try:
        return speakers()
    except Exception:
        return {"threads": 1, "tasks": 0}


def speakers(own: frozenset[threading.Thread], loop: asyncio.AbstractEventLoop) -> dict[str, int]:
    """Count the threads, processes and tasks of the main loop that the user's code has started."""
    threads = [
        thread
        for thread in threading.enumerate()
        if thread not in own
        and thread is not threading.current_thread()
        and not _quiet(type(thread).__module__)
        and not thread.name.startswith(WAITING)
    ]
    processes = _processes()
    tasks = [task for task in asyncio.all_tasks(loop) if not _quiet(_module(task))]
    return {"threads": len(threads) + len(processes), "tasks": len(tasks)}


def _processes() -> list[str]:
    """Return the processes, where /proc tells, that were started here and can print."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found += file.read().split()
    return [pid for pid in found if _prints(pid)]


def _prints(pid: str) -> bool:
    """Tell whether a process writes to what this one prints to, and may do so by itself."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
        outputs = {os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)}
        theirs = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (1, 2)}
        return bool(outputs & theirs) and not any(name in command for name in SILENT)
    return False


def _module(task: asyncio.Task[Any]) -> str:
    """Return the module in whose code a task's coroutine was written, as far as it tells."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return str(frame.f_globals.get("__name__", "")) if frame else ""


def _quiet(module: str) -> bool:
    return module.partition(".")[0] in QUIET


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
