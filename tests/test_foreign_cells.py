"""Cells that other clients send to the session, which run in the child."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from session_kernel import Relay, Session, session_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One session with an agent."""
    with session_kernel(tmp_path_factory.mktemp("foreign")) as session:
        relay = Relay(session)
        relay.boot()
        yield relay


@pytest.fixture
def session(relay: Relay) -> Session:
    """Return the session as another client sees it."""
    return relay.session


def test_names_are_shared(relay: Relay, session: Session) -> None:
    """A name that one side sets is there for the other, both ways."""
    session.execute("x = 42")
    assert relay.result("x") == "42"
    relay.run("y = x + 1")
    assert session.execute("print(y)").stdout == "43\n"


def test_a_result_is_the_sessions_result(session: Session) -> None:
    """The last expression comes as an execute_result with all its types and metadata."""
    outputs = session.execute(
        "class R:\n def _repr_mimebundle_(self, **_):\n"
        "  return {'text/plain': 'r', 'image/png': 'aGk='}, {'image/png': {'width': 3}}\nR()"
    )
    (result,) = outputs.contents("execute_result")
    assert result["data"] == {"text/plain": "r", "image/png": "aGk="}
    assert result["metadata"] == {"image/png": {"width": 3}}
    assert outputs.reply["status"] == "ok"


def test_streams_keep_their_names(session: Session) -> None:
    """What goes to stdout and stderr comes on stdout and stderr."""
    outputs = session.execute("import sys; print('o'); print('e', file=sys.stderr)")
    texts = {item["name"]: item["text"] for item in outputs.contents("stream")}
    assert texts == {"stdout": "o\n", "stderr": "e\n"}


def test_output_comes_while_the_cell_runs(session: Session) -> None:
    """A foreign cell's prints are published when they happen."""
    outputs = session.execute("import time\nfor i in 'ab': print(i, flush=True); time.sleep(0.6)")
    times = [item["header"]["date"] for item in outputs.messages if item["msg_type"] == "stream"]
    assert (times[-1] - times[0]).total_seconds() > 0.3


def test_displays_can_be_updated(session: Session) -> None:
    """Displays, their updates by id and clear_output are the session's own messages."""
    outputs = session.execute(
        "from IPython.display import display, clear_output, HTML\n"
        "handle = display(HTML('1'), display_id='d')\nhandle.update(HTML('2'))\nclear_output(True)"
    )
    (shown,), (updated,) = outputs.contents("display_data"), outputs.contents("update_display_data")
    assert (shown["data"]["text/html"], updated["data"]["text/html"]) == ("1", "2")
    assert shown["transient"] == updated["transient"] == {"display_id": "d"}
    assert outputs.contents("clear_output") == [{"wait": True}]


def test_an_error_is_the_sessions_error(session: Session) -> None:
    """An exception gives the session's reply the name, value and traceback of the child's."""
    outputs = session.execute("def f():\n    raise KeyError('gone')\nf()")
    assert (outputs.reply["ename"], outputs.reply["evalue"]) == ("KeyError", "'gone'")
    (error,) = outputs.contents("error")
    assert "raise" in "".join(error["traceback"])
    assert "_tci_agent" not in "".join(error["traceback"])


@pytest.mark.parametrize("code", ["x = ", "%nosuchmagic", "raise SystemExit(0)"])
def test_errors_of_every_kind_arrive(relay: Relay, session: Session, code: str) -> None:
    """What fails before or without an exception gives what the notebook gets for it."""
    local = next(item for item in relay.run(code) if item.msg_type == "execute_reply").content
    foreign = session.execute(code).reply
    assert foreign["status"] == local["status"]
    assert foreign.get("ename") == local.get("ename")


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("%%capture held\nprint('in')\n", ""),
        ("held.show()", "in\n"),
        ("!echo shell", "shell"),
        ("import asyncio; await asyncio.sleep(0); print('awaited')", "awaited"),
        ("'quoted \\' \"\"\" text'; print('''a\n\tb''')", "a\n\tb"),
    ],
)
def test_magics_and_awaits_run(session: Session, code: str, printed: str) -> None:
    """A foreign cell reaches the child as it was sent, magics and top-level await included."""
    outputs = session.execute(code)
    assert outputs.reply["status"] == "ok"
    assert printed in outputs.stdout.replace("\r", "")
    assert bool(printed) == bool(outputs.stdout)


def test_the_notebook_sees_foreign_cells(relay: Relay, session: Session) -> None:
    """A foreign cell's messages reach the relay, as another client's do in Jupyter."""
    session.execute("print('for all')")
    relay.exchange()
    texts = [item.content["text"] for item in relay.heard if item.msg_type == "stream"]
    assert "for all\n" in "".join(texts)  # a child may send the end of the line by itself
    assert "execute_input" in [item.msg_type for item in relay.heard[-6:]]


def test_history_counts_on(relay: Relay, session: Session) -> None:
    """Foreign cells are part of the child's history and count."""
    before = relay.result("get_ipython().execution_count")
    session.execute("'foreign cell'")
    assert relay.result("get_ipython().execution_count") == str(int(before) + 2)
    assert relay.result("In[-3]") == "\"'foreign cell'\""


def test_an_interrupt_goes_on_to_the_child(session: Session) -> None:
    """An interrupt of the session's process ends a foreign cell in the child."""
    msg_id = session.client.execute(
        "import time; print('on', flush=True); time.sleep(30)", stop_on_error=False
    )
    while session.client.get_iopub_msg(timeout=10)["msg_type"] != "stream":
        pass
    began = time.monotonic()
    session.manager.interrupt_kernel()
    reply = session.client._recv_reply(msg_id, timeout=10)
    assert time.monotonic() - began < 1
    assert reply["content"]["ename"] == "KeyboardInterrupt"


#: Interrupts the session once a foreign cell is there.
INTERRUPT_NEXT = """# tci-agent
import os, sys, threading, time
def interrupt(foreign=sys.modules["_tci_agent.entry"].front.conversation.foreign):
    while not foreign:
        time.sleep(0.01)
    os.kill(os.getpid(), 2)
threading.Thread(target=interrupt).start()"""


def test_an_interrupt_spares_a_front_ends_cell(relay: Relay, session: Session) -> None:
    """A foreign cell that waits behind it is left at once, and never runs."""
    session.execute(INTERRUPT_NEXT)
    cell = "ran = []; import time; time.sleep(1.5); ran.append(1)"
    front_ends = relay.execute_request(cell)
    relay.exchange(front_ends, hold=0)
    began = time.monotonic()
    outputs = session.execute("time.sleep(30); ran.append(2)")
    assert outputs.reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - began < 1
    relay.finish(front_ends)
    assert relay.result("ran") == "[1]"


def test_a_question_of_a_front_ends_cell_is_not_waited_for(relay: Relay, session: Session) -> None:
    """A foreign cell gives way to a cell that waits for what only a front end can bring."""
    asking = relay.execute_request("answer = input()", allow_stdin=True)
    relay.exchange(asking)
    began = time.monotonic()
    outputs = session.execute("answer = 'by nobody'")
    assert outputs.reply["ename"] == "SessionBusy"
    assert "has run" in outputs.reply["evalue"]
    assert time.monotonic() - began < 20
    relay.exchange(relay.message("input_reply", {"value": "by a person"}, "stdin"))
    relay.finish(asking)
    assert relay.result("answer") == "'by a person'"


def test_a_front_ends_error_does_not_abort(relay: Relay, session: Session) -> None:
    """A foreign cell that waits behind a front end's cell that fails runs all the same."""
    relay.exchange(relay.execute_request("import time; time.sleep(0.5); 1 / 0"), hold=0)
    assert session.execute("print('ran')").stdout == "ran\n"


def test_input_is_refused(session: Session) -> None:
    """A foreign cell cannot ask: nobody could answer."""
    assert session.execute("input()").reply["ename"] == "StdinNotImplementedError"


def test_a_foreign_death_is_told(relay: Relay, session: Session) -> None:
    """A foreign cell that kills the child gets the error, and the next one runs."""
    assert session.execute("import os; os._exit(9)").reply["ename"] == "DeadKernelError"
    assert session.execute("print('back')").stdout == "back\n"
    assert relay.exchange(hold=0).child.generation == 2
