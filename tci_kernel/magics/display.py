"""What a verb is given, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tci_kernel.api import MimeBundle
    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Health


@dataclass(frozen=True)
class Display:
    """A MIME bundle for the front end; with `update` it replaces the one of the same id."""

    bundle: MimeBundle
    display_id: str | None = None
    update: bool = False


@dataclass(frozen=True)
class Context:
    """The kernel as a `%tci` line sees it: its session, and the way to it.

    `transport` is `live` or `plain`, or what the settings want before it is decided. `refusal` says
    why it is plain although live was wanted; `health` asks how the child of live transport is.
    """

    session: Session
    transport: str
    refusal: str = ""
    health: Callable[[], Awaitable[Health]] | None = None
