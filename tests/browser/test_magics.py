"""The kernel's own lines, as JupyterLab shows them."""

from __future__ import annotations

import os

from playwright.sync_api import expect

from browser.jupyter import Jupyter
from browser.notebook import Notebook


def test_an_upload_shows_its_bar(notebook: Notebook, jupyter: Jupyter) -> None:
    """A file of the notebook's folder is sent with a bar, and the rest of the cell reads it."""
    (jupyter.folder / "film.bin").write_bytes(os.urandom(30 * 2**20))
    cell = notebook.send("%tci upload film.bin\n\nimport os\n\nos.path.getsize('film.bin')")
    expect(cell.outputs.locator("progress[value]")).to_be_visible()
    cell.is_done().shows("1 file uploaded")
    cell.shows(str(30 * 2**20))
    expect(cell.outputs.locator("progress")).to_have_count(0)


def test_status_is_a_table(notebook: Notebook) -> None:
    """`%tci status` says where cells run and by which transport."""
    cell = notebook.run("%tci status")
    expect(cell.outputs.locator("table")).to_be_visible()
    cell.shows("live")


def test_sessions_are_a_table(notebook: Notebook) -> None:
    """`%tci sessions` lists the session of this notebook."""
    cell = notebook.run("%tci sessions")
    expect(cell.outputs.locator("table tbody tr")).not_to_have_count(0)
    cell.shows("ses_")


def test_verbs_are_completed(notebook: Notebook) -> None:
    """Tab after `%tci up` offers the verb, and Enter takes it."""
    cell = notebook.type("%tci up")
    notebook.page.keyboard.press("Tab")
    expect(notebook.page.locator(".jp-Completer-item")).to_have_text("upload")
    notebook.page.keyboard.press("Enter")
    expect(cell.editor).to_have_text("%tci upload")
