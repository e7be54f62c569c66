"""Where `%tci` lines stand in a cell: first, with blank and comment lines between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tci_kernel.errors import MagicError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK_LINES = re.compile(r"(?:[ \t]*(?:#.*)?\n)*")

#: `%tci …` or `?%tci …`, and the lines that a backslash joins to it.
_MAGIC_LINE = re.compile(
    r"(?P<indent>[ \t]*)(?:%tci(?![^\s?])|\?{1,2}%tci(?!\w)).*(?:(?<=\\)\n.*)*"
)

#: What IPython makes of a `%tci` or `%%tci` that really is a magic, and not part of a string.
_CALL = re.compile(r"get_ipython\(\)\.run_(?:line|cell)_magic\('tci'")


@dataclass(frozen=True)
class Cell:
    """A cell taken apart: its `%tci` lines for this side, and the code for the session."""

    magics: tuple[str, ...]
    code: str


@dataclass(frozen=True)
class Line:
    """A leading `%tci` line: where it begins in the cell, its indentation and its text."""

    start: int
    indent: str
    text: str

    @property
    def end(self) -> int:
        """Where it ends, before its newline."""
        return self.start + len(self.text)


def split(code: str) -> Cell:
    """Take the leading `%tci` lines off a cell; the rest of its code keeps its line numbers.

    Raises `MagicError` for a `%tci` further down: the session does not know it.
    """
    lines = list(leading(code))
    rest = _without(code, lines)
    _refuse_further_down(rest)
    if lines and all(
        not line.strip() or line.lstrip().startswith("#") for line in rest.split("\n")
    ):
        rest = ""
    return Cell(tuple(line.text.replace("\\\n", " ").strip() for line in lines), rest)


def leading(code: str) -> Iterator[Line]:
    """Yield the `%tci` lines that stand before any code."""
    position = 0
    while found := _MAGIC_LINE.match(code, _after_blank_lines(code, position)):
        yield Line(found.start(), found["indent"], found.group())
        position = found.end() + 1


def _after_blank_lines(code: str, position: int) -> int:
    blank = _BLANK_LINES.match(code, position)
    return blank.end() if blank else position


def line_at(code: str, cursor_pos: int) -> Line | None:
    """Return the leading `%tci` line in which the cursor stands; its unit is the code point."""
    return next((line for line in leading(code) if line.start <= cursor_pos <= line.end), None)


def begins_line(code: str, cursor_pos: int) -> bool:
    """Tell whether a `%tci` that ends at the cursor's word would be a leading one."""
    word = re.search(r"%\w*\Z", code[:cursor_pos])
    if word is None or not "%tci".startswith(word.group()):
        return False
    tried = code[: word.start()] + "%tci"
    return line_at(tried, len(tried)) is not None


def _without(code: str, lines: list[Line]) -> str:
    """Put a comment in the place of each line; a cell magic, though, must stand before any."""
    if not lines:
        return code
    below = code[lines[-1].end :]
    mark = "" if below.lstrip().startswith("%%") else "#"
    for line in reversed(lines):
        empty = "\n".join([line.indent + mark] * (line.text.count("\n") + 1))
        code = code[: line.start] + empty + code[line.end :]
    return code


def _refuse_further_down(code: str) -> None:
    if "%tci" not in code:
        return
    # Rarely needed, and slow to import.
    from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415

    try:
        transformed = TransformerManager().transform_cell(code)
    except Exception:  # noqa: BLE001  IPython raises many kinds; the session says it better
        return
    if len(_CALL.findall(transformed)) > len(_CALL.findall(code)):
        raise MagicError(
            "%tci lines stand first in a cell, before its code, each with one %. "
            "Nothing of this cell has run: move the line up, or into a cell of its own."
        )
