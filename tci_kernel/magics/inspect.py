"""The explanation behind `%tci?` and Shift-Tab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tci_kernel.magics.cell import line_at
from tci_kernel.magics.verbs import help_page

if TYPE_CHECKING:
    from tci_kernel.api import MimeBundle


def inspect(code: str, cursor_pos: int) -> MimeBundle | None:
    """Return the help for the leading `%tci` line at the cursor, None elsewhere."""
    line = line_at(code, cursor_pos)
    if line is None:
        return None
    _, _, rest = line.text.partition("%tci")
    verb = rest.strip().partition(" ")[0]
    return help_page(verb.rstrip("?"))
