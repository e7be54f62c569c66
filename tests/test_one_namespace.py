"""A notebook and another client of the same session: one namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conftest import Server, environment
from notebooks import Notebook, opened


@pytest.fixture(scope="module")
def session(shared_server: Server) -> str:
    """Start a session as another client, with a variable of its own."""
    session: str = shared_server.run("before = 'there before'")["session_id"]
    return session


@pytest.fixture(scope="module")
def joined(
    shared_server: Server, session: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Notebook]:
    """Open a notebook on that session."""
    folder = tmp_path_factory.mktemp("joined")
    env = environment(shared_server, folder, "live")
    with opened(folder, {**env, "TCI_SESSION_ID": session}) as notebook:
        yield notebook


@pytest.fixture
def by_http(shared_server: Server, session: str, joined: Notebook) -> Any:
    """Run code in the session by the API alone, and return its outputs."""
    joined.run("None")
    return lambda code: shared_server.run(code, session)["outputs"]


def test_variables_from_before_are_taken_along(joined: Notebook) -> None:
    """A session's variables are there when a notebook joins it."""
    assert joined.run("before").result == "'there before'"


def test_variables_that_cannot_be_taken_along_are_named(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """The first cell says which, once, and has the others."""
    session = server.run("import threading; lock, number = threading.Lock(), 7")["session_id"]
    notebook = open_notebook(TCI_SESSION_ID=session, TCI_TRANSPORT="live")
    cell = notebook.run("number")
    assert cell.result == "7"
    assert "these variables of the session could not be taken along: lock." in cell.stderr
    assert notebook.run("1").stderr == ""


def test_a_name_set_by_http_is_there_in_the_notebook(joined: Notebook, by_http: Any) -> None:
    """`x = 42` by the API, `x` in the notebook."""
    assert by_http("x = 42") == []
    assert joined.run("x").result == "42"


def test_a_name_set_in_the_notebook_is_there_by_http(joined: Notebook, by_http: Any) -> None:
    """`y = 43` in the notebook, `y` by the API."""
    joined.run("y = 43")
    assert by_http("y") == [{"type": "execute_result", "data": {"text/plain": "43"}}]


def test_streams_are_the_apis(by_http: Any) -> None:
    """What is printed is the answer's stdout and stderr."""
    outputs = by_http("import sys; print('o'); print('e', file=sys.stderr)")
    assert {o["type"]: o["data"] for o in outputs} == {"stdout": "o\n", "stderr": "e\n"}


def test_displays_are_the_apis(by_http: Any) -> None:
    """A figure is display_data with its image."""
    outputs = by_http("import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
    assert "image/png" in next(o for o in outputs if o["type"] == "display_data")["data"]


def test_an_error_is_the_apis(by_http: Any) -> None:
    """An exception is an error output with the traceback, and nothing of the relay in it."""
    [error] = by_http("1/0")
    assert error["type"] == "error"
    assert "ZeroDivisionError" in error["data"]
    assert "tci" not in error["data"]


def test_the_notebook_sees_what_others_run(joined: Notebook, by_http: Any) -> None:
    """Outputs of another client's cell are published with the next that the notebook runs."""
    by_http("print('by another')")
    request = joined.send("None")
    texts, ended = [], False
    while not ended:
        message = joined.client.get_iopub_msg(timeout=10)
        texts.append(message["content"].get("text"))
        idle = message["content"].get("execution_state") == "idle"
        ended = idle and message["parent_header"]["msg_id"] == request
    assert "by another\n" in texts


def test_both_at_once_lose_nothing(joined: Notebook, by_http: Any) -> None:
    """Cells of both sides that come at the same time all run, each once."""
    joined.run("mine, others = [], []")
    with ThreadPoolExecutor(1) as pool:
        runs = pool.map(by_http, [f"others.append({n})" for n in range(10)])
        cells = [joined.run(f"mine.append({n})").status for n in range(10)]
        outputs = list(runs)
    assert cells == ["ok"] * 10
    assert outputs == [[]] * 10
    assert joined.run("mine == others == list(range(10))").result == "True"


def test_a_cell_by_http_while_the_notebooks_runs(joined: Notebook, by_http: Any) -> None:
    """The other client's cell waits for the notebook's, and sees its names."""
    request = joined.send("import time; time.sleep(0.5); slow = 'set'")
    joined.wait_for(request, "execute_input")
    assert by_http("print(slow)") == [{"type": "stdout", "data": "set\n"}]
    assert joined.finish(request).status == "ok"
