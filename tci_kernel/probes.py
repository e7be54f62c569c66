"""What one can find out about a session that no document tells: each probe returns data.

Probes run in the session's own process, in a namespace of their own; any Python will do.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tci_kernel.agent.wire import MARK
from tci_kernel.errors import InvalidResponse, SessionExpired, TCIError
from tci_kernel.transport import install
from tci_kernel.transport.live import LiveTransport
from tci_kernel.transport.requests import SMALLEST_LIMIT

if TYPE_CHECKING:
    from tci_kernel.api import Execution
    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Hello
    from tci_kernel.transport.message import Message

#: How long a session may take to answer, in seconds.
TIMEOUT = 120.0

#: How often the round trip is measured.
TRIPS = 5

#: How long a session is left alone to see what lives on in it, in seconds.
_PAUSE = 1.0
#: How often its thread says that it lives, in seconds.
_TICK = 0.02

#: Most bytes of stdout that are tried.
MOST_OUTPUT = 8 * 2**20

_PACKAGES = """
import importlib.metadata, platform
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
found = {name: version(name) for name in ("ipython", "ipykernel", "jupyter_client")}
found["python"] = platform.python_version()
"""

_BEGIN_LIVES = f"""
import subprocess, sys, threading, time
class Lives:
    ticks = 0
    process = None
lives = sys._tci_lives = Lives()
def tick():
    while hasattr(sys, "_tci_lives"):
        lives.ticks += 1
        time.sleep({_TICK})
try:
    lives.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
except OSError:
    pass
threading.Thread(target=tick, daemon=True).start()
found = lives.process is not None
"""

_END_LIVES = """
import sys
lives = getattr(sys, "_tci_lives", None)
found = {"process": False, "ticks": 0}
if lives is not None:
    del sys._tci_lives
    found["ticks"] = lives.ticks
    if lives.process is not None:
        found["process"] = lives.process.poll() is None
        lives.process.kill()
"""

_MOMENT = "import time; begin = time.time(); time.sleep(0.5); found = [begin, time.time()]"

_PIP = f"""
import subprocess, sys
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=0", "--timeout=10"]
options = ["--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
try:
    done = subprocess.run(
        [*pip, "install", *options, {install.PACKAGE!r}],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    words = done.stdout.decode("utf-8", "replace").strip().split("\\n")[-1]
    found = "" if done.returncode == 0 else words or "pip failed"
except OSError as error:
    found = str(error)
"""


class Lives(NamedTuple):
    """What lives on between two requests; `started` tells that a process could be started."""

    started: bool
    process: bool
    thread: bool


class Trial(NamedTuple):
    """A cell that ran over the live transport: `seconds` from the boot to its end."""

    hello: Hello
    notice: str
    seconds: float


async def packages(session: Session) -> dict[str, str]:
    """Return the versions of `python`, `ipython`, `ipykernel`, `jupyter_client`; "" for none."""
    return {str(name): str(version) for name, version in (await _ask(session, _PACKAGES)).items()}


async def round_trip(session: Session) -> float:
    """Return the seconds that a request takes which does nothing: the median of some."""
    seconds = []
    for _ in range(TRIPS):
        begin = time.monotonic()
        await _run(session, "None")
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


async def lives(session: Session) -> Lives:
    """Return what lives on between requests."""
    started = await _ask(session, _BEGIN_LIVES)
    await asyncio.sleep(_PAUSE)
    found = await _ask(session, _END_LIVES)
    return Lives(bool(started), found["process"], found["ticks"] > _PAUSE / _TICK / 4)


async def whole_output(session: Session) -> int:
    """Return how many bytes of stdout come back whole, doubling up to `MOST_OUTPUT`."""
    whole, size = 0, SMALLEST_LIMIT
    while size <= MOST_OUTPUT:
        try:
            execution = await _run(session, f"print('x' * {size}, end='')")
        except SessionExpired:
            raise
        except TCIError:  # some services fail rather than cut
            return whole
        if _stdout(execution) != "x" * size:
            return whole
        whole, size = size, size * 2
    return whole


async def overlap(session: Session) -> Literal["overlap", "queue", "refused"]:
    """Return what becomes of two requests that are sent to the session at once."""
    one, other = await asyncio.gather(_moment(session), _moment(session))
    if one is None or other is None:
        return "refused"
    return "overlap" if one[0] < other[1] and other[0] < one[1] else "queue"


async def _moment(session: Session) -> list[float] | None:
    """Return begin and end of a moment of work in the session, None if that was refused."""
    try:
        moment: list[float] = await _beside(session, _MOMENT)
    except SessionExpired:
        raise
    except TCIError:
        return None
    return moment


async def pip(session: Session) -> str:
    """Return why pip cannot install a package in the session, or nothing if it can."""
    return str(await _ask(session, _PIP))


async def live(session: Session) -> Trial:
    """Run a cell over the live transport, with a real agent and child, and end both.

    Raises `LiveRefused` if the session cannot do it, else the `TCIError` of a request.
    """
    said: list[Message] = []
    replied: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def deliver(messages: list[Message]) -> None:
        said.extend(messages)
        if any(m.msg_type == "execute_reply" for m in messages) and not replied.done():
            replied.set_result(None)

    def fail(error: TCIError) -> None:
        if not replied.done():
            replied.set_exception(error)

    begin = time.monotonic()
    transport = LiveTransport(session, deliver, lambda _, error: fail(error), lambda _: None, fail)
    hello, notice = await install.start(
        partial(transport.start, 1, jupyter_session="doctor"), session
    )
    try:
        transport.pass_on("shell", _cell("print(6 * 7)"))
        await asyncio.wait_for(replied, TIMEOUT)
    except asyncio.TimeoutError:
        raise InvalidResponse("A cell that was sent over live transport has no reply.") from None
    finally:
        with contextlib.suppress(TCIError):
            await transport.end()
    ours = [m for m in said if m.parent_header.get("session") == "doctor"]
    printed = "".join(str(m.content.get("text")) for m in ours if m.msg_type == "stream")
    failed = [str(m.content.get("evalue")) for m in ours if m.msg_type == "error"]
    if failed or printed != "42\n":
        given = failed[0] if failed else f"It gave {printed!r}."
        raise InvalidResponse(f"print(6 * 7) failed over live transport. {given}")
    return Trial(hello, notice, time.monotonic() - begin)


def _cell(code: str) -> tuple[bytes, ...]:
    header = {"msg_id": secrets.token_hex(8), "msg_type": "execute_request", "session": "doctor"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}}
    more = {"username": "", "date": "2000-01-01T00:00:00Z", "version": "5.3"}
    return json.dumps({**header, **more}).encode(), b"{}", b"{}", json.dumps(content).encode()


async def _run(session: Session, code: str) -> Execution:
    return await session.execute(f"{MARK}\n{code}", timeout=TIMEOUT)


async def _ask(session: Session, source: str) -> Any:
    """Return what `source` has `found` in the session; raises `InvalidResponse` without answer."""
    nonce = secrets.token_hex(8)
    return _answer(await _run(session, _asking(source, nonce)), nonce)


async def _beside(session: Session, source: str) -> Any:
    """Ask without waiting for the session's turn."""
    nonce = secrets.token_hex(8)
    code = f"{MARK}\n{_asking(source, nonce)}"
    execution = await session.client.execute(code, session.id, timeout=TIMEOUT)
    return _answer(execution, nonce)


def _asking(source: str, nonce: str) -> str:
    text = f"{source}\nimport json\nprint({nonce!r} + json.dumps(found) + {nonce!r})"
    return f"exec({text!r}, {{}})"


def _answer(execution: Execution, nonce: str) -> Any:
    try:
        return json.loads(_stdout(execution).split(nonce)[1])
    except (IndexError, ValueError):
        errors = [output.text for output in execution.outputs if output.type == "error"]
        why = errors[0].strip().rpartition("\n")[2] if errors else "it printed nothing of the kind"
        raise InvalidResponse(f"The session does not answer: {why}.") from None


def _stdout(execution: Execution) -> str:
    return "".join(output.text for output in execution.outputs if output.type == "stdout")
