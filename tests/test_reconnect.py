"""A network that is far away, gone for a while, or does not come back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from conftest import Server, live_only, wait_until
from fault_proxy import FaultProxy, faulting
from notebooks import Notebook
from test_interrupts import by_message

pytestmark = live_only

#: Seconds that the network is gone in the middle of a cell.
OUTAGE = float(os.environ.get("TCI_TEST_OUTAGE", "60"))

TRYING = "does not answer; trying again"
AGAIN = "connected again; nothing was lost"


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """Stand between kernels and the shared server."""
    with faulting(server.url) as proxy:
        yield proxy


@pytest.fixture
def notebook(open_notebook: Callable[..., Notebook], proxy: FaultProxy) -> Notebook:
    """Return a notebook behind the proxy."""
    return open_notebook(TCI_BASE_URL=proxy.url, TCI_ANSWER_TIMEOUT="2", TCI_CONNECT_TIMEOUT="2")


def begin(notebook: Notebook, code: str) -> str:
    """Send a cell that says something first; return its request when that is here."""
    notebook.run("import time")
    request = notebook.send(f"print('on', flush=True); {code}")
    notebook.wait_for(request, "stream")
    return request


def wait_for_text(notebook: Notebook, request: str, words: str) -> None:
    """Wait until a cell's streams say these words."""
    wait_until(lambda: words in notebook.wait_for(request, "stream")["content"]["text"])


@pytest.mark.slow
@pytest.mark.timeout(OUTAGE + 180)
@pytest.mark.parametrize(
    ("silent", "outage"), [(True, OUTAGE), (False, OUTAGE / 6)], ids=["silent", "refusing"]
)
def test_a_cell_prints_on_while_the_network_is_gone(
    silent: bool, outage: float, notebook: Notebook, proxy: FaultProxy
) -> None:
    """All lines arrive in order, and the user is told that it fails and that it works again."""
    notebook.run("import time")
    lines = int(outage + 4) * 10
    code = f"for n in range({lines}): print(n, flush=True); time.sleep(0.1)"
    request = notebook.send(code)
    notebook.wait_for(request, "stream")
    with proxy.gone(silent=silent):
        told = notebook.wait_for(request, "stream")
        while TRYING not in told["content"]["text"]:
            told = notebook.wait_for(request, "stream", deadline=12)
        time.sleep(outage)  # the outage is what is tested
    cell = notebook.finish(request)
    numbers = [int(line) for line in cell.stdout.split()]
    assert numbers == list(range(numbers[0], lines))
    assert cell.stderr.count(AGAIN) == 1
    assert TRYING not in cell.stderr
    assert cell.status == "ok"


def test_an_interrupt_reaches_what_is_far_away(notebook: Notebook, proxy: FaultProxy) -> None:
    """Within a second of a round trip it ends a cell, whatever the agent waits for just then."""
    notebook.run("1 / 0")  # the first traceback of a Python imports what shows it
    proxy.round_trip = 0.15
    for _ in range(3):
        request = begin(notebook, "time.sleep(60)")
        sent = time.monotonic()
        by_message(notebook)
        assert notebook.finish(request).error == "KeyboardInterrupt"
        assert time.monotonic() - sent < 1 + proxy.round_trip


def test_a_kernel_that_ends_while_it_finds_its_session_ends_that(
    open_notebook: Callable[..., Notebook], proxy: FaultProxy, server: Server
) -> None:
    """SIGTERM during the first request of a restarted kernel leaves no session behind."""
    before = server.sessions().keys()
    notebook = open_notebook(TCI_BASE_URL=proxy.url, TCI_HANDOVER_TIMEOUT="0.5")
    notebook.run("1")
    proxy.round_trip = 0.5
    notebook.client.stop_channels()
    requests = proxy.counts.total()
    notebook.manager.restart_kernel(now=True)
    wait_until(lambda: proxy.counts.total() > requests)
    notebook.manager.provisioner.process.send_signal(signal.SIGTERM)
    assert notebook.manager.provisioner.process.wait(10) == 0
    wait_until(lambda: server.sessions().keys() == before, deadline=15)


def test_a_server_that_connects_meanwhile_is_answered(
    notebook: Notebook, proxy: FaultProxy
) -> None:
    """What Jupyter Server asks on control, at each reload of a page, waits for no network."""
    request = begin(notebook, "time.sleep(60)")
    with proxy.gone(silent=True):
        wait_for_text(notebook, request, TRYING)
        assert notebook.command("kernel_info_request", {})["status"] == "ok"
    by_message(notebook)
    assert notebook.finish(request).error == "KeyboardInterrupt"


def test_an_interrupt_waits_for_the_network(notebook: Notebook, proxy: FaultProxy) -> None:
    """What was sent while the network was gone arrives when it is back: an interrupt, a cell."""
    request = begin(notebook, "time.sleep(120)")
    with proxy.gone(silent=False):
        wait_for_text(notebook, request, TRYING)
        by_message(notebook)
        said = notebook.wait_for(request, "stream", deadline=5)["content"]["text"]
        assert "Interrupt once more" in said
        asked = notebook.client.complete("time.sl", 7)
    cell = notebook.finish(request)
    assert cell.error == "KeyboardInterrupt"
    assert AGAIN in cell.stderr
    assert "sleep" in str(notebook.reply(asked)["content"]["matches"])
    assert notebook.run("1 + 1").result == "2"


def test_a_second_interrupt_leaves_a_cell_without_network(
    notebook: Notebook, proxy: FaultProxy
) -> None:
    """Nobody has to wait for a network; once it is back, the session is found as it was."""
    notebook.run("x = 42")
    request = begin(notebook, "time.sleep(3); x = 43; print('late')")
    with proxy.gone(silent=False):
        wait_for_text(notebook, request, TRYING)
        by_message(notebook)
        by_message(notebook)
        cell = notebook.finish(request, deadline=5)
        assert cell.error == "ConnectionLost"
        assert "may run on" in cell.contents("error")[0]["evalue"]
        waiting = notebook.send("x")
        wait_for_text(notebook, waiting, TRYING)
        by_message(notebook)
        assert notebook.finish(waiting, deadline=5).error == "KeyboardInterrupt"
    assert notebook.run("x").result == "43"


def test_an_interrupt_before_the_silence_is_known_counts(
    notebook: Notebook, proxy: FaultProxy
) -> None:
    """Once the user is told of the silence, they are told of their interrupt too; one more ends."""
    request = begin(notebook, "time.sleep(3)")
    with proxy.gone(silent=False):
        by_message(notebook)
        wait_for_text(notebook, request, "once more")
        by_message(notebook)
        assert notebook.finish(request, deadline=5).error == "ConnectionLost"


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "refusing"])
@pytest.mark.parametrize("how", ["restart", "shutdown"])
def test_a_kernel_without_network_ends_in_time(
    how: str, silent: bool, notebook: Notebook, proxy: FaultProxy
) -> None:
    """Restart and shutdown in the middle of a cell take less than five seconds."""
    begin(notebook, "time.sleep(5)")
    process = notebook.manager.provisioner.process
    with proxy.gone(silent=silent):
        notebook.manager.request_shutdown(restart=how == "restart")
        assert process.wait(5) == 0
