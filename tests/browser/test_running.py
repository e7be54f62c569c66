"""Cells that take their time: what one sees of them, and what stops them."""

from __future__ import annotations

from playwright.sync_api import expect

from browser.notebook import Notebook


def test_output_appears_while_the_cell_runs(notebook: Notebook) -> None:
    """What is printed stands there before the cell has ended."""
    cell = notebook.send("print('begun', flush=True); answer = input()")
    cell.shows("begun")
    cell.is_running()
    cell.answer("")
    cell.is_done()


def test_the_stop_button_ends_a_cell_and_those_behind_it(notebook: Notebook) -> None:
    """A sleep ends with KeyboardInterrupt, queued cells have no number, the next cell runs."""
    cell = notebook.send("import time; print('asleep', flush=True); time.sleep(60)")
    queued = [notebook.send("'never'") for _ in range(2)]
    cell.shows("asleep")
    notebook.press("Interrupt the kernel")
    cell.is_done().shows("KeyboardInterrupt")
    for other in queued:
        expect(other.prompt).to_have_text("[ ]:")
        expect(other.outputs).to_have_count(0)
    notebook.run("'next'").shows("next")


def test_cells_behind_an_error_are_aborted(notebook: Notebook) -> None:
    """Cells that were queued behind one that fails do not run."""
    failed = notebook.send("import time; time.sleep(0.5); 1 / 0")
    queued = notebook.send("'never'")
    failed.is_done().shows("ZeroDivisionError")
    expect(queued.prompt).to_have_text("[ ]:")
    notebook.run("'next'").shows("next")
