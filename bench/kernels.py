"""The kernels that are compared, each started as a front end starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.proxy import Distance

TOKEN = "a-token-for-the-benchmark"  # noqa: S105  of a server that ends with it
#: Seconds after which something that should happen has not happened.
DEADLINE = 120.0
#: A process tree that uses no CPU for so many seconds has nothing left to do.
QUIET = 0.6
#: Seconds of CPU that idle processes use in that time.
NOISE = 0.05

KINDS = ("stock", "plain", "live")


class Server:
    """A `tci-kernel serve` process with one session ready, as the embedded default has it."""

    def __init__(self, folder: Path, transport: str) -> None:
        self.log = folder / "server.log"
        warmth = ["--agent"] if transport == "live" else []
        command = [sys.executable, "-m", "tci_kernel", "serve", "--port=0", f"--token={TOKEN}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603  our own server
                [*command, "--warm=1", "--sandbox=none", "--idle=600", *warmth],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        self.port = wait_until(self._find_port)

    def requests(self) -> int:
        """Return how many requests all sessions have got."""
        answer = httpx.get(
            f"http://127.0.0.1:{self.port}/tci/sessions",
            headers={"Authorization": f"Bearer {TOKEN}"},
            trust_env=False,
        )
        return sum(session["execute_count"] for session in answer.json()["data"]["sessions"])

    def end(self) -> None:
        """End the server and its sessions."""
        self.process.terminate()
        self.process.wait(DEADLINE)

    def _find_port(self) -> int | None:
        text = self.log.read_text()
        if self.process.poll() is not None:
            raise RuntimeError(f"The server did not start:\n{text}")
        found = re.search(r"TCI_BASE_URL=http://.*:(\d+)", text)
        return int(found[1]) if found else None


class Kernel:
    """A started kernel and a client of it, which nobody has waited for yet."""

    def __init__(self, manager: KernelManager, distance: Distance, server: Server | None) -> None:
        self.manager = manager
        self.distance = distance
        self.server = server
        info: Any = manager.get_connection_info()
        if server is None:  # its own sockets are what is far away
            info |= {name: distance.to(info[name]) for name in info if name.endswith("_port")}
        self.client = BlockingKernelClient()
        self.client.load_connection_info(info)
        self.client.start_channels(hb=False)

    @property
    def memory(self) -> int:
        """The resident memory of the local kernel process, in bytes."""
        provisioner: Any = self.manager.provisioner
        return int(psutil.Process(provisioner.pid).memory_info().rss)

    def wait_for_ready(self) -> None:
        """Wait until the kernel is ready, as nbclient, papermill and most others do."""
        self.client.wait_for_ready(DEADLINE)

    def run(self, code: str) -> None:
        """Run a cell to its reply and idle; raises if it fails."""
        self.finish([self.client.execute(code)])

    def finish(self, requests: list[str]) -> None:
        """Wait for the replies of cells, and for idle of the last; raises if one failed."""
        for request in requests:
            reply = self.reply(request)
            if reply["status"] != "ok":
                raise RuntimeError(f"{request} failed: {reply}")
        self.hear(requests[-1], lambda message: message["content"].get("execution_state") == "idle")

    def reply(self, request: str) -> dict[str, Any]:
        """Return the content of the reply to a request."""
        while True:
            message = self.client.get_shell_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") == request:
                content: dict[str, Any] = message["content"]
                return content

    def hear(self, request: str, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a message of a request on IOPub."""
        while True:
            message = self.client.get_iopub_msg(timeout=DEADLINE)
            if message["parent_header"].get("msg_id") == request and wanted(message):
                return

    def interrupt(self) -> None:
        """Interrupt by message, as a front end that is far away does."""
        message = self.client.session.msg("interrupt_request", {})
        self.client.control_channel.send(message)

    def end(self) -> None:
        """Shut down as a front end does."""
        self.client.stop_channels()
        self.manager.shutdown_kernel()


class Kernels:
    """Starts kernels of one kind, at one distance from what runs their cells."""

    def __init__(self, kind: str, distance: Distance, folder: Path) -> None:
        self.kind = kind
        self.distance = distance
        self.folder = folder
        self.server = None if kind == "stock" else Server(folder, kind)
        self.environment = {**os.environ, "TCI_CONFIG": str(folder / "none")}
        if self.server is not None:
            self.environment["TCI_BASE_URL"] = f"http://127.0.0.1:{distance.to(self.server.port)}"
            self.environment["TCI_API_KEY"] = TOKEN
            self.environment["TCI_TRANSPORT"] = kind

    @contextmanager
    def start(self) -> Iterator[Kernel]:
        """Start a kernel, and shut it down at the end."""
        manager = KernelManager(kernel_name="python3" if self.kind == "stock" else "tci_python")
        manager.start_kernel(env=self.environment, cwd=str(self.folder), stderr=subprocess.DEVNULL)
        kernel = Kernel(manager, self.distance, self.server)
        try:
            yield kernel
        finally:
            kernel.end()

    def end(self) -> None:
        """End the server, if there is one."""
        if self.server is not None:
            self.server.end()


@contextmanager
def kernels(kind: str, distance: Distance) -> Iterator[Kernels]:
    """Make ready what kernels of a kind need, and take it away again."""
    with tempfile.TemporaryDirectory(prefix="tci", ignore_cleanup_errors=True) as folder:
        made = Kernels(kind, distance, Path(folder))
        try:
            yield made
        finally:
            made.end()


def settle() -> None:
    """Wait until what this process has started uses no CPU: then the next session is ready."""
    since, before = time.monotonic(), 0.0
    while time.monotonic() - since < QUIET:
        used = _cpu()
        if abs(used - before) > NOISE:
            since, before = time.monotonic(), used
        time.sleep(0.05)


def _cpu() -> float:
    """Return the seconds of CPU that the processes below this one have used."""
    used = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return used


def wait_until(condition: Callable[[], Any]) -> Any:
    """Return the first true value of a condition; raises TimeoutError if there is none in time."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE} seconds: {condition}")
        time.sleep(0.02)
    return value
