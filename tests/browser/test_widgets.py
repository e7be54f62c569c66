"""ipywidgets: their state lives in the session, their views in the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.notebook import Notebook


@pytest.fixture
def notebook(notebook: Notebook) -> Notebook:
    """Return the module's notebook, or one that takes its place after a failure."""
    notebook.run("from ipywidgets import *")
    return notebook


def test_a_slider_tells_its_value_to_the_session(notebook: Notebook) -> None:
    """A key on the slider's handle changes the value that the next cell reads."""
    cell = notebook.run("slider = IntSlider(3); slider")
    cell.outputs.locator(".noUi-handle").press("ArrowRight")
    expect(cell.outputs.locator(".widget-readout")).to_have_text("4")
    notebook.run("print('value', slider.value)").shows("value 4")


def test_views_of_one_widget_move_together(notebook: Notebook) -> None:
    """Two views, and a change by code, show one value."""
    first = notebook.run("text = Text('one'); text")
    second = notebook.run("text")
    box = first.outputs.locator("input[type=text]")
    box.fill("two")
    expect(second.outputs.locator("input[type=text]")).to_have_value("two")
    notebook.run("text.value = 'three'")
    expect(box).to_have_value("three")


def test_interact_runs_its_function_anew(notebook: Notebook) -> None:
    """A move of the slider replaces what the function has shown."""
    cell = notebook.run("@interact(n=(0, 5))\ndef square(n=2):\n    print(n, 'squared is', n * n)")
    cell.shows("2 squared is 4")
    cell.outputs.locator(".noUi-handle").press("ArrowRight")
    cell.shows("3 squared is 9")
    expect(cell.place).not_to_contain_text("2 squared is 4")


def test_an_output_widget_catches_prints(notebook: Notebook) -> None:
    """What a later cell prints into an Output stands where the Output is."""
    cell = notebook.run("out = Output(); out")
    notebook.run("with out:\n    print('caught')")
    cell.shows("caught")


def test_a_button_calls_the_session(notebook: Notebook) -> None:
    """A click runs the handler, whose widgets change."""
    cell = notebook.run(
        "button, label = Button(description='Press'), Label('not yet')\n"
        "button.on_click(lambda _: setattr(label, 'value', 'pressed'))\n"
        "HBox([button, label])"
    )
    cell.outputs.locator("button").click()
    cell.shows("pressed")


def test_a_thread_drives_a_bar(notebook: Notebook) -> None:
    """A progress widget moves after its cell has ended, up to the end."""
    cell = notebook.run(
        "import threading, time\nbar = IntProgress(max=10); label = Label()\n"
        "def work():\n    for bar.value in range(11):\n"
        "        label.value = f'step {bar.value}'; time.sleep(0.1)\n"
        "threading.Thread(target=work).start()\nHBox([bar, label])"
    )
    cell.shows("step 10")
    expect(cell.outputs.locator(".progress-bar")).to_have_attribute(
        "style", re.compile("width: 100%")
    )


def test_a_file_is_uploaded(notebook: Notebook) -> None:
    """What is chosen in a FileUpload is there as bytes."""
    cell = notebook.run("upload = FileUpload(); upload")
    with notebook.page.expect_file_chooser() as chooser:
        cell.outputs.locator("button").click()
    chooser.value.set_files(
        {"name": "data.bin", "mimeType": "application/octet-stream", "buffer": bytes(range(256))}
    )
    expect(cell.outputs.locator("button")).to_contain_text("(1)")
    notebook.run("bytes(upload.value[0].content) == bytes(range(256))").shows("True")
