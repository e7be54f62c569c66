"""Starts the child ipykernel inside the session, and answers its agent's one question.

The agent sends this source down a socket, `link`, with these options: `execution_count` of the
first cell, `folder` with the sockets, `variables`, a file of pickles or None, and `cells`, below
which a debugger sees the cells' sources. The child then says on `link`, as JSON lines, which
variables it could not take, and, whenever it is asked, what can still speak although no cell runs.

Runs on Python 3.8 or newer with any ipykernel from 5 on. It imports nothing of this package: the
agent runs its neighbours `mend` and `speakers` before it, in the same namespace.
"""

from __future__ import annotations

import contextlib
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

    from .mend import mend  # noqa: TC004  it has run in this namespace
    from .speakers import speakers  # noqa: TC004
    from .streams import speak_in_pieces  # noqa: TC004


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
    speak_in_pieces(sys.stdout, sys.stderr)
    _count_from(app.shell, options["execution_count"])
    mend(app.kernel)
    # The agent does that (`Inbox`), cell by cell: the child would also abort what is to run.
    app.kernel._abort_queues = lambda *_: None
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


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"
