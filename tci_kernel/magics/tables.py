"""Tables as HTML and as aligned text; their words may come from a service, and are escaped."""

from __future__ import annotations

import html
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tci_kernel.api import MimeBundle

#: From one unit of size to the next.
_STEP = 1000


def table(
    rows: Sequence[Sequence[str]], headers: Sequence[str] = (), notes: Sequence[str] = ()
) -> MimeBundle:
    """Return a table, with sentences below it, in both forms."""
    return {
        "text/plain": "\n".join([*_text(rows, headers), *map(printable, notes)]),
        "text/html": _html(rows, headers)
        + "".join(f"<div>{_escaped(note)}</div>" for note in notes),
    }


def sentence(text: str) -> MimeBundle:
    """Return a line of prose in both forms."""
    return {"text/plain": printable(text), "text/html": f"<div>{_escaped(text)}</div>"}


def size(count: float) -> str:
    """Return a number of bytes for people, in decimal units."""
    if count < _STEP:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= _STEP
        if round(count, 1) < _STEP:
            return f"{count:.1f} {unit}"
    return f"{count / _STEP:.1f} TB"


def printable(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _text(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> list[str]:
    lines = [[printable(cell) for cell in row] for row in ([headers] if headers else []) + [*rows]]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    if headers:
        lines.insert(1, ["-" * width for width in widths])
    return ["  ".join(map(_padded, line, widths)).rstrip() for line in lines]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _width(text: str) -> int:
    """Return how many columns a text takes where every letter is as wide, or twice as wide."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def _html(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    head = f"<thead>{_row(headers, 'th')}</thead>" if headers else ""
    return f"<table>{head}<tbody>{''.join(_row(row, 'td') for row in rows)}</tbody></table>"


def _row(cells: Iterable[str], tag: str) -> str:
    # Jupyter's own style aligns cells to the right, which suits numbers only.
    opening, closing = f'<{tag} style="text-align: left">', f"</{tag}>"
    return f"<tr>{''.join(f'{opening}{_escaped(cell)}{closing}' for cell in cells)}</tr>"
