"""A notebook as its user has it: an open page, cells to type into, buttons to press."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

#: Milliseconds after which something that should be seen is not seen.
DEADLINE = 60_000

#: What says that the kernel is idle, in JupyterLab and in Notebook, only once it is connected.
_IDLE = (
    "#jp-main-statusbar:has-text('| Idle'), "
    ".jp-NotebookKernelStatus-fade:not(.jp-NotebookKernelStatus-info)"
)

expect.set_options(timeout=DEADLINE)


class Cell:
    """One code cell of a page."""

    def __init__(self, place: Locator) -> None:
        self.place = place
        self.prompt = place.locator(".jp-InputPrompt")
        self.editor = place.locator(".jp-Cell-inputArea .cm-content")
        self.question = place.locator("input.jp-Stdin-input")
        self.outputs = place.locator(".jp-OutputArea-output")

    def shows(self, text: str | re.Pattern[str]) -> None:
        """Wait until a text stands among the outputs."""
        expect(self.place.locator(".jp-Cell-outputWrapper")).to_contain_text(text)

    def answer(self, text: str) -> None:
        """Answer what the cell asks."""
        self.question.fill(text)
        self.question.press("Enter")

    def is_running(self) -> None:
        """Wait until the cell is under way or queued."""
        expect(self.prompt).to_have_text("[*]:")

    def is_done(self) -> Cell:
        """Wait until the cell has its number."""
        expect(self.prompt).to_have_text(re.compile(r"\[\d+\]:"))
        return self


class Notebook:
    """An open notebook; a new cell is always ready at its end."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")
        self._is_ready()

    def _is_ready(self) -> None:
        expect(self.cells.last).to_be_visible()
        self.is_idle()

    def reload(self) -> None:
        """Load the page again, as a user does who presses F5."""
        self.page.reload()
        self._is_ready()

    def cell(self, index: int) -> Cell:
        """Return a cell by its place; -1 is the last."""
        return Cell(self.cells.nth(index))

    def type(self, code: str) -> Cell:
        """Type code into the last cell."""
        cell = self.cell(self.cells.count() - 1)
        cell.editor.click()
        self.page.keyboard.insert_text(code)
        return cell

    def send(self, code: str) -> Cell:
        """Type a cell and run it, without waiting for its end."""
        cell = self.type(code)
        count = self.cells.count()
        self.page.keyboard.press("Shift+Enter")
        expect(self.cells).to_have_count(count + 1)
        return cell

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        return self.send(code).is_done()

    def press(self, button: str) -> None:
        """Press a button of the toolbar, by what its tooltip says."""
        self.page.locator(f".jp-NotebookPanel-toolbar [title='{button}']").click()

    def restart(self, button: str = "Restart the kernel") -> None:
        """Press a button that restarts, and say yes."""
        self.press(button)
        self.page.locator(".jp-Dialog").get_by_text("Restart", exact=True).click()

    def is_idle(self) -> None:
        """Wait until the kernel is connected, and nothing runs."""
        expect(self.page.locator(_IDLE)).not_to_have_count(0)

    def watch_kernel(self) -> Locator:
        """Open a console on the notebook's kernel that shows what all of its clients run."""
        self.cell(0).place.click(button="right")
        self.page.get_by_text("New Console for Notebook", exact=True).click()
        console = self.page.locator(".jp-CodeConsole")
        console.click(button="right")
        self.page.get_by_text("Show All Kernel Activity", exact=True).click()
        return console
