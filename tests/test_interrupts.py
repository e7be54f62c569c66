"""Interrupts at every moment: the cell ends, the queue is aborted, the next cell works."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from conftest import Server, live_only, plain_only
from notebooks import DEADLINE, Notebook
from scripted_service import serving, success

LONG = "import time; print('begun'); time.sleep({}); print('ended')"


def by_message(notebook: Notebook) -> None:
    """Interrupt as the kernelspec says, and wait for the reply."""
    message = notebook.client.session.msg("interrupt_request", {})
    notebook.client.control_channel.send(message)
    reply = notebook.client.get_control_msg(timeout=10)
    assert reply["parent_header"]["msg_id"] == message["header"]["msg_id"]
    assert reply["content"] == {"status": "ok"}


def by_signal(notebook: Notebook) -> None:
    """Interrupt as a terminal does."""
    os.kill(notebook.manager.provisioner.pid, signal.SIGINT)


both_modes = pytest.mark.parametrize("interrupt", [by_message, by_signal])


@both_modes
@plain_only
def test_a_running_cell_ends_at_once(
    notebook: Notebook, interrupt: Callable[[Notebook], None], server: Server
) -> None:
    """The front end gets KeyboardInterrupt and is told that the remote code may still run."""
    notebook.run("x = 1")
    request = notebook.send(LONG.format(1.5))
    notebook.wait_for(request, "execute_input")
    _until_sent(notebook, server)
    interrupt(notebook)
    cell = notebook.finish(request, deadline=10)
    assert (cell.status, cell.error) == ("error", "KeyboardInterrupt")
    assert "may still run" in cell.stderr
    after = notebook.run("x")
    assert (after.status, after.result) == ("ok", "1")
    assert "waits behind it" in after.stderr


def _until_sent(notebook: Notebook, server: Server) -> None:
    """Wait until the session runs the second request."""
    from conftest import wait_until

    wait_until(lambda: any(s["execute_count"] >= 2 for s in server.sessions().values()))


@both_modes
def test_twice_is_not_too_often(notebook: Notebook, interrupt: Callable[[Notebook], None]) -> None:
    """A second interrupt during and after the first does no harm."""
    notebook.run("1")
    request = notebook.send(LONG.format(0.5))
    notebook.wait_for(request, "execute_input")
    interrupt(notebook)
    interrupt(notebook)
    assert notebook.finish(request).status == "error"
    interrupt(notebook)
    assert notebook.run("2").result == "2"


@both_modes
def test_idle_is_left_alone(notebook: Notebook, interrupt: Callable[[Notebook], None]) -> None:
    """An interrupt without a cell changes nothing."""
    interrupt(notebook)
    assert notebook.run("'alive'").result == "'alive'"
    interrupt(notebook)
    assert notebook.run("'alive'").result == "'alive'"


@both_modes
def test_queued_cells_are_aborted(
    notebook: Notebook, interrupt: Callable[[Notebook], None]
) -> None:
    """What was queued behind the interrupted cell does not run."""
    notebook.run("ran = []")
    first = notebook.send(LONG.format(0.5))
    queued = [notebook.send(f"ran.append({n})") for n in range(3)]
    notebook.wait_for(first, "execute_input")
    interrupt(notebook)
    assert notebook.finish(first).error == "KeyboardInterrupt"
    assert [notebook.finish(request).status for request in queued] == ["aborted"] * 3
    assert notebook.run("ran").result == "[]"


@plain_only
def test_a_cell_that_waits_can_be_interrupted(notebook: Notebook, server: Server) -> None:
    """The cell behind an interrupted one ends too, and is never run."""
    notebook.run("ran = 0")
    first = notebook.send(LONG.format(4))
    notebook.wait_for(first, "execute_input")
    _until_sent(notebook, server)
    by_message(notebook)
    notebook.finish(first)
    second = notebook.send("ran = 1")
    notebook.wait_for(second, "stream")
    by_message(notebook)
    assert notebook.finish(second, deadline=10).error == "KeyboardInterrupt"
    assert notebook.run("ran").result == "0"


def test_a_cell_that_was_not_sent_is_taken_back(open_notebook: Callable[..., Notebook]) -> None:
    """While the service cannot be reached, an interrupt means that the code never runs."""
    with serving(success()) as service:
        pass
    notebook = open_notebook(TCI_BASE_URL=service.url, TCI_RETRIES="1000")
    request = notebook.send("1")
    notebook.wait_for(request, "execute_input")
    by_message(notebook)
    cell = notebook.finish(request, deadline=10)
    assert cell.error == "KeyboardInterrupt"
    assert "may still run" not in cell.stderr


@plain_only
def test_a_cell_that_prints_for_ever_can_be_left(notebook: Notebook) -> None:
    """`%tci new` gets away from a cell that never ends."""
    request = notebook.send("while True: print('x' * 100)")
    notebook.wait_for(request, "execute_input")
    by_message(notebook)
    assert notebook.finish(request, deadline=10).error == "KeyboardInterrupt"
    assert notebook.run("%tci new").status == "ok"
    assert notebook.run("'free'").result == "'free'"


#: A flush returns before its text is sent, which C code that keeps the GIL then prevents; the
#: second waits for the first.
SAY_ON = "print('on', flush=True); print(end='', flush=True)"

BLOCKED = {
    "sleep": "import time; print('on', flush=True); time.sleep(60)",
    "subprocess": "print('on', flush=True)\n!sleep 60",
    "loop": "print('on', flush=True)\nwhile True: pass",
    "C loop": f"import sys; sys.set_int_max_str_digits(0); {SAY_ON}\ndigits = str(1 << 10**8)",
    "await": "import asyncio; print('on', flush=True); await asyncio.sleep(60)",
    "lock": "import threading; print('on', flush=True); threading.Event().wait()",
}


def _lines(notebook: Notebook, request: str) -> list[str]:
    """Return the next lines that a cell prints."""
    return str(notebook.wait_for(request, "stream")["content"]["text"]).split()


def test_a_cell_that_flushes_for_ever_ends_soon(live: Notebook) -> None:
    """A front end is not long kept busy with what had been printed, and misses none of it."""
    request = live.send("n = 0\nwhile True: print(n, flush=True); n += 1")
    while not any(len(line) > 4 for line in _lines(live, request)):
        pass
    by_message(live)
    cell = live.finish(request, deadline=20)
    assert cell.error == "KeyboardInterrupt"
    numbers = [int(line) for line in cell.stdout.split()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.parametrize("what", BLOCKED)
def test_what_blocks_ends_within_a_second(live: Notebook, what: str) -> None:
    """A live cell is interrupted where it stands, with the child's own traceback."""
    request = live.send(BLOCKED[what])
    live.wait_for(request, "stream")
    begun = time.monotonic()
    by_message(live)
    cell = live.finish(request, deadline=20)
    assert time.monotonic() - begun < 1
    if what != "subprocess":  # IPython's own rule: the shell command ends, and the cell goes on
        assert cell.error == ("CancelledError" if what == "await" else "KeyboardInterrupt")
    assert live.run("'alive'").result == "'alive'"


@pytest.mark.parametrize("begin", ["", "%tci status\n"])
def test_the_interrupts_own_idle_comes_last(live: Notebook, begin: str) -> None:
    """A console, which takes the first idle for the cell's, shows the traceback."""
    request = live.send(f"{begin}{BLOCKED['sleep']}")
    live.wait_for(request, "stream")
    interrupt = live.tell("interrupt_request", {}, channel="control")
    parents = []
    while interrupt not in parents:
        message = live.client.get_iopub_msg(timeout=DEADLINE)
        if message["content"].get("execution_state") == "idle":
            parents.append(message["parent_header"]["msg_id"])
    assert parents == [request, interrupt]
    live.reply(request)
    live.client.get_control_msg(timeout=DEADLINE)


def test_cells_behind_an_interrupted_one_run_if_told_so(live: Notebook) -> None:
    """With `stop_on_error` false, as VS Code sends, an interrupt ends one cell only."""
    first = live.send(BLOCKED["sleep"], stop_on_error=False)
    second = live.send("'runs'")
    live.wait_for(first, "stream")
    by_message(live)
    assert live.finish(first).error == "KeyboardInterrupt"
    assert live.finish(second).result == "'runs'"


def test_a_cell_that_the_child_has_not_begun_is_interrupted(live: Notebook) -> None:
    """One that waits for Python to start again ends as soon as it has begun."""
    assert live.run("import os; os._exit(1)").error == "DeadKernelError"
    cell = live.send("import time; time.sleep(60)")
    live.wait_for(
        cell, "status"
    )  # the kernel has it; an interrupt goes another way, and is quicker
    live.manager.interrupt_kernel()
    assert live.finish(cell, deadline=20).error == "KeyboardInterrupt"
    assert live.run("6 * 7").result == "42"


def test_an_interrupt_meets_what_was_sent_before_it(live: Notebook) -> None:
    """One that comes while a question is answered leaves the cell behind it alone."""
    for _ in range(20):
        live.client.complete("pri", 3)
        by_message(live)
        assert live.run("'runs'").result == "'runs'"


def test_a_cell_that_makes_a_session_is_interrupted_at_any_moment(live: Notebook) -> None:
    """Once the kernel has it, no interrupt is lost, wherever the cell is on its way."""
    for tenth in range(10):
        live.run("%tci new")
        cell = live.send("import time; time.sleep(60)")
        live.wait_for(cell, "status")
        live.silence(tenth * 0.05)
        live.manager.interrupt_kernel()
        assert live.finish(cell, deadline=20).error == "KeyboardInterrupt"


def test_a_question_that_is_interrupted_is_answered(live: Notebook) -> None:
    """Nobody waits for ever: the answer says that it was interrupted."""
    live.run(
        "class Slow:\n"
        "    def __dir__(self):\n        import time; print('asked', flush=True); time.sleep(60)\n"
        "slow = Slow()"
    )
    asked = live.client.complete("slow.", 5)
    live.wait_for(asked, "stream")
    by_message(live)
    assert live.reply(asked)["content"]["status"] in {"ok", "error"}
    assert live.run("6 * 7").result == "42"


@pytest.mark.slow
@live_only
def test_code_that_cannot_be_interrupted_is_told(notebook: Notebook) -> None:
    """After a while the user is told to restart; that works, and keeps the files."""
    notebook.run("open('kept', 'w').close()")
    request = notebook.send(f"{SAY_ON}; sum(iter(int, 1))")
    notebook.wait_for(request, "stream")
    by_message(notebook)
    told = notebook.wait_for(request, "stream", deadline=20)["content"]["text"]
    assert "does not react to the interrupt" in told
    begun = time.monotonic()
    notebook.restart()
    assert notebook.run("import os; os.path.exists('kept')").result == "True"
    assert time.monotonic() - begun < 15
