"""Pages come and go; the kernel stays."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import expect

from browser.jupyter import Jupyter
from browser.notebook import Notebook
from conftest import wait_until


def test_a_page_is_reloaded_while_a_cell_runs(
    open_notebook: Callable[..., Notebook], jupyter: Jupyter
) -> None:
    """The cell runs on to its end, though JupyterLab shows no more of it, and the next one runs."""
    notebook = open_notebook("reloaded")
    cell = notebook.send(
        "import time\nfor step in range(40):\n    print('step', step, flush=True); time.sleep(0.1)"
    )
    cell.shows("step 3")
    notebook.page.keyboard.press("Control+s")
    file = jupyter.folder / "reloaded.ipynb"
    wait_until(lambda: "step 3" in file.read_text())
    notebook.reload()
    notebook.cell(0).shows("step 3")
    notebook.run("print('after', step)").shows("after 39")


def test_two_tabs_share_a_kernel(open_notebook: Callable[..., Notebook]) -> None:
    """Cells of both tabs run in one namespace with one count; a widget moves in both."""
    first = open_notebook("shared")
    first.run("import ipywidgets; slider = ipywidgets.IntSlider(3); slider")
    second = open_notebook("shared")
    here = second.run("slider.value += 1; slider")
    expect(here.prompt).to_have_text("[2]:")
    for place in (first.cell(0), here):
        expect(place.outputs.locator(".widget-readout")).to_have_text("4")
    first.page.bring_to_front()
    first.run("slider.value").shows("4")


def test_two_tabs_see_the_output_of_every_cell(
    open_notebook: Callable[..., Notebook],
) -> None:
    """A console of the other tab, told to show all that its kernel does, shows it as it comes."""
    first = open_notebook("watched")
    second = open_notebook("watched")
    console = second.watch_kernel()
    first.page.bring_to_front()
    cell = first.send("print('begun', flush=True); print('heard', input('Go on? '))")
    cell.shows("begun")
    expect(console).to_contain_text("begun")
    cell.answer("yes")
    cell.is_done().shows("heard yes")
    expect(console).to_contain_text("heard yes")
    second.page.bring_to_front()
