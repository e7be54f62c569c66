"""The `%tci` magics: parsed on this side, never sent to a session."""

from tci_kernel.magics.cell import Cell, line_at, split
from tci_kernel.magics.complete import complete, offers
from tci_kernel.magics.display import Context, Display
from tci_kernel.magics.inspect import inspect
from tci_kernel.magics.verbs import run

__all__ = ["Cell", "Context", "Display", "complete", "inspect", "line_at", "offers", "run", "split"]
