"""The agent in a real session kernel, driven as the service drives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest

from session_kernel import DEADLINE, Relay, Session, session_kernel
from tci_kernel.transport.frames import AgentMissing
from tci_kernel.transport.pieces import parse
from tci_kernel.transport.requests import (
    BootOptions,
    End,
    Exchange,
    Form,
    Restart,
    agent_version,
    boot,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tci_kernel.transport.message import Message


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One session with an agent, for tests that leave it as it was."""
    with session_kernel(tmp_path_factory.mktemp("shared")) as session:
        relay = Relay(session)
        relay.boot()
        yield relay


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """Give one test a session of its own."""
    with session_kernel(tmp_path) as session:
        yield session


@pytest.fixture
def relay(session: Session) -> Relay:
    """Give one test a session of its own with an agent."""
    relay = Relay(session)
    relay.boot()
    return relay


def types(messages: list[Message]) -> list[str]:
    """Return the types of messages."""
    return [message.msg_type for message in messages]


def text(messages: list[Message]) -> str:
    """Return all stream text of messages."""
    return "".join(item.content["text"] for item in messages if item.msg_type == "stream")


def reply(messages: list[Message]) -> dict[str, Any]:
    """Return the content of the one reply among messages."""
    (only,) = [item.content for item in messages if item.msg_type.endswith("_reply")]
    return only


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition; tell whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_hello_tells_what_is_there(shared: Relay) -> None:
    """The answer to a boot names versions and places, and refuses nothing."""
    hello = shared.boot().hello
    assert hello is not None
    assert (hello.version, hello.refusal, hello.ipython) == (agent_version(), "", True)
    assert hello.cwd == str(shared.session.folder)
    assert hello.python.startswith("3.")


def test_booting_twice_keeps_the_child(shared: Relay) -> None:
    """A second boot finds the running agent and the same child with its variables."""
    shared.run("twice = 2")
    before = shared.status()["child_pid"]
    hello, again = shared.boot().hello, shared.boot().hello
    assert hello is not None
    assert again is not None
    assert hello.agent == again.agent
    assert shared.status()["child_pid"] == before
    assert "2" in str(shared.run("twice")[2].content)


#: Interrupts a boot while it loads one of the agent's modules.
INTERRUPTED_LOAD = """
import builtins
def interrupted(source, file, *rest, compile=compile, **options):
    if file == "<_tci_agent.{}>":
        builtins.compile = compile
        raise KeyboardInterrupt
    return compile(source, file, *rest, **options)
builtins.compile = interrupted"""


@pytest.mark.parametrize("module", ["wire", "entry"])
def test_a_boot_after_one_that_was_interrupted_is_whole(session: Session, module: str) -> None:
    """A client that leaves while its boot loads the agent does not spoil the session for others."""
    session.execute(INTERRUPTED_LOAD.format(module))
    assert session.execute(boot(BootOptions("gone")).code).reply["ename"] == "KeyboardInterrupt"
    relay = Relay(session)
    relay.boot()
    assert relay.result("40 + 2") == "42"


def test_a_cell_takes_one_exchange(shared: Relay) -> None:
    """Everything up to idle of a quick cell comes in the answer to the exchange that sent it."""
    shared.run("1")
    request = shared.execute_request("40 + 2")
    shared.exchange(request)
    assert shared.is_done(request)
    assert sorted(types(shared.about(request))) == [
        "execute_input",
        "execute_reply",
        "execute_result",
        "status",
        "status",
    ]


def test_parents_and_metadata_come_back_unchanged(shared: Relay) -> None:
    """What the child says carries the front end's own header as its parent."""
    request = shared.execute_request("1")
    for message in shared.finish_after(request):
        assert message.parent_header == request.header


def test_the_session_keeps_no_trace(session: Session) -> None:
    """Neither namespace, history, caches nor files of the session tell of the agent's requests."""
    look = (
        "import linecache, sys; mark = '# t' + 'ci-agent'; history = get_ipython().history_manager;"
        " print(sorted(name for name in globals() if not name[2:].isdigit()),"
        " [cell for cell in In if mark in cell],"
        " [name for name, entry in linecache.cache.items() if mark in ''.join(entry[2])],"
        " [name for name in sys.modules if name.startswith('_t' + 'ci')],"
        " history.db.execute('select * from history where source like ?', (mark + '%',))"
        ".fetchall(), [entry for entry in history.db_input_cache if mark in entry[1]])"
    )
    session.execute(look)
    before = session.execute(look).stdout
    relay = Relay(session)
    relay.boot()
    relay.run("1")
    relay.exchange(hold=0)
    relay.ask(End(relay.id))
    after = session.execute(look).stdout
    assert after == before
    assert after.strip().endswith("] [] [] [] [] []")
    assert not list(session.folder.iterdir())


def test_a_number_seen_before_is_dropped(shared: Relay) -> None:
    """A request that is sent twice runs its cell once."""
    shared.run("runs = 0")
    request = shared.execute_request("runs += 1")
    shared.exchange(request)
    frame = shared.exchange(request, hold=0.1)
    assert frame.accepted == shared.sent
    shared.finish(request)
    assert shared.result("runs") == "1"


def test_a_cell_that_was_sent_before_a_failure_was_known_does_not_run(shared: Relay) -> None:
    """It gets an aborted reply; one that is sent later, and what is to run in any case, runs."""
    shared.run("ran = []")
    known = shared.acknowledged
    shared.run("1/0")
    for name, heard in (("early", known), ("own", None), ("late", shared.acknowledged)):
        request = shared.execute_request(f"ran.append('{name}')")
        shared.exchange(replace(request, heard=heard))
        said = shared.finish(request)
        aborted = [m for m in said if m.content.get("status") == "aborted"]
        assert len(aborted) == (name == "early")
        assert said[0].is_busy
        assert any(m.is_idle for m in said)
    assert shared.result("ran") == "['own', 'late']"


def test_a_session_that_nobody_knows_ends_by_itself(tmp_path: Path) -> None:
    """Where the answer to its first request was lost, agent, child and session do not stay."""
    with session_kernel(tmp_path) as session:
        Relay(session).boot(lease=0.5)
        assert within(DEADLINE, lambda: not session.manager.is_alive())


@pytest.mark.parametrize("use", ["exchange", "foreign cell"])
def test_a_session_that_is_used_does_not_end_by_itself(tmp_path: Path, use: str) -> None:
    """The first exchange tells that somebody has the session, and so does any client's cell."""
    with session_kernel(tmp_path) as session:
        relay = Relay(session)
        relay.boot(lease=2)
        if use == "exchange":
            relay.exchange(hold=0)
        else:
            session.execute("1")
        time.sleep(3)  # nothing tells that something does not happen
        assert relay.result("6 * 7") == "42"


def test_a_withdrawn_message_leaves_no_gap(shared: Relay) -> None:
    """Its number counts, and what follows is passed on, whether or not it had come before."""
    shared.run("ran = []")
    came, never = (shared.execute_request(f"ran.append('{name}')") for name in ("came", "never"))
    shared.exchange(came, hold=0)
    after = shared.execute_request("ran.append('after')")
    shared.exchange(replace(came, frames=()), replace(never, frames=()), after)
    shared.finish(came)
    shared.finish(after)
    assert shared.result("ran") == "['came', 'after']"


def test_a_gap_is_refused(shared: Relay) -> None:
    """A message whose predecessor is missing is not passed on, and the frame says from where."""
    shared.run("gap = 'closed'")
    lost = shared.execute_request("gap = 'lost'")
    after = shared.execute_request("gap = 'open'")
    assert shared.exchange(after, hold=0.1).accepted == lost.number - 1
    shared.exchange(lost, after)
    shared.finish(after)
    assert shared.result("gap") == "'open'"


def test_a_lost_answer_comes_again(shared: Relay) -> None:
    """What is not acknowledged comes again with the same numbers and the same bytes."""
    request = shared.execute_request("print('again')")
    exchange = Exchange(shared.id, shared.acknowledged, (request,), hold=1)
    first = shared.frame(encode(exchange))
    again = shared.frame(encode(exchange))
    assert again.messages[: len(first.messages)] == first.messages
    shared.exchange()
    assert "again" in text(shared.finish(request))


def test_output_comes_while_a_cell_runs(shared: Relay) -> None:
    """An exchange returns with what a running cell has printed so far."""
    request = shared.execute_request("import time; print('early', flush=True); time.sleep(1.5)")
    shared.exchange(request)
    assert within(1, lambda: bool(shared.exchange(hold=0.2)) and "early" in text(shared.heard[-9:]))
    assert not shared.is_done(request)
    shared.finish(request)


def test_an_empty_hold_ends_in_time(shared: Relay) -> None:
    """Without news an exchange lasts as long as its hold."""
    shared.finish_after(shared.execute_request("1"))
    shared.exchange(hold=0.05)
    began = time.monotonic()
    frame = shared.exchange(hold=0.4)
    assert 0.4 <= time.monotonic() - began < 1
    assert frame.messages == ()


def test_input_is_asked_for_and_answered(shared: Relay) -> None:
    """`input()` comes as a stdin request, and its answer reaches the cell."""
    request = shared.execute_request("print(input('name? ') * 2)")
    shared.exchange(request)
    deadline = time.monotonic() + DEADLINE
    while "input_request" not in types(shared.about(request)):
        assert time.monotonic() < deadline
        shared.exchange()
    shared.exchange(shared.message("input_reply", {"value": "ab"}, "stdin"))
    assert "abab" in text(shared.finish(request))


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(30)",
        "import subprocess; subprocess.run(['sleep', '30'])",
        "input()",
    ],
)
def test_an_interrupt_reaches_what_blocks(shared: Relay, code: str) -> None:
    """An interrupt request ends a sleep, a subprocess and a question within a second."""
    request = shared.execute_request(f"print('on', flush=True); {code}")
    shared.exchange(request)
    assert within(5, lambda: bool(shared.exchange()) and "on" in text(shared.about(request)))
    time.sleep(0.2)  # into the blocking call itself, which nothing tells from outside
    began = time.monotonic()
    shared.exchange(shared.message("interrupt_request", {}, "control"))
    assert reply(shared.finish(request))["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - began < 1


def test_completion_knows_the_child(shared: Relay) -> None:
    """A completion request on shell is answered from the child's namespace."""
    shared.run("remote_name = 1")
    request = shared.message("complete_request", {"code": "remote_n", "cursor_pos": 8})
    shared.exchange(request)
    assert reply(shared.finish(request))["matches"] == ["remote_name"]


def test_buffers_pass_both_ways(shared: Relay) -> None:
    """Binary buffers of comm messages arrive as they were sent, and open comms are counted."""
    shared.run(
        "from comm import create_comm, get_comm_manager\n"
        "def echo(comm, _open):\n"
        "    comm.on_msg(lambda m: comm.send({}, buffers=[bytes(m['buffers'][0])[::-1]]))\n"
        "get_comm_manager().register_target('echo', echo)"
    )
    comm = {"comm_id": "c1", "target_name": "echo", "data": {}}
    opened = shared.message("comm_open", comm)
    shared.finish_after(opened)
    sent = shared.message("comm_msg", {"comm_id": "c1", "data": {}}, buffers=(b"\x00\xff<",))
    (echo,) = [item for item in shared.finish_after(sent) if item.msg_type == "comm_msg"]
    assert echo.frames[4:] == (b"<\xff\x00",)
    idle = shared.exchange(hold=0).idle
    assert idle is not None
    assert idle.comms == 1
    shared.finish_after(shared.message("comm_close", {"comm_id": "c1", "data": {}}))


def test_idle_counts_threads_and_tasks(shared: Relay) -> None:
    """A frame tells how many threads and tasks of the user's can still speak."""
    shared.run("1")
    idle = shared.exchange(hold=0).idle
    assert idle is not None
    assert not idle
    shared.run(
        "import threading, asyncio; stop = threading.Event(); threading.Thread(target=stop.wait)"
        ".start(); task = asyncio.get_event_loop().create_task(asyncio.sleep(60))"
    )
    idle = shared.exchange(hold=0).idle
    assert idle is not None
    assert (idle.threads, idle.tasks) == (1, 1)
    shared.run("stop.set(); task.cancel()")


#: Starts a task whose code is of no module.
NAMELESS = """
import asyncio
scope = {"__name__": None, "asyncio": asyncio}
exec("async def nap(): await asyncio.sleep(60)", scope)
task = asyncio.get_event_loop().create_task(scope["nap"]())
"""


def test_idle_counts_a_task_of_no_module(shared: Relay) -> None:
    """What runs code that belongs to no module is the user's."""
    shared.run(NAMELESS)
    idle = shared.exchange(hold=0).idle
    assert idle is not None
    assert (idle.threads, idle.tasks) == (0, 1)
    shared.run("task.cancel()")


def test_a_thread_speaks_after_its_cell(shared: Relay) -> None:
    """What a thread prints when no cell runs comes with the next exchange."""
    request = shared.execute_request(
        "import threading; threading.Timer(0.3, lambda: print('late', flush=True)).start()"
    )
    shared.finish_after(request)
    assert within(5, lambda: "late" in text(list(shared.exchange().messages)))


@pytest.mark.parametrize("limit", [2**20, 2000 * 2**20])
def test_ten_megabytes_arrive_whole(shared: Relay, limit: int) -> None:
    """A long output comes complete, in pieces no longer than the limit."""
    shared.limit = limit
    try:
        code = "import random; print('%x' % random.Random(1).getrandbits(4 * 10**7))"
        printed = text(shared.run(code))
    finally:
        shared.limit = 2**20
    assert len(printed) in (10**7, 10**7 + 1)
    assert max(shared.printed[-12:]) <= max(limit, len(printed) * 2)


def test_twenty_thousand_prints_take_few_frames(shared: Relay) -> None:
    """Many small prints arrive in order, in few frames."""
    before = shared.requests
    printed = text(shared.run("for i in range(20_000): print(i)"))
    assert printed == "".join(f"{number}\n" for number in range(20_000))
    assert shared.requests - before < 20


def test_flushed_prints_are_not_dropped(shared: Relay) -> None:
    """However fast the child speaks, nothing is lost between it and the agent."""
    printed = text(shared.run("for i in range(10_000): print(i, flush=True)"))
    assert printed == "".join(f"{number}\n" for number in range(10_000))


def test_a_truncated_piece_is_asked_for_in_smaller_ones(shared: Relay) -> None:
    """A frame that the service has cut arrives whole when it is asked for with a lower limit."""
    request = shared.execute_request("print('y' * 5000 + str(list(range(3000))))")
    exchange = Exchange(shared.id, shared.acknowledged, (request,), hold=2, gather=2)
    call = encode(exchange)
    assert len(shared.session.call(call)) > 3000
    shared.limit = 700
    try:
        frame = shared.frame(encode(exchange, Form(700)))
    finally:
        shared.limit = 2**20
    assert max(shared.printed[-3:]) <= 702
    assert "2999]" in text(list(frame.messages))
    shared.finish(request)


def test_a_long_request_travels_as_a_file(shared: Relay) -> None:
    """A request over 64 KiB comes as a file, which is gone before the cell runs."""
    blob = os.urandom(100_000).hex()
    request = shared.execute_request(f"import os; print(len({blob!r}), os.listdir())")
    assert encode(Exchange(shared.id, 0, (request,))).files
    assert "200000 []" in text(shared.finish_after(request))


def test_a_file_is_found_from_another_folder(session: Session) -> None:
    """The service writes a request's file where the session started, wherever its cells went."""
    session.execute("import os; os.mkdir('elsewhere'); os.chdir('elsewhere')")
    relay = Relay(session)
    relay.boot()
    assert relay.result(f"len({os.urandom(100_000).hex()!r})") == "200000"
    assert [path.name for path in session.folder.iterdir()] == ["elsewhere"]


def test_a_missing_file_is_a_problem_and_not_a_loss(shared: Relay) -> None:
    """If the file of a request is not there, nothing is accepted, and inline it goes through."""
    blob = os.urandom(60_000).hex()
    request = shared.execute_request(f"print(len({blob!r}))")
    exchange = Exchange(shared.id, shared.acknowledged, (request,), hold=1)
    call = encode(exchange)
    printed = shared.session.execute(call.code).stdout
    frame = shared.frame_of(parse(printed, call.nonce))
    assert "FileNotFoundError" in frame.problem
    shared.frame(encode(exchange, inline=True))
    assert "120000" in text(shared.finish(request))


def test_a_flood_is_cut_in_its_middle(tmp_path: Path) -> None:
    """Over the buffer's size old stream text gives way to a note; all else is kept."""
    with session_kernel(tmp_path) as session:
        relay = Relay(session)
        relay.boot(max_buffer=2**18)
        flood = relay.execute_request(
            "from IPython.display import display\n"
            "for i in range(60000): print(i, '#' * 20)\n"
            "print('end'); display(7); open('done', 'w').close()"
        )
        relay.exchange(flood, hold=0, gather=0)
        assert within(60, (tmp_path / "done").exists)
        assert within(20, lambda: not relay.grew())
        assert relay.status()["buffered"] <= 2**18
        messages = relay.finish(flood)
    printed = text(messages)
    assert printed.startswith("0 #")
    assert printed.endswith("end\n")
    assert "bytes of output dropped …]" in printed
    assert "display_data" in types(messages)
    assert [item.number for item in messages] == sorted({item.number for item in messages})


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "out of memory"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.kill(os.getpid(), 36)", "signal 36"),
    ],
)
def test_a_death_is_told_and_the_child_comes_back(shared: Relay, code: str, cause: str) -> None:
    """The killing cell fails with the cause, queued ones are aborted, a fresh child counts on."""
    shared.run("doomed = 1")
    dying, queued = shared.execute_request(code), shared.execute_request("1")
    shared.exchange(dying, queued)
    died = reply(shared.finish(dying))
    assert (died["status"], died["ename"]) == ("error", "DeadKernelError")
    assert cause in died["evalue"]
    assert "error" in types(shared.about(dying))
    assert reply(shared.finish(queued))["status"] == "aborted"
    after = reply(shared.run("doomed"))
    assert (after["ename"], after["execution_count"]) == ("NameError", died["execution_count"] + 1)


def test_a_death_in_silent_code_is_told_in_the_cell_behind(shared: Relay) -> None:
    """Set-up code that travels with a cell is heard by nobody: the cell fails, with the cause."""
    silent = shared.execute_request("import os; os._exit(3)", silent=True)
    cell, queued = shared.execute_request("1"), shared.execute_request("1")
    shared.exchange(silent, cell, queued)
    assert "exit code 3" in reply(shared.finish(cell))["evalue"]
    assert reply(shared.finish(queued))["status"] == "aborted"


def test_a_death_between_cells_is_told_in_the_next(shared: Relay) -> None:
    """Nobody's cell fails; the next one, and it alone, begins with what happened."""
    shared.run("doomed = 1; import os, threading; threading.Timer(0.2, os._exit, [3]).start()")
    generation = shared.exchange(hold=0).child.generation
    assert within(DEADLINE, lambda: shared.exchange(hold=0).child.generation > generation)
    for told in (True, False):
        messages = shared.run("'doomed' in globals()")
        assert "False" in str([message.content for message in messages])
        assert ("exit code 3" in text(messages)) is told


def test_a_child_that_never_starts_is_given_up(session: Session) -> None:
    """After three deaths at the start the state is failed, with the reason, and cells fail."""
    session.execute("import os; os.environ['IPYTHONDIR'] = '/dev/null/nowhere'")
    session.execute("os.environ['JUPYTER_PLATFORM_DIRS'] = '1'")
    session.execute("import sys; sys.executable = '/bin/false'")
    relay = Relay(session)
    relay.boot()
    assert reply(relay.run("1"))["ename"] == "DeadKernelError"
    child = relay.exchange(hold=0).child
    assert child.state == "failed"
    assert "exit code 1" in child.reason


def test_files_named_like_modules_keep_no_child_from_starting(session: Session) -> None:
    """A child starts in a folder with a `json.py`, and user code still finds its own modules."""
    for name in ("json", "logging", "socket"):
        (session.folder / f"{name}.py").write_text("raise ImportError('not this one')")
    (session.folder / "own.py").write_text("answer = 42")
    relay = Relay(session)
    relay.boot()
    assert relay.result("import own; own.answer") == "42"
    stock = session.execute("import sys; print(sys.path)").stdout
    assert text(relay.run("import sys; print(sys.path)")) == stock


def test_restart_gives_a_fresh_child_once(relay: Relay) -> None:
    """A restart ends a running cell within a second, counts from one, and is not repeated."""
    request = relay.execute_request("x = 1; import time; time.sleep(60)")
    relay.exchange(request)
    operation = Restart(relay.id)
    began = time.monotonic()
    assert relay.ask(operation).result == {"restarted": True}
    assert time.monotonic() - began < 1
    assert reply(relay.finish(request))["status"] == "aborted"
    relay.run("y = 2")
    assert relay.ask(operation).result == {"restarted": True}
    after = relay.run("(y, 'x' in globals())")
    assert reply(after)["execution_count"] == 2
    assert any("(2, False)" in str(message.content) for message in after)


def test_restart_leaves_no_process(relay: Relay) -> None:
    """What a cell has started dies with its child, in whatever group it is."""
    printed = text(
        relay.run(
            "import subprocess as s; print(s.Popen(['sleep', '99']).pid,"
            " s.Popen(['sleep', '99'], start_new_session=True).pid)"
        )
    )
    relay.ask(Restart(relay.id))
    for pid in map(int, printed.split()):
        assert within(2, lambda pid=pid: gone(pid))


def test_exit_functions_run_at_a_restart(relay: Relay) -> None:
    """An idle child is shut down in order, so that its exit functions run, for a second too."""
    last = "lambda: (time.sleep(1), open('ended', 'w').close())"
    relay.run(f"import atexit, time; atexit.register({last})")
    relay.ask(Restart(relay.id))
    assert (relay.session.folder / "ended").exists()


def test_end_leaves_the_session_as_it_was(relay: Relay) -> None:
    """After the end no process, no folder and no agent is left, and cells run in the session."""
    pid = relay.status()["child_pid"]
    folder = os.path.dirname(psutil.Process(pid).cmdline()[-1])  # noqa: PTH120  a string it was
    assert relay.ask(End(relay.id)).result == {"ended": True}
    assert gone(pid)
    assert not os.path.exists(folder)  # noqa: PTH110
    with pytest.raises(AgentMissing):
        relay.exchange()
    assert relay.session.execute("print(__import__('os').getpid())").stdout.strip() == str(
        relay.session.manager.provisioner.pid
    )


def test_a_delayed_end_waits_for_an_exchange(relay: Relay) -> None:
    """A delayed end happens, unless an exchange comes before it is due."""
    relay.run("1")
    pid = relay.status()["child_pid"]
    relay.ask(End(relay.id, delay=0.5))
    relay.exchange(hold=0)
    time.sleep(0.7)  # longer than the end that must not come
    assert not gone(pid)
    relay.ask(End(relay.id, delay=0.1))
    assert within(3, lambda: gone(pid))


def test_end_of_the_session(relay: Relay) -> None:
    """An end with `exit_session` answers, and then ends the session's own process."""
    pid = relay.session.manager.provisioner.pid
    assert relay.ask(End(relay.id, exit_session=True)).result == {"ended": True}
    assert within(5, lambda: gone(pid))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_session_takes_its_child_along(relay: Relay, end: signal.Signals) -> None:
    """If the session's process dies, child, subprocesses and folder are gone within two seconds."""
    sleeper = int(text(relay.run("import subprocess as s; print(s.Popen(['sleep', '99']).pid)")))
    pid = relay.status()["child_pid"]
    folder = os.path.dirname(psutil.Process(pid).cmdline()[-1])  # noqa: PTH120
    os.kill(relay.session.manager.provisioner.pid, end)
    assert within(2, lambda: gone(pid) and gone(sleeper))
    assert not os.path.exists(folder)  # noqa: PTH110


#: Starts a thread that fails whoever asks for its name.
UNCOUNTABLE = """
import threading
class Thread(threading.Thread):
    name = property(lambda self: 1 / 0)
Thread(target=threading.Event().wait, daemon=True).start()
"""


def test_an_uncountable_thread_can_still_speak(relay: Relay) -> None:
    """Where threads cannot be counted there is one, and the child still ends with its agent."""
    pid = relay.status()["child_pid"]
    folder = os.path.dirname(psutil.Process(pid).cmdline()[-1])  # noqa: PTH120
    relay.run(UNCOUNTABLE)
    idle = relay.exchange(hold=0).idle
    assert idle is not None
    assert idle.threads == 1
    os.kill(relay.session.manager.provisioner.pid, signal.SIGKILL)
    assert within(2, lambda: gone(pid) and not os.path.exists(folder))  # noqa: PTH110


def test_a_new_relay_takes_over(relay: Relay) -> None:
    """A second relay gets what the first had not acknowledged, and the first is told to stop."""
    request = relay.execute_request("z = 3; print('kept')")
    relay.session.call(encode(Exchange(relay.id, 0, (request,))))
    second = Relay(relay.session)
    second.boot()
    second.exchange()
    assert "kept" in text(second.finish(request))
    assert second.result("z") == "3"
    frame = relay.exchange(relay.execute_request("z = 4"))
    assert frame.superseded
    assert not frame.messages
    assert second.result("z") == "3"


def test_what_a_former_relay_asked_stops_no_cell_of_the_next(relay: Relay) -> None:
    """Its cell that fails stops its own cells; who came after it has nothing to do with them."""
    relay.run("import time; ran = []")
    fails = relay.execute_request("time.sleep(0.5); 1/0")
    behind = relay.execute_request("ran.append('behind')")
    relay.exchange(fails, behind, hold=0)
    second = Relay(relay.session, acknowledged=relay.acknowledged)
    second.boot()
    request = second.execute_request("ran.append('next')")
    second.exchange(request, hold=0)
    assert reply(second.finish(request))["status"] == "ok"
    assert second.result("ran") == "['next']"


def test_a_cell_with_a_former_ones_id_hears_that_it_does_not_run(relay: Relay) -> None:
    """What the agent itself says of a request is about that one, as what the child says is."""
    relay.run("import time")
    former = relay.execute_request("time.sleep(0.5); print('former')")
    relay.exchange(former, hold=0)
    second = Relay(relay.session, acknowledged=relay.acknowledged)
    second.boot()
    fails = second.execute_request("1/0")
    behind = replace(second.execute_request("print('not run')"), heard=second.acknowledged)
    behind = replace(behind, frames=(former.frames[0], *behind.frames[1:]))
    second.exchange(fails, behind, hold=0)
    assert reply(second.finish(behind)) == {"status": "aborted"}
    assert text(second.about(behind)) == ""


def test_a_third_cell_of_one_id_waits_for_the_first(relay: Relay) -> None:
    """The first one's end is its own, although two of its namesakes wait behind it."""
    relay.run("import os, time")
    first = relay.execute_request("while not os.path.exists('go'): time.sleep(0.01)")
    relay.exchange(first, hold=0)
    for name in ("second", "third"):
        relay = Relay(relay.session, acknowledged=relay.acknowledged)
        relay.boot()
        request = relay.execute_request(f"print({name!r})")
        request = replace(request, frames=(first.frames[0], *request.frames[1:]))
        relay.exchange(request, hold=0)
    (relay.session.folder / "go").touch()
    assert text(relay.finish(request)) == "third\n"


def test_an_interrupt_of_the_session_spares_the_exchange(relay: Relay) -> None:
    """A SIGINT of the session's process while an exchange waits does not lose its answer."""
    request = relay.execute_request("import time; time.sleep(0.8); print('whole')")
    relay.exchange(request, hold=0)
    call = encode(Exchange(relay.id, relay.acknowledged, (), hold=2))
    relay.session.client.execute(call.code)
    time.sleep(0.2)  # until the exchange waits
    relay.session.manager.interrupt_kernel()
    assert "whole" in text(relay.finish(request))


def test_variables_are_moved(session: Session) -> None:
    """A session's variables are in the child after a boot that moves them, with their reasons."""
    session.execute("import math, threading; a = [1]; b = {'a': a}; lock = threading.Lock()")
    by_value = (
        "cloudpickle"
        in session.execute(
            "import importlib.util as u; print(u.find_spec('cloudpickle')); del u"
        ).stdout
    )
    session.execute("def double(x): return 2 * x")
    relay = Relay(session)
    hello = relay.boot(move=True).hello
    assert hello is not None
    assert {*hello.moved, "double"} == {"a", "b", "double", "math", "threading"}
    assert ("double" in hello.moved) == by_value
    assert "pickle" in hello.not_moved["lock"]
    assert relay.result("(b['a'] is a, math.pi > 3)") == "(True, True)"


def test_variables_share_what_they_shared_without_cloudpickle(session: Session) -> None:
    """A class of a cell that cannot be moved costs itself and its objects, nothing else."""
    session.execute("import sys; sys.modules['cloudpickle'] = None")
    session.execute("class A: pass\na = A(); b = [1]; c = {'b': b}; f = lambda: 1")
    relay = Relay(session)
    hello = relay.boot(move=True).hello
    assert hello is not None
    assert hello.not_moved.keys() == {"A", "a", "f"}
    assert relay.result("c['b'] is b") == "True"


def test_variables_stay_where_they_are(session: Session) -> None:
    """Without `move` the child knows nothing of the session's variables, which are kept."""
    session.execute("a = 1; b = 2")
    relay = Relay(session)
    hello = relay.boot().hello
    assert hello is not None
    assert hello.moved == ()
    assert relay.result("'a' in globals()") == "False"


def test_the_first_count_can_be_set(session: Session) -> None:
    """The first cell of the child has the execution count that the boot names."""
    relay = Relay(session)
    relay.boot(execution_count=7)
    assert reply(relay.run("8"))["execution_count"] == 7
    assert relay.result("(In[7], Out[7])") == "('8', 8)"


def test_a_session_without_ipykernel_is_refused(session: Session) -> None:
    """A hello names what is missing, and nothing is left behind."""
    session.execute(
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'ipykernel' else find(n, *a)"
    )
    hello = Relay(session).boot().hello
    assert hello is not None
    assert "no ipykernel" in hello.refusal
    assert "False" in session.execute("print('_tci_agent' in sys.modules)").stdout


def test_odd_messages_do_no_harm(shared: Relay) -> None:
    """Messages of the user's own making, of any shape, leave the child running."""
    pid = shared.status()["child_pid"]
    shared.run(
        "kernel = get_ipython().kernel\n"
        "for kind in 'status stream comm_open comm_close execute_input nonsense'.split():\n"
        "    kernel.session.send(kernel.iopub_socket, kind, {}, kernel.get_parent())"
    )
    shared.run(
        "import json\n"
        "mark, header = b'<IDS|MSG>', json.dumps(kernel.get_parent()['header'], default=str)\n"
        "def send(kind, content, parent=header):\n"
        "    parts = [json.dumps({'msg_type': kind}), parent, '{}', json.dumps(content)]\n"
        "    kernel.iopub_socket.send_multipart([mark, b'', *map(str.encode, parts)])\n"
        "for parts in [b'x'], [mark], [mark, b'', b'{', b'', b'[]', b'\xff']:\n"
        "    kernel.iopub_socket.send_multipart(parts)\n"
        "kinds = 'status', 'stream', 'comm_open', 'comm_close', 'execute_input', None, [1]\n"
        "wrong = {'comm_id': [], 'execution_state': {}, 'execution_count': ''}\n"
        "for content in 1, [], None, wrong:\n"
        "    for kind in kinds:\n"
        "        for parent in header, '[]', '{\"msg_id\": []}':\n"
        "            send(kind, content, parent)\n"
    )
    assert shared.result("'well'") == "'well'"
    assert shared.status()["child_pid"] == pid


def test_status_tells_of_processes_and_memory(shared: Relay) -> None:
    """The status names the child's process and what memory it takes."""
    status = shared.status()
    assert psutil.Process(status["child_pid"]).ppid() == status["pid"]
    assert status["child_memory"] > 10**7
    json.dumps(status)


def test_a_session_without_ipython_works(tmp_path: Path) -> None:
    """Where plain Python runs the code, cells still run live, and hello says what does not."""
    loop = "import sys, json\nfor line in sys.stdin: exec(json.loads(line), {})\nprint(flush=True)"
    relay = Relay(cast("Session", None))
    hello, cell = boot(BootOptions(relay.id)), relay.execute_request("print(6 * 7)")
    exchange = encode(Exchange(relay.id, 0, (cell,), hold=10, gather=10))
    end = encode(End(relay.id))
    done = subprocess.run(
        [sys.executable, "-c", loop],
        input="".join(json.dumps(call.code) + "\n" for call in (hello, exchange, end)),
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    said = relay.frame_of(parse(done.stdout, hello.nonce)).hello
    assert said is not None
    assert not said.ipython
    assert "42" in text(list(relay.frame_of(parse(done.stdout, exchange.nonce)).messages))
