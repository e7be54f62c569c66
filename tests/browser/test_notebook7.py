"""Notebook 7, which is JupyterLab in another dress."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from browser.conftest import KERNEL
from browser.jupyter import Jupyter
from browser.notebook import Notebook


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Iterator[Page]:
    """Open a page that is there still when the picture of a test is taken."""
    page = context.new_page()
    yield page
    page.close()


def test_a_notebook_runs_in_notebook_7(page: Page, jupyter: Jupyter) -> None:
    """Output comes while a cell runs, a widget is heard, and a plot is drawn."""
    jupyter.write("notebook7.ipynb", KERNEL)
    page.goto(f"{jupyter.url}/notebooks/notebook7.ipynb")
    notebook = Notebook(page)
    cell = notebook.send("print('begun', flush=True); name = input('Name? ')")
    cell.shows("begun")
    cell.answer("Ada")
    cell.is_done()
    box = notebook.run("from ipywidgets import Text\ntext = Text(name); text")
    box.outputs.locator("input").fill("Grace")
    notebook.run("print('Hello,', text.value)").shows("Hello, Grace")
    plot = notebook.run("import matplotlib.pyplot as plt; plt.plot([1, 4, 9]);")
    expect(plot.outputs.locator("img")).to_be_visible()
