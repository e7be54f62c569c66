"""What `tci-kernel doctor` looks at, one thing after the other; no finding names a key."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tci_kernel import settings
from tci_kernel.client import TCIClient
from tci_kernel.errors import InvalidResponse, ServiceError, TCIError, Unauthorized
from tci_kernel.session import PRICE, Session
from tci_kernel.state import StateFile
from tci_kernel.transport.hidden import ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tci_kernel.settings import Settings

#: How long the session may take to answer, and to go, in seconds.
_TIMEOUT = 120.0
_END_TIMEOUT = 10.0


@dataclass(frozen=True)
class Finding:
    """What was found about one thing; `Fail` says what to do, `Note` what comes next."""

    verdict: Literal["OK", "Fail", "Note"]
    subject: str
    says: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.subject:13}  {self.says}"


async def examine() -> AsyncGenerator[Finding, None]:
    """Yield findings up to the first failure, after which nothing further can be told."""
    subject = "Configuration"
    try:
        configured = settings.load()
        yield Finding("OK", subject, _configuration(configured))
        async with TCIClient(configured) as client:
            subject = "Connection"
            yield await _connection(client)
            async with _session(client) as session:
                subject = "Session"
                yield Finding("Note", subject, _plan(session, configured))
                yield await _answer(session)
                subject = "Transport"
                yield await _transport(session)
    except Unauthorized as error:
        yield Finding("Fail", "Key", str(error))
    except TCIError as error:
        yield Finding("Fail", subject, str(error))


def _configuration(configured: Settings) -> str:
    file = settings.config_file()
    source = f"the environment and {file}" if file.exists() else "the environment"
    if configured.local:
        where = f"the embedded server on this machine (sandbox: {configured.sandbox})"
    else:
        where = f"{configured.url}, {'with a key' if configured.key else 'without a key'}"
    return f"{where}; read from {source}."


async def _connection(client: TCIClient) -> Finding:
    count = len(await client.sessions())
    accepted = (
        "" if client.settings.key is None or client.settings.local else " accepts the key and"
    )
    return Finding("OK", "Connection", f"The service{accepted} lists {count} live sessions.")


@asynccontextmanager
async def _session(client: TCIClient) -> AsyncIterator[Session]:
    """Lend a session that is ended afterwards if it was made here, and remembered nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(client, StateFile(Path("doctor.json"), Path(folder)))
        try:
            yield session
        finally:
            await session.end(_END_TIMEOUT)


def _plan(session: Session, configured: Settings) -> str:
    if session.id is not None:
        return f"Runs one line in the session {session.id} of TCI_SESSION_ID."
    price = "free on this machine" if configured.local else f"${PRICE:.2f} on the hosted services"
    return f"Starts one session ({price}) and ends it afterwards."


async def _answer(session: Session) -> Finding:
    execution = await session.execute("print(6 * 7)", timeout=_TIMEOUT)
    said = "".join(output.text for output in execution.outputs).strip()
    if said == "42":
        return Finding("OK", "Session", "Code runs, and its output comes back.")
    return Finding("Fail", "Session", f"print(6 * 7) gave {said!r}. Report it to the service.")


async def _transport(session: Session) -> Finding:
    try:
        await ask(session, "expressions", {"user_expressions": {}}, timeout=_TIMEOUT)
    except (InvalidResponse, ServiceError) as error:
        return Finding("OK", "Transport", f"plain; no completion, and no uploads: {error}")
    return Finding("OK", "Transport", "plain, with completion, inspection and uploads.")
