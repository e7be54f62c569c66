"""How a server starts and ends: nothing of it stays, whichever way it goes."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from conftest import wait_until
from tci_kernel.server.storage import remove_abandoned, server_folder, storage

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

COMMAND = [sys.executable, "-m", "tci_kernel", "serve"]
SANDBOXES = pytest.mark.parametrize("sandbox", ["none", "auto"])


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, buried or not."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def session_folder(server: Server) -> Path:
    """Return the folder of a new session's cells."""
    return Path(server.stdout("import os; print(os.getcwd())").strip())


@SANDBOXES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(
    make_server: Callable[..., Server], number: int, sandbox: str
) -> None:
    """SIGTERM and SIGINT: exit code 0 within three seconds, no process and no folder left."""
    server = make_server(sandbox=sandbox, warm=1)
    folder = session_folder(server)
    server.run("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)")
    children = server.children()
    assert len(children) > 2
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(10) == 0
    assert time.monotonic() - began < 3
    assert all(map(gone, children))
    assert not folder.parent.parent.exists()


def test_a_signal_answers_running_requests(make_server: Callable[..., Server]) -> None:
    """A cell that runs when its server ends is answered, not cut off."""
    server = make_server()
    session = server.new_session()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, "import time; time.sleep(60)", session)
        wait_until(lambda: server.sessions()[session]["execute_count"] == 2)
        server.process.terminate()
        assert answer.result().status_code == 410
        assert "has ended with its server" in answer.result().text


@SANDBOXES
def test_a_killed_server_leaves_no_process(
    make_server: Callable[..., Server], sandbox: str
) -> None:
    """After SIGKILL of the server its sessions, and what they started, end by themselves."""
    server = make_server(sandbox=sandbox, warm=1)
    server.run("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)")
    children = server.children()
    server.process.kill()
    wait_until(lambda: all(map(gone, children)), 10)


def test_the_folder_of_a_killed_server_is_removed_by_the_next(
    make_server: Callable[..., Server],
) -> None:
    """A server that could not clean up is cleaned up after; one that runs is left alone."""
    living, killed = make_server(), make_server()
    kept, left = session_folder(living), session_folder(killed)
    killed.end(signal.SIGKILL)
    make_server()
    wait_until(lambda: not left.parent.parent.exists())
    assert kept.exists()


def test_a_folder_without_permissions_is_removed(tmp_path: Path) -> None:
    """A session that takes its own permissions away does not keep its folder."""
    with server_folder(tmp_path) as folder:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").touch()
        (folder / "a" / "b").chmod(0)
        (folder / "a").chmod(0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_abandoned(tmp_path: Path) -> None:
    """Cleaning up spares the folder whose lock is held."""
    with server_folder(tmp_path) as folder:
        remove_abandoned(tmp_path)
        assert folder.exists()


def test_the_folders_of_all_servers_are_private() -> None:
    """Only their owner can enter where sessions live."""
    assert storage().stat().st_mode & 0o777 == 0o700


def test_an_ended_session_leaves_no_folder(make_server: Callable[..., Server]) -> None:
    """The folder of a session goes with it."""
    server = make_server(lifetime=2 / 60)
    folder = session_folder(server)
    assert folder.exists()
    wait_until(lambda: not folder.parent.exists())


def test_a_session_that_cannot_start_is_a_503(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The answer holds what the process said, and the next request tries again."""
    server = make_server(memory=1)
    answer = server.post("1")
    assert answer.status_code == 503
    assert "did not start" in answer.text
    assert "Nothing has run." in answer.text
    assert server.post("1").status_code == 503
    assert server.sessions() == {}


def test_an_unused_server_ends(make_server: Callable[..., Server]) -> None:
    """With --idle a server ends so long after its last session, and not before."""
    server = make_server(idle=1, lifetime=3 / 60)
    server.run("1")
    began = time.monotonic()
    assert server.process.wait(30) == 0
    assert time.monotonic() - began > 3


def test_a_socket_needs_no_key_and_goes_with_the_server() -> None:
    """On a Unix socket the folder is the guard; the socket is for its owner alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        process = subprocess.Popen([*COMMAND, "--socket", str(path), "--sandbox", "none"])
        try:
            wait_until(path.exists)
            assert path.stat().st_mode & 0o077 == 0
            wire = httpx.HTTPTransport(uds=str(path))
            with httpx.Client(transport=wire, base_url="http://localhost") as client:
                assert client.get("/tci/sessions").json()["data"] == {"sessions": []}
        finally:
            process.terminate()
            assert process.wait(10) == 0
        assert not path.exists()


def refused(*arguments: str) -> str:
    """Return what a server that does not start says; it must exit with 2, and no traceback."""
    ended = subprocess.run(
        [*COMMAND, *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_taken_port_is_told(server: Server) -> None:
    """A server that cannot listen says so, and what to do."""
    port = server.url.rpartition(":")[2]
    assert "--port 0 takes any free port" in refused("--port", port)


def test_an_unknown_argument_is_refused_at_once() -> None:
    """A typing error costs no start of a server, and no import of one."""
    code = (
        "import sys; from tci_kernel.cli import app; "
        "app(['serve', '--prot', '1'], standalone_mode=False)"
    )
    probe = f"import sys\ntry:\n exec({code!r})\nexcept BaseException: pass\nprint(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "typer" in modules
    assert not {"tornado", "zmq", "jupyter_client", "tci_kernel.server"} & set(modules)
    assert "--prot" in refused("--prot", "1")


def test_an_unusable_interpreter_is_told() -> None:
    """--python with a path that is none ends at once, with the reason."""
    assert "/nowhere/python" in refused("--python", "/nowhere/python")


def test_another_interface_is_warned_about(make_server: Callable[..., Server]) -> None:
    """Listening for other machines says that nothing is encrypted; loopback does not."""
    assert "nothing is encrypted" in make_server(host="0.0.0.0").log.read_text()
    assert "nothing is encrypted" not in make_server().log.read_text()


def test_the_token_may_come_from_the_environment() -> None:
    """TCI_SERVE_TOKEN keeps the token out of the list of processes."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--sandbox", "none"],
        stdout=subprocess.PIPE,
        text=True,
        env={"TCI_SERVE_TOKEN": "from-the-environment"},
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(4)]
    process.terminate()
    assert process.wait(10) == 0
    assert "TCI_API_KEY=from-the-environment" in told[3]
