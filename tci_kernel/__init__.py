"""A Jupyter kernel whose cells run in a remote TCI session.

import tci_kernel

response = tci_kernel.run("print('hello')")
response.data.outputs[0].data
"""

from __future__ import annotations

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd():  # noqa: PTH109  nothing is imported yet
    # `python -m tci_kernel` searches the current folder first: a notebook's. A `queue.py` or
    # `secrets.py` there is for the user's code, not for the process that holds the key.
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tci_kernel.client import TCIClient
    from tci_kernel.errors import TCIError
    from tci_kernel.sdk import run
    from tci_kernel.settings import Settings

__all__ = ["Settings", "TCIClient", "TCIError", "run"]

_HOMES = {"Settings": "settings", "TCIClient": "client", "TCIError": "errors", "run": "sdk"}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: a kernel starts without the client's imports."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tci_kernel.{_HOMES[name]}"), name)
