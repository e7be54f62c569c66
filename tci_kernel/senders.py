"""Who sent a cell: a person, a batch, or a front end by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_hidden(content: Mapping[str, Any]) -> bool:
    """Tell whether a front end sent a cell by itself."""
    return bool(content.get("silent", False) or not content.get("store_history", True))


def stops_others(content: Mapping[str, Any]) -> bool:
    """Tell whether the cells behind one do not run if it fails."""
    return not content.get("silent", False) and bool(content.get("stop_on_error", True))


def is_typed(content: Mapping[str, Any]) -> bool:
    """Tell whether a person sent a cell, who can be asked: what runs in a batch is no history.

    `jupyter_client` keeps the history of batches out of the file for kernels named `python` only.
    """
    return not is_hidden(content) and bool(content.get("allow_stdin", True))
