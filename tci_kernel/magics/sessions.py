"""The verbs `sessions` and `new`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tci_kernel import embedded
from tci_kernel.magics import times
from tci_kernel.magics.display import Display
from tci_kernel.magics.tables import sentence, table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from tci_kernel.api import MimeBundle, SessionInfo
    from tci_kernel.client import TCIClient
    from tci_kernel.magics.display import Context
    from tci_kernel.magics.parse import Arguments

#: How long `new` waits for the old session to go, in seconds.
_END_TIMEOUT = 10.0

_HEADERS = ("Session", "Age", "Time left", "Runs", "")


async def sessions(arguments: Arguments, context: Context) -> AsyncGenerator[Display, None]:
    """Show the caller's live sessions."""
    del arguments
    session = context.session
    yield Display(session_table(await live_sessions(session.client), session.id))


async def new(arguments: Arguments, context: Context) -> AsyncGenerator[Display, None]:
    """Let go of the session; the next cell makes another."""
    del arguments
    session = context.session
    old, owned = session.id, session.owned
    session.take_loss()  # whoever asks for another one need not be told
    if old is None:
        yield Display(sentence("There is no session yet: the next cell makes one."))
        return
    if server_is_gone(session.client):
        session.forget()
    else:
        await session.end(_END_TIMEOUT)
    what = "has ended: its variables and files are gone" if owned else "goes on without this kernel"
    yield Display(sentence(f"Session {old} {what}. The next cell makes a new one."))


async def live_sessions(client: TCIClient) -> list[SessionInfo]:
    """Return the caller's sessions; does not start the embedded server for that."""
    return [] if server_is_gone(client) else await client.sessions()


def server_is_gone(client: TCIClient) -> bool:
    """Tell that cells run in the embedded server and none is running, nor any session in it."""
    return client.settings.local and embedded.describe(client.settings) is None


def session_table(infos: Iterable[SessionInfo], current: str | None) -> MimeBundle:
    """Return a table of sessions, the current one marked."""
    rows = [_row(info, current) for info in infos]
    return table(rows, _HEADERS) if rows else sentence("There are no live sessions.")


def _row(info: SessionInfo, current: str | None) -> tuple[str, ...]:
    return (
        info.id,
        times.since(info.started_at),
        times.until(info.expires_at),
        times.UNKNOWN if info.execute_count is None else str(info.execute_count),
        "this kernel's" if info.id == current else "",
    )
