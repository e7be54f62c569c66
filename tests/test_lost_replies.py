"""A cell whose reply ipykernel would lose: the front end gets one, and the next cell runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from session_kernel import Relay, session_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGINT = "__import__('signal').raise_signal(2)"
BEFORE_CODE = "get_ipython().kernel._publish_execute_input = lambda *_: {}"
BEHIND_CODE = "get_ipython().payload_manager.read_payload = lambda: {}"
MEND = "del get_ipython().payload_manager.read_payload"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One session with an agent."""
    with session_kernel(tmp_path_factory.mktemp("replies")) as session:
        relay = Relay(session)
        relay.boot()
        yield relay


def reply_to(relay: Relay, code: str) -> dict[str, object]:
    """Run a cell and return what its one reply says."""
    [reply] = [m.content for m in relay.run(code) if m.msg_type == "execute_reply"]
    return reply


def test_code_that_keeps_pythons_lock_from_the_start_is_interrupted(relay: Relay) -> None:
    """It heeds signals, but the cell cannot say that it has begun; the next cell meets nothing."""
    pid = relay.result("import os, re; os.getpid()")
    request = relay.execute_request("re.match('(a+)+$', 'a' * 32 + 'b')")
    relay.exchange(request, hold=0)
    begin = time.monotonic()
    relay.exchange(relay.message("interrupt_request", {}, "control"), hold=0)
    [reply] = [m.content for m in relay.finish(request) if m.msg_type == "execute_reply"]
    assert reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - begin < 10  # the match takes a minute
    assert relay.result("os.getpid()") == pid


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_behind_the_code_fails_the_cell(relay: Relay, times: int) -> None:
    """What interrupts the kernel itself, once or twice, costs neither reply nor variables."""
    pid = relay.result("import os; x = 1; os.getpid()")
    raising = ", ".join([SIGINT] * times)
    assert reply_to(relay, BEHIND_CODE.format(f"[{raising}]"))["ename"] == "KeyboardInterrupt"
    relay.run(MEND)
    assert relay.result("x, os.getpid()") == f"(1, {pid})"


def test_an_interrupt_before_the_code_keeps_it_from_running(relay: Relay) -> None:
    """One that comes while the kernel makes ready is heeded when the code is to begin."""
    relay.run(f"ran = False; {BEFORE_CODE.format(SIGINT)}")
    assert reply_to(relay, "ran = True")["ename"] == "KeyboardInterrupt"
    relay.run("del get_ipython().kernel._publish_execute_input", silent=True)
    assert relay.result("ran") == "False"


def test_interrupts_of_a_completion_cost_no_variables(relay: Relay) -> None:
    """One inside it and one right behind it end the completion, not the user's Python."""
    pid = relay.result("import os; os.getpid()")
    kernel = "get_ipython().kernel"
    relay.run(f"{kernel}.do_complete = {kernel}.log.error = lambda *_, **__: {SIGINT}")
    relay.exchange(relay.message("complete_request", {"code": "a", "cursor_pos": 1}))
    assert relay.result("os.getpid()") == pid
    relay.run(f"del {kernel}.do_complete, {kernel}.log.error")


def test_a_fault_of_the_kernel_is_a_reply_too(relay: Relay) -> None:
    """A cell that is idle and has no reply gets one before long that says so."""
    said = relay.run(BEHIND_CODE.format("1 / 0"))
    [reply] = [m.content for m in said if m.msg_type == "execute_reply"]
    assert any(m.msg_type == "error" for m in said)
    assert (reply["status"], reply["ename"]) == ("error", "KernelError")
    assert "variables are kept" in str(reply["evalue"])
    relay.run(MEND)
    assert relay.result("6 * 7") == "42"


def test_a_reply_behind_a_thread_that_keeps_pythons_lock_is_the_only_one(relay: Relay) -> None:
    """A cell's reply may come seconds behind its idle; nothing else is said in its place."""
    relay.run(
        "import ctypes, threading, time\n"
        "def keep():\n"
        "    for _ in range(3): ctypes.PyDLL(None).usleep(1_200_000); time.sleep(0.001)\n"
    )
    assert reply_to(relay, "threading.Thread(target=keep).start()")["status"] == "ok"
    assert relay.result("6 * 7") == "42"
