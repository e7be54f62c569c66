"""Programs that run notebooks and scripts from top to bottom: limits, autosave, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError

from conftest import DEADLINE, Server, environment, run_program, wait_until

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sys.executable).parent
SLEEP = "import time\nfor second in range(60): print(second, flush=True); time.sleep(1)"


@pytest.fixture(autouse=True)
def service(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point every kernel that a test starts to the shared server."""
    for name, value in environment(server, tmp_path, "live").items():
        monkeypatch.setenv(name, value)


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    """Return a notebook for TCI Python with these cells."""
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "tci_python", "display_name": "TCI Python"}},
    )


def printed(notebook: nbformat.NotebookNode | Path) -> list[str]:
    """Return the text on stdout and the names of errors, cell by cell."""
    if isinstance(notebook, Path):
        notebook = nbformat.read(notebook, as_version=4)
    return [
        "".join(output.get("text", output.get("ename", "")) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def limit(cell: nbformat.NotebookNode) -> float:
    """Return the seconds that a cell may take; a first one also starts the session."""
    return 2 if cell.source == SLEEP else DEADLINE


def run(program: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of this environment in a folder."""
    return run_program(SCRIPTS / program, *arguments, folder=folder)


def test_a_time_limit_can_interrupt_a_cell() -> None:
    """The code in the session is interrupted, and the next cell runs there at once."""
    seen: list[str] = []
    notebook = notebook_of("x = 'kept'", SLEEP, "print(x)")
    NotebookClient(
        notebook,
        timeout_func=limit,
        interrupt_on_timeout=True,
        allow_errors=True,
        on_cell_execute=lambda cell, cell_index: seen.append(f"begun {cell_index}"),
        on_cell_executed=lambda cell, cell_index, execute_reply: seen.append(
            execute_reply["content"]["status"]
        ),
    ).execute()
    assert seen == ["begun 0", "ok", "begun 1", "error", "begun 2", "ok"]
    _, interrupted, after = printed(notebook)
    assert interrupted.startswith("0\n")
    assert interrupted.endswith("KeyboardInterrupt")
    assert after == "kept\n"


def test_a_time_limit_that_ends_the_run_leaves_nothing(server: Server) -> None:
    """Without an interrupt the run fails, and so the session and the code in it end."""
    before = server.sessions().keys()
    notebook = notebook_of("x = 1", SLEEP)
    with pytest.raises(CellTimeoutError):
        NotebookClient(notebook, timeout_func=limit).execute()
    assert printed(notebook)[1].startswith("0\n")
    wait_until(lambda: server.sessions().keys() == before)


@pytest.mark.slow
def test_a_time_limit_of_nbconvert_interrupts_a_cell(tmp_path: Path) -> None:
    """With its own flags too, the next cell runs in the same session."""
    nbformat.write(notebook_of("x = 'kept'", SLEEP, "print(x)"), tmp_path / "notebook.ipynb")
    options = ["--to=notebook", "--execute", "--allow-errors", "--output=done.ipynb"]
    limits = ["timeout=10", "interrupt_on_timeout=True"]
    options += [f"--ExecutePreprocessor.{limit}" for limit in limits]
    done = run("jupyter-nbconvert", *options, "notebook.ipynb", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    _, interrupted, after = printed(tmp_path / "done.ipynb")
    assert interrupted.startswith("0\n1\n")
    assert interrupted.endswith("KeyboardInterrupt")
    assert after == "kept\n"


@pytest.mark.slow
def test_a_time_limit_of_jupyter_execute_ends_the_code(server: Server, tmp_path: Path) -> None:
    """It says which cell took too long, does not end with 0, and leaves no session."""
    before = server.sessions().keys()
    nbformat.write(notebook_of("x = 1", SLEEP), tmp_path / "notebook.ipynb")
    done = run("jupyter-execute", "--timeout=10", "notebook.ipynb", folder=tmp_path)
    assert done.returncode != 0
    assert "CellTimeoutError" in done.stderr
    assert "for second in range(60)" in done.stderr
    wait_until(lambda: server.sessions().keys() == before)


def test_papermill_saves_what_a_cell_prints_while_it_runs(tmp_path: Path) -> None:
    """A parameter is injected, the notebook on disk grows with its cell, the bar fills."""
    gate, done = tmp_path / "gate", tmp_path / "done.ipynb"
    wait = "import os, time\nwhile not os.path.exists(gate): print('tick'); time.sleep(0.2)"
    notebook = notebook_of("gate = 'to be replaced'", wait)
    notebook.cells[0].metadata.tags = ["parameters"]
    nbformat.write(notebook, tmp_path / "notebook.ipynb")
    options = ["--progress-bar", "--autosave-cell-every=1", "--language=python"]
    with subprocess.Popen(
        [SCRIPTS / "papermill", *options, "notebook.ipynb", done, "-p", "gate", gate],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: done.exists() and '"tick\\n' in done.read_text())
        gate.touch()
        assert "100%" in process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert printed(done)[-1].startswith("tick\ntick\n")


def test_a_jupytext_script_becomes_a_notebook_with_outputs(tmp_path: Path) -> None:
    """Cells of a script in the percent format run in a session."""
    (tmp_path / "script.py").write_text("# %%\nx = 6 * 7\n\n# %%\nprint(x)\n")
    options = ["--to=ipynb", "--set-kernel=tci_python", "--execute", "--output=done.ipynb"]
    done = run("jupytext", *options, "script.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert printed(tmp_path / "done.ipynb") == ["", "42\n"]


def test_a_script_that_fails_is_an_exit_code(tmp_path: Path) -> None:
    """`jupyter run` prints what a script prints, and its traceback, and does not end with 0."""
    (tmp_path / "script.py").write_text("print('begun')\n1 / 0\n")
    done = run("jupyter-run", "--kernel=tci_python", "script.py", folder=tmp_path)
    assert done.stdout == "begun\n"
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode != 0


def test_the_workflow_for_github_actions_runs_without_a_secret(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the secret is empty, the step of the example runs a notebook on this machine."""
    monkeypatch.delenv("TCI_TRANSPORT")
    job = yaml.safe_load((ROOT / "docs/examples/run-notebook.yml").read_text())["jobs"]["notebook"]
    assert set(job["env"].values()) == {"${{ secrets.TOGETHER_API_KEY }}"}
    install, execute = (step["run"] for step in job["steps"] if "run" in step)
    assert install.startswith("pip install ")
    nbformat.write(notebook_of("print(6 * 7)"), tmp_path / "notebook.ipynb")
    env = {**dict.fromkeys(job["env"], ""), "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    done = run_program("bash", "-e", "-c", execute, folder=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    upload = job["steps"][-1]["with"]["path"]
    assert "<pre>42\n" in (tmp_path / upload).read_text("utf-8")
    assert list(runtime_dir.glob("*.info"))
