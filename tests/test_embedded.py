"""The user's own server: found, started once, replaced when killed, gone when unused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from conftest import DEADLINE, has_ended, wait_until
from tci_kernel import detached, embedded
from tci_kernel.client import TCIClient
from tci_kernel.embedded import Place
from tci_kernel.errors import NotConfigured, Unreachable
from tci_kernel.settings import KEY_VARIABLES, Settings, load

if TYPE_CHECKING:
    from tci_kernel.api import Execution
    from tci_kernel.embedded import Address
    from tci_kernel.serverinfo import ServerInfo


def settings(**overrides: Any) -> Settings:
    """Return settings for a server without a sandbox and without spares, unless told otherwise."""
    return load(**{"backend": "local", "sandbox": "none", "warm": 0, **overrides})


def find(configured: Settings) -> Address:
    """Return the address of the server, started if need be."""
    return asyncio.run(embedded.address(configured))


def info(configured: Settings) -> ServerInfo:
    """Return what the running server tells about itself."""
    found = embedded.describe(configured)
    assert found is not None
    return found


def execute(address: Address, code: str) -> dict[str, Any]:
    """Run code in a new session of a server."""
    wire = httpx.HTTPTransport(uds=str(address.socket))
    with httpx.Client(transport=wire, base_url=address.url, timeout=60) as client:
        answer = client.post("/tci/execute", json={"code": code, "language": "python"})
    return answer.json()["data"]


def test_a_server_is_started_and_found_again(runtime_dir: Path) -> None:
    """The first call starts it, the second finds it; it tells what it is."""
    first = find(settings())
    assert first.token is None
    assert execute(first, "print('here')")["outputs"] == [{"type": "stdout", "data": "here\n"}]
    told = info(settings())
    assert find(settings()) == first
    assert info(settings()) == told
    assert told.sandbox == "none"
    assert told.isolation.endswith(".")
    assert psutil.Process(told.pid).is_running()


def test_nothing_runs_before_it_is_asked_for(runtime_dir: Path) -> None:
    """Without a server there is nothing to describe, and describing starts none."""
    assert embedded.describe(settings()) is None
    assert list(runtime_dir.iterdir()) == []


def test_only_the_owner_can_reach_the_server(runtime_dir: Path) -> None:
    """The folder has mode 0700, its socket, log and info file are the owner's alone."""
    find(settings())
    assert runtime_dir.stat().st_mode & 0o777 == 0o700
    for file in runtime_dir.iterdir():
        if file.suffix in {".sock", ".log", ".info"}:
            assert file.stat().st_mode & 0o077 == 0, file


def test_a_killed_server_is_replaced(runtime_dir: Path) -> None:
    """A socket that nobody answers any more is no server."""
    find(settings())
    old = info(settings()).pid
    psutil.Process(old).kill()
    wait_until(lambda: has_ended(old))
    assert execute(find(settings()), "print(1)")["outputs"]
    assert info(settings()).pid != old


def test_a_server_that_refuses_costs_no_other_request(runtime_dir: Path) -> None:
    """A cell under way gets its answer when another request fails, and the next finds a server."""
    path, release = runtime_dir / f"{Place.of(settings()).name}.sock", runtime_dir / "release"
    wait = f"while not os.path.exists({str(release)!r}): time.sleep(0.01)"
    code = f"import os, time\n{wait}\nprint('done')"

    async def call() -> Execution:
        async with TCIClient(settings(retries=0)) as client:
            session, sent = (await client.execute("1")).session_id, asyncio.Event()
            cell = asyncio.create_task(client.execute(code, session, on_sent=sent.set))
            await asyncio.wait_for(sent.wait(), DEADLINE)
            away = path.rename(path.with_suffix(".away"))
            with pytest.raises(Unreachable):
                await client.sessions()
            away.rename(path)
            assert [info.id for info in await client.sessions()] == [session]
            release.touch()
            return await asyncio.wait_for(cell, DEADLINE)

    assert asyncio.run(call()).outputs[0].text == "done\n"


def test_an_unused_server_goes(runtime_dir: Path) -> None:
    """`server_idle` seconds after the last session it ends and takes its files along."""
    configured = settings(server_idle=0.5)
    find(configured)
    pid = info(configured).pid
    wait_until(lambda: embedded.describe(configured) is None)
    wait_until(lambda: has_ended(pid))
    assert not list(runtime_dir.glob("*.sock"))


@pytest.mark.parametrize(
    "different", [{"warm": 1}, {"sandbox": "auto"}, {"python": sys.executable}]
)
def test_other_settings_are_another_server(runtime_dir: Path, different: dict[str, Any]) -> None:
    """Settings that sessions depend on are not shared."""
    assert find(settings()).socket != find(settings(**different)).socket


def test_the_server_has_no_key(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of the user's environment reaches the server's."""
    for variable in KEY_VARIABLES:
        monkeypatch.setenv(variable, "a-key-of-the-user")
    find(settings())
    environment = psutil.Process(info(settings()).pid).environ()
    assert "a-key-of-the-user" not in environment.values()


def test_modules_of_the_notebook_do_not_shadow_the_server(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random.py or tci_kernel.py beside a notebook is not imported by the server."""
    for name in ("random.py", "tci_kernel.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert find(settings()).socket


def test_a_server_that_cannot_start_says_why(runtime_dir: Path) -> None:
    """The error holds the end of the server's log."""
    with pytest.raises(NotConfigured, match=r"did not start(?s:.*)/nowhere/python"):
        find(settings(python="/nowhere/python"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is started otherwise")
def test_a_system_that_has_no_room_says_so(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed fork is told in the system's own words, without the program that tried it."""
    refuse = "import os\ndef refuse(): raise OSError(11, 'No room')\nos.fork = refuse\n"
    monkeypatch.setattr(detached, "_START", f"{refuse}{detached._START}")
    with pytest.raises(
        NotConfigured, match=r"^The .* did not start: \[Errno 11\] No room; nothing"
    ):
        find(settings())


@pytest.mark.parametrize("program", ["/nowhere/python", "/dev/null", "nu\0ll"])
def test_a_python_that_does_not_run_says_so(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """An environment that was removed under a running kernel is told by its name."""
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(NotConfigured, match=r"did not start: .*; nothing has run"):
        find(settings())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is started otherwise")
def test_a_process_with_many_files_knows_whether_its_program_runs() -> None:
    """The number of a file says nothing about whether it can be waited for."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 2_000), limits[1]))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        program = detached.Detached([sys.executable, "-c", "import time; time.sleep(60)"])
        assert program.poll() is None
        program.terminate()
        wait_until(lambda: program.poll() == 0)
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_folder_that_is_a_link_is_refused(runtime_dir: Path, tmp_path: Path) -> None:
    """Somebody else could have put the link there, to see the user's cells."""
    link = tmp_path / "link"
    link.symlink_to(runtime_dir)
    with pytest.raises(NotConfigured, match="link or belongs to another user"):
        embedded.runtime_dir(settings(runtime_dir=link))


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="chown takes root")
def test_a_folder_of_another_user_is_refused(runtime_dir: Path) -> None:
    """A folder that another user made first is not used."""
    os.chown(runtime_dir, 12345, 12345)
    with pytest.raises(NotConfigured, match="link or belongs to another user"):
        embedded.runtime_dir(settings())


def test_a_path_too_long_for_a_socket_is_told(runtime_dir: Path) -> None:
    """The system's limit is named before anything is started."""
    long = settings(runtime_dir=runtime_dir / ("x" * 120))
    for ask in (find, embedded.describe):
        with pytest.raises(NotConfigured, match="too long for a socket"):
            ask(long)


def test_the_folder_is_the_systems_for_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_RUNTIME_DIR is used where it is this user's, else the temporary directory."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.delenv("TCI_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        assert embedded.runtime_dir(settings()) == Path(folder) / "tci-kernel"
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("XDG_RUNTIME_DIR", f"{folder}/not-there")
        assert embedded.runtime_dir(settings()).parent == Path(folder)


def test_twenty_kernels_at_once_share_one_server(runtime_dir: Path) -> None:
    """Processes that ask at the same moment all get the same, single server."""
    code = (
        "import asyncio; from tci_kernel import embedded, settings; "
        "configured = settings.load(backend='local', sandbox='none', warm=0); "
        "asyncio.run(embedded.address(configured)); "
        "print(embedded.describe(configured).pid)"
    )
    asking = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(20)
    ]
    assert len({process.communicate(timeout=120)[0] for process in asking}) == 1
    assert all(process.returncode == 0 for process in asking)
    servers = [p for p in psutil.process_iter() if str(runtime_dir) in " ".join(arguments(p))]
    assert len(servers) == 1


def arguments(process: psutil.Process) -> list[str]:
    """Return the command of a process, if it is still there."""
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def imported_by(module: str) -> set[str]:
    """Return all modules that a fresh Python has after it has imported one."""
    code = f"import sys, {module}; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(listed.stdout.split())


def test_the_kernels_side_imports_no_server() -> None:
    """A kernel does not wait for the imports of the server that it starts."""
    unneeded = {"tornado", "zmq", "jupyter_client", "tci_kernel.server"}
    assert not unneeded & imported_by("tci_kernel.embedded")


def test_a_kernel_that_starts_imports_nothing_of_its_cells() -> None:
    """What speaks to a service, and what a front end does not ask at once, comes later."""
    unneeded = {"httpx", "pydantic", "stamina", "typer", "debugpy", "tci_kernel.connection"}
    unneeded |= {"tci_kernel.relay", "tci_kernel.settings", "tci_kernel.magics"}
    assert not unneeded & imported_by("tci_kernel.kernelapp")
