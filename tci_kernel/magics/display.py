"""What a verb is given, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tci_kernel.api import MimeBundle
    from tci_kernel.session import Session


@dataclass(frozen=True)
class Display:
    """A MIME bundle for the front end; with `update` it replaces the one of the same id."""

    bundle: MimeBundle
    display_id: str | None = None
    update: bool = False


@dataclass(frozen=True)
class Context:
    """The kernel as a `%tci` line sees it: its session, and the name of its transport."""

    session: Session
    transport: str
