"""What `tci-kernel doctor` finds and what follows from it; no finding names a key."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tci_kernel import probes, settings
from tci_kernel.client import TCIClient
from tci_kernel.errors import InvalidResponse, LiveRefused, SessionExpired, TCIError, Unauthorized
from tci_kernel.magics.tables import printable, size
from tci_kernel.session import PRICE, Session
from tci_kernel.state import StateFile
from tci_kernel.transport.requests import LIMIT, SMALLEST_LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tci_kernel.settings import Settings

#: How long the session may take to go, in seconds.
_END_TIMEOUT = 10.0


@dataclass(frozen=True)
class Finding:
    """What was found about one thing: `Fail` says what to do, `Note` what cannot be had."""

    verdict: Literal["OK", "Fail", "Note"]
    subject: str
    says: str

    def __str__(self) -> str:
        return f"{self.verdict:4}  {self.subject:13}  {printable(self.says)}"


async def examine() -> AsyncGenerator[Finding, None]:
    """Yield findings, up to a failure after which nothing further can be told."""
    subject = "Configuration"
    try:
        configured = settings.load()
        yield Finding("Note", "Session", _plan(configured))
        yield Finding("OK", subject, _configuration(configured))
        async with TCIClient(configured) as client:
            subject = "Connection"
            count = len(await client.sessions())
            yield Finding("OK", subject, f"The service answers, and lists {count} live sessions.")
            yield Finding("OK", "Key", _key(configured))
            async with _session(client) as session:
                async for finding in _examine_session(session):
                    yield finding
    except Unauthorized as error:
        yield Finding("Fail", "Key", str(error))
    except TCIError as error:
        yield Finding("Fail", subject, str(error))


async def _examine_session(session: Session) -> AsyncGenerator[Finding, None]:
    """Yield a finding for each thing that the API leaves open."""
    checks = {
        "Session": _answers,
        "Round trip": _round_trip,
        "Processes": _processes,
        "Output": _output,
        "Two at once": _overlap,
        "Packages": _pip,
        "Jupyter": _jupyter,
        "Transport": _transport,
    }
    for subject, check in checks.items():
        try:
            finding = await check(session)
        except TCIError as error:
            finding = Finding("Fail", subject, str(error))
            if isinstance(error, SessionExpired):
                yield finding
                return
        yield finding
        if check is _answers and finding.verdict == "Fail":
            return


def _plan(configured: Settings) -> str:
    price = "free on this machine" if configured.local else f"${PRICE:.2f} on the hosted services"
    return f"One session will be started ({price}), examined for some seconds, and ended."


def _configuration(configured: Settings) -> str:
    file = settings.config_file()
    source = f"the environment and {file}" if file.exists() else "the environment"
    if configured.local:
        where = f"the embedded server on this machine (sandbox: {configured.sandbox})"
    else:
        where = configured.shown_url
    return f"{where}; read from {source}."


def _key(configured: Settings) -> str:
    if configured.local:
        return "None is needed on this machine."
    return "The service accepts it." if configured.key else "None is set, and none is asked for."


@asynccontextmanager
async def _session(client: TCIClient) -> AsyncIterator[Session]:
    """Lend a session of our own, which is remembered nowhere, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(client, StateFile(Path("doctor.json"), Path(folder)))
        session.id = None  # the one of TCI_SESSION_ID may be at work
        try:
            yield session
        finally:
            await session.end(_END_TIMEOUT)


async def _answers(session: Session) -> Finding:
    execution = await session.execute("print(6 * 7)", timeout=probes.TIMEOUT)
    said = "".join(output.text for output in execution.outputs).strip()
    if said == "42":
        return Finding("OK", "Session", "Code runs, and its output comes back.")
    return Finding("Fail", "Session", f"print(6 * 7) gave {said!r}. Report it to the service.")


async def _round_trip(session: Session) -> Finding:
    trip = await probes.round_trip(session)
    says = f"{trip * 1000:.0f} ms (median of {probes.TRIPS}): what a quick cell takes at least."
    return Finding("OK", "Round trip", says)


async def _processes(session: Session) -> Finding:
    found = await probes.lives(session)
    if not found.started:
        says = "No child process can be started: cells run in the session's own Python (plain)."
    elif not found.process:
        says = (
            "A child process does not live on between requests, so live transport would lose your "
            "variables: cells run in the session's own Python (plain)."
        )
    elif not found.thread:
        says = (
            "A child process lives on, but stands still between requests: what background threads "
            "say comes with the next cell."
        )
    else:
        says = "Child process and threads live on between requests, as live transport needs."
        return Finding("OK", "Processes", says)
    return Finding("Note", "Processes", says)


async def _output(session: Session) -> Finding:
    whole = await probes.whole_output(session)
    if whole < SMALLEST_LIMIT:
        says = f"Less than {SMALLEST_LIMIT} bytes come back whole: too little for live transport."
        return Finding("Note", "Output", says)
    if whole < LIMIT:
        says = f"{size(whole)} of stdout come back whole, not twice that: more takes more requests."
        return Finding("Note", "Output", says)
    more = "no more was tried" if whole == probes.MOST_OUTPUT else "not twice that"
    return Finding("OK", "Output", f"{size(whole)} of stdout come back whole; {more}.")


async def _overlap(session: Session) -> Finding:
    says = {
        "queue": "Two requests to one session queue: in plain transport a cell waits behind one "
        "that was interrupted and still runs.",
        "overlap": "Two requests to one session run at the same time: in plain transport a cell "
        "does not wait behind one that was interrupted, and both use the same variables.",
        "refused": "A second request to a busy session is refused; the kernel sends one at a time.",
    }
    return Finding("OK", "Two at once", says[await probes.overlap(session)])


async def _pip(session: Session) -> Finding:
    problem = await probes.pip(session)
    if problem:
        says = f"pip can install nothing; what is there must do. It says: {problem}"
        return Finding("Note", "Packages", says)
    return Finding("OK", "Packages", "pip finds its index: `%pip install` works.")


async def _jupyter(session: Session) -> Finding:
    versions = await probes.packages(session)
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = [name for name, version in versions.items() if not version]
    if not missing:
        return Finding("OK", "Jupyter", f"{there}.")
    allowed = session.client.settings.install
    plan = "one `pip install` is tried" if allowed else "TCI_INSTALL=false forbids installing it"
    says = f"{there}; without {', '.join(missing)}, which live transport needs: {plan}."
    return Finding("Note", "Jupyter", says)


async def _transport(session: Session) -> Finding:
    wanted = session.client.settings.transport
    try:
        trial = await probes.live(session)
    except LiveRefused as error:
        says = (
            f"auto picks plain: {error} Output comes when a cell ends, and there are no input() "
            "and no widgets."
        )
        verdict: Literal["Fail", "Note"] = "Fail" if wanted == "live" else "Note"
        return Finding(verdict, "Transport", _with_setting(says, wanted))
    except InvalidResponse as error:
        if wanted != "plain":
            raise
        return Finding("Note", "Transport", f"plain is set. Live would not do: {error}")
    says = (
        f"auto picks live: a child with Python {trial.hello.python} was started, and its first "
        f"cell ended, in {trial.seconds:.1f} s."
    )
    return Finding("OK", "Transport", _with_setting(says, wanted))


def _with_setting(says: str, wanted: str) -> str:
    return says if wanted == "auto" else f"{says} TCI_TRANSPORT={wanted} is set, though."
