"""Cells with `%tci` lines between cells without, over live transport."""

from __future__ import annotations

from pathlib import Path

import pytest

from notebooks import Notebook


@pytest.fixture
def folder(live: Notebook) -> Path:
    """Return the notebook's own folder, whose files may be uploaded."""
    return live.folder


def test_a_file_is_there_for_the_rest_of_its_cell(live: Notebook, folder: Path) -> None:
    """`%tci upload` is done before the code below it runs."""
    (folder / "data.csv").write_text("a,b\n1,2\n")
    cell = live.run("%tci upload data.csv\nprint(open('data.csv').read())")
    assert cell.status == "ok"
    assert cell.stdout == "a,b\n1,2\n\n"


def test_a_magic_waits_for_the_cell_before_it(live: Notebook, folder: Path) -> None:
    """Cells keep their order, whether they run here, there, or both."""
    (folder / "late.txt").write_text("here")
    queued = [
        live.send("import os, time; time.sleep(0.5); seen = [os.path.exists('late.txt')]"),
        live.send("%tci upload late.txt"),
        live.send("seen.append(os.path.exists('late.txt'))"),
        live.send("%tci status\nseen.append(3)"),
        live.send("seen"),
    ]
    cells = [live.finish(request) for request in queued]
    assert cells[-1].result == "[False, True, 3]"
    counts = [cell.count for cell in cells]
    assert counts == list(range(counts[0], counts[0] + 5))


def test_a_failing_magic_aborts_the_queue(live: Notebook) -> None:
    """What was queued behind a wrong `%tci` line does not run."""
    cells = [
        "ran = []; import time; time.sleep(1)",
        "%tci nonsense",
        "ran.append(1)",
        "%tci status",
    ]
    queued = [live.send(code) for code in cells]
    statuses = [live.finish(request).status for request in queued]
    assert statuses == ["ok", "error", "aborted", "aborted"]
    assert live.run("ran").result == "[]"


def test_a_failing_cell_aborts_a_queued_magic(live: Notebook) -> None:
    """A `%tci` cell behind a failure of the session does not run."""
    queued = [live.send("import time; time.sleep(1); 1/0"), live.send("%tci status")]
    assert [live.finish(request).status for request in queued] == ["error", "aborted"]
    assert live.run("%tci status").status == "ok"


def test_a_failure_below_a_magic_is_the_cells(live: Notebook) -> None:
    """An error of the code in a `%tci` cell comes once, and aborts what is behind."""
    queued = [live.send("%tci status\n1/0"), live.send("'not'")]
    cell, aborted = (live.finish(request) for request in queued)
    assert len(cell.contents("error")) == 1
    assert cell.reply["content"]["ename"] == "ZeroDivisionError"
    assert aborted.status == "aborted"


def test_the_code_below_a_magic_can_be_interrupted(live: Notebook) -> None:
    """An interrupt reaches the session's half of a `%tci` cell."""
    request = live.send("%tci status\nimport time; print('on', flush=True); time.sleep(60)")
    live.wait_for(request, "stream")
    live.command("interrupt_request", {})
    assert live.finish(request, deadline=5).error == "KeyboardInterrupt"


def test_counts_stay_in_step(live: Notebook) -> None:
    """`In` and `Out` of the session have the numbers that the notebook shows."""
    first = live.run("'one'").count
    live.run("%tci status")
    live.run("%tci nonsense")
    cell = live.run("%tci status\n'four'")
    assert cell.count == first + 3
    assert cell.contents("execute_result")[0]["execution_count"] == first + 3
    last = live.run(f"len(In), Out[{first}], Out[{first + 3}]")
    assert (last.count, last.result) == (first + 4, f"({first + 5}, 'one', 'four')")


def test_completion_of_a_magic_comes_while_a_cell_runs(live: Notebook) -> None:
    """Tab in a `%tci` line is answered here, and does not wait for the session."""
    request = live.send("import time; time.sleep(1.5)")
    live.wait_for(request, "execute_input")
    asked = live.client.complete("%tci stat", 9)
    first = live.client.get_shell_msg(timeout=10)
    assert first["parent_header"]["msg_id"] == asked
    assert first["content"]["matches"] == ["status"]
    live.finish(request)


def test_the_status_tells_of_live_transport(live: Notebook) -> None:
    """`%tci status` names the transport."""
    [shown] = live.run("%tci status").contents("display_data")
    assert "live" in shown["data"]["text/plain"]


def test_a_new_session_is_empty_and_live(live: Notebook) -> None:
    """`%tci new` gives an empty namespace, goes on counting, and all of live works there."""
    before = live.run("left = 1").count
    assert live.run("%tci new").status == "ok"
    cell = live.run("'left' in globals(), len(In)")
    assert (cell.count, cell.result) == (before + 2, f"(False, {before + 3})")
    request = live.send("input('still? ')")
    assert live.answer("live")["prompt"] == "still? "
    assert live.finish(request).result == "'live'"
