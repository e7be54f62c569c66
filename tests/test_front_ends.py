"""Several front ends on one kernel, and the rarer things that they ask for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client import KernelManager

from conftest import Server, environment, live_only
from notebooks import DEADLINE, Cell, Notebook


@pytest.fixture
def other(live: Notebook) -> Iterator[Any]:
    """Connect a second front end to the kernel."""
    with live.another_front_end() as client:
        yield client


def heard(client: Any, request: str) -> list[str]:
    """Return the types of what a front end sees of a request, up to idle."""
    types = []
    while True:
        message = client.get_iopub_msg(timeout=DEADLINE)
        if message["parent_header"].get("msg_id") != request:
            continue
        types.append(message["msg_type"])
        if message["content"].get("execution_state") == "idle":
            return types


def test_each_gets_its_own_replies(live: Notebook, other: Any) -> None:
    """A reply goes to who has asked, and to nobody else."""
    mine, others = live.send("'mine'"), other.execute("'other'")
    assert other.get_shell_msg(timeout=DEADLINE)["parent_header"]["msg_id"] == others
    assert live.finish(mine).status == "ok"
    for client in (live.client, other):
        with pytest.raises(Empty):
            client.get_shell_msg(timeout=0.2)


def test_both_see_all_that_is_published(live: Notebook, other: Any) -> None:
    """Outputs of either front end's cells reach both, under the parent of who sent them."""
    mine = live.send("print('mine')")
    seen = ["status", "execute_input", "stream", "status"]
    assert heard(other, mine) == heard(live.client, mine) == seen
    others = other.execute("print('other')")
    assert heard(live.client, others) == heard(other, others) == seen


@pytest.mark.parametrize("cell", ["%tci help", "pass"])
def test_a_request_is_heard_while_a_reply_goes_out(live: Notebook, cell: str) -> None:
    """Who sends the next request at an idle, before the reply is read, waits for nothing.

    ipykernel before 7.4 loses such a request: in the kernel, and in the session.
    """
    for number in range(150):
        request = live.send(cell)
        while live.wait_for(request, "status")["content"]["execution_state"] != "idle":
            pass
        assert live.finish(live.send(f"{number}"), deadline=10).result == str(number)


def test_all_messages_are_of_one_jupyter_session(live: Notebook) -> None:
    """Who drops what comes of another session, as JupyterLab does, loses nothing."""
    cells = [live.run("print('in the session'); 1"), live.run("%tci status")]
    messages = [m for cell in cells for m in (cell.reply, *cell.messages)]
    assert len({message["header"]["session"] for message in messages}) == 1


def test_each_answers_its_own_questions(live: Notebook, other: Any) -> None:
    """`input()` asks the front end whose cell it is."""
    request = other.execute("input('other? ')")
    assert other.get_stdin_msg(timeout=DEADLINE)["content"]["prompt"] == "other? "
    with pytest.raises(Empty):
        live.client.get_stdin_msg(timeout=0.2)
    other.input("yes")
    assert "execute_result" in heard(live.client, request)
    request = live.send("input('mine? ')")
    assert live.answer("me")["prompt"] == "mine? "
    assert live.finish(request).result == "'me'"


def test_both_count_together(live: Notebook, other: Any) -> None:
    """Cells of both are numbered in one row."""
    first = live.run("1").count
    other.execute("2")
    assert other.get_shell_msg(timeout=DEADLINE)["content"]["execution_count"] == first + 1
    assert live.run("3").count == first + 2


def test_a_front_end_that_leaves_takes_nothing_along(live: Notebook) -> None:
    """A cell whose front end has gone runs to its end, and others go on."""
    with live.another_front_end() as client:
        request = client.execute("import time; time.sleep(0.5); left = 'done'")
        live.wait_for(request, "execute_input")
    assert live.run("left").result == "'done'"


def test_a_cell_is_busy_before_the_session_says_so(live: Notebook, shared_server: Server) -> None:
    """A console asks whether its input is complete, and then waits 50 ms for the cell to begin."""
    live.run("1")
    shared_server.process.send_signal(signal.SIGSTOP)
    try:
        assert live.ask("is_complete", code="for x in y:")["indent"] == "    "
        request = live.send("'later'")
        status = live.wait_for(request, "status", deadline=10)
    finally:
        shared_server.process.send_signal(signal.SIGCONT)
    assert status["content"] == {"execution_state": "busy"}
    cell = live.finish(request)
    assert cell.result == "'later'"
    assert not cell.contents("status")  # it is not said again


@pytest.mark.skipif(
    not hasattr(KernelManager, "transport_encryption"), reason="jupyter_client does not encrypt"
)
def test_a_front_end_can_encrypt_its_sockets(shared_server: Server, tmp_path: Path) -> None:
    """Where Jupyter is told to encrypt, the kernel starts, runs cells and asks questions."""
    env = environment(shared_server, tmp_path, "live")
    with closing(Notebook(tmp_path, env, transport_encryption="required")) as notebook:
        request = notebook.send("input('who? ')")
        assert notebook.answer("me")["prompt"] == "who? "
        assert notebook.finish(request).result == "'me'"
        assert notebook.manager.curve_publickey


def test_displays_are_updated_by_their_id(live: Notebook) -> None:
    """A later cell updates a display of an earlier one."""
    live.run("from IPython.display import display, HTML; h = display(HTML('1'), display_id='d')")
    [update] = live.run("h.update(HTML('2'))").contents("update_display_data")
    assert update["data"]["text/html"] == "2"
    assert update["transient"] == {"display_id": "d"}


def test_clear_output_is_passed_on(live: Notebook) -> None:
    """`clear_output` comes in its place between the outputs."""
    cell = live.run(
        "from IPython.display import clear_output\nprint('a')\nclear_output(wait=True)\nprint('b')"
    )
    outputs = [(m["msg_type"], m["content"]) for m in cell.messages[1:]]
    assert outputs[1:] == [
        ("stream", {"name": "stdout", "text": "a\n"}),
        ("clear_output", {"wait": True}),
        ("stream", {"name": "stdout", "text": "b\n"}),
    ]


def test_is_complete_waits_for_its_turn(live: Notebook) -> None:
    """Asked while a cell runs, as JupyterLab's console does, it makes nobody believe in idle."""
    cell = live.send("import time; time.sleep(1)")
    asked = live.client.is_complete("x = (")
    ends = []
    while len(ends) < 2:
        message = live.client.get_iopub_msg(timeout=DEADLINE)
        if message["content"].get("execution_state") == "idle":
            ends.append(message["parent_header"]["msg_id"])
    assert ends == [cell, asked]
    assert live.reply(asked)["content"]["status"] == "incomplete"


def test_the_kernel_tells_what_it_can(live: Notebook) -> None:
    """With a session open, kernel_info is that of the session's Python, on shell and control."""
    version = live.run("import platform; print(platform.python_version())").stdout.strip()
    for info in (live.ask("kernel_info"), live.command("kernel_info_request", {})):
        assert info["status"] == "ok"
        assert info["language_info"]["version"] == version
        assert "kernel subshells" in info["supported_features"]


@live_only
def test_subshells_run_beside_the_first_cell(open_notebook: Callable[..., Notebook]) -> None:
    """The cell that begins the session holds up no subshell, nor does one of `%tci` lines."""
    notebook = open_notebook()
    first = notebook.send(
        "print('on', flush=True)\nfor _ in range(600): import time; time.sleep(.1)"
    )
    notebook.wait_for(first, "stream")
    subshell = notebook.command("create_subshell_request", {})["subshell_id"]
    queued = notebook.send("%tci help")
    content = {"code": "6 * 7", "silent": False, "store_history": True, "user_expressions": {}}
    beside = notebook.tell("execute_request", content, subshell_id=subshell)
    assert notebook.finish(beside, deadline=20).result == "42"
    notebook.manager.interrupt_kernel()
    assert notebook.finish(first).error == "KeyboardInterrupt"
    assert notebook.finish(queued).status == "aborted"


def test_subshells_run_beside_a_cell(live: Notebook) -> None:
    """A cell in a subshell runs while another is under way, and the subshell can be deleted."""
    reply = live.command("create_subshell_request", {})
    assert reply["status"] == "ok"
    subshell = reply["subshell_id"]
    assert live.command("list_subshell_request", {})["subshell_id"] == [subshell]
    long = live.send("import threading; gate = threading.Event(); gate.wait(30)")
    live.wait_for(long, "execute_input")
    content = {"code": "gate.set(); print('beside')", "silent": False, "store_history": False}
    content |= {"user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    request = live.tell("execute_request", content, subshell_id=subshell)
    assert Cell({}, live.heard(request)).stdout == "beside\n"
    assert live.reply(long)["content"]["status"] == "ok"
    content |= {"code": "%tci help", "store_history": True}
    assert live.finish(live.tell("execute_request", content, subshell_id=subshell)).status == "ok"
    live.command("delete_subshell_request", {"subshell_id": subshell})
    assert live.command("list_subshell_request", {})["subshell_id"] == []


@pytest.mark.slow
def test_a_slow_front_end_loses_nothing(live: Notebook) -> None:
    """What a front end does not read in time waits for it; a stock kernel drops it."""
    code = "for n in range(10_000): display({'text/plain': str(n), 'text/x': 'x' * 4000}, raw=True)"
    request = live.send(code)
    assert live.reply(request)["content"]["status"] == "ok"  # before any output is read
    displays = Cell({}, live.heard(request)).contents("display_data")
    shown = [display["data"]["text/plain"] for display in displays]
    assert shown == [str(number) for number in range(10_000)]


def test_a_huge_print_arrives_whole(live: Notebook) -> None:
    """Fifty megabytes at once lose nothing."""
    cell = live.run("print('x' * 50_000_000)")
    assert len(cell.stdout) == 50_000_001
    assert cell.stdout.count("x") == 50_000_000


@live_only
def test_a_debugger_counts_on(open_notebook: Callable[..., Notebook]) -> None:
    """Turning it on begins the session, whose first cell follows those before it."""
    notebook = open_notebook()
    assert notebook.run("%tci status").count == 1
    request = {"type": "request", "seq": 1, "command": "initialize", "arguments": {}}
    notebook.command("debug_request", request)
    assert notebook.run("1").count == 2


@live_only
def test_a_debugger_without_a_session_says_why(open_notebook: Callable[..., Notebook]) -> None:
    """Where no session can be had, the refusal has the reason."""
    notebook = open_notebook(TCI_BASE_URL="http://127.0.0.1:9", TCI_RETRIES="0")
    request = {"type": "request", "seq": 1, "command": "initialize", "arguments": {}}
    refused = notebook.command("debug_request", request)
    assert not refused["success"]
    assert "cannot be reached" in refused["message"]


@live_only
def test_cells_have_the_same_sources_before_and_in_a_session(
    open_notebook: Callable[..., Notebook],
) -> None:
    """What a debugger is told before there is a child holds for the child, which then debugs."""
    pytest.importorskip("debugpy")
    notebook = open_notebook()
    sequence = iter(range(1, 100))

    def debug(command: str, **arguments: Any) -> dict[str, Any]:
        request = {"type": "request", "seq": next(sequence), "command": command}
        body = notebook.command("debug_request", {**request, "arguments": arguments})["body"]
        assert isinstance(body, dict)
        return body

    before = debug("debugInfo")
    debug("initialize", clientID="test", adapterID="", pathFormat="path")
    assert debug("debugInfo") == {**before, "isStarted": True}
    path = debug("dumpCell", code="1 + 1")["sourcePath"]
    assert path.startswith(before["tmpFilePrefix"])
    assert debug("source", source={"path": path})["content"] == "1 + 1"


def test_a_debugger_can_attach(live: Notebook) -> None:
    """Initialize, attach, set a breakpoint and disconnect, as a front end's debugger does."""
    pytest.importorskip("debugpy")
    sequence = iter(range(1, 100))

    def debug(command: str, **arguments: Any) -> dict[str, Any]:
        request = {"type": "request", "seq": next(sequence), "command": command}
        return live.command("debug_request", {**request, "arguments": arguments})

    initialized = debug("initialize", clientID="test", adapterID="", pathFormat="path")
    assert initialized["success"], initialized
    assert debug("attach")["success"]
    code = "def f():\n    return 1\nf()"
    path = debug("dumpCell", code=code)["body"]["sourcePath"]
    breakpoints = debug("setBreakpoints", source={"path": path}, breakpoints=[{"line": 2}])
    assert breakpoints["success"], breakpoints
    assert debug("debugInfo")["body"]["isStarted"]
    assert debug("disconnect", restart=False, terminateDebuggee=True)["success"]
    assert live.run("'after'").result == "'after'"


def test_resources_are_told(live: Notebook) -> None:
    """A usage_request is answered for the session's process."""
    usage = live.command("usage_request", {})
    pid = live.run("import os; print(os.getpid())").stdout.strip()
    assert str(usage["pid"]) == pid


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("kind", ["nonsense_request", "execute_request", "comm_msg", ""])
def test_broken_messages_do_no_harm(live: Notebook, channel: str, kind: str) -> None:
    """A message that no front end should send is ignored, and the next cell runs."""
    for content in ({}, {"code": 1}, {"code": None, "comm_id": []}):
        live.tell(kind, content, channel=channel)
    live.ask("kernel_info")  # a failed cell aborts what is sent at once
    assert live.run("'well'").result == "'well'"
