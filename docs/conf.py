"""How Sphinx builds the pages: `make docs`."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # reference.py, which lies beside this file

project = "TCI Python"
author = ""  # the copyright says it
copyright = "The tci-kernel developers"  # noqa: A001  the name that Sphinx reads
version = release = version_of("tci-kernel")

extensions = ["myst_parser", "reference"]
myst_heading_anchors = 3  # a link may end in the name of a heading

smartquotes = False  # what is quoted here is searched for as it stands

html_theme = "sphinx_book_theme"
html_theme_options = {
    "navbar_persistent": [],  # the search has its place in the sidebar
    "use_download_button": False,
    "use_fullscreen_button": False,
}
html_title = project
html_logo = html_favicon = "../kernelspec/logo-svg.svg"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
