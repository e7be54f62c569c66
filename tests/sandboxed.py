"""A real kernel in a sandbox, started the way the server starts one."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

from tci_kernel.server.environment import make_folder, variables
from tci_kernel.server.sandbox import Limits, Sandbox, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tci_kernel.server.environment import Folder, Interpreter

DEADLINE = 60.0

try:
    BUBBLEWRAP = Sandbox.choose("bubblewrap")
    OBSTACLE = ""
except SandboxUnavailable as error:
    BUBBLEWRAP = Sandbox.choose("none")  # never used: the tests that want it are skipped
    OBSTACLE = str(error)

needs_bubblewrap = pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE)
both = pytest.mark.parametrize(
    "sandbox",
    [
        pytest.param(BUBBLEWRAP, id="bubblewrap", marks=needs_bubblewrap),
        pytest.param(Sandbox.choose("none"), id="none"),
    ],
)


class Session:
    """A running kernel and its folder."""

    def __init__(self, folder: Folder, manager: KernelManager) -> None:
        self.folder = folder
        self.manager = manager
        self.client = manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE)

    def run(self, code: str) -> str:
        """Run a cell; return its text output and, if it fails, the error's name and value."""
        return "".join(_text(message) for message in self.messages(code)).strip()

    def messages(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; return the messages of its outputs."""
        found: list[dict[str, Any]] = []
        self.client.execute_interactive(code, timeout=DEADLINE, output_hook=found.append)
        return found

    def exit_status(self) -> int:
        """Wait for the end of what the server started; return its status."""
        status: int = self.manager.provisioner.process.wait(DEADLINE)
        return status


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    kind = message["msg_type"]
    if kind == "stream":
        return str(content["text"])
    if kind == "error":
        return f"{content['ename']}: {content['evalue']}"
    return str(content.get("data", {}).get("text/plain", ""))


def start(
    folder: Folder, interpreter: Interpreter, sandbox: Sandbox, limits: Limits
) -> KernelManager:
    """Start a kernel with its sockets in the session's folder."""
    manager = KernelManager(
        transport="ipc",
        ip=str(folder.run / "k"),
        connection_file=str(folder.run / "kernel.json"),
    )
    kernel = [str(folder.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(
        argv=sandbox.command(kernel, folder, interpreter, limits),
        display_name="session",
        language="python",
    )
    manager.start_kernel(
        env=variables(folder, interpreter), cwd=str(folder.work), stdout=subprocess.DEVNULL
    )
    return manager


@contextlib.contextmanager
def session(
    interpreter: Interpreter, sandbox: Sandbox, limits: Limits | None = None
) -> Iterator[Session]:
    """Start a session, and leave neither process nor folder of it behind."""
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        manager = start(folder, interpreter, sandbox, limits or Limits())
        try:
            running = Session(folder, manager)
            yield running
            running.client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)


@contextlib.contextmanager
def temporary_root() -> Iterator[Path]:
    """Give a path for a session's folder: short, because socket paths end at 108 bytes."""
    parent = Path(tempfile.mkdtemp(prefix="tci"))
    try:
        yield parent / "s"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def processes_naming(word: str) -> list[psutil.Process]:
    """Return the processes with a word in their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(word in argument for argument in process.cmdline()):
                found.append(process)
    return found
