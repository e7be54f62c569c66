"""Keeps a stock kernel from losing requests and replies, and its life.

Runs in the child, and in the embedded server's own kernels. On Python 3.8 or newer with any
ipykernel from 5 on; imports nothing of this package.
"""

from __future__ import annotations

import functools
import inspect
import signal
import threading
from typing import Any


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
