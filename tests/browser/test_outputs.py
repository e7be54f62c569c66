"""What cells give, as JupyterLab shows it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from browser.notebook import Notebook


def test_a_plot_is_a_picture(notebook: Notebook) -> None:
    """A matplotlib figure stands below its cell, without `show` and without a backend chosen."""
    cell = notebook.run("import matplotlib.pyplot as plt; plt.plot([1, 4, 9]);")
    image = cell.outputs.locator("img")
    expect(image).to_have_count(1)
    assert image.evaluate("image => image.naturalWidth") > 300


def test_a_data_frame_is_a_table(notebook: Notebook) -> None:
    """A DataFrame has its rows and heads in a table."""
    cell = notebook.run("import pandas; pandas.DataFrame({'city': ['Bern', 'Graz'], 'x': [1, 2]})")
    expect(cell.outputs.locator("table.dataframe tbody tr")).to_have_count(2)
    expect(cell.outputs.locator("thead")).to_contain_text("city")


def test_latex_is_set(notebook: Notebook) -> None:
    """A formula is set by MathJax."""
    cell = notebook.run(r"from IPython.display import Math; Math(r'\frac{1}{\sqrt{2\pi}}')")
    expect(cell.outputs.locator("mjx-container")).to_have_count(1)


def test_plotly_draws(notebook: Notebook) -> None:
    """A plotly figure is drawn by its own script, with its bars."""
    cell = notebook.run("import plotly.graph_objects as go; go.Figure(go.Bar(y=[2, 3, 1]))")
    expect(cell.outputs.locator(".plotly .bars .point")).to_have_count(3)


def test_altair_draws(notebook: Notebook) -> None:
    """A chart is drawn by the scripts that come with it, or by what JupyterLab has of them."""
    cell = notebook.run(
        "import altair, pandas\n"
        "altair.renderers.enable('html', template='inline')  # by default they are fetched\n"
        "table = pandas.DataFrame({'x': [1, 2, 3], 'y': [3, 1, 2]})\n"
        "chart = altair.Chart(table).mark_point().encode(x='x', y='y')\nchart"
    )
    expect(cell.outputs.locator(".vega-embed canvas, svg.marks").first).to_be_visible()
    cell = notebook.run("display({'application/vnd.vegalite.v5+json': chart.to_dict()}, raw=True)")
    expect(cell.outputs.locator("canvas, svg.marks").first).to_be_visible()


def test_clear_output_animates(notebook: Notebook) -> None:
    """Frames replace each other while the cell runs, and the last one stays alone."""
    cell = notebook.send(
        "import time\nfrom IPython.display import clear_output\n"
        "for frame in range(20):\n    clear_output(wait=True)\n"
        "    print('frame', frame); time.sleep(0.1)"
    )
    cell.shows(re.compile(r"^\s*frame ([5-9]|1\d)\s*$"))
    cell.is_done()
    cell.shows(re.compile(r"^\s*frame 19\s*$"))


def test_a_text_bar_redraws_its_line(notebook: Notebook) -> None:
    """Tqdm's text bar stands on one line, full at the end."""
    cell = notebook.run("from tqdm import tqdm\nfor step in tqdm(range(20)):\n    time.sleep(0.02)")
    expect(cell.outputs.locator("pre")).to_have_text(re.compile(r"^\s*100%\|█+\| 20/20 .*\s*$"))


def test_a_notebook_bar_is_a_widget(notebook: Notebook) -> None:
    """Tqdm's bar for notebooks moves while the cell runs."""
    cell = notebook.send(
        "from tqdm.notebook import tqdm\nfor step in tqdm(range(20)):\n    time.sleep(0.05)"
    )
    bar = cell.outputs.locator(".widget-hprogress .progress-bar")
    expect(bar).to_have_attribute("style", re.compile(r"width: [2-9]\d%"))
    cell.is_done()
    cell.shows("20/20")
    expect(bar).to_have_class(re.compile("progress-bar-success"))


def test_a_display_is_updated_by_a_later_cell(notebook: Notebook) -> None:
    """An update by display id changes the output of the cell that made it."""
    first = notebook.run(
        "from IPython.display import HTML\nhandle = display('one', display_id='h')"
    )
    notebook.run("handle.update(HTML('<b>two</b>'))")
    expect(first.outputs.locator("b")).to_have_text("two")
    expect(first.outputs).to_have_count(1)


def test_errors_are_coloured(notebook: Notebook) -> None:
    """A traceback has its colours, and the cell's own line."""
    cell = notebook.run("def half(x):\n    return x / 0\nhalf(1)")
    cell.shows("ZeroDivisionError: division by zero")
    cell.shows(re.compile(r"Cell In\[\d+\], line 3"))
    assert cell.outputs.locator("pre span[class*='ansi-']").count() > 5
