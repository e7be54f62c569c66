"""The example notebooks: batch runners run the tour, a client that answers runs the live one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest

from conftest import has_ended, wait_until
from notebooks import Cell, Notebook, opened
from tci_kernel import embedded
from tci_kernel.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = Path(sys.executable).parent

#: Each runner's command; the notebook to run and the one to write are added.
RUNNERS = {
    "nbconvert": ["jupyter-nbconvert", "--to=notebook", "--execute", "--output=done.ipynb"],
    "nbclient": ["jupyter-execute", "--output=done.ipynb"],
    "papermill": ["papermill", "--no-progress-bar"],
}

#: The types of the outputs of the tour's code cells, in order.
TOUR = [
    ["display_data", "execute_result"],  # an upload, and a table of what is in it
    ["stream"],
    ["stream", "execute_result"],
    ["execute_result"],  # a styled table
    ["execute_result"],  # a formula
    ["display_data"],  # matplotlib
    ["display_data"],  # seaborn
    ["display_data", "display_data"],  # plotly.js, and a chart
    ["execute_result"],
    ["display_data"],
    ["stream"],
    ["display_data"],
    ["stream"],  # an error that is caught
    ["execute_result"],
    ["display_data"],  # %tci sessions
    ["display_data"],  # %tci status
]


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the kernels of a test an embedded server of their own, and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="tci-") as folder:  # short: it holds a socket
        monkeypatch.setenv("TCI_BACKEND", "local")
        monkeypatch.setenv("TCI_RUNTIME_DIR", folder)
        monkeypatch.setenv("TCI_SERVER_IDLE", "2")
        yield
        info = embedded.describe(Settings())
        if info is not None:
            os.kill(info.pid, signal.SIGTERM)
            wait_until(lambda: has_ended(info.pid), deadline=10)


def run(runner: str, notebook: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a notebook in its own folder; what is written goes to `done.ipynb` beside it."""
    program, *arguments = [*RUNNERS[runner], *options, notebook.name]
    if runner == "papermill":
        arguments.append("done.ipynb")
    return subprocess.run(
        [SCRIPTS / program, *arguments],
        cwd=notebook.parent,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def notebook_of(folder: Path, *sources: str) -> Path:
    """Write a notebook for TCI Python with these cells."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "tci_python", "display_name": "TCI Python"}},
    )
    nbformat.write(notebook, folder / "notebook.ipynb")
    return folder / "notebook.ipynb"


def output_types(notebook: Path) -> list[list[str]]:
    """Return the types of each code cell's outputs."""
    return [
        [output.output_type for output in cell.outputs]
        for cell in nbformat.read(notebook, as_version=4).cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_runner_runs_the_tour(runner: str, tmp_path: Path) -> None:
    """The tour runs to its end, and its cells show what they are to show and nothing else."""
    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    done = run(runner, folder / "tour.ipynb")
    assert done.returncode == 0, done.stderr
    assert output_types(folder / "done.ipynb") == TOUR


class Person:
    """Runs a notebook's cells one by one, answers its questions, and interrupts a marked cell."""

    def __init__(self, path: Path, notebook: Notebook) -> None:
        self.notebook = notebook
        self.cells = {
            cell.id: cell
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "code"
        }

    def run(self, name: str) -> Cell:
        """Run the cell with an id to its end; once."""
        cell = self.cells.pop(name)
        tags = cell.metadata.get("tags", [])
        request = self.notebook.send(cell.source, allow_stdin=True)
        if "input" in tags:
            self.notebook.client.get_stdin_msg(timeout=30)
            self.notebook.client.input("Ada")
        if "interrupt" in tags:
            self.notebook.wait_for(request, "stream")
            self.notebook.manager.interrupt_kernel()
        return self.notebook.finish(request)

    def move(self, comm: str, value: int) -> None:
        """Move the slider behind a comm, as a front end does."""
        data = {"method": "update", "state": {"value": value}}
        client = self.notebook.client
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm, "data": data}))


def slider_of(cell: Cell) -> str:
    """Return the comm of the slider that a cell shows."""
    comms = cell.contents("comm_open")
    names = {comm["comm_id"]: comm["data"]["state"].get("_model_name") for comm in comms}
    return next(comm for comm, name in names.items() if name == "IntSliderModel")


def bars(cell: Cell) -> list[str]:
    """Return what a display showed, one update after the other."""
    return [content["data"]["text/html"] for content in cell.contents("update_display_data")]


def last_words(notebook: Notebook) -> str:
    """Return what a thread shows last; its messages belong to the cell that ran meanwhile."""
    text = ""
    while "<b>10</b>" not in text:
        message = notebook.client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "update_display_data":
            text = message["content"]["data"]["text/html"]
    return text


@pytest.mark.slow
def test_the_live_notebook_at_the_keyboard(tmp_path: Path) -> None:
    """Each cell does what its text says, one after the other, with a person who reacts."""
    with opened(tmp_path, {}) as notebook:
        person = Person(EXAMPLES / "live.ipynb", notebook)
        assert len(person.run("output").contents("stream")) > 2
        assert bars(person.run("progress"))[-1].endswith("100 %")
        person.move(slider_of(person.run("slider")), 7)
        assert person.run("slider-value").result == "7"
        assert person.run("interact").contents("comm_open")
        assert person.run("input").stdout.endswith("Hello, Ada!\n")
        assert person.run("interrupt").error == "KeyboardInterrupt"
        assert "are kept" in person.run("kept").stdout
        assert person.run("thread").status == "ok"
        assert person.run("meanwhile").result == "True"
        assert last_words(notebook) == "Step <b>10</b> of 10"
        status = person.run("status").contents("display_data")[0]["data"]["text/plain"]
        assert "live" in status
        assert not person.cells


@pytest.mark.parametrize("runner", RUNNERS)
def test_runner_stops_at_a_cell_that_fails(runner: str, tmp_path: Path) -> None:
    """A cell that raises ends the run: the status is not zero, and no later cell has output."""
    done = run(runner, notebook_of(tmp_path, "1 / 0", "print('never')"))
    assert done.returncode != 0
    assert "ZeroDivisionError" in done.stderr
    written = tmp_path / "done.ipynb"
    assert not written.exists() or output_types(written)[-1] == []


@pytest.mark.parametrize("runner", ["nbconvert", "nbclient"])
def test_allow_errors_goes_on(runner: str, tmp_path: Path) -> None:
    """With `--allow-errors` the error becomes an output and the next cell runs."""
    done = run(runner, notebook_of(tmp_path, "1 / 0", "print('after')"), "--allow-errors")
    assert done.returncode == 0, done.stderr
    assert output_types(tmp_path / "done.ipynb") == [["error"], ["stream"]]


@pytest.mark.parametrize("name", ["tour", "live"])
def test_an_example_is_committed_without_outputs(name: str) -> None:
    """The notebook in the repository names the kernel and carries no outputs."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    assert notebook.metadata.kernelspec.name == "tci_python"
    assert not any(cell.get("outputs") for cell in notebook.cells)
