"""What a cell gives, piece by piece: its `%tci` lines are done here, the rest in the session."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

from tci_kernel import embedded, magics
from tci_kernel.errors import SessionExpired
from tci_kernel.transport.plain import Message, PlainTransport, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tci_kernel.connection import Connection
    from tci_kernel.session import Session
    from tci_kernel.settings import Settings

_WAITING = "TCI: an interrupted cell still runs in the session; this one waits behind it."


class Transport(Protocol):
    """The way of a cell to the session."""

    async def execute(self, code: str, execution_count: int, expressions: dict[str, str]) -> Result:
        """Run a person's cell; raises a `TCIError` if its end is not known."""
        ...


async def run_persons_cell(
    code: str,
    execution_count: int,
    expressions: dict[str, str],
    connection: Connection,
) -> AsyncIterator[Result]:
    """Yield what a person's cell gives; raises a `TCIError` where it could not be run."""
    results = _results(code, execution_count, expressions, connection)
    try:
        async for result in results:
            yield result
    except SessionExpired:
        connection.session.take_loss()  # the cell tells it
        raise


async def _results(
    code: str,
    execution_count: int,
    expressions: dict[str, str],
    connection: Connection,
) -> AsyncIterator[Result]:
    session, context = connection.session, connection.context
    cell = magics.split(code)
    greeted = session.id is not None
    if warning := session.warning():
        yield _notice(warning)
    if session.busy and context.transport == PlainTransport.name:
        yield _notice(_WAITING)
    for line in cell.magics:
        async with contextlib.aclosing(magics.run(line, context)) as displays:
            async for display in displays:
                yield Result([_display(display)])
    needed = bool(cell.code or not cell.magics)
    if not greeted and (needed or session.id is not None):
        greeting = await _greeting(session.client.settings)
        if greeting is not None:
            yield _notice(greeting)
    if needed:
        _tell_loss(session)
        transport = await connection.open()
        _tell_loss(session)
        for notice in connection.notices():
            yield _notice(notice)
        yield await transport.execute(cell.code, execution_count, expressions)
    session.remember(execution_count=execution_count)


def _tell_loss(session: Session) -> None:
    """Raise what the session has lost and no person knows of."""
    if loss := session.take_loss():
        raise loss


async def run_hidden_cell(
    code: str, execution_count: int, connection: Connection, *, silent: bool
) -> AsyncIterator[Result]:
    """Yield what a front end's own request gives; without a session it is answered, not run.

    A session costs money: only a person's cell makes one. Nor is it used before a person knows
    what was lost in it.
    """
    if connection.session.id is None or connection.session.has_loss:
        return
    transport = await connection.open()
    if connection.session.has_loss:
        return
    if isinstance(transport, PlainTransport):
        result = await transport.execute_hidden(code, execution_count, silent=silent)
        yield result._replace(messages=[]) if silent else result
    else:
        yield await transport.execute(code, execution_count, {})


def _display(display: magics.Display) -> Message:
    kind = "update_display_data" if display.update else "display_data"
    transient: dict[str, Any] = {"display_id": display.display_id} if display.display_id else {}
    return Message(kind, {"data": display.bundle, "metadata": {}, "transient": transient})


def _notice(text: str) -> Result:
    return Result([Message("stream", {"name": "stderr", "text": f"{text}\n"})])


async def _greeting(settings: Settings) -> str | None:
    """Say where code will run and how it is isolated, unless the user has chosen it."""
    if not settings.local or settings.backend != "auto":
        return None
    await embedded.address(settings)
    info = embedded.describe(settings)
    isolation = info.isolation if info is not None else "How it is isolated is not known."
    return (
        "TCI: no service is configured, so code runs on this machine, in the embedded server. "
        f"{isolation} Set TCI_BASE_URL for a service, or TCI_BACKEND=local to run here quietly."
    )
