"""Signals, limits, and what is left when a session ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from conftest import wait_until
from sandboxed import (
    both,
    processes_naming,
    session,
    temporary_root,
)
from tci_kernel.server.environment import Interpreter, make_folder
from tci_kernel.server.sandbox import Limits, Sandbox

if TYPE_CHECKING:
    from sandboxed import Session

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sessions are plain processes there")
linux = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Give the Python that runs these tests."""
    return Interpreter.probe()


@both
def test_interrupt_reaches_the_cell(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """A signal to the process group raises KeyboardInterrupt in the cell, and the kernel lives."""
    with session(interpreter, sandbox) as running:
        request = running.client.execute("import time; print('on', flush=True); time.sleep(60)")
        while running.client.get_iopub_msg(timeout=20)["msg_type"] != "stream":
            pass
        running.manager.interrupt_kernel()
        reply = running.client.get_shell_msg(timeout=10)
        while reply["parent_header"]["msg_id"] != request:  # of a question whether it is up
            reply = running.client.get_shell_msg(timeout=10)
        assert reply["content"].get("ename") == "KeyboardInterrupt", reply
        # ipykernel aborts what arrives within a moment of an error.
        wait_until(lambda: running.run("1 + 1") == "2")


@both
@pytest.mark.parametrize(
    ("code", "status"),
    [("import os; os._exit(3)", 3), ("import os, signal; os.kill(os.getpid(), 9)", 128 + 9)],
)
def test_exit_status_is_the_kernels(
    code: str, status: int, sandbox: Sandbox, interpreter: Interpreter
) -> None:
    """The server learns how a kernel ended, through all that stands between them."""
    with session(interpreter, sandbox) as running:
        running.client.execute(code)
        assert running.exit_status() == status


def leave_something_behind(running: Session, marker: str) -> None:
    """Start processes that do their best to outlive the kernel."""
    running.run(
        "import subprocess\n"
        f"argv = ['sh', '-c', 'sleep 1000; : {marker}']\n"
        "a = subprocess.Popen(argv)\n"
        "b = subprocess.Popen(argv, start_new_session=True)\n"
        "c = subprocess.Popen(['sh', '-c', 'setsid \"$@\" & exit', 'sh', *argv]).wait()"
    )
    wait_until(lambda: len(processes_naming(marker)) >= 3)


@linux
@both
@pytest.mark.parametrize("ending", ["shutdown", "kill", "exit"])
def test_nothing_outlives_a_session(
    ending: str, sandbox: Sandbox, interpreter: Interpreter
) -> None:
    """However a kernel ends, the processes that its cells started end too."""
    marker = uuid.uuid4().hex
    with session(interpreter, sandbox) as running:
        leave_something_behind(running, marker)
        if ending == "exit":
            running.client.execute("import os; os._exit(0)")
            assert running.exit_status() == 0
        else:
            running.manager.shutdown_kernel(now=ending == "kill")
        wait_until(lambda: not processes_naming(marker))
        wait_until(lambda: not processes_naming(str(running.folder.root)))


@linux
def test_nothing_outlives_a_kernel_that_ends_with_its_front(interpreter: Interpreter) -> None:
    """A signal to the whole group ends all, in whichever order its processes go."""
    marker = uuid.uuid4().hex
    shell = ["/bin/sh", "-c", f"setsid sh -c 'echo; sleep 1000; : {marker}' & sleep 1000"]
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        command = Sandbox.choose("none").command(shell, folder, interpreter, Limits())
        for _ in range(20):
            with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as front:
                assert front.stdout is not None
                front.stdout.readline()
                os.killpg(front.pid, signal.SIGKILL)
    wait_until(lambda: not processes_naming(marker))


SERVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_session_ends import leave_something_behind
from sandboxed import Session, start
from tci_kernel.server.environment import Interpreter, make_folder
from tci_kernel.server.sandbox import Limits, Sandbox
interpreter = Interpreter.probe()
folder = make_folder(Path(sys.argv[2]), interpreter)
running = Session(folder, start(folder, interpreter, Sandbox.choose(sys.argv[3]), Limits()))
leave_something_behind(running, sys.argv[4])
print("ready", flush=True)
time.sleep(600)
"""


@linux
@both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_server(
    number: signal.Signals, sandbox: Sandbox, interpreter: Interpreter
) -> None:
    """A server that is killed takes its sessions and all their processes along."""
    marker = uuid.uuid4().hex
    with temporary_root() as root:
        argv = [sys.executable, "-c", SERVER, str(Path(__file__).parent), str(root), sandbox.kind]
        with subprocess.Popen([*argv, marker], stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout.readline() == "ready\n"
            finally:
                server.send_signal(number)
        wait_until(lambda: not processes_naming(marker))
        wait_until(lambda: not processes_naming(str(root)))


@linux
@pytest.mark.parametrize("victim", ["front", "watcher"])
def test_a_plain_session_ends_with_either_of_its_guards(
    victim: str, interpreter: Interpreter
) -> None:
    """No process of a session lives on without the ones that watch over it."""
    with session(interpreter, Sandbox.choose("none")) as running:
        front = psutil.Process(running.manager.provisioner.process.pid)
        (watcher,) = front.children()
        (kernel,) = watcher.children()
        (front if victim == "front" else watcher).kill()
        wait_until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)


@both
def test_memory_has_a_limit(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """Too much memory is a MemoryError in the cell; the session goes on, numpy included."""
    with session(interpreter, sandbox, Limits(memory=2 * 2**30)) as running:
        assert running.run("import numpy; x = bytearray(3 * 2**30)").startswith("MemoryError")
        assert running.run("print(numpy.ones((1000, 1000)).sum())") == "1000000.0"
        assert running.run("!python -c 'bytearray(3 * 2**30)'").endswith("MemoryError")


@both
def test_files_have_a_limit(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """A file that grows too large is an OSError in the cell."""
    with session(interpreter, sandbox, Limits(file_size=2**20)) as running:
        code = "with open('big', 'wb', buffering=0) as f:\n  while True: f.write(bytes(2**19))"
        assert running.run(code).startswith("OSError")
        assert (running.folder.work / "big").stat().st_size == 2**20


@both
def test_processor_time_has_a_limit(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """A kernel that used up its time ends by the signal that says so."""
    with session(interpreter, sandbox, Limits(cpu=4)) as running:
        running.client.execute("while True: pass")
        assert running.exit_status() == 128 + signal.SIGXCPU
