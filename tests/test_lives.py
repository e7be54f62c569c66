"""Restart, death and end of a kernel, and of its session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.paths import jupyter_runtime_dir

from conftest import END_SESSION, Server, has_ended, live_only, plain_only, wait_until
from notebooks import DEADLINE, Notebook
from scripted_service import Reply, ScriptedService, serving, success
from tci_kernel.client import TCIClient
from tci_kernel.errors import SessionExpired
from tci_kernel.session import Session
from tci_kernel.settings import Settings
from tci_kernel.state import StateFile


def session_of(server: Server, before: set[str]) -> str:
    """Return the one session that was made since."""
    [session_id] = set(server.sessions()) - before
    return session_id


def test_restart_keeps_the_session_and_empties_the_namespace(
    notebook: Notebook, server: Server
) -> None:
    """After a restart the files are there, the variables are not, the count is 1 again."""
    before = set(server.sessions())
    notebook.run("x = 1; open('kept.txt', 'w').write('kept');")
    session_id = session_of(server, before)
    notebook.restart()
    cell = notebook.run("open('kept.txt').read(), 'x' in globals()")
    assert (cell.count, cell.result) == (1, "('kept', False)")
    assert session_of(server, before) == session_id
    assert notebook.run("In[1][:4]").result == "'open'"


@live_only
def test_a_restarted_kernel_gets_nothing_of_what_was_under_way(
    open_notebook: Callable[..., Notebook],
) -> None:
    """A restart in the first cell begins at 1 again; a cell behind the restart never runs."""
    notebook = open_notebook()
    first = notebook.send("print('begun'); import time; time.sleep(60)")
    notebook.wait_for(first, "stream")
    process = notebook.manager.provisioner.process
    notebook.client.shutdown(restart=True)
    assert notebook.finish(first).error == "KeyboardInterrupt"
    notebook.send("open('ran', 'w').close()")
    assert process.wait(10) == 0
    notebook.restart(now=True)
    cell = notebook.run("import os; os.path.exists('ran')")
    assert (cell.count, cell.result) == (1, "False")


def test_a_killed_kernel_finds_its_session_again(notebook: Notebook, server: Server) -> None:
    """A kernel that died and was started again has session, variables and count."""
    before = set(server.sessions())
    notebook.run("x = 'survives'")
    notebook.restart(now=True)
    cell = notebook.run("x")
    assert (cell.count, cell.result) == (2, "'survives'")
    session_of(server, before)


#: A kernel whose relay ends just as a message on control has been meant for it.
ENDING = """
from tci_kernel.kernel import TCIKernel
from tci_kernel.kernelapp import TCIKernelApp

class Ending(TCIKernel):
    def _pass_on(self, channel, msg):
        self.connection.relay.stop()
        super()._pass_on(channel, msg)

TCIKernelApp.kernel_class = Ending
TCIKernelApp.launch_instance()
"""


@live_only
def test_control_is_answered_as_the_relay_ends(tmp_path: Path, service_env: dict[str, str]) -> None:
    """A request that was on its way to a relay that ends is answered on this side."""
    spec = {
        "argv": [sys.executable, "-c", ENDING, "-f", "{connection_file}"],
        "display_name": "Ending",
        "language": "python",
    }
    (tmp_path / "ending").mkdir()
    (tmp_path / "ending" / "kernel.json").write_text(json.dumps(spec))
    specs = KernelSpecManager(kernel_dirs=[str(tmp_path)])
    notebook = Notebook(tmp_path, service_env, "ending", kernel_spec_manager=specs)
    with contextlib.closing(notebook):
        assert notebook.run("1").result == "1"
        request = {"type": "request", "seq": 1, "command": "debugInfo"}
        assert notebook.command("debug_request", request)["success"]
        assert notebook.run("2").result == "2"


@plain_only
def test_a_kernels_memory_has_no_password(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """What a kernel writes down for its successor names the service without the user's password."""
    notebook = open_notebook(TCI_BASE_URL=server.url.replace("//", "//user:hunter2@"))
    notebook.run("x = 1")
    name = f"tci-{Path(notebook.manager.connection_file).stem}.json"
    assert "hunter2" not in (Path(jupyter_runtime_dir()) / name).read_text("utf-8")
    notebook.restart(now=True)
    assert notebook.run("x").result == "1"


@plain_only
def test_settings_that_were_broken_before_a_restart_are_told(
    open_notebook: Callable[..., Notebook], tmp_path: Path
) -> None:
    """The first cell says what is wrong with them, though a session is there to go on with."""
    config = tmp_path / "config.toml"
    config.touch()
    notebook = open_notebook(TCI_CONFIG=str(config))
    notebook.run("1")
    config.write_text("retries = 'many'")
    notebook.restart()
    assert notebook.run("1").error == "NotConfigured"


@live_only
def test_a_resumed_kernel_says_in_the_cell_that_runs_what_is_to_be_said(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """A warning stands below the cell that runs, also if this side begins it, and ends nothing."""
    notebook = open_notebook(TCI_BASE_URL=make_server(lifetime=10.15).url)
    notebook.run("import time")
    notebook.restart(now=True)
    cell = notebook.run("%tci help\ntime.sleep(11); print('done')")
    assert "ends in about 10 min" in cell.stderr
    assert cell.stdout == "done\n"


@live_only
def test_new_leaves_no_question_unanswered(notebook: Notebook) -> None:
    """What the session was asked beside `%tci new` gets its reply and its idle."""
    notebook.run("class Slow:\n    def __dir__(self): import time; time.sleep(60)\nslow = Slow()")
    question = notebook.client.complete("slow.", 5)
    notebook.wait_for(question, "status")
    cell = notebook.send("%tci new")
    replies = [notebook.client.get_shell_msg(timeout=DEADLINE) for _ in range(2)]
    answered = {m["parent_header"]["msg_id"]: m["content"]["status"] for m in replies}
    assert answered == {question: "error", cell: "ok"}


@live_only
def test_new_with_code_behind_it_leaves_nothing_unanswered(
    server: Server, open_notebook: Callable[..., Notebook]
) -> None:
    """What runs beside the cell, in a session that others use, ends when that is left."""
    notebook = open_notebook(TCI_SESSION_ID=server.new_session())
    notebook.run("import time")
    subshell = notebook.command("create_subshell_request", {})["subshell_id"]
    content = {"code": "time.sleep(60)", "silent": False, "store_history": True}
    content |= {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    beside = notebook.tell("execute_request", content, subshell_id=subshell)
    notebook.wait_for(beside, "execute_input")
    cell = notebook.send("%tci new\n6 * 7")
    replies = [notebook.client.get_shell_msg(timeout=DEADLINE) for _ in range(2)]
    answered = {m["parent_header"]["msg_id"]: m["content"]["status"] for m in replies}
    assert answered == {beside: "error", cell: "ok"}


def test_a_notebook_whose_folder_is_deleted_runs_and_ends(
    tmp_path: Path, open_notebook: Callable[..., Notebook]
) -> None:
    """Its cells run in the session, which has a folder of its own; its kernel heeds SIGTERM."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    notebook = open_notebook(folder)
    folder.rmdir()
    assert notebook.run("6 * 7").result == "42"
    pid = notebook.manager.provisioner.pid
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: has_ended(pid))


def test_new_leaves_the_session_for_another(notebook: Notebook, server: Server) -> None:
    """After `%tci new` the old session has ended, also one that still speaks; cells go on."""
    before = set(server.sessions())
    notebook.run("import threading, time\nx = 1")
    first = session_of(server, before)
    notebook.run("threading.Thread(target=lambda: [time.sleep(0.01) for _ in range(2000)]).start()")
    cell = notebook.run("%tci new\n'x' in globals()")
    assert cell.result == "False"
    assert notebook.run("%tci new").status == "ok"
    assert notebook.run("'x' in globals()").result == "False"
    wait_until(lambda: first not in server.sessions())
    session_of(server, before)


def test_shutdown_ends_the_session_that_the_kernel_made(notebook: Notebook, server: Server) -> None:
    """Nothing is left running, neither here nor there."""
    before = set(server.sessions())
    notebook.run("1")
    session_of(server, before)
    kernel = psutil.Process(notebook.manager.provisioner.pid)
    notebook.close()
    assert not kernel.is_running()
    wait_until(lambda: set(server.sessions()) == before, deadline=15)


def test_shutdown_during_a_cell_is_quick(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """A kernel goes before it is killed, also while a cell runs, and its session with it."""
    server = make_server()
    notebook = open_notebook(TCI_BASE_URL=server.url)
    notebook.run("1")
    request = notebook.send("while True: pass")
    notebook.wait_for(request, "execute_input")
    process = notebook.manager.provisioner.process
    notebook.manager.request_shutdown()
    assert process.wait(4.5) == 0
    wait_until(lambda: not server.sessions(), deadline=15)


@plain_only
def test_sigterm_ends_kernel_and_session(notebook: Notebook, server: Server) -> None:
    """SIGTERM alone (VS Code sends no more) tidies up within two seconds."""
    before = set(server.sessions())
    notebook.run("1")
    process = notebook.manager.provisioner.process
    process.send_signal(signal.SIGTERM)
    assert process.wait(4.5) == 0
    wait_until(lambda: set(server.sessions()) == before, deadline=15)


def test_a_vanished_parent_ends_kernel_and_session(
    tmp_path: Path, service_env: dict[str, str], server: Server
) -> None:
    """A kernel whose launcher was killed, and set no JPY_PARENT_PID, ends by itself."""
    before = set(server.sessions())
    launcher = (
        "import os, sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from notebooks import Notebook\n"
        "from pathlib import Path\n"
        "os.environ['JPY_PARENT_PID'] = ''\n"
        "n = Notebook(Path.cwd(), {})\n"
        "n.run('1'); print(n.manager.provisioner.pid, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, str(Path(__file__).parent)],
        env={**os.environ, **service_env},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    kernel = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    wait_until(lambda: not kernel.is_running(), deadline=15)
    wait_until(lambda: set(server.sessions()) == before, deadline=15)


def test_a_kernel_whose_launcher_has_gone_before_it_is_up_ends(tmp_path: Path) -> None:
    """A console that is left while it starts (Ctrl-C) leaves no kernel behind."""
    launcher = (
        "import os, subprocess, sys\n"
        "os.environ['JPY_PARENT_PID'] = str(os.getpid())\n"
        "command = [sys.executable, '-m', 'tci_kernel', '-f', 'connection.json']\n"
        "null = subprocess.DEVNULL\n"
        "print(subprocess.Popen(command, stdout=null, stderr=null).pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", launcher], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    kernel = int(done.stdout)
    wait_until(lambda: not psutil.pid_exists(kernel), deadline=15)


@plain_only
def test_a_dead_session_is_said_and_replaced(notebook: Notebook) -> None:
    """The cell after a session's death says what is lost; the next one runs in a new session."""
    notebook.run("x = 1")
    dying = notebook.run("import os; os._exit(3)")
    assert dying.error == "SessionExpired"
    assert "gone" in dying.contents("error")[0]["evalue"]
    cell = notebook.run("'x' in globals()")
    assert (cell.result, cell.count) == ("False", 3)


def test_an_expired_session_is_said_and_replaced(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """After its lifetime a session is gone with a clear word, never a bare 404."""
    server = make_server(lifetime=0.02)
    notebook = open_notebook(TCI_BASE_URL=server.url)
    notebook.run("x = 1")
    wait_until(lambda: not server.sessions())
    cell = notebook.run("x")
    assert cell.error == "SessionExpired"
    assert notebook.run("1").result == "1"


def test_a_session_id_with_a_slip_is_told(open_notebook: Callable[..., Notebook]) -> None:
    """The first cell says that the setting names no session of the user, and loses nothing."""
    notebook = open_notebook(TCI_SESSION_ID="ses_typo")
    cell = notebook.run("1")
    assert cell.error == "SessionExpired"
    told = cell.contents("error")[0]["evalue"]
    assert "The session ses_typo that TCI_SESSION_ID names is not there (HTTP 404: " in told
    assert "It never existed" in told
    assert "gone" not in told
    assert notebook.run("1").result == "1"


def test_the_session_in_place_of_a_joined_one_is_kept_over_a_restart(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """A kernel that left the session of TCI_SESSION_ID does not go back, and loses none."""
    before = {*server.sessions(), joined := server.new_session()}
    notebook = open_notebook(TCI_SESSION_ID=joined)
    notebook.run("1")
    notebook.run("%tci new\nopen('kept', 'w').close()")
    ours = session_of(server, before)
    notebook.restart()
    assert notebook.run("import os; os.path.exists('kept')").result == "True"
    assert session_of(server, before) == ours


def test_a_session_that_was_joined_is_told_to_have_ended(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """One that has answered before is lost with its variables, whoever named it."""
    session_id = server.new_session()
    notebook = open_notebook(TCI_SESSION_ID=session_id)
    notebook.run("1")
    notebook.restart()
    server.post(END_SESSION, session_id)
    told = notebook.run("1").contents("error")[0]["evalue"]
    assert told.startswith(f"The session {session_id} has ended (HTTP 410: ")


@plain_only
def test_the_end_of_a_session_is_told_once(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """The error has the server's reason, and says after it what is lost and what to do."""
    server = make_server(lifetime=0.02)
    notebook = open_notebook(TCI_BASE_URL=server.url)
    notebook.run("1")
    [session_id] = server.sessions()
    wait_until(lambda: not server.sessions())
    assert notebook.run("1").contents("error")[0]["evalue"] == (
        f"The session {session_id} has ended (HTTP 404: Session {session_id} has expired after "
        "0.02 minutes). Its variables and files are gone. Run again to start a new session, from "
        "the first cell."
    )


@plain_only
def test_a_cell_that_waits_in_a_session_that_ends_does_not_run(
    open_notebook: Callable[..., Notebook],
) -> None:
    """Behind an interrupted cell it says what is lost; the next one makes the one new session."""
    with serving(success(session_id="ses_1")) as service:
        notebook = open_notebook(TCI_BASE_URL=service.url)
        notebook.run("1")
        wait_until(lambda: any(method == "GET" for method, *_ in service.requests))
        service.hold.clear()
        long = notebook.send("'long'")
        wait_until(lambda: b"'long'" in service.requests[-1][3])
        notebook.manager.interrupt_kernel()
        notebook.finish(long)
        waiting = notebook.send("'waiting'")
        notebook.wait_for(waiting, "stream")
        gone = Reply(404, {"errors": ["Session ses_1 has expired"]})
        service.replies = [gone, success(session_id="ses_2")]
        service.hold.set()
        assert notebook.finish(waiting).error == "SessionExpired"
        assert notebook.run("'next'").status == "ok"
        notebook.close()
    sent = [json.loads(body) for method, _, _, body in service.requests if method == "POST"]
    assert sum("session_id" not in request for request in sent) == 2
    assert not any("'waiting'" in request["code"] for request in sent)


def test_no_session_is_made_before_the_loss_of_the_last_is_told(tmp_path: Path) -> None:
    """Whatever was meant for the last one fails; once a person was told, a new one is made."""

    async def call(service: ScriptedService) -> None:
        async with TCIClient(Settings(base_url=service.url)) as client:
            session = Session(client, StateFile(Path("none.json"), tmp_path))
            session.id = "ses_1"
            for _ in range(2):
                with pytest.raises(SessionExpired, match=r"HTTP 410: died"):
                    await session.execute("1")
            assert len(service.requests) == 1
            assert session.take_loss() is not None
            await session.execute("1")
            assert session.id == "ses_2"

    gone = Reply(410, {"errors": ["died"]})
    with serving(gone, success(session_id="ses_2")) as service:
        asyncio.run(call(service))


def test_a_service_with_another_time_gives_a_session_its_hour(tmp_path: Path) -> None:
    """How long a session lives is told by two times of the service's clock, not by ours."""
    times = {"started_at": "2020-01-01T10:00:00Z", "expires_at": "2020-01-01T11:00:00Z"}
    listed = Reply(200, {"data": {"sessions": [{"id": "ses_scripted", **times}]}})

    async def time_left(service: ScriptedService) -> timedelta | None:
        async with TCIClient(Settings(base_url=service.url)) as client:
            session = Session(client, StateFile(Path("none.json"), tmp_path))
            await session.execute("1")
            await session.info()
            return session.time_left

    with serving(success(), listed, listed) as service:
        left = asyncio.run(time_left(service))
    assert left is not None
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


@plain_only
def test_a_server_that_is_killed_is_an_error_and_no_hang(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """SIGKILL of the server in the middle of a cell: the cell says that it may have run."""
    server = make_server()
    notebook = open_notebook(TCI_BASE_URL=server.url, TCI_RETRIES="0")
    notebook.run("1")
    request = notebook.send("import time; time.sleep(60)")
    notebook.wait_for(request, "execute_input")
    wait_until(lambda: any(s["execute_count"] == 2 for s in server.sessions().values()))
    server.end(signal.SIGKILL)
    cell = notebook.finish(request)
    assert cell.error == "ConnectionLost"
    assert "may have run" in cell.contents("error")[0]["evalue"]
    assert notebook.run("1").error == "Unreachable"


@pytest.mark.parametrize(("lifetime", "minutes"), [(9.9, 10), (1.9, 2)])
def test_the_near_end_of_a_session_is_said_once(
    lifetime: float,
    minutes: int,
    open_notebook: Callable[..., Notebook],
    make_server: Callable[..., Server],
) -> None:
    """A cell with ten, and one with two minutes left says so, whatever the service's lifetime."""
    notebook = open_notebook(TCI_BASE_URL=make_server(lifetime=lifetime).url)
    warning = f"ends in about {minutes} min"
    wait_until(lambda: warning in notebook.run("1").stderr)
    assert notebook.run("1").stderr == ""


@live_only
def test_a_long_cell_is_warned_of_the_end(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """The warning comes in a cell that runs, also if it is silent."""
    notebook = open_notebook(TCI_BASE_URL=make_server(lifetime=10.08).url)
    cell = notebook.run("import time; time.sleep(7)")
    assert "ends in about 10 min" in cell.stderr
