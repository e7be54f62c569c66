"""What a user gets who has configured nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from conftest import has_ended, wait_until
from notebooks import Notebook, opened
from tci_kernel.serverinfo import ServerInfo


@pytest.fixture
def open_default(runtime_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Notebook]]:
    """Open notebooks without any setting but a private folder for the server."""
    import contextlib

    with contextlib.ExitStack() as stack:
        yield lambda **env: stack.enter_context(
            opened(tmp_path, {"TCI_CONFIG": str(tmp_path / "none"), **env})
        )


def test_the_first_cell_says_once_where_code_runs(open_default: Callable[..., Notebook]) -> None:
    """Stderr of the first cell names the machine and the isolation; later ones are quiet."""
    notebook = open_default()
    first = notebook.run("1 + 1")
    assert first.result == "2"
    assert "this machine" in first.stderr
    assert "sandbox" in first.stderr or "plain process" in first.stderr
    assert notebook.run("2").stderr == ""


def test_a_user_who_chose_is_not_told(open_default: Callable[..., Notebook]) -> None:
    """TCI_BACKEND=local silences the notice."""
    assert open_default(TCI_BACKEND="local").run("1").stderr == ""


def test_a_kernel_that_runs_no_cell_starts_nothing(
    open_default: Callable[..., Notebook], runtime_dir: Path
) -> None:
    """Opening a notebook, and what a front end asks by itself, start no server."""
    notebook = open_default()
    notebook.run("probe", store_history=False)
    notebook.run("%tci status")
    notebook.run("%tci sessions")
    assert not list(runtime_dir.glob("*.info"))


async def run_all(notebooks: list[nbformat.NotebookNode]) -> None:
    """Run notebooks at the same time, each with a kernel of its own."""
    clients = [NotebookClient(notebook, timeout=120, startup_timeout=120) for notebook in notebooks]
    await asyncio.gather(*(client.async_execute() for client in clients))


@pytest.mark.slow
def test_twenty_notebooks_at_once_share_one_server(runtime_dir: Path) -> None:
    """Each has its own session and gets its own results."""
    metadata = {"kernelspec": {"name": "tci_python", "display_name": "TCI Python"}}
    notebooks = [
        nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in (f"x = {number}", "x")],
            metadata=metadata,
        )
        for number in range(20)
    ]
    asyncio.run(run_all(notebooks))
    results = [notebook.cells[-1].outputs[0].data["text/plain"] for notebook in notebooks]
    assert results == [str(number) for number in range(20)]
    assert psutil.pid_exists(server_pid(runtime_dir))


def server_pid(runtime_dir: Path) -> int:
    """Return the process of the one server."""
    [file] = runtime_dir.glob("*.info")
    return ServerInfo.model_validate_json(file.read_bytes()).pid


def end_server(runtime_dir: Path, signum: int) -> None:
    """Send the one server a signal, and wait for its end."""
    pid = server_pid(runtime_dir)
    os.kill(pid, signum)
    wait_until(lambda: has_ended(pid))


def test_a_server_that_was_killed_is_started_again(
    open_default: Callable[..., Notebook], runtime_dir: Path
) -> None:
    """The cell after the server's death says that the session is gone; the next one runs."""
    notebook = open_default()
    notebook.run("x = 1")
    end_server(runtime_dir, signal.SIGKILL)
    cell = notebook.run("x")
    assert cell.error == "SessionExpired"
    assert notebook.run("1 + 1").result == "2"


def test_an_ending_kernel_starts_no_server(
    open_default: Callable[..., Notebook], runtime_dir: Path
) -> None:
    """A session that went with its server needs no other server to be ended."""
    notebook = open_default()
    notebook.run("1")
    end_server(runtime_dir, signal.SIGTERM)
    notebook.close()
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if str(runtime_dir) in " ".join(command)]


def test_a_kernel_ended_with_its_children_leaves_the_server(
    open_default: Callable[..., Notebook], runtime_dir: Path
) -> None:
    """VS Code ends all below a kernel, then the kernel: other notebooks keep their sessions."""
    first, other = open_default(), open_default()
    first.run("1")
    other.run("x = 1")
    kernel = psutil.Process(first.manager.provisioner.pid)
    for process in [*kernel.children(recursive=True), kernel]:
        process.terminate()
    wait_until(lambda: has_ended(kernel.pid))
    assert other.run("x").result == "1"
