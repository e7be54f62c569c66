"""One Jupyter server and one browser for all tests here, a notebook for each file.

`BROWSER_KERNEL=python3 pytest tests/browser` shows what the yardstick does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from browser.jupyter import Jupyter
from browser.notebook import DEADLINE, Notebook
from conftest import TOKEN, end_servers

KERNEL = os.environ.get("BROWSER_KERNEL", "tci_python")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as slow: they share what takes long to start."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """Run one Jupyter server, and for its kernels one embedded server."""
    with tempfile.TemporaryDirectory(prefix="tci", ignore_cleanup_errors=True) as runtime:
        server = Jupyter(tmp_path_factory.mktemp("jupyter"), Path(runtime))
        yield server
        server.end()
        end_servers(Path(runtime))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start Chromium with a fresh profile."""
    program = shutil.which("chromium")
    if program is None and "CI" not in os.environ:
        pytest.skip("chromium is not installed")
    assert program, "chromium is not installed"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def context(browser: Browser, jupyter: Jupyter) -> BrowserContext:
    """Log in."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(DEADLINE)
    context.new_page().goto(f"{jupyter.url}/login?token={TOKEN}")
    return context


@pytest.fixture(scope="module")
def open_notebook(
    context: BrowserContext, jupyter: Jupyter, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Open notebooks in JupyterLab, each in a page and a workspace of its own."""
    pages: list[Page] = []

    def open_one(name: str = request.path.stem, kernel: str = KERNEL) -> Notebook:
        path = f"{name}.ipynb"
        if not (jupyter.folder / path).exists():
            jupyter.write(path, kernel)
        pages.append(context.new_page())
        pages[-1].goto(f"{jupyter.url}/lab/workspaces/{name}-{len(pages)}/tree/{path}")
        return Notebook(pages[-1])

    yield open_one
    for page in pages:
        page.close()
    jupyter.end_kernels()


@pytest.fixture(scope="module")
def notebook(open_notebook: Callable[..., Notebook]) -> Notebook:
    """Return the module's own notebook."""
    return open_notebook()


@pytest.fixture(autouse=True)
def screenshot(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what a test has left on the screen in build/screenshots."""
    yield
    folder = request.config.rootpath / "build" / "screenshots"
    pages = request.getfixturevalue("context").pages
    pages[-1].screenshot(path=folder / f"{request.node.name}.png")
