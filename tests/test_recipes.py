"""The samples of the documentation run as they stand there."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from conftest import Server, environment, run_program
from notebooks import Notebook

ROOT = Path(__file__).parent.parent


def samples(page: str) -> list[str]:
    """Return the Python of a page, block by block."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(r"^```python\n(.+?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_first_notebook(live: Notebook) -> None:
    """The cells of Getting started run, one after the other."""
    shutil.copy(ROOT / "examples" / "wine.csv", live.folder)
    cells = [live.run(code) for code in samples("start.md")]
    assert [cell.status for cell in cells] == ["ok"] * 4
    assert "alcohol" in cells[1].contents("execute_result")[0]["data"]["text/plain"]
    assert "image/png" in cells[2].contents("display_data")[0]["data"]


def test_a_training_and_its_checkpoint(live: Notebook) -> None:
    """The training goes on from its checkpoint, and one in a thread leaves the notebook free."""
    live.run("%tci new")
    loop, thread, asking, _upload, shown = samples("recipes/trainings.md")
    assert live.run(loop).stdout.count("epoch") == 5
    live.restart()
    assert live.run(loop).stdout == ""
    assert live.run(thread).status == "ok"
    assert (live.run(asking).result or "").startswith("(True")
    assert len(live.run(shown).stdout) > 50


def test_the_script_of_an_agent(server: Server, tmp_path: Path) -> None:
    """The samples of one page are a script, which prints what its comments say."""
    script = "\n".join(samples("recipes/agents.md"))
    env = environment(server, tmp_path, "auto")
    done = run_program(sys.executable, "-c", script, folder=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r"  # (.+)$", script, re.MULTILINE)
    assert len(printed) == 5
    for text in printed:
        assert f"{text}\n" in done.stdout
    assert "ZeroDivisionError" in done.stdout
