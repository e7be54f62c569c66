"""What the kernel asks the user, and the user the kernel."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from browser.notebook import Notebook


def test_input_asks_in_a_box(notebook: Notebook) -> None:
    """The prompt stands before a box, and what is typed into it is the value."""
    cell = notebook.send("name = input('Name? '); print('Hello,', name)")
    expect(cell.place.locator(".jp-Stdin-prompt")).to_have_text("Name? ")
    cell.answer("Ada")
    cell.is_done().shows("Hello, Ada")


def test_getpass_hides_what_is_typed(notebook: Notebook) -> None:
    """The box of getpass shows dots, and the secret stands nowhere in the page."""
    cell = notebook.send("from getpass import getpass; secret = getpass(); len(secret)")
    expect(cell.question).to_have_attribute("type", "password")
    cell.answer("swordfish")
    cell.is_done().shows("9")
    assert "swordfish" not in notebook.page.content()


def test_tab_completes_with_types(notebook: Notebook) -> None:
    """Tab lists names of the session with what they are; Enter takes one."""
    notebook.run("get_ipython().complete('x')  # the very first may take longer than Tab waits")
    notebook.run("measured_value = 1\ndef measured_mean(): ...")
    cell = notebook.type("measured_")
    notebook.page.keyboard.press("Tab")
    completer = notebook.page.locator(".jp-Completer")
    expect(completer.locator(".jp-Completer-item")).to_have_count(2)
    expect(completer.locator(".jp-Completer-type").first).to_have_attribute(
        "data-color-index", re.compile(r"\d")
    )
    expect(completer).to_contain_text(re.compile("function"))
    notebook.page.keyboard.press("Enter")
    expect(cell.editor).to_have_text(re.compile("measured_(mean|value)"))
    notebook.send("")


def test_shift_tab_explains(notebook: Notebook) -> None:
    """Shift-Tab shows signature and docstring of what stands at the cursor."""
    notebook.run("def area(radius: float):\n    'The area of a circle.'")
    notebook.type("area(")
    notebook.page.keyboard.press("Shift+Tab")
    tooltip = notebook.page.locator(".jp-Tooltip")
    expect(tooltip).to_contain_text("area(radius: float)")
    expect(tooltip).to_contain_text("The area of a circle.")
    notebook.page.keyboard.press("Escape")


def test_a_question_mark_opens_the_pager(notebook: Notebook) -> None:
    """`len?` shows what IPython says of it."""
    notebook.run("len?").shows("Return the number of items in a container.")
