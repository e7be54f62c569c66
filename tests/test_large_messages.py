"""Messages too large for the service, or for a frame: one is lost, and all else goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from conftest import Server
from notebooks import Notebook


@pytest.fixture
def transport() -> str:
    """All here is about live transport."""
    return "live"


@pytest.fixture
def narrow(open_notebook: Callable[..., Notebook], make_server: Callable[..., Server]) -> Notebook:
    """Open a notebook on a service that takes no request of more than half a megabyte."""
    notebook = open_notebook(TCI_BASE_URL=make_server(max_body=0.5).url)
    notebook.run("x = 42")
    return notebook


def test_a_cell_that_the_service_does_not_take_fails_alone(narrow: Notebook) -> None:
    """It gets the service's word and its idle; what runs beside it runs on."""
    running = narrow.send("import time; time.sleep(1); print('ran')", stop_on_error=False)
    large = narrow.send(f"y = {os.urandom(600_000).hex()!r}")
    assert narrow.finish(large).error == "InvalidRequest"
    assert narrow.finish(running).stdout == "ran\n"
    assert narrow.run("x, 'y' in globals()").result == "(42, False)"


def test_a_comm_that_the_service_does_not_take_ends_nothing(narrow: Notebook) -> None:
    """A widget's upload that is too large is told in the cell that runs, which goes on."""
    running = narrow.send("import time; time.sleep(1); print('ran')")
    narrow.wait_for(running, "execute_input")
    narrow.tell("comm_msg", {"comm_id": "c", "data": {}}, buffers=[os.urandom(600_000)])
    cell = narrow.finish(running)
    assert cell.stdout == "ran\n"
    assert "a message of the front end is lost" in cell.stderr
    assert narrow.run("x").result == "42"


def test_many_messages_that_together_are_too_large_go_one_after_the_other(narrow: Notebook) -> None:
    """A service that takes less in one request gets less, and nothing is lost."""
    cells = [f"len({os.urandom(50_000).hex()!r})" for _ in range(8)]
    requests = [narrow.send(code) for code in ("import time; time.sleep(0.5)", *cells)]
    assert [narrow.finish(request).result for request in requests[1:]] == ["100000"] * 8


@pytest.mark.slow
def test_an_output_that_is_too_large_is_left_out(notebook: Notebook) -> None:
    """A display of more than a frame holds is told in its place; the cell and the session go on."""
    cell = notebook.run(
        "from IPython.display import display\n"
        "display({'text/plain': 'x' * 220_000_000}, raw=True)\nprint('shown'); x = 42"
    )
    assert "an output of 220 MB is left out" in cell.stderr
    assert cell.stdout == "shown\n"
    assert cell.contents("display_data") == []
    assert notebook.run("x").result == "42"
