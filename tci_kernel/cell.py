"""What a cell gives, piece by piece: its `%tci` lines are done here, the rest in the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tci_kernel import embedded, magics
from tci_kernel.transport.plain import Message, Result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tci_kernel.session import Session
    from tci_kernel.settings import Settings
    from tci_kernel.transport.plain import PlainTransport

_WAITING = "TCI: an interrupted cell still runs in the session; this one waits behind it."


async def run_persons_cell(
    code: str, execution_count: int, session: Session, transport: PlainTransport
) -> AsyncIterator[Result]:
    """Yield what a person's cell gives; raises a `TCIError` where it could not be run."""
    cell = magics.split(code)
    for line in cell.magics:
        async for display in magics.run(line, magics.Context(session, transport.name)):
            yield Result([_display(display)])
    if cell.magics and not cell.code:
        return
    if session.busy:
        yield _notice(_WAITING)
    first = session.id is None
    result = await transport.execute(cell.code, execution_count)
    if first and (greeting := _greeting(session.client.settings)):
        yield _notice(greeting)
    yield result
    session.remember(execution_count=execution_count)
    if warning := session.warning():
        yield _notice(warning)


async def run_hidden_cell(
    code: str, execution_count: int, session: Session, transport: PlainTransport, *, silent: bool
) -> AsyncIterator[Result]:
    """Yield what a front end's own request gives; without a session it is answered, not run.

    A session costs money: only a person's cell makes one.
    """
    if session.id is None:
        return
    result = await transport.execute_hidden(code, execution_count, silent=silent)
    yield result._replace(messages=[]) if silent else result


def _display(display: magics.Display) -> Message:
    kind = "update_display_data" if display.update else "display_data"
    transient = {"display_id": display.display_id} if display.display_id else {}
    return Message(kind, {"data": display.bundle, "metadata": {}, "transient": transient})


def _notice(text: str) -> Result:
    return Result([Message("stream", {"name": "stderr", "text": f"{text}\n"})])


def _greeting(settings: Settings) -> str | None:
    """Say where code runs and how it is isolated, unless the user has chosen it."""
    if not settings.local or settings.backend != "auto":
        return None
    info = embedded.describe(settings)
    isolation = info.isolation if info is not None else "How it is isolated is not known."
    return (
        "TCI: no service is configured, so code runs on this machine, in the embedded server. "
        f"{isolation} Set TCI_BASE_URL for a service, or TCI_BACKEND=local to run here quietly."
    )
