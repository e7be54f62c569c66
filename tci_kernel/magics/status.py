"""The verb `status`: what runs where, without starting anything."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from tci_kernel import embedded
from tci_kernel.errors import TCIError
from tci_kernel.magics import times
from tci_kernel.magics.display import Display
from tci_kernel.magics.sessions import server_is_gone
from tci_kernel.magics.tables import size, table
from tci_kernel.session import PRICE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tci_kernel.magics.display import Context
    from tci_kernel.magics.parse import Arguments
    from tci_kernel.session import Session
    from tci_kernel.settings import Settings

#: How long an answer is waited for, in seconds: status is asked when something is wrong.
_MOMENT = 3.0

_NONE_YET = "There is no session yet: the first cell makes one."
_NOT_LISTED = "The service does not list this session: it has ended, or is not yours."

#: Rows of two cells, and sentences to stand below them.
Report = tuple[list[tuple[str, str]], list[str]]


async def status(arguments: Arguments, context: Context) -> AsyncGenerator[Display, None]:
    """Show where cells run and how the session stands; an error is shown, not raised."""
    del arguments
    settings = context.session.client.settings
    try:
        rows = _local(settings) if settings.local else _hosted(settings)
        rows += [("Transport", _transport(context)), *await _python(context)]
        session_rows, notes = await _session(context.session)
        rows += [*session_rows, ("Cost", _cost(context.session))]
    except TCIError as error:
        rows, notes = [("Backend", "not usable")], [str(error)]
    yield Display(table(rows, notes=notes))


def _local(settings: Settings) -> list[tuple[str, str]]:
    info = embedded.describe(settings)
    if info is None:
        return [("Backend", "embedded server, started by the first cell")]
    return [("Backend", "embedded server on this machine"), ("Isolation", info.isolation)]


def _hosted(settings: Settings) -> list[tuple[str, str]]:
    return [("Backend", settings.shown_url), ("Isolation", "the service's own")]


def _transport(context: Context) -> str:
    if context.refusal:
        return f"{context.transport}: live was tried, and refused: {context.refusal}"
    if context.transport == "auto":
        return "auto: the first cell tries live, and plain if the session refuses that"
    settings = context.session.client.settings
    chosen = context.transport == settings.transport
    return f"{context.transport}, as TCI_TRANSPORT says" if chosen else context.transport


async def _python(context: Context) -> list[tuple[str, str]]:
    """Return a row about the child that runs the cells, where there is one."""
    if context.health is None or context.session.id is None:
        return []
    try:
        health = await asyncio.wait_for(context.health(), _MOMENT)
    except asyncio.TimeoutError:
        return [("Python", f"no answer within {_MOMENT:g} s")]
    except TCIError as error:
        return [("Python", str(error))]
    since = times.span(timedelta(seconds=health.child_uptime))
    says = f"{health.python}, {health.child.state} for {since}"
    if health.child_memory is not None:
        says += f", {size(health.child_memory)} of memory"
    return [("Python", f"{says}. {health.child.reason}".rstrip(". "))]


async def _session(session: Session) -> Report:
    rows = [("Session", session.id or "none")]
    if known := _without_asking(session):
        return rows, [known]
    begin = time.monotonic()
    try:
        info = await asyncio.wait_for(session.info(), _MOMENT)
    except asyncio.TimeoutError:
        return rows, [f"The service gave no answer within {_MOMENT:g} s. Try again later."]
    except TCIError as error:
        return rows, [str(error)]
    trip = f"the service answers in {(time.monotonic() - begin) * 1000:.0f} ms"
    rows.insert(0, ("Connection", trip))
    if info is None:
        return rows, [_NONE_YET if session.id is None else _NOT_LISTED]
    left = session.time_left
    rows.append(("Age", times.since(info.started_at)))
    rows.append(("Time left", times.UNKNOWN if left is None else times.span(left)))
    if info.execute_count is not None:
        rows.append(("Runs", str(info.execute_count)))
    return rows, []


def _without_asking(session: Session) -> str | None:
    """Return what is known of a session of which nobody can be asked."""
    if session.id is None and session.client.settings.local:
        return _NONE_YET
    if server_is_gone(session.client):
        return "The session has ended with its server; the next cell makes a new one."
    return None


def _cost(session: Session) -> str:
    """Return what this kernel's sessions cost; one made before a kernel's death counts too."""
    if session.client.settings.local:
        return "nothing: it runs on this machine"
    made = max(session.created, int(session.owned))
    return f"${made * PRICE:.2f} ({made} made by this kernel, ${PRICE:.2f} each)"
