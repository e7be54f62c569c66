"""Fixtures that several test files share: real embedded servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from notebooks import Notebook, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

TOKEN = "a-token-for-tests"
#: Seconds after which something that should happen has not happened.
DEADLINE = 60.0
#: Ends the session's own process; the mark keeps the agent from running it in the child.
END_SESSION = "# tci-agent\nimport os; os._exit(3)"


def wait_until(condition: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Return the first true value of a condition; fail the test if there is none in time."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline} seconds: {condition}"
        time.sleep(0.02)
    return value


def run_program(*command: str | Path, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder to its end, which must come, with these variables besides ours."""
    return subprocess.run(
        command,
        env={**os.environ, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


class Server:
    """A `tci-kernel serve` process on a free port, and a client for it."""

    def __init__(self, **options: Any) -> None:
        self.token = TOKEN
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        # A test run that is killed cannot end its servers: they end themselves.
        options = {"port": 0, "token": TOKEN, "sandbox": "none", "idle": 7200, **options}
        arguments = [_argument(name, value) for name, value in options.items()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tci_kernel", "serve", *filter(None, arguments)],
                stdout=log,
                stderr=log,
                cwd=tempfile.gettempdir(),
            )
        self.url = wait_until(self._find_url)
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=DEADLINE,
            trust_env=False,
        )

    def post(self, code: str = "", session_id: str | None = None, **more: Any) -> httpx.Response:
        """Return the answer to an execute request, whatever its status."""
        body = {"code": code, "language": "python", "session_id": session_id, **more}
        return self.client.post("/tci/execute", json=body)

    def run(self, code: str = "", session_id: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the `data` of an execute request that succeeds."""
        answer = self.post(code, session_id, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def stdout(self, code: str, session_id: str | None = None, **more: Any) -> str:
        """Return what code writes to stdout; it must write nothing else."""
        outputs = self.run(code, session_id, **more)["outputs"]
        assert [output["type"] for output in outputs] in (["stdout"], []), outputs
        return outputs[0]["data"] if outputs else ""

    def new_session(self) -> str:
        """Return the id of a session that is ready."""
        return self.run("pass")["session_id"]

    def sessions(self) -> dict[str, dict[str, Any]]:
        """Return the live sessions by id."""
        listed = self.client.get("/tci/sessions").json()["data"]["sessions"]
        return {session["id"]: session for session in listed}

    def end_sessions(self, but: Collection[str] = ()) -> None:
        """End all sessions but some, as a client can: by ending their processes."""
        sessions = self.sessions().keys() - but
        with ThreadPoolExecutor(max(1, len(sessions))) as pool:
            list(pool.map(self.post, repeat(END_SESSION), sessions))

    def children(self) -> list[psutil.Process]:
        """Return all processes that the server has started, and theirs."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End the server by a signal; fail if a process of it stays. Returns its exit code."""
        if self.process.poll() is None:
            children = self.children()
            self.process.send_signal(number)
            self.process.wait(DEADLINE)
            _, alive = psutil.wait_procs(children, timeout=10)
            assert not alive
        self.client.close()
        self.log.unlink(missing_ok=True)
        return self.process.returncode

    def _find_url(self) -> str | None:
        text = self.log.read_text()
        assert self.process.poll() is None, text
        found = re.search(r"TCI_BASE_URL=(\S+)", text)
        return found and found[1]


def _argument(name: str, value: Any) -> str | None:
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return option if value else None
    return f"{option}={value}"


@pytest.fixture(scope="session", autouse=True)
def ipython_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what kernels here run out of the user's own history."""
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))


@pytest.fixture(scope="session")
def long_server() -> Iterator[Server]:
    """Run one server for many tests; its sessions are plain processes, one is kept ready."""
    running = Server(warm=1)
    yield running
    assert running.end() == 0


@pytest.fixture(scope="module")
def shared_server(long_server: Server) -> Iterator[Server]:
    """Lend that server to the tests of a module, whose sessions end with it."""
    yield long_server
    long_server.end_sessions()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """Lend the shared server to a test, whose sessions end with it."""
    others = shared_server.sessions()
    yield shared_server
    shared_server.end_sessions(but=others)


@pytest.fixture
def make_server() -> Iterator[Callable[..., Server]]:
    """Start servers with options of the command line; all are ended after the test."""
    made: list[Server] = []

    def make(**options: Any) -> Server:
        made.append(Server(**options))
        return made[-1]

    yield make
    for running in made:
        running.end()


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a test its own embedded server, which is gone when the test is over.

    The path is short, because that of a socket must be; child processes find it too.
    """
    with tempfile.TemporaryDirectory(prefix="tci", ignore_cleanup_errors=True) as folder:
        for variable in ("TCI_BASE_URL", "TCI_API_KEY", "TOGETHER_API_KEY", "BYTECOMPUTE_API_KEY"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("TCI_RUNTIME_DIR", folder)
        monkeypatch.setenv("TCI_SERVER_IDLE", "30")
        yield Path(folder)
        end_servers(Path(folder))


def end_servers(folder: Path) -> None:
    """End the embedded servers whose sockets lie in a folder."""
    from tci_kernel.serverinfo import ServerInfo

    for file in folder.glob("*.info"):
        pid = ServerInfo.model_validate_json(file.read_bytes()).pid
        if not has_ended(pid):
            os.kill(pid, signal.SIGTERM)
            wait_until(partial(has_ended, pid))


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone; that nobody has taken note of its end yet is no matter."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(params=["plain", "live"])
def transport(request: pytest.FixtureRequest) -> str:
    """Run a test over each transport; `plain_only` and `live_only` choose one."""
    return str(request.param)


plain_only = pytest.mark.parametrize("transport", ["plain"])
live_only = pytest.mark.parametrize("transport", ["live"])


def environment(server: Server, folder: Path, transport: str) -> dict[str, str]:
    """Return the environment that points a kernel to a server, whatever the user has set."""
    return {
        "TCI_BASE_URL": server.url,
        "TCI_API_KEY": server.token,
        "TCI_TRANSPORT": transport,
        "TCI_CONFIG": str(folder / "no-config.toml"),
    }


@pytest.fixture
def service_env(server: Server, tmp_path: Path, transport: str) -> dict[str, str]:
    """Return the environment that points a kernel to the shared server."""
    return environment(server, tmp_path, transport)


@pytest.fixture(scope="module")
def live_notebook(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """Open a notebook over live transport for a module's tests."""
    folder = tmp_path_factory.mktemp("live")
    with opened(folder, environment(shared_server, folder, "live")) as notebook:
        yield notebook


@pytest.fixture
def live(live_notebook: Notebook) -> Notebook:
    """Lend a test the module's notebook; what a test that failed left running is ended."""
    try:
        live_notebook.run("None", deadline=10)
    except Empty:
        live_notebook.restart(now=True)
        live_notebook.run("%tci new")
    return live_notebook


@pytest.fixture
def open_notebook(
    tmp_path: Path,
    service_env: dict[str, str],
    make_server: Callable[..., Server],  # ends after the notebooks: they would miss it
) -> Iterator[Callable[..., Notebook]]:
    """Open notebooks, by default on the shared server; all are shut down after the test."""
    del make_server
    notebooks: list[Notebook] = []

    def open_one(folder: Path = tmp_path, **env: str) -> Notebook:
        notebooks.append(Notebook(folder, {**service_env, **env}))
        return notebooks[-1]

    yield open_one
    for notebook in notebooks:
        notebook.close()


@pytest.fixture
def notebook(open_notebook: Callable[..., Notebook]) -> Notebook:
    """Return a notebook on the shared server."""
    return open_notebook()
