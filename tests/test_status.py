"""What `%tci status` and the first cell say about the transport, whatever the session can do."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import pytest

from conftest import Server, live_only, plain_only, wait_until
from notebooks import Notebook
from scripted_service import ENDS_CHILDREN, LimitedService

#: Hides ipykernel from the session, until there is a file that says that it is installed.
HIDE = (
    "import importlib.util as _u, os as _os; _find = _u.find_spec\n"
    "_u.find_spec = lambda name, *a: None if name == 'ipykernel' "
    "and not _os.path.exists('installed') else _find(name, *a); "
    "_os.environ.update(PYTHONPATH=_os.getcwd(), INSTALLED=_os.path.abspath('installed'))"
)
#: What `python -m pip` finds first, below PYTHONPATH.
PIP = {
    "works": "import os, sys; assert sys.argv[-1] == 'ipykernel'; "
    "open(os.environ['INSTALLED'], 'w')",
    "fails": "print('no network here'); raise SystemExit(1)",
}


def status(notebook: Notebook) -> dict[str, str]:
    """Return the rows of `%tci status` by their names."""
    [display] = notebook.run("%tci status").contents("display_data")
    lines = display["data"]["text/plain"].splitlines()
    return dict(line.split("  ", 1) for line in lines if "  " in line)


@pytest.fixture
def crippled(server: Server, open_notebook: Callable[..., Notebook]) -> Callable[..., Notebook]:
    """Open a notebook in a session without ipykernel, whose pip works or fails."""

    def open_one(pip: str, **env: str) -> Notebook:
        file = {"name": "pip.py", "encoding": "string", "content": PIP[pip]}
        session_id = server.run(HIDE, files=[file])["session_id"]
        return open_notebook(**{"TCI_TRANSPORT": "auto", "TCI_SESSION_ID": session_id, **env})

    return open_one


@live_only
def test_status_tells_how_the_child_is(notebook: Notebook) -> None:
    """In live transport a row has the state, age and memory of the Python that runs the cells."""
    notebook.run("1")
    rows = status(notebook)
    assert rows["Transport"].strip() == "live, as TCI_TRANSPORT says"
    assert "ready for" in rows["Python"]
    assert "MB of memory" in rows["Python"]
    assert rows["Connection"].strip().endswith(" ms")


@plain_only
def test_status_tells_that_plain_was_chosen(notebook: Notebook) -> None:
    """In plain transport by setting there is no child, and the setting is named."""
    notebook.run("1")
    rows = status(notebook)
    assert rows["Transport"].strip() == "plain, as TCI_TRANSPORT says"
    assert "Python" not in rows


@live_only
def test_what_is_missing_is_installed(crippled: Callable[..., Notebook]) -> None:
    """A session without ipykernel gets it; the first cell says so, and cells run live."""
    notebook = crippled("works")
    cell = notebook.run("6 * 7")
    assert cell.result == "42"
    assert "ipykernel has been installed" in cell.stderr
    assert status(notebook)["Transport"].strip() == "live"
    assert notebook.run("1").stderr == ""


@live_only
def test_a_session_in_which_no_child_lives_is_plain(
    server: Server, open_notebook: Callable[..., Notebook]
) -> None:
    """The first cell says why, and all cells run in plain transport."""
    session_id = server.run("import sys; sys.executable = '/bin/false'")["session_id"]
    notebook = open_notebook(TCI_TRANSPORT="auto", TCI_SESSION_ID=session_id)
    cells = [notebook.run("6 * 7") for _ in range(2)]
    assert [cell.result for cell in cells] == ["42", "42"]
    told = "".join(cell.stderr for cell in cells)
    assert told.count("cannot do live transport (Python") == 1


@live_only
def test_a_session_that_ends_its_processes_is_plain(
    server: Server, open_notebook: Callable[..., Notebook]
) -> None:
    """Where no child outlives its request, variables last all the same, from the first cell on."""
    with contextlib.closing(LimitedService(server, ENDS_CHILDREN)) as service:
        notebook = open_notebook(TCI_BASE_URL=service.url, TCI_TRANSPORT="auto")
        requests = [notebook.client.execute(code) for code in ("x = 6", "x *= 7", "x")]
        cells = [notebook.finish(request) for request in requests]
        assert "does not live on until the next request. Python has died" in cells[0].stderr
        assert cells[2].result == "42"
        assert status(notebook)["Transport"].strip().startswith("plain: live was tried")
        notebook.close()


@live_only
@pytest.mark.parametrize(
    ("env", "reason"),
    [({"TCI_INSTALL": "false"}, "The session has no ipykernel"), ({}, "no network here")],
)
def test_what_cannot_be_installed_makes_it_plain(
    crippled: Callable[..., Notebook], env: dict[str, str], reason: str
) -> None:
    """The fallback is said once, with its reason, in the cell, and always in the status."""
    notebook = crippled("fails", **env)
    assert notebook.run("1", store_history=False).stderr == ""  # nobody would see it there
    cell = notebook.run("6 * 7")
    assert cell.result == "42"
    assert reason in cell.stderr
    assert notebook.run("1").stderr == ""
    said = status(notebook)["Transport"].strip()
    assert said.startswith("plain: live was tried")
    assert reason in said


@live_only
def test_live_that_was_asked_for_does_not_fall_back(crippled: Callable[..., Notebook]) -> None:
    """With TCI_TRANSPORT=live the cell fails with the reason, and nothing runs."""
    notebook = crippled("fails", TCI_TRANSPORT="live")
    cell = notebook.run("print('never')")
    assert (cell.error, cell.stdout) == ("LiveRefused", "")


@live_only
@pytest.mark.parametrize("cut", [600, 2000])
def test_output_that_is_cut_makes_it_plain(
    open_notebook: Callable[..., Notebook], server: Server, cut: int
) -> None:
    """Where frames do not come back whole, a cell says so, and all the rest is plain."""
    with contextlib.closing(LimitedService(server, cut=cut)) as service:
        notebook = open_notebook(TCI_BASE_URL=service.url, TCI_TRANSPORT="auto")
        notebook.run("import os; os.urandom(3000)")
        cell = notebook.run("print('x' * 10)")
        assert cell.stdout == "xxxxxxxxxx\n"
        notebook.run("my_variable = 42")
        cell = notebook.run("", user_expressions={"mine": "my_variable"})
        assert cell.reply["content"]["user_expressions"]["mine"]["status"] == "ok"
        assert "my_variable" in notebook.ask("complete", code="my_var")["matches"]
        assert status(notebook)["Transport"].strip().startswith("plain: live was tried")
        notebook.close()


@live_only
def test_an_end_of_live_transport_between_cells_is_told(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """The next cell does not run on variables that are gone; those behind it run."""
    with contextlib.closing(LimitedService(server)) as service:
        notebook = open_notebook(TCI_BASE_URL=service.url, TCI_TRANSPORT="auto")
        notebook.run(SPEAKER)
        service.cut = 600
        wait_until(lambda: not status(notebook)["Transport"].strip().startswith("live"))
        cell = notebook.run("print('never')")
        assert (cell.error, cell.stdout) == ("LiveRefused", "")
        assert "variables" in cell.contents("error")[0]["evalue"]
        assert "does not return frames" in notebook.run("x = 6").stderr
        assert notebook.run("x * 7").result == "42"
        notebook.close()


SPEAKER = """
import threading, time
def speak():
    while True: print('x' * 1000); time.sleep(0.1)
threading.Thread(target=speak, daemon=True).start()
"""


@live_only
@pytest.mark.parametrize("cut", [10_000, 100_000])
def test_output_that_is_cut_comes_in_smaller_pieces(
    server: Server, open_notebook: Callable[..., Notebook], cut: int
) -> None:
    """A service that returns little of stdout at once takes more requests, and loses nothing."""
    with contextlib.closing(LimitedService(server, cut=cut)) as service:
        notebook = open_notebook(TCI_BASE_URL=service.url, TCI_TRANSPORT="auto")
        cell = notebook.run("import os; text = os.urandom(60_000).hex(); print(text); text")
        assert cell.result == repr(cell.stdout.strip())
        assert len(cell.stdout) == 120_001
        assert status(notebook)["Transport"].strip() == "live"
        notebook.close()


@live_only
def test_a_quick_cell_takes_one_request(
    server: Server, open_notebook: Callable[..., Notebook]
) -> None:
    """One to send it, run it and hear all of it; behind the last a look at what may come late."""
    notebook = open_notebook()
    notebook.run("1")
    [before] = server.sessions().values()
    for _ in range(10):
        notebook.run("1")
    [after] = server.sessions().values()
    assert 10 <= after["execute_count"] - before["execute_count"] <= 11


def test_status_of_a_dead_service_is_quick(
    open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]
) -> None:
    """A service that is gone is a sentence of the status, in a moment."""
    server = make_server()
    notebook = open_notebook(TCI_BASE_URL=server.url)
    notebook.run("1")
    server.end(signal.SIGKILL)  # one that ends properly says that the session has ended
    begin = time.monotonic()
    cell = notebook.run("%tci status")
    assert time.monotonic() - begin < 10
    assert "no answer within" in cell.contents("display_data")[0]["data"]["text/plain"]


@plain_only
def test_status_does_not_wait_for_a_busy_session(notebook: Notebook, server: Server) -> None:
    """While an interrupted cell still runs in the session, the status comes at once."""
    notebook.run("1")
    request = notebook.send("import time; time.sleep(8)")
    wait_until(lambda: any(s["execute_count"] >= 2 for s in server.sessions().values()))
    notebook.manager.interrupt_kernel()
    notebook.finish(request)
    begin = time.monotonic()
    assert "plain" in status(notebook)["Transport"]
    assert time.monotonic() - begin < 4


def test_status_before_a_session_tells_of_the_key(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """Who asks what is wrong hears it, also where no session is to be asked about."""
    notebook = open_notebook(TCI_API_KEY="a-wrong-key")
    text = notebook.run("%tci status").contents("display_data")[0]["data"]["text/plain"]
    assert "does not accept the key" in text
    assert server.sessions() == {}
