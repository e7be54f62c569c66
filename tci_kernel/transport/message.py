"""One Jupyter message on its way between the relay and the agent."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

Channel = Literal["shell", "control", "stdin", "iopub"]
JSONObject = dict[str, Any]

_OUTPUTS = frozenset(
    {
        "stream",
        "display_data",
        "update_display_data",
        "execute_input",
        "execute_result",
        "error",
        "status",
        "clear_output",
        "comm_open",
        "comm_msg",
        "comm_close",
        "debug_event",
    }
)

#: Not among them: what the relay answers itself, because it is about this kernel.
_REPLIES = frozenset(
    {
        "execute_reply",
        "complete_reply",
        "inspect_reply",
        "is_complete_reply",
        "history_reply",
        "comm_info_reply",
        "kernel_info_reply",
        "interrupt_reply",
        "debug_reply",
        "usage_reply",
        "create_subshell_reply",
        "delete_subshell_reply",
        "list_subshell_reply",
    }
)

#: What a kernel may say on each channel; ipykernel takes requests of every kind on control too.
KINDS: dict[Channel, frozenset[str]] = {
    "iopub": _OUTPUTS,
    "shell": _REPLIES,
    "control": _REPLIES,
    "stdin": frozenset({"input_request"}),
}

#: What a reply may ask of a front end; an `edit_magic` would start a program on a local file.
_PAYLOADS = ("page", "set_next_input", "ask_exit")

#: Clients translate messages of another major version, and fail at what is no version.
_PROTOCOL = "5."

#: What is raised where something is made of odd JSON.
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError)

#: JSON of more objects and lists, or of more values, than so is not taken apart: `{},` takes some
#: thirty times its length in memory.
_MOST_OBJECTS, _MOST_VALUES = 2**22, 2**25
_NO_STRUCTURE = bytes(set(range(256)) - set(b'{[,"'))
_STRING = re.compile(rb'"[^"]*"')

#: Counts beyond this are nonsense.
_MOST_CELLS = 2**31

_UNREADABLE = json.dumps(
    {
        "status": "error",
        "ename": "InvalidResponse",
        "evalue": "The session's reply to this request cannot be read; the session runs on.",
        "traceback": [],
    }
).encode()


@dataclass(frozen=True)
class Message:
    """One Jupyter message with its number.

    `frames` are header, parent header, metadata, content (JSON) and any number of buffers. Of one
    that goes to the child, `heard` is the last number of the child's that who sent it can have
    known of: a failure behind that aborts a cell. With None it runs in any case.
    """

    number: int
    channel: Channel
    frames: tuple[bytes, ...] = field(repr=False)
    heard: int | None = None

    @cached_property
    def header(self) -> JSONObject:
        """The header; `msg_type` is a string if the message came out of `Assembler`."""
        return json_object(self.frames[0])

    @cached_property
    def parent_header(self) -> JSONObject:
        """The header of the request that this message answers, or an empty object."""
        return json_object(self.frames[1])

    @cached_property
    def metadata(self) -> JSONObject:
        """The metadata."""
        return json_object(self.frames[2])

    @cached_property
    def content(self) -> JSONObject:
        """The content."""
        return json_object(self.frames[3])

    @property
    def msg_type(self) -> str:
        """The type, as in the header."""
        return cast("str", self.header["msg_type"])

    @property
    def parent_id(self) -> str:
        """The id of the request that this message answers, or an empty string."""
        return cast("str", self.parent_header.get("msg_id", ""))

    @property
    def is_idle(self) -> bool:
        """Whether this says that the child has finished a request."""
        return self.msg_type == "status" and self.content.get("execution_state") == "idle"

    @property
    def is_busy(self) -> bool:
        """Whether this says that the child begins with a request."""
        return self.msg_type == "status" and self.content.get("execution_state") == "busy"

    @property
    def execution_count(self) -> int | None:
        """The number of the cell, if the content has one that can be."""
        count = self.content.get("execution_count")
        return count if type(count) is int and 0 <= count < _MOST_CELLS else None

    def checked(self) -> Message | None:
        """Return this message as a kernel may send it, None if it may not.

        A reply whose content cannot be read says so, because somebody waits for it.
        """
        if not _holds(self._has_good_headers):
            return None
        if self.channel == "iopub" and _is_bomb(self.frames[3]):
            return self._left_out()
        if self.channel not in {"shell", "control"}:
            return self if _holds(lambda: isinstance(self.content, dict)) else None
        try:
            return self._with_harmless_payload()
        except _ODD:
            return self.with_content(_UNREADABLE)

    def with_content(self, content: bytes) -> Message:
        """Return this message with another content."""
        return Message(self.number, self.channel, (*self.frames[:3], content, *self.frames[4:]))

    def answers(self, request: Message) -> bool:
        """Tell whether this is about a request, as far as ids tell."""
        names = ("msg_id", "msg_type")
        return all(self.parent_header.get(name) == request.header.get(name) for name in names)

    def for_nobody(self) -> Message:
        """Return this message as one about a request that nobody has asked."""
        parent = json.dumps({**self.parent_header, "msg_id": uuid.uuid4().hex}).encode()
        return Message(self.number, self.channel, (self.frames[0], parent, *self.frames[2:]))

    def _left_out(self) -> Message:
        """Return, in place of an output that is too much to be taken apart, one that says so."""
        header = json.dumps({**self.header, "msg_type": "stream"}).encode()
        size = len(self.frames[3]) / 10**6
        text = f"TCI: an output of {size:.0f} MB is left out, because it has too many parts.\n"
        content = json.dumps({"name": "stderr", "text": text}).encode()
        return Message(self.number, self.channel, (header, self.frames[1], b"{}", content))

    def _with_harmless_payload(self) -> Message:
        payload = self.content.get("payload")
        if not payload:
            return self
        content = {**self.content, "payload": harmless(payload)}
        return self.with_content(json.dumps(content).encode())

    def _has_good_headers(self) -> bool:
        header, parent = self.header, self.parent_header
        return (
            isinstance(self.metadata, dict)
            and header["msg_type"] in KINDS[self.channel]
            and isinstance(header["msg_id"], str)
            and header["version"].startswith(_PROTOCOL)
            and all(isinstance(parent.get(name, ""), str) for name in ("msg_id", "session"))
        )


def harmless(payload: Any) -> list[JSONObject]:
    """Return those of a reply's payloads that start nothing on this machine."""
    items = payload if isinstance(payload, list) else []
    return [item for item in items if isinstance(item, dict) and item.get("source") in _PAYLOADS]


def _holds(condition: Callable[[], bool]) -> bool:
    """Tell whether something is so of what a session has made up."""
    try:
        return condition()
    except _ODD:
        return False


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _is_bomb(data: bytes) -> bool:
    """Tell whether JSON would take far more memory than it is long: it has too many parts."""
    if len(data) <= _MOST_OBJECTS:  # what is shorter cannot have so many
        return False
    if data.count(b"{") + data.count(b"[") <= _MOST_OBJECTS and data.count(b",") <= _MOST_VALUES:
        return False
    unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
    bare = _STRING.sub(b"", unescaped.translate(None, _NO_STRUCTURE))
    return bare.count(b"{") + bare.count(b"[") > _MOST_OBJECTS or bare.count(b",") > _MOST_VALUES


def json_object(data: bytes) -> JSONObject:
    """Return the JSON object in `data`; raises ValueError (or RecursionError) if it holds none.

    The quick parser refuses half a surrogate pair and deep nesting, which are rare and allowed,
    and what is not UTF-8: a file name may come as the bytes that it is, as `jupyter_client` has it.
    """
    if _is_bomb(data):
        raise ValueError("JSON of too many parts")
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        value = _DECODER.decode(data.decode("utf-8", "replace"))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  as for all that is no such JSON
    return value
