"""From the launcher to the first result."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from browser.jupyter import Jupyter
from browser.notebook import Notebook


@pytest.fixture
def page(context: BrowserContext, jupyter: Jupyter) -> Page:
    """Open JupyterLab with nothing but its launcher."""
    page = context.new_page()
    page.goto(f"{jupyter.url}/lab/workspaces/launcher?reset")
    return page


def test_a_user_gets_from_the_launcher_to_a_result(page: Page) -> None:
    """TCI Python has its logo and its name; its first cell, session included, takes seconds."""
    card = page.locator("[data-category='Notebook']", has_text="TCI Python")
    logo = card.locator("img")
    expect(logo).to_be_visible()
    assert logo.evaluate("image => image.naturalWidth") > 0
    card.click()
    notebook = Notebook(page)
    began = time.monotonic()
    notebook.run("6 * 7").shows("42")
    assert time.monotonic() - began < 15
    expect(page.locator(".jp-KernelName")).to_have_text("TCI Python")


def test_the_help_menu_has_the_kernels_links(page: Page) -> None:
    """What a local kernel offers to read is offered before the first cell."""
    page.locator("[data-category='Notebook']", has_text="TCI Python").click()
    Notebook(page)
    page.get_by_role("menuitem", name="Help").click()
    expect(page.locator(".lm-Menu")).to_contain_text("pandas Reference")
