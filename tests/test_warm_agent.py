"""Sessions that a server keeps ready with the agent and its child running."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import Server, live_only, wait_until
from notebooks import Notebook
from session_kernel import Relay, session_kernel

OpenNotebook = Callable[..., Notebook]


@pytest.fixture
def warm(make_server: Callable[..., Server]) -> Server:
    """Start a server, and wait until the child of its ready session runs."""
    server = make_server(warm=1, agent=True)
    wait_until(lambda: children(server))
    return server


def children(server: Server) -> set[int]:
    """Return the ids of the children's processes."""
    return {p.pid for p in server.children() if "main(link, options)" in " ".join(command(p))}


def command(process: psutil.Process) -> list[str]:
    """Return a process's command, empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def open_on(server: Server, open_notebook: OpenNotebook) -> Notebook:
    """Open a notebook on a server."""
    return open_notebook(TCI_BASE_URL=server.url, TCI_API_KEY=server.token)


@live_only
def test_the_first_cell_runs_in_the_child_that_was_ready(
    warm: Server, open_notebook: OpenNotebook, transport: str
) -> None:
    """No process is started for a first cell, and its number is 1."""
    [ready] = children(warm)
    cell = open_on(warm, open_notebook).run("import os; os.getpid()")
    assert (cell.count, cell.result) == (1, str(ready))


@live_only
def test_a_ready_child_counts_the_cells_before_it(
    warm: Server, open_notebook: OpenNotebook, transport: str
) -> None:
    """Cells of `%tci` lines alone are counted, as if the child had had them."""
    notebook = open_on(warm, open_notebook)
    notebook.run("%tci help")
    notebook.run("%tci help")
    cell = notebook.run("len(In)")
    assert (cell.count, cell.result) == (3, "4")


def test_other_clients_can_use_a_ready_session(warm: Server) -> None:
    """Code of a client that knows nothing of the agent runs in such a session too."""
    session = warm.run("x = 6 * 7")["session_id"]
    assert warm.stdout("print(x)", session) == "42\n"


def test_an_untouched_child_takes_the_name_of_the_front_end(tmp_path: Path) -> None:
    """The child sees the Jupyter session of the boot that comes before its first request."""
    with session_kernel(tmp_path) as session:
        Relay(session).boot()
        relay = Relay(session)
        for name in ("first", "second"):
            hello = relay.boot(session=name).hello
            assert hello is not None
            assert (hello.fresh, hello.execution_count) == (True, 1)
        assert relay.result("get_ipython().kernel._parent_ident['shell']") == "[b'second']"
        hello = relay.boot(session="third").hello
        assert hello is not None
        assert (hello.fresh, hello.execution_count) == (False, 2)
        assert relay.result("get_ipython().kernel._parent_ident['shell']") == "[b'second']"
