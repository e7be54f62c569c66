"""What the relay asks of its agent, and the code that asks it (the wire: frames.py)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from tci_kernel.agent.wire import ENTRY, MARK, NAME, pack
from tci_kernel.api import File

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.transport.message import Message

#: Longest argument that stands in the code itself; more travels as a file. Bytes.
INLINE = 64 * 2**10

#: Bytes of printed text that every service lets pass; `doctor` finds out how much more does.
LIMIT = 2**20

#: A service that cuts output below this many bytes cannot carry frames.
SMALLEST_LIMIT = 2**12

#: The agent's modules in the order in which they need each other.
_MODULES = (
    *("__init__", "wire", "outbox", "asked", "ledger", "namesakes", "inbox", "conversation"),
    *("process", "session", "interrupts", "pump", "variables", "shell", "foreign"),
    *("front", "entry"),
)

#: What runs in the child, in this order.
_CHILD = ("mend", "speakers", "streams", "child")

#: Runs in the session with `name`, `packed`, `nonce` and `argument` as its only globals. A
#: module is there when it is whole, `entry` last: an interrupt may come at any moment.
_LOADER = """
import base64, json, sys, types, zlib
if name + ".entry" not in sys.modules:
    for module, source in json.loads(zlib.decompress(base64.b64decode(packed)).decode()):
        loaded = types.ModuleType(module)
        loaded.__package__, loaded.__path__ = name, []
        exec(compile(source, "<" + module + ">", "exec"), loaded.__dict__)
        sys.modules[module] = loaded
sys.modules[name + ".entry"].request(nonce, argument)
"""


@dataclass(frozen=True)
class Form:
    """How the answer to a request is printed: in pieces of at most `limit` bytes.

    `text` allows text that is not in base64, which a service may not return as it was printed;
    `compress` asks for it wherever it pays over a network; else only where it is quicker than the
    copies that are made on the same machine.
    """

    limit: int = LIMIT
    text: bool = True
    compress: bool = True


@dataclass(frozen=True)
class BootOptions:
    """How the agent starts.

    relay: id of this local kernel process. session: the front end's Jupyter session id, which the
    child sees as its client's identity. max_buffer: bytes of undelivered output beyond which
    stream text is cut. move: take the session's variables along into the child.
    execution_count: what the child's first cell counts as. lease: seconds after which a session
    ends that nobody has asked anything else, because the answer with its id was lost; 0: never.
    """

    relay: str
    session: str = ""
    max_buffer: int = 128 * 2**20
    move: bool = False
    execution_count: int = 1
    lease: float = 0.0


@dataclass(frozen=True)
class Exchange:
    """Pass messages on, and wait for news.

    acknowledged: `Frame.last` of the last frame that arrived. hold: longest wait for the first
    news; gather: longest wait for more after it; flow: longest wait for what goes on coming without
    a pause as long as that. Seconds.
    """

    relay: str
    acknowledged: int = 0
    messages: tuple[Message, ...] = ()
    hold: float = 0.2
    gather: float = 0.01
    flow: float = 0.0


@dataclass(frozen=True)
class Fetch:
    """Ask for the rest of a batch, from `offset` on."""

    relay: str
    batch: int
    offset: int


def _new_id() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Restart:
    """Replace the child by a fresh one; what it was asked gets aborted replies."""

    relay: str
    execution_count: int = 1
    id: str = field(default_factory=_new_id)


@dataclass(frozen=True)
class End:
    """End the child, `delay` seconds from now unless an exchange comes before.

    With `exit_session` the session's own process ends too.
    """

    relay: str
    delay: float = 0.0
    exit_session: bool = False
    id: str = field(default_factory=_new_id)


@dataclass(frozen=True)
class Status:
    """Ask for processes, memory (bytes), versions and times; any relay may.

    With `hear` the answer waits for a word of the child, or for its end.
    """

    relay: str
    hear: bool = False


Request = Exchange | Fetch | Restart | End | Status


@dataclass(frozen=True)
class Call:
    """A request as `execute` takes it; `nonce` is for `parse`."""

    code: str = field(repr=False)
    nonce: str
    files: tuple[File, ...] = ()


def boot(options: BootOptions, form: Form = Form()) -> Call:
    """Return the code that loads the agent and starts its child; the frame has a `hello`.

    Where an agent runs already, it stays, takes these options' relay, and answers.
    """
    nonce = _new_id()
    argument = _argument({"op": "boot", **asdict(options), **asdict(form)}, ())
    names = {
        "name": NAME,
        "packed": _packed_modules(),
        "nonce": nonce,
        "argument": argument,
    }
    return Call(f"{MARK}\nexec({_LOADER!r}, {names!r})", nonce)


def encode(request: Request, form: Form = Form(), *, inline: bool = False) -> Call:
    """Return the code of a request.

    `inline` forbids the use of a file, for sessions whose working directory is not where files go.
    """
    nonce = _new_id()
    fields = {name: getattr(request, name) for name in request.__dataclass_fields__}
    messages: Sequence[Message] = fields.pop("messages", ())
    heard = [message.heard for message in messages]
    head = {"op": type(request).__name__.lower(), **fields, "heard": heard, **asdict(form)}
    argument = _argument(head, messages)
    if inline or len(argument) <= INLINE:
        return Call(_call(nonce, argument), nonce)
    file = File(name=f".tci-{nonce}", encoding="base64", content=argument)
    return Call(_call(nonce, f"@{file.name}"), nonce, (file,))


def _call(nonce: str, argument: str) -> str:
    """Return code that asks the agent, or says that there is none, and leaves no name behind."""
    return (
        f"{MARK}\n"
        f"(lambda agent: agent.request({nonce!r}, {argument!r}) if agent "
        f"else print('<tci 1 {nonce} missing>'))(__import__('sys').modules.get({ENTRY!r}))"
    )


def _argument(head: dict[str, object], messages: Sequence[Message]) -> str:
    packed = pack(head, [(message.number, message.channel, message.frames) for message in messages])
    return _text(packed)


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data)).decode()


@cache
def _sources() -> dict[str, str]:
    folder = resources.files("tci_kernel.agent")
    names = (*_MODULES, *_CHILD)
    return {name: folder.joinpath(f"{name}.py").read_text("utf-8") for name in names}


def mend_source() -> str:
    """Return the module that mends a stock kernel."""
    return _sources()["mend"]


@cache
def agent_version() -> str:
    """Return what tells this release's agent from another: a digest of its source."""
    return hashlib.sha256(json.dumps(_sources()).encode()).hexdigest()[:12]


@cache
def _packed_modules() -> str:
    """Return the agent as the loader takes it: names and sources, each after what it imports."""
    child = [(name, _sources()[name]) for name in _CHILD]
    shipped = f"VERSION = {agent_version()!r}\nCHILD = {child!r}\n"
    modules = [(f"{NAME}.shipped", shipped)]
    modules += [(f"{NAME}.{name}", _sources()[name]) for name in _MODULES[1:]]
    return _text(json.dumps([(NAME, _sources()["__init__"]), *modules]).encode())
