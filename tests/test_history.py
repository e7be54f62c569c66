"""The user's history: it outlives kernel and session, as a local kernel's does."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from IPython.core.history import HistoryAccessor
from IPython.core.inputtransformer2 import TransformerManager

from notebooks import Notebook
from tci_kernel import history as module
from tci_kernel.history import History


def sources(reply: dict[str, Any]) -> list[str]:
    """Return the cells of a history_reply."""
    return [source for _, _, source in reply["history"]]


def test_the_next_kernel_has_it(open_notebook: Callable[..., Notebook], tmp_path: Path) -> None:
    """A kernel without a session yet tells what ran before: no aborted and no hidden cell."""
    env = {"IPYTHONDIR": str(tmp_path / "ipython")}
    first = open_notebook(**env)
    first.run("%tci status")
    first.run("hidden = 1", store_history=False)
    requests = [first.send(code) for code in ("one = 1\n", "1 / 0", "aborted = 1")]
    assert [first.finish(r).status for r in requests] == ["ok", "error", "aborted"]
    first.close()
    second = open_notebook(**env)
    ran = ["%tci status", "one = 1", "1 / 0"]
    assert sources(second.ask("history", hist_access_type="tail", n=10)) == ran
    assert sources(second.ask("history", hist_access_type="search", pattern="one*")) == ["one = 1"]
    second.run("two = 2")
    assert sources(second.ask("history", hist_access_type="tail", n=2)) == ["1 / 0", "two = 2"]
    assert sources(second.ask("history", hist_access_type="range", session=-1)) == ran
    own = second.ask("history", hist_access_type="range", session=0, start=1)
    assert own["history"] == [[0, 1, "two = 2"]]


def test_a_batch_leaves_none(open_notebook: Callable[..., Notebook], tmp_path: Path) -> None:
    """What nobody could be asked about was typed by nobody: nbclient's cells stay out."""
    notebook = open_notebook(IPYTHONDIR=str(tmp_path / "ipython"))
    notebook.run("of_a_batch = 1", allow_stdin=False)
    notebook.run("typed = 1")
    assert sources(notebook.ask("history", hist_access_type="tail", n=10)) == ["typed = 1"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a busy machine the time to read."""
    monkeypatch.setattr(module, "READ_TIMEOUT", 30)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that keeps a profile's history, with one cell, locked for all others."""
    earlier = History(tmp_path, {})
    earlier.add("before = 1")
    tail(earlier)
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


def ask(history: History, kind: str, **query: Any) -> list[Any]:
    """Return the entries of an answer, which see the cells that are being written."""
    answer = asyncio.run(history.answer({"hist_access_type": kind, **query}))
    return list(answer["history"])


def tail(history: History) -> list[str]:
    """Return the last cells."""
    return [source for _, _, source in ask(history, "tail", n=10)]


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """`c.HistoryManager.enabled = False` holds here too: nothing is written, nothing is told."""
    history = History(tmp_path, {"enabled": False})
    history.add("x = 1")
    assert tail(history) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("patient")
def test_what_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    """Cells that are no text leave no gap in the history, and nobody waits for them."""
    history = History(tmp_path, {})
    for code in (None, "half \ud800", "x = 1"):
        history.add(code)
    assert tail(history) == ["x = 1"]
    another = History(tmp_path, {})
    another.add("y = 1")
    assert tail(another) == ["x = 1", "y = 1"]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("code", ["", " \n\t\n", "exit", "quit\n", "exit()", " quit (1)"])
def test_it_leaves_out_what_ipython_does(tmp_path: Path, code: str) -> None:
    """Blank cells and those that leave a console are nothing to run again."""
    history = History(tmp_path, {})
    history.add(code)
    history.add("exit_code = 1")
    assert tail(history) == ["exit_code = 1"]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        " x = 1",
        "%time x",
        "a = !ls",
        "x?",
        "%%bash\nls",
        "/f 1",
        ">>> x",
        "In [1]: x",
        "?!(",
    ],
)
def test_it_keeps_what_ran_and_what_was_typed(tmp_path: Path, code: str) -> None:
    """Who asks for what is not raw gets the Python that IPython makes of it."""
    history = History(tmp_path, {})
    history.add(code)
    assert tail(history) == [code]
    ran = TransformerManager().transform_cell(code).rstrip("\n")
    assert ask(history, "tail", n=1, raw=False) == [(1, 1, ran)]


@pytest.mark.usefixtures("patient")
def test_the_session_before_is_known_before_a_cell(tmp_path: Path) -> None:
    """Session -1 is the kernel before, whether or not this one has run anything."""
    earlier = History(tmp_path, {})
    earlier.add("x = 1")
    tail(earlier)
    history = History(tmp_path, {})
    assert ask(history, "range", session=-1) == [(1, 1, "x = 1")]
    history.add("y = 1")
    assert ask(history, "range", session=-1) == [(1, 1, "x = 1")]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("tail", {"n": 3}),
        ("tail", {"n": 3, "raw": False, "output": True}),
        ("search", {"pattern": "x*"}),
        ("search", {"pattern": "x = ?", "n": 2}),
        ("search", {"pattern": "*", "unique": True}),
        ("search", {"pattern": "*", "unique": True, "n": 2, "output": True}),
        ("range", {"session": 1}),
        ("range", {"session": 2, "start": 2, "stop": 3, "output": True, "raw": False}),
    ],
)
def test_it_answers_as_ipython_does(tmp_path: Path, kind: str, query: dict[str, Any]) -> None:
    """IPython reads the same from the file, with the same words."""
    for cells in (["x = 1", "y = 1", "x = 1"], ["x = 2", "x = 1", "Y = 1"]):
        writer = History(tmp_path, {})
        for code in cells:
            writer.add(code)
        tail(writer)
    with closing(sqlite3.connect(tmp_path / "history.sqlite")) as file, file:
        file.execute("INSERT INTO output_history VALUES (2, 2, '1')")
        file.execute("UPDATE history SET source = 'changed' WHERE session = 2 AND line = 2")
    accessor = HistoryAccessor(hist_file=str(tmp_path / "history.sqlite"))
    with closing(accessor.db):
        latest = {"include_latest": True} if kind == "tail" else {}
        read = getattr(accessor, kind if kind == "search" else f"get_{kind}")
        expected = list(read(**query, **latest))
    assert expected
    assert ask(History(tmp_path, {}), kind, **query) == expected


def test_a_locked_file_is_left_alone(tmp_path: Path, locked: sqlite3.Connection) -> None:
    """Nobody waits for it, it keeps its name, and gets later what it could not be given."""
    history = History(tmp_path, {})
    began = time.monotonic()
    history.add("x = 1")
    assert time.monotonic() - began < module.LOCK_TIMEOUT
    assert tail(history) == []
    locked.rollback()
    assert tail(history) == ["before = 1"]
    history.add("y = 1")
    assert tail(history) == ["before = 1", "x = 1", "y = 1"]
    assert [path.name for path in tmp_path.glob("*corrupt*")] == []


@pytest.mark.parametrize("content", ["no database" * 1000, None])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: str | None) -> None:
    """What is no database is neither written nor moved; nor is a folder that is not there made."""
    file = tmp_path / "file" if content else tmp_path / "folder" / "file"
    if content:
        file.write_text(content)
    history = History(tmp_path, {"hist_file": str(file)})
    history.add("x = 1")
    assert tail(history) == []
    assert [path.read_text() for path in tmp_path.iterdir()] == ([content] if content else [])


def test_there_is_none_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` stands for no file: none of that name is made."""
    monkeypatch.chdir(tmp_path)
    history = History(tmp_path, {"hist_file": ":memory:"})
    history.add("x = 1")
    assert tail(history) == []
    assert not list(tmp_path.iterdir())


def run(code: str, folder: Path) -> float:
    """Run a program that has the history of a folder; return the seconds it took to end."""
    begin = (
        "import sys, time; from pathlib import Path; from tci_kernel import history\n"
        "own = history.History(Path(sys.argv[1]), {})\n"
        "def end(): print(time.time())\n"
    )
    command = [sys.executable, "-c", f"{begin}{code}\nend()", str(folder)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return time.time() - float(printed.stdout)


@pytest.mark.usefixtures("patient")
def test_the_last_cell_of_a_process_is_kept(tmp_path: Path) -> None:
    """A process that ends gives its thread the time to write."""
    run("import IPython\nown.add('x = 1')", tmp_path)  # which takes longer, and a kernel has it
    assert tail(History(tmp_path, {})) == ["x = 1"]


def test_a_disk_that_hangs_costs_nothing(tmp_path: Path) -> None:
    """Cells beyond the queue are dropped, questions get an empty answer, the process ends."""
    hanging = (
        "import asyncio; history.HistoryFile.write = lambda *args: time.sleep(60)\n"
        "for _ in range(2 * history.LONGEST_QUEUE): own.add('x = 1')\n"
        "reply = asyncio.run(own.answer({'hist_access_type': 'tail'}))\n"
        "assert reply == {'status': 'ok', 'history': []}"
    )
    assert run(hanging, tmp_path) < 30
    one = hanging.replace("2 * history.LONGEST_QUEUE", "2")
    assert run(one, tmp_path) < 30
