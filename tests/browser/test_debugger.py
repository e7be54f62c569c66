"""JupyterLab's debugger, on cells that run in a session."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.notebook import Notebook


@pytest.fixture
def notebook(open_notebook: Callable[..., Notebook], tmp_path: Path) -> Notebook:
    """Turn the debugger on in a new notebook: JupyterLab itself stumbles over off and on again."""
    notebook = open_notebook(tmp_path.name)
    notebook.press("Enable Debugger")
    return notebook


def test_the_debugger_begins_the_session(notebook: Notebook) -> None:
    """Turned on before any cell has run, it is there, and can be turned off again."""
    expect(notebook.page.locator(".jp-DebuggerVariables")).to_contain_text("special variables")
    notebook.press("Disable Debugger")
    notebook.run("6 * 7").shows("42")


def test_a_cell_is_debugged(notebook: Notebook) -> None:
    """A breakpoint stops the cell, variables are shown, a step changes them, and it runs on."""
    page = notebook.page
    cell = notebook.type(
        "def half(number):\n    result = number / 2\n    return result\n\nhalf(42)"
    )
    cell.place.locator(".cm-breakpoint-gutter .cm-gutterElement").nth(2).click()
    expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(1)
    cell.editor.click()
    page.keyboard.press("Shift+Enter")
    variables = page.locator(".jp-DebuggerVariables")
    expect(variables).to_contain_text(re.compile(r"number\s*42"))
    expect(cell.place.locator(".jp-DebuggerEditor-highlight")).to_contain_text("number / 2")
    page.locator("[data-command='debugger:next']").first.click()
    expect(variables).to_contain_text(re.compile(r"result\s*21"))
    page.locator("[data-command='debugger:continue']").first.click()
    cell.is_done().shows("21.0")
