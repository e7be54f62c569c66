"""What the agent says, and the wire between it and the relay.

A request is one `execute` of the service; its code calls the agent, which prints one piece.

    relay                                          agent, in the session
    boot(BootOptions)    ── tci_kernel.agent ──►   starts the child, says Hello
    encode(Exchange)     ── messages 4, 5 ──►      hands them to the child, waits for news
    parse, Assembler     ◄── messages 17-23 ──     keeps them until acknowledged
    encode(Exchange)     ── acknowledged 23 ──►    forgets them

**Request**: `# tci-agent` and one call whose argument is the nonce of the request and a packed
head with messages, compressed, in base64. One that is too long for code travels as a file of the
request, which the agent deletes before anything else. A session without agent answers so, and
`parse` raises `AgentMissing`: nothing was passed on.

**Packed**: the length of the head (8 hex digits), the head (JSON), then the bytes of all
messages. `head["messages"]` lists `[number, channel, [length, ...]]` of each: header, parent
header, metadata, content and buffers as they are on Jupyter's own wire, without signature.

**Piece**: `<tci 1 NONCE BATCH OFFSET SIZE TOTAL CRC ENCODING DATA>` on a line of its own, among
any other text. OFFSET, SIZE and TOTAL count bytes of the batch, which is one packed frame; CRC is
the CRC-32 of this piece. DATA is base64 of what is compressed (`deflate`) or not (`raw`), or the
bytes themselves (`text`): only if they are ASCII, and the request allows it, as it does until a
piece comes damaged. A batch longer than `limit` is fetched by `encode(Fetch)` from
`Assembler.offset` on; the agent keeps the latest batch as it is, and answers with a new one (from
offset 0) if it is asked for an older.

**Numbers**: the relay numbers its messages from 1 without gaps and sends again whatever is above
`Frame.accepted`; the agent drops what it has seen. The agent's numbers rise but may skip: a
message whose number is not above the last acknowledged one is a repetition. Acknowledge
`Frame.last`. Any request may be sent again unchanged: operations carry an id and act once.

**Failures**: a cell that fails stops those that were sent before that was known. `head["heard"]`
of an exchange says for each message which number of the agent's its sender can have known (null:
it runs in any case). The agent hands the child one cell after the other, and aborts what came too
late.

**Relays**: each local kernel process draws its own id. A new one takes over with its first
request: it gets all that is not acknowledged; the former is told `superseded` and must stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tci_kernel.errors import InvalidResponse
from tci_kernel.transport.message import Channel, JSONObject, Message, json_object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self


class FrameError(InvalidResponse):
    """What the session printed is no frame, or a damaged one; ask again, in smaller pieces."""


class AgentMissing(FrameError):
    """The session has no agent, because its process is new; nothing was passed on."""

    may_have_run = False

    @classmethod
    def between_cells(cls) -> Self:
        """Return the error of a cell that comes after the session's Python process was replaced."""
        return cls(
            "The session's Python process has been started anew since the last cell. Variables are "
            "lost; files are kept. This cell has not run: first run again what it builds on."
        )


@dataclass(frozen=True)
class Child:
    """The child ipykernel: it is `starting`, `ready`, `ended`, or `failed` with a reason."""

    state: Literal["starting", "ready", "ended", "failed"]
    generation: int
    reason: str = ""


@dataclass(frozen=True)
class Idle:
    """What can still speak although no request is running."""

    threads: int
    tasks: int
    comms: int

    def __bool__(self) -> bool:
        return bool(self.threads or self.tasks or self.comms)


@dataclass(frozen=True)
class Hello:
    """What the agent says of itself and its session when it is booted.

    `refusal` is empty, or says why live transport cannot work here; `lacks_package` that it could
    if something were installed. `version` is `agent_version()` unless an agent of another release
    was there before. `ipython` False means that other clients' cells do not run in the child.
    `agent` tells it from any other, which numbers its messages anew. `fresh` tells that the child
    has not been asked anything yet, `execution_count` what its next cell counts as. `not_moved`
    gives the reason for each name that stayed behind.
    """

    version: str
    refusal: str
    python: str
    ipykernel: str
    jupyter_client: str
    platform: str
    cwd: str
    pid: int
    ipython: bool
    agent: str
    fresh: bool
    moved: tuple[str, ...]
    not_moved: dict[str, str]
    lacks_package: bool = False
    execution_count: int = 1


@dataclass(frozen=True)
class Health:
    """How the child is: `child_memory` in bytes, `child_uptime` in seconds."""

    child: Child
    python: str
    child_memory: Annotated[int, Field(ge=0, lt=2**63)] | None
    child_uptime: Annotated[float, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class Frame:
    """What one request gave.

    accepted: number of the last message that the agent took from this relay. last: acknowledge
    this. took: seconds that the agent had the request. more: ask again at once. superseded: another
    relay has taken over. idle: None while a request runs. asks: whether a cell waits for input.
    messages: those that a kernel may send. result: of an operation. problem: why the request could
    not be done, or empty; if not, nothing else in the frame counts.
    """

    accepted: int
    last: int
    child: Child
    messages: tuple[Message, ...] = ()
    took: Annotated[float, Field(ge=0)] = 0.0
    more: bool = False
    superseded: bool = False
    idle: Idle | None = None
    asks: bool = False
    hello: Hello | None = None
    result: JSONObject | None = None
    problem: str = ""


_HEALTH = TypeAdapter(Health)


def health(frame: Frame) -> Health:
    """Return what the answer to `Status` says; raises `FrameError` if it says something else."""
    try:
        return _HEALTH.validate_python({**(frame.result or {}), "child": frame.child})
    except ValidationError:
        raise FrameError("The session's agent does not tell how it is.") from None


_LAYOUT = TypeAdapter(list[tuple[int, Channel, list[int]]])
_FRAME = TypeAdapter(Frame)


def decode(batch: bytes) -> Frame:
    """Return the frame that is packed in `batch`; raises `FrameError` if none is.

    Messages that a kernel may not send are left out.
    """
    try:
        end = 8 + int(batch[:8], 16)
        head = json_object(batch[8:end])
        layout = _LAYOUT.validate_python(head.pop("messages", []))
        messages = list(_messages(layout, memoryview(batch)[end:]))
        checked = (message.checked() for message in messages)
        valid = tuple(message for message in checked if message is not None)
        frame = _FRAME.validate_python({**head, "messages": valid})
    except (ValidationError, ValueError, RecursionError):
        raise FrameError("The session printed a frame whose content is not the wire's.") from None
    if messages and messages[-1].number > frame.last:
        raise FrameError("The session printed messages beyond the last number of their frame.")
    return frame


def _messages(layout: list[tuple[int, Channel, list[int]]], body: memoryview) -> Iterator[Message]:
    """Yield the messages in `body`; raises ValueError unless they fill it, in rising order."""
    position = before = 0
    for number, channel, lengths in layout:
        if number <= before or any(length < 0 for length in lengths):
            raise ValueError("numbers that do not rise, or a negative length")
        frames = []
        for length in lengths:
            frames.append(bytes(body[position : position + length]))
            position += length
        before = number
        yield Message(number, channel, tuple(frames))
    if position != len(body):
        raise ValueError("lengths that do not fill the frame")
