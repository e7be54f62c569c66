"""Processes that are killed in the middle of a cell: what is kept, what is said, what goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import END_SESSION, Server, wait_until
from notebooks import Notebook, opened
from tci_kernel.serverinfo import ServerInfo


@pytest.fixture
def transport() -> str:
    """All here is about live transport."""
    return "live"


TICKS = "import time\nfor n in range({}): print(n, flush=True); time.sleep(0.1)"

#: Runs until somebody writes a file, and writes another one then.
COUNTED = (
    "import os, time\nprint('begin {0}', flush=True)\n"
    "while not os.path.exists('go{0}'): time.sleep(0.05)\n"
    "print('end {0}', flush=True); open('gone{0}', 'w').close()"
)

END_AGENT = (
    "# tci-agent\nimport sys; _pump = sys.modules['_tci_agent.entry'].front.pump; "
    "_pump.order(_pump.finish)"
)
HAS_AGENT = "# tci-agent\nprint('_tci_agent.entry' in __import__('sys').modules)"


def begin(notebook: Notebook, code: str = TICKS.format(600)) -> str:
    """Send a cell and wait for its first output."""
    request = notebook.send(code)
    notebook.wait_for(request, "stream")
    return request


def status(notebook: Notebook) -> str:
    """Return what the kernel says of its session, and of Python there if that is reached."""
    return notebook.run("%tci status").contents("display_data")[0]["data"]["text/plain"]


def test_a_killed_python_leaves_the_session(notebook: Notebook, server: Server) -> None:
    """SIGKILL of the user's Python fails the cell with the cause; files stay, the count goes on."""
    pid = int(notebook.run("import os; open('kept', 'w').write('kept'); os.getpid()").result or 0)
    sessions = set(server.sessions())
    request = begin(notebook)
    psutil.Process(pid).kill()
    cell = notebook.finish(request, deadline=10)
    assert (cell.error, cell.count) == ("DeadKernelError", 2)
    said = cell.contents("error")[0]["evalue"]
    assert "SIGKILL" in said
    assert "files and packages are kept" in said
    after = notebook.run("open('kept').read(), 'os' in globals()")
    assert (after.result, after.count) == ("('kept', False)", 3)
    assert set(server.sessions()) == sessions


def test_a_death_is_told_in_the_cell_that_caused_it(notebook: Notebook) -> None:
    """A cell that has its reply is not blamed, nor the one aborted that Python died of."""
    notebook.run("import os; x = 1")
    for _ in range(10):
        cells = [
            notebook.send(code, stop_on_error=False)
            for code in ("import os; 'done'", "os._exit(1)", "'behind'")
        ]
        done, died, behind = map(notebook.finish, cells)
        assert (done.status, done.error, done.result) == ("ok", None, "'done'")
        assert died.error == "DeadKernelError"
        assert behind.status in {"ok", "aborted"}


def test_a_question_of_a_killed_kernel_does_not_wait_for_ever(notebook: Notebook) -> None:
    """Nobody can answer any more what a kernel asked that was killed: its cell is interrupted."""
    notebook.run("x = 1")
    notebook.send("input('Name? ')")
    notebook.client.get_stdin_msg(timeout=10)
    notebook.restart(now=True)
    assert notebook.run("x").result == "1"


@pytest.mark.parametrize("ended", [False, True])
def test_a_cell_with_the_id_of_one_before_the_kill_gets_its_own_outputs(
    notebook: Notebook, ended: bool
) -> None:
    """A client that counts anew after a kill hears of its own cell, not of the former ones."""
    files = Path(notebook.run("import os; print(os.getcwd())").stdout.strip())
    former = begin(notebook, COUNTED.format(1))
    count = int(former.rpartition("_")[2])
    for life in (2, 3):
        notebook.restart(now=True)
        if ended:
            (files / f"go{life - 1}").touch()
            wait_until((files / f"gone{life - 1}").exists)
        notebook.client.session.message_count = count
        request = notebook.send(COUNTED.format(life))
        assert request == former
        if not ended:
            (files / f"go{life - 1}").touch()
        assert notebook.wait_for(request, "stream")["content"]["text"] == f"begin {life}\n"
    (files / "go3").touch()
    cell = notebook.finish(request)
    assert (cell.status, cell.stdout, cell.count) == ("ok", "end 3\n", 4)
    notebook.restart()
    notebook.client.session.message_count = count
    assert notebook.run("'next'").result == "'next'"


@pytest.mark.slow
def test_packages_outlive_a_crash_and_a_restart(notebook: Notebook) -> None:
    """What a cell has installed is there in each Python that follows in the session."""
    notebook.run("%pip install toolz", deadline=120)
    assert notebook.run("import os; os._exit(1)").error == "DeadKernelError"
    assert notebook.run("import toolz; toolz.__name__").result == "'toolz'"
    notebook.restart()
    assert notebook.run("import toolz; toolz.__name__").result == "'toolz'"


def test_a_cell_that_python_dies_of_at_once_counts(notebook: Notebook) -> None:
    """Also a cell of which the child has said nothing has a number of its own."""
    notebook.run("import os; get_ipython().kernel._publish_execute_input = lambda *_: os._exit(1)")
    cell = notebook.run("'dies'")
    assert (cell.error, cell.count) == ("DeadKernelError", 2)
    assert notebook.run("'lives'").count == 3


def test_a_killed_kernel_finds_the_cell_that_runs(notebook: Notebook) -> None:
    """After SIGKILL of the local kernel the next delivers what the cell says, each line once."""
    notebook.run("import os, time; x = os.getpid()")
    request = begin(notebook, f"print('begun'); time.sleep(1.5)\n{TICKS.format(50)}")
    notebook.silence(0.5)
    notebook.manager.restart_kernel(now=True)
    cell = notebook.finish(request)
    assert cell.stdout.split() == [str(n) for n in range(50)]
    assert (cell.status, cell.count) == ("ok", 2)
    after = notebook.run("x == os.getpid()")
    assert (after.result, after.count) == ("True", 3)


def test_a_cell_of_a_killed_kernel_can_be_interrupted(notebook: Notebook) -> None:
    """The successor of a kernel that was killed interrupts what its predecessor began."""
    notebook.run("x = 1")
    request = begin(notebook)
    notebook.manager.restart_kernel(now=True)
    notebook.wait_for(request, "stream")
    notebook.manager.interrupt_kernel()
    assert notebook.finish(request, deadline=10).error == "KeyboardInterrupt"
    assert notebook.run("x").result == "1"


@pytest.mark.slow
def test_a_killed_embedded_server_is_said_at_once(runtime_dir: Path, tmp_path: Path) -> None:
    """The cell fails because its session is gone; the next one runs in a new session."""
    env = {"TCI_BACKEND": "local", "TCI_TRANSPORT": "live", "TCI_CONFIG": str(tmp_path / "none")}
    with opened(tmp_path, env) as notebook:
        request = begin(notebook)
        [file] = runtime_dir.glob("*.info")
        os.kill(ServerInfo.model_validate_json(file.read_bytes()).pid, signal.SIGKILL)
        cell = notebook.finish(request, deadline=20)
        assert cell.error == "SessionExpired"
        assert "gone" in cell.contents("error")[0]["evalue"]
        after = notebook.run("'n' in globals()")
        assert (after.result, after.count) == ("False", 2)


@pytest.mark.slow
def test_a_killed_server_that_stays_away_keeps_nobody(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """The user is told, can leave the cell, and shutdown takes less than five seconds."""
    server = make_server()
    notebook = open_notebook(TCI_BASE_URL=server.url)
    request = begin(notebook)
    server.end(signal.SIGKILL)
    wait_until(lambda: "does not answer" in notebook.wait_for(request, "stream")["content"]["text"])
    notebook.manager.interrupt_kernel()
    notebook.manager.interrupt_kernel()
    assert notebook.finish(request, deadline=5).error == "ConnectionLost"
    waiting = notebook.send("1")
    notebook.wait_for(waiting, "status")
    process = notebook.manager.provisioner.process
    notebook.manager.request_shutdown()
    assert process.wait(5) == 0


def test_a_session_that_is_gone_is_said_at_once(notebook: Notebook, server: Server) -> None:
    """The end of the session in the middle of a cell is SessionExpired, and the next cell works."""
    request = begin(notebook)
    [session_id] = server.sessions()
    server.post(END_SESSION, session_id)
    assert notebook.finish(request, deadline=5).error == "SessionExpired"
    assert notebook.run("1 + 1").result == "2"


def test_each_cell_of_a_lost_session_has_its_number(notebook: Notebook, server: Server) -> None:
    """A cell that finds the session gone counts, as any that fails; a hidden one does not."""
    assert notebook.run("1").count == 1
    [session_id] = server.sessions()
    server.post(END_SESSION, session_id)
    lost = notebook.run("2")
    assert (lost.error, lost.count) == ("SessionExpired", 2)
    assert notebook.run("len(In)").count == 3
    [session_id] = server.sessions()
    server.post(END_SESSION, session_id)
    notebook.run("4", store_history=False)
    assert notebook.run("5").count == 4


def test_an_agent_that_is_gone_is_booted_again(notebook: Notebook, server: Server) -> None:
    """A session whose Python is new gets a new agent, of which not a message is missed."""
    for n in range(5):
        notebook.run(f"x = {n}; print(x)")
    [session_id] = server.sessions()
    server.run(END_AGENT, session_id)
    wait_until(lambda: server.stdout(HAS_AGENT, session_id) == "False\n")
    assert notebook.run("x").error == "AgentMissing"
    cell = notebook.run("print('again'); 'x' in globals()")
    assert (cell.stdout, cell.result, cell.status) == ("again\n", "False", "ok")
    assert set(server.sessions()) == {session_id}


def test_an_agent_that_is_gone_between_cells_is_told_in_the_next(
    notebook: Notebook, server: Server
) -> None:
    """A cell does not run without what it builds on before a person knows that this is lost."""
    thread = "import threading, time; threading.Thread(target=time.sleep, args=[60]).start()"
    notebook.run(f"open('kept', 'w').close(); {thread}")  # what can speak is looked at
    [session_id] = server.sessions()
    server.run(END_AGENT, session_id)
    wait_until(lambda: "Python" not in status(notebook))
    hidden = notebook.run("open('hidden', 'w').close()", silent=True)
    assert hidden.status == "ok"
    lost = notebook.run("open('ran', 'w').close()")
    assert lost.error == "AgentMissing"
    assert "This cell has not run" in lost.contents("error")[0]["evalue"]
    assert notebook.run("import os; sorted(os.listdir())").result == "['kept']"


def test_an_agent_that_goes_with_the_kernel_is_told(notebook: Notebook, server: Server) -> None:
    """A kernel that finds another Python than its predecessor had says so, and counts on."""
    notebook.run("x = 1")
    [session_id] = server.sessions()
    notebook.client.stop_channels()
    notebook.manager.provisioner.process.kill()
    server.run(END_AGENT, session_id)
    wait_until(lambda: server.stdout(HAS_AGENT, session_id) == "False\n")
    notebook.restart(now=True)
    wait_until(lambda: server.stdout(HAS_AGENT, session_id) == "True\n")
    assert [notebook.run("x").error for _ in range(2)] == ["AgentMissing", "NameError"]
    assert notebook.run("1").count == 4


def test_a_signal_during_a_restart_changes_nothing(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """Jupyter sends SIGTERM to who takes its time: the session waits for the same kernel still."""
    notebook = open_notebook(TCI_HANDOVER_TIMEOUT="0.05")
    notebook.run("x = 1; open('kept', 'w').write('kept')")
    sessions = set(server.sessions())
    process = notebook.manager.provisioner.process
    cell = notebook.send("%tci status\nimport time; print('begun'); time.sleep(60)")
    notebook.wait_for(cell, "stream")
    notebook.client.shutdown(restart=True)
    assert notebook.finish(cell).error == "KeyboardInterrupt"  # the restart has begun
    process.send_signal(signal.SIGTERM)
    assert process.wait(4) == 0
    notebook.restart(now=True)
    after = notebook.run("open('kept').read(), 'x' in globals()")
    assert (after.result, after.count) == ("('kept', False)", 1)
    assert set(server.sessions()) == sessions


def test_who_comes_second_to_a_session_takes_it_over(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """The notebook that came first is told so; what it had defined is there for the second."""
    session_id = server.run("1")["session_id"]
    first, second = (open_notebook(TCI_SESSION_ID=session_id) for _ in "ab")
    first.run("x = 1")
    assert second.run("x").result == "1"
    cell = first.run("x")
    assert cell.error == "Superseded"
    assert "variables and files are kept there" in cell.contents("error")[0]["evalue"]


def test_a_shutdown_ends_the_first_cell_in_a_joined_session(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """The session stays for its other clients, who do not wait for a cell that nobody hears."""
    session_id = server.run("1")["session_id"]
    notebook = open_notebook(TCI_SESSION_ID=session_id)
    notebook.wait_for(notebook.send("print('on', flush=True)\nwhile True: pass"), "stream")
    notebook.close()
    assert server.stdout("print('free')", session_id) == "free\n"


def test_sigterm_leaves_the_session_to_the_next_kernel(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """A kernel of the same parent in the same folder has the session: its files, not its names."""
    first = open_notebook()
    first.run("x = 1; open('kept', 'w').write('kept')")
    sessions = set(server.sessions())
    process = first.manager.provisioner.process
    process.send_signal(signal.SIGTERM)
    assert process.wait(4) == 0
    cell = open_notebook().run("open('kept').read(), 'x' in globals()")
    assert (cell.result, cell.count) == ("('kept', False)", 1)
    assert set(server.sessions()) == sessions


def test_sigterm_ends_a_session_that_nobody_takes_over(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """After the time that TCI_HANDOVER_TIMEOUT gives, child and session are gone."""
    server = make_server(warm=0)
    notebook = open_notebook(TCI_BASE_URL=server.url, TCI_HANDOVER_TIMEOUT="2")
    notebook.run("1")
    notebook.manager.provisioner.process.send_signal(signal.SIGTERM)
    notebook.manager.provisioner.process.wait(4)
    assert server.sessions()
    wait_until(lambda: not server.sessions() and not server.children(), deadline=15)


@pytest.mark.parametrize("interrupted", [False, True])
def test_shutdown_during_a_cell_leaves_no_process(
    interrupted: bool, open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """Within five seconds all is gone: kernel, session, child, and what the cell had started."""
    server = make_server(warm=0)
    notebook = open_notebook(TCI_BASE_URL=server.url)
    code = "import subprocess; print(1, flush=True); subprocess.run(['sleep', '300'])"
    begin(notebook, code)
    if interrupted:
        notebook.manager.interrupt_kernel()
    assert server.children()
    process = notebook.manager.provisioner.process
    notebook.manager.request_shutdown()
    assert process.wait(5) == 0
    wait_until(lambda: not server.sessions() and not server.children(), deadline=5)
