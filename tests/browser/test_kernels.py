"""Kernels that restart, are killed, or are left by their page."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from browser.conftest import KERNEL
from browser.jupyter import Jupyter
from browser.notebook import Notebook


def test_a_restart_keeps_files(notebook: Notebook) -> None:
    """After a restart variables are gone, files are there, and the count begins anew."""
    notebook.run("import pathlib\nkept = pathlib.Path('kept.txt').write_text('kept')")
    notebook.restart()
    cell = notebook.run("import os\nprint('kept' in globals(), os.listdir())")
    cell.shows("False ['kept.txt']")
    expect(cell.prompt).to_have_text("[1]:")


def test_restart_and_run_all(open_notebook: Callable[..., Notebook]) -> None:
    """All cells run again, in their order, on a fresh kernel."""
    notebook = open_notebook("run-all")
    first = notebook.run("runs = globals().get('runs', 0) + 1")
    code = "import os\nopen(f'{runs}-{len(os.listdir())}', 'w').close(); os.listdir()"
    second = notebook.run(code)
    second.shows("['1-0']")
    notebook.restart("Restart the kernel and run all cells")
    second.shows("1-1")
    expect(first.prompt).to_have_text("[1]:")
    expect(second.prompt).to_have_text("[2]:")


def test_a_killed_kernel_is_told_and_survived(
    open_notebook: Callable[..., Notebook], jupyter: Jupyter
) -> None:
    """JupyterLab says that the kernel has died and was started again, and the next cell runs."""
    notebook = open_notebook("killed")
    notebook.run("x = 'kept'")
    jupyter.kernel_process("killed.ipynb").kill()
    dialog = notebook.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Kernel Restarting")
    expect(dialog).to_contain_text("appears to have died. It will restart automatically.")
    dialog.get_by_role("button", name="Ok").click()
    notebook.is_idle()
    notebook.run("globals().get('x', 'lost')").shows("kept" if KERNEL == "tci_python" else "lost")
