"""What can still speak in the child although no cell runs.

Runs in the child, on Python 3.8 or newer; imports nothing of this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import Any

#: Packages whose own threads, tasks and timers never speak by themselves.
QUIET = ("ipykernel", "IPython", "tornado", "zmq", "debugpy", "pydevd", "_pydevd_bundle")

#: Words in the command lines of processes that never print.
SILENT = (b"resource_tracker", b"multiprocessing.forkserver", b"debugpy")

#: Names of threads that wait for work of the main loop.
WAITING = ("asyncio_", "pydevd")


def speakers(own: frozenset[threading.Thread], loop: asyncio.AbstractEventLoop) -> dict[str, int]:
    """Count what the user's code has started and not ended.

    Threads, processes among them; and what waits in the main thread, tasks and timers.
    """
    threads = [
        thread
        for thread in threading.enumerate()
        if thread not in own
        and thread is not threading.current_thread()
        and not _quiet(type(thread).__module__)
        and not thread.name.startswith(WAITING)
    ]
    processes = [pid for pid in _family() if _prints(pid)]
    tasks = [task for task in asyncio.all_tasks(loop) if not _quiet(_module(task))]
    timers = [handle for handle in list(getattr(loop, "_scheduled", ())) if _speaks(handle)]
    alarm = signal.getitimer(signal.ITIMER_REAL)[0] > 0
    return {"threads": len(threads) + len(processes), "tasks": len(tasks) + len(timers) + alarm}


def _family() -> set[str]:
    """Return the processes, where /proc tells, that were started here, or by such a one."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as file:
                found.update(file.read().split())
    with contextlib.suppress(OSError):
        found.update(pid for pid in os.listdir("/proc") if pid.isdigit() and _is_of_session(pid))
    return found - {str(os.getpid())}


def _is_of_session(pid: str) -> bool:
    """Tell whether a process is of this one's session of processes, which it has begun."""
    with contextlib.suppress(OSError):
        return os.getsid(int(pid)) == os.getsid(0)
    return False


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


def _speaks(handle: asyncio.TimerHandle) -> bool:
    """Tell whether a timer calls code of the user's, itself or by a library's means.

    asyncio's own timers wake tasks, which are counted.
    """
    called = [handle._callback, *(handle._args or ())]  # type: ignore[attr-defined]
    functions = [getattr(item, "func", item) for item in called if callable(item)]
    modules = [str(getattr(function, "__module__", "")) for function in functions]
    return not handle.cancelled() and not all(
        _quiet(module) or module.startswith("asyncio.") for module in modules
    )


def _quiet(module: str) -> bool:
    return module.partition(".")[0] in QUIET
