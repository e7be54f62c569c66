"""Starts a session's kernel under its limits, and takes it along when the server ends.

Run as `python -I -S launch.py STARTER LIMITS WAY ARGV...`; standard library only, because it starts
with every session. STARTER is the process that runs it, which may have ended before this begins.
LIMITS is JSON: resource name → number. WAY is one of

* `exec`: become ARGV. For bubblewrap, which ends what it started by itself.
* `watch`: three processes, so that any of them may be killed and nothing stays behind:
      front        what the server started and signals; reports the kernel's exit status
      └ watcher    in a group of its own, so that a signal to the front's group spares it; adopts
        │          every process that loses its parent, and ends them all
        └ kernel   in the front's group, so that an interrupt of that group reaches it
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_POLL = 1.0
_SIGNALLED = 128  # a shell reports the end by a signal as this plus its number


def main() -> NoReturn:
    """Start the kernel; return its exit status, or 128 + n if signal n ended it."""
    starter, limits, way, *argv = sys.argv[1:]
    end_with(int(starter), signal.SIGKILL)
    # An interrupt is for the kernel alone, which handles it while a cell runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if way == "exec":
        become(argv, json.loads(limits))
    front = os.getpid()
    watcher = os.fork()
    if watcher == 0:
        watch(front, argv, json.loads(limits))
    os._exit(status_of(watcher))


def watch(front: int, argv: list[str], limits: dict[str, int]) -> NoReturn:
    """Start the kernel, wait for its end or the front's, and end all that it left behind."""
    os.setpgid(0, 0)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    kernel = os.fork()
    if kernel == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setpgid(0, front)
        become(argv, limits)

    def end_kernel(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # both may end at the same moment
            os.kill(kernel, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end_kernel)
    end_with(front, signal.SIGTERM)
    status = status_of(kernel)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # from here on there is only the cleaning up
    end_descendants(front)
    os._exit(status)


def become(argv: list[str], limits: dict[str, int]) -> NoReturn:
    """Replace this process by a program that runs under the limits."""
    for name, value in {"RLIMIT_CORE": 0, **limits}.items():
        set_limit(getattr(resource, name), value)
    # ipykernel ends itself where its parent is not the one that JPY_PARENT_PID names.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "JPY_"}
    os.execve(argv[0], argv, environment)  # noqa: S606  to start a program is the purpose


def set_limit(kind: int, value: int) -> None:
    """Lower a limit for good. CPU time ends a program by SIGXCPU, which only the soft one sends."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    grace = 1 if kind == resource.RLIMIT_CPU and value != hard else 0
    resource.setrlimit(kind, (value, value + grace))


def end_with(parent: int, number: signal.Signals) -> None:
    """Have this process receive a signal when its parent ends, also if it has ended already."""

    def check(*_: object) -> None:
        if os.getppid() != parent:
            os.kill(os.getpid(), number)

    if _LINUX:
        prctl(_PR_SET_PDEATHSIG, number)
    else:
        signal.signal(signal.SIGALRM, check)
        signal.setitimer(signal.ITIMER_REAL, _POLL, _POLL)
    check()


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process that only Linux has."""
    if _LINUX and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def status_of(process: int) -> int:
    """Wait for a child's end, burying adopted ones meanwhile; return its exit status."""
    ended = 0
    while ended != process:
        ended, status = os.waitpid(-1, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _SIGNALLED - code


def end_descendants(group: int) -> None:
    """Kill every process below this one; elsewhere than on Linux, those left in the group."""
    if not _LINUX:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        return
    # A killed process's children become this one's, so the next round finds them. The end is that
    # there is none, or one that another user owns (sudo), which is out of reach.
    with contextlib.suppress(ChildProcessError, PermissionError):
        while True:
            for child in children():
                os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def children() -> list[int]:
    """Return this process's children, zombies too."""
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path, encoding="ascii") as file:  # noqa: PTH123  pathlib would slow every start
        return [int(number) for number in file.read().split()]


if __name__ == "__main__":
    main()
