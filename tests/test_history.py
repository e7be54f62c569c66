"""The user's history: it outlives kernel and session, as a local kernel's does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from notebooks import Notebook
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


def tail(history: History) -> list[str]:
    """Return the last cells, and wait for those that are being written."""
    return sources(asyncio.run(history.answer({"hist_access_type": "tail", "n": 10})))


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    """`c.HistoryManager.enabled = False` holds here too: nothing is written, nothing is told."""
    history = History(tmp_path, {"enabled": False})
    history.add("1", "x = 1")
    assert tail(history) == []
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    """Cells that are no text leave no gap in the history, and nobody waits for them."""
    history = History(tmp_path, {})
    for number, code in enumerate([None, "half \ud800", "x = 1"]):
        history.add(str(number), code)
    assert tail(history) == ["x = 1"]
    another = History(tmp_path, {})
    another.add("1", "y = 1")
    assert tail(another) == ["x = 1", "y = 1"]


def test_a_session_cannot_fill_it(tmp_path: Path) -> None:
    """A session that says again and again that a cell begins adds nothing."""
    history = History(tmp_path, {})
    for _ in range(10):
        history.add("1", "x = 1")
    assert tail(history) == ["x = 1"]
