"""VS Code without a Jupyter server: how it starts, asks, interrupts and ends a kernel by itself."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from jupyter_client.kernelspec import get_kernel_spec
from jupyter_core.paths import jupyter_runtime_dir

from conftest import END_SESSION, Server, environment, wait_until
from fault_proxy import faulting
from notebooks import DEADLINE, Notebook
from scripted_service import serving, success

#: What VS Code runs before a person's first cell, the start-up commands of a user among it.
START_UP = (Path(__file__).parent / "node" / "code" / "start_up.ipy").read_text().split("# ---\n")
#: VS Code waits so long for the end of a process that it has sent SIGTERM.
PATIENCE = 2.0


class RawLaunch(Notebook):
    """A kernel that the test starts by itself, from the kernelspec's own words, as VS Code does."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        Path(jupyter_runtime_dir()).mkdir(parents=True, exist_ok=True)
        name = f"kernel-v3-{os.getpid()}-{time.monotonic_ns()}.json"
        file, _ = write_connection_file(str(Path(jupyter_runtime_dir()) / name))
        _, *arguments = get_kernel_spec("tci_python").argv
        argv = [sys.executable, *(a.replace("{connection_file}", file) for a in arguments)]
        inherited = {key: value for key, value in os.environ.items() if key != "JPY_PARENT_PID"}
        self.process = subprocess.Popen(argv, cwd=folder, env={**inherited, **env})
        self.client = BlockingKernelClient(connection_file=file)
        self.client.load_connection_file()
        # A client takes a kernel for dead that is not there within seconds.
        wait_until(lambda: listens(self.client.hb_port))
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE)  # asks kernel_info until it is answered
        self.file = Path(file)

    def start_up(self) -> list[str]:
        """Ask all that VS Code asks of a new kernel; return the statuses of the replies."""
        self.command("kernel_info_request", {})
        self.ask("kernel_info")
        cells = [self.run(code, store_history=False, stop_on_error=False) for code in START_UP]
        completed = self.ask("complete", code="__file__.", cursor_pos=9)
        return [*(cell.status for cell in cells), completed["status"]]

    def run_cell(self, code: str) -> Any:
        """Run a person's cell as VS Code does."""
        return self.run(code, stop_on_error=False)

    def terminate(self) -> None:
        """Do what VS Code does on restart and close: no shutdown_request, only a signal."""
        self.client.stop_channels()
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End the kernel if it still runs."""
        self.client.stop_channels()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE)
        self.file.unlink(missing_ok=True)


def listens(port: int) -> bool:
    """Tell whether a process has opened a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def sleeps(task: Path) -> bool:
    """Tell whether a thread runs no instruction for a while."""
    before = (task / "status").read_text()
    time.sleep(0.3)
    return (task / "status").read_text() == before


@pytest.fixture
def launch(tmp_path: Path, shared_server: Server) -> Iterator[Callable[..., RawLaunch]]:
    """Launch kernels in one folder, by default on the shared server; end all after the test."""
    before = shared_server.sessions()
    with contextlib.ExitStack() as stack:

        def launch_one(**env: str) -> RawLaunch:
            env = {**environment(shared_server, tmp_path, "live"), **env}
            return stack.enter_context(contextlib.closing(RawLaunch(tmp_path, env)))

        yield launch_one
    shared_server.end_sessions(but=before)


def test_start_up_asks_nothing_of_the_service(launch: Callable[..., RawLaunch]) -> None:
    """All that VS Code asks before the first cell is answered here; the first cell is [1]."""
    with serving(success()) as service:
        kernel = launch(TCI_BASE_URL=service.url, TCI_TRANSPORT="plain")
        assert kernel.start_up() == ["ok"] * (len(START_UP) + 1)
        assert service.requests == []
        assert kernel.run_cell("1").count == 1


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        (START_UP[0], r"a-marker:\d+\.\d+\.\d+\n"),  # else VS Code never shows a widget
        ("import builtins\nimport ipykernel\nbuiltins.print(ipykernel.__version__)", r"\d[\d.]+\n"),
        ("import pandas\nprint(pandas.__version__)", ""),
        ("print('ipykernel.__version__')", ""),
    ],
)
def test_versions_are_known_without_a_session(
    launch: Callable[..., RawLaunch], code: str, printed: str
) -> None:
    """The versions on which VS Code's widgets and debugger depend are told before any cell."""
    with serving(success()) as service:
        kernel = launch(TCI_BASE_URL=service.url)
        cell = kernel.run(code, store_history=False)
        assert re.fullmatch(printed, cell.stdout)
        assert service.requests == []


def test_an_interrupt_is_answered_to_its_idle(launch: Callable[..., RawLaunch]) -> None:
    """VS Code waits for reply and idle of the interrupt_request, and for the cell's end."""
    kernel = launch()
    kernel.start_up()
    for _ in ("in the first cell", "in a later one"):
        cell = kernel.send("print('on', flush=True)\nimport time; time.sleep(60)")
        kernel.wait_for(cell, "stream")
        interrupt = kernel.tell("interrupt_request", {}, channel="control")
        assert kernel.client.get_control_msg(timeout=5)["content"] == {"status": "ok"}
        waiting = {cell, interrupt}
        while waiting:
            message = kernel.client.get_iopub_msg(timeout=10)
            if message["content"].get("execution_state") == "idle":
                waiting.discard(message["parent_header"]["msg_id"])
        assert kernel.reply(cell)["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.run_cell("'well'").result == "'well'"


def test_a_restart_takes_over_while_the_old_kernel_ends(
    launch: Callable[..., RawLaunch], shared_server: Server
) -> None:
    """SIGTERM in the middle of a cell and a new kernel at once: the same session, emptied."""
    old = launch()
    old.start_up()
    old.run_cell("x = 1; open('kept', 'w').write('kept')")
    sessions = set(shared_server.sessions())
    old.wait_for(old.send("print('on', flush=True)\nwhile True: pass"), "stream")
    old.terminate()
    new = launch()
    began = time.monotonic()
    assert old.process.wait(DEADLINE) == 0
    assert time.monotonic() - began < PATIENCE
    assert new.start_up() == ["ok"] * (len(START_UP) + 1)
    cell = new.run_cell("open('kept').read(), 'x' in globals()")
    assert (cell.result, cell.count) == ("('kept', False)", 1)
    assert set(shared_server.sessions()) == sessions


def test_a_restarted_kernel_that_runs_nothing_keeps_its_session(
    launch: Callable[..., RawLaunch], shared_server: Server
) -> None:
    """A new kernel has the session from its start on, also after a second restart at once."""
    old = launch(TCI_HANDOVER_TIMEOUT="4")
    old.run_cell("x = 1; open('kept', 'w').write('kept')")
    sessions = shared_server.sessions()
    for _ in range(2):
        old.terminate()
        assert old.process.wait(DEADLINE) == 0
        old = launch(TCI_HANDOVER_TIMEOUT="4")
        old.start_up()
    [session] = set(sessions)
    before = sessions[session]["execute_count"]
    wait_until(lambda: shared_server.sessions()[session]["execute_count"] > before)
    time.sleep(5)  # it would have ended by now
    cell = old.run_cell("open('kept').read(), 'x' in globals()")
    assert (cell.result, cell.count) == ("('kept', False)", 1)
    assert set(shared_server.sessions()) == {session}


def test_a_restart_takes_over_before_the_old_kernel_is_heard(
    launch: Callable[..., RawLaunch], shared_server: Server
) -> None:
    """A network that is slow just then leaves the session to the new kernel all the same."""
    with faulting(shared_server.url) as proxy:
        old = launch(TCI_BASE_URL=proxy.url)
        old.run_cell("open('kept', 'w').write('kept')")
        with proxy.gone(silent=True):
            old.terminate()
            new = launch(TCI_BASE_URL=proxy.url)
            cell = new.send("open('kept').read()")
            new.wait_for(cell, "execute_input")
            old.process.wait(DEADLINE)
        assert new.finish(cell).result == "'kept'"
        new.close()


@pytest.mark.parametrize("transport", ["plain", "live"])
def test_what_was_set_up_before_is_there(launch: Callable[..., RawLaunch], transport: str) -> None:
    """The start-up code has run when the first cell of a session runs; questions have not."""
    kernel = launch(TCI_TRANSPORT=transport)
    kernel.ask("complete", code="__file__.", cursor_pos=9)
    kernel.start_up()
    kernel.run("question = 1", store_history=False, allow_stdin=False)
    for new in ("", "%tci new\n"):
        cell = kernel.run_cell(f"{new}import vscode_tests; 'question' in globals()")
        assert (cell.status, cell.result, cell.stdout) == ("ok", "False", ""), new
    assert kernel.run_cell("len(In)").result == str(cell.count + 2)


def test_what_was_set_up_is_there_after_a_crash(launch: Callable[..., RawLaunch]) -> None:
    """VS Code hears of no crash in the session, so its code runs again; its questions do not."""
    kernel = launch()
    kernel.start_up()
    kernel.run_cell("import os")
    kernel.run("question = 1", store_history=False)
    for _ in ("once", "twice"):
        assert kernel.run_cell("import os; os._exit(1)").error == "DeadKernelError"
        assert kernel.run_cell("import vscode_tests; 'question' in globals()").result == "False"


DIES = "import os, time; time.sleep(0.3); os._exit(7)"


def test_start_up_code_of_which_python_dies_does_so_twice(
    launch: Callable[..., RawLaunch],
) -> None:
    """Then a cell tells it, and the next one finds all that was set up beside it."""
    kernel = launch()
    # What Python says last is often lost, and then the code before it is suspected first.
    for code in ("before = 1", DIES, "behind = 2"):
        kernel.run(code, store_history=False)
    cells = [kernel.run_cell("'runs'") for _ in range(2)]
    assert [(cell.error, cell.result) for cell in cells] == [("DeadKernelError", None)] * 2
    assert "which does not run again" not in cells[0].stderr
    assert f"start-up code, which does not run again:\n{DIES}" in cells[1].stderr
    assert kernel.run_cell("before, behind").result == "(1, 2)"


def test_what_a_restarted_kernel_set_up_is_there_after_a_crash(
    launch: Callable[..., RawLaunch],
) -> None:
    """Start-up code that ran at once, because a session was there, is kept for a crash as well."""
    old = launch()
    old.run_cell("x = 1")
    old.terminate()
    new = launch()
    new.start_up()
    assert new.run_cell("import vscode_tests, os; os._exit(1)").error == "DeadKernelError"
    assert new.run_cell("import vscode_tests; 'x' in globals()").result == "False"


@pytest.mark.parametrize("transport", ["plain", "live"])
def test_start_up_code_runs_once_in_a_namespace(
    launch: Callable[..., RawLaunch], transport: str
) -> None:
    """What ran at once in a session that was there does not run again with the first cell."""
    kernel = launch(TCI_TRANSPORT=transport)
    count = "count = globals().get('count', 0) + 1"
    kernel.run(count, store_history=False)
    assert [kernel.run_cell("count").result for _ in range(2)] == ["1", "1"]
    kernel.run(count, store_history=False)
    assert kernel.run_cell("count").result == "2"


def test_a_signal_that_another_thread_takes_ends_the_kernel(
    launch: Callable[..., RawLaunch],
) -> None:
    """A main thread that sleeps is not woken by it, nor by one that comes as it falls asleep."""
    kernel = launch()
    kernel.client.stop_channels()
    tasks = Path(f"/proc/{kernel.process.pid}/task")
    main = tasks / str(kernel.process.pid)
    wait_until(lambda: sleeps(main))
    # ZeroMQ's own threads take no signals.
    others = {task for task in tasks.iterdir() if (task / "comm").read_text()[:3] != "ZMQ"} - {main}
    ctypes.CDLL(None).tgkill(kernel.process.pid, int(others.pop().name), signal.SIGTERM)
    assert kernel.process.wait(PATIENCE) == 0


def test_a_kernel_without_a_session_ends_at_once(launch: Callable[..., RawLaunch]) -> None:
    """A notebook that was only looked at leaves no process behind."""
    kernel = launch()
    kernel.start_up()
    kernel.terminate()
    assert kernel.process.wait(PATIENCE) == 0


def test_hidden_requests_touch_no_local_file(launch: Callable[..., RawLaunch]) -> None:
    """A `%tci` line in what VS Code sends by itself uploads nothing; local paths do no harm."""
    kernel = launch()
    (kernel.folder / "local.txt").write_text("local")
    for hidden in ("without a session", "in one"):
        path = f"__vsc_ipynb_file__ = {str(kernel.folder / 'local.txt')!r}"
        assert kernel.run(path, store_history=False).status == "ok", hidden
        kernel.run("%tci upload local.txt", store_history=False)
        cell = kernel.run_cell("import os; os.path.exists('local.txt')")
        assert cell.result == "False", hidden
    assert (kernel.folder / "local.txt").read_text() == "local"


def test_the_near_end_is_told_to_a_person(
    launch: Callable[..., RawLaunch], make_server: Callable[..., Server]
) -> None:
    """The warning waits for a person's cell: the variables view would take it for an error."""
    server = make_server(lifetime=10.05)
    kernel = launch(TCI_BASE_URL=server.url)
    assert "ends in about 10 min" not in kernel.run_cell("1").stderr
    [session] = server.sessions().values()
    end = datetime.fromisoformat(session["expires_at"].replace("Z", "+00:00"))
    wait_until(lambda: end - datetime.now(timezone.utc) < timedelta(minutes=10))
    assert kernel.run("1", store_history=False).stderr == ""
    assert "ends in about 10 min" in kernel.run_cell("1").stderr


@pytest.mark.parametrize("transport", ["plain", "live"])
def test_a_loss_that_a_hidden_request_meets_is_told_to_a_person(
    launch: Callable[..., RawLaunch], shared_server: Server, transport: str
) -> None:
    """The next cell says that the session is gone; it does not run in an empty namespace."""
    before = set(shared_server.sessions())
    kernel = launch(TCI_TRANSPORT=transport)
    kernel.run_cell("x = 1")
    [session_id] = set(shared_server.sessions()) - before
    shared_server.post(END_SESSION, session_id)
    kernel.run("x", store_history=False)
    lost = kernel.run_cell("y = 1")
    assert lost.error == "SessionExpired"
    assert kernel.run_cell("'x' in globals(), 'y' in globals()").result == "(False, False)"


def test_discovery_starts_nothing(runtime_dir: Path) -> None:
    """VS Code takes the command for an interpreter: it is refused at once, with code 2."""
    script = Path(sys.executable).with_name("tci-kernel")
    began = time.monotonic()
    done = subprocess.run([script, "-I", "a.py", "b.py"], capture_output=True, check=False)
    assert done.returncode == 2
    assert time.monotonic() - began < 5
    assert not list(runtime_dir.iterdir())


def test_install_makes_what_vscode_shows(tmp_path: Path) -> None:
    """A full path to the interpreter, the language, and the debugger."""
    command = [sys.executable, "-m", "tci_kernel", "install", "--prefix", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    [file] = tmp_path.rglob("kernel.json")
    spec = json.loads(file.read_text())
    assert Path(spec["argv"][0]).is_absolute()
    assert (spec["language"], spec["interrupt_mode"]) == ("python", "message")
    assert spec["metadata"]["debugger"]
    assert not file.parent.name.startswith("python")
