"""The versions that a front end asks for by itself, known without a session.

VS Code asks at each start which ipywidgets there is, once: without an answer it never shows a
widget. Before it debugs a cell it asks for ipykernel's, and without an answer says that one has to
be installed.
"""

from __future__ import annotations

import importlib.metadata
import re

_IMPORT = re.compile(r"^\s*import (ipykernel|ipywidgets)(?: as (\w+))?\s*$", re.MULTILINE)
_PRINT = re.compile(r"""\bprint\((?:(["'])([^"'\\\n]*)\1 \+ )?(\w+)\.__version__\)""")

#: What a session would have; the first number decides how VS Code draws widgets.
_CURRENT = {"ipykernel": "7.0.0", "ipywidgets": "8.0.0"}


def printed(code: str) -> str:
    """Return what a request prints that asks for such a version, an empty string for any other."""
    names = {match[2] or match[1]: match[1] for match in _IMPORT.finditer(code)}
    asked = _PRINT.search(code)
    if asked is None or asked[3] not in names:
        return ""
    return f"{asked[2] or ''}{_version(names[asked[3]])}\n"


def _version(package: str) -> str:
    """Return the version on this side, which the embedded server's sessions have too."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return _CURRENT[package]
