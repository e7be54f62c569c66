"""One Jupyter message on its way between the relay and the agent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NoReturn, cast

from pydantic_core import from_json

Channel = Literal["shell", "control", "stdin", "iopub"]
JSONObject = dict[str, Any]

#: What a kernel may say on iopub; its replies are told by their ending.
IOPUB_TYPES = frozenset(
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

#: What the relay answers itself, because it is about the child and not about this kernel.
_NOT_PASSED_ON = frozenset({"shutdown_reply"})


@dataclass(frozen=True)
class Message:
    """One Jupyter message with its number.

    `frames` are header, parent header, metadata, content (JSON) and any number of buffers.
    """

    number: int
    channel: Channel
    frames: tuple[bytes, ...] = field(repr=False)

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
    def buffers(self) -> tuple[bytes, ...]:
        """The binary buffers, most often none."""
        return self.frames[4:]

    @property
    def msg_type(self) -> str:
        """The type, as in the header."""
        return cast("str", self.header["msg_type"])

    def is_valid(self) -> bool:
        """Tell whether a kernel may send this: four JSON objects, and a type of its channel."""
        try:
            msg_type = self.header["msg_type"]
            _ = self.parent_header, self.metadata, self.content
        except (IndexError, KeyError, ValueError, RecursionError):
            return False
        return _allowed(self.channel, msg_type)


def _allowed(channel: Channel, msg_type: object) -> bool:
    if not isinstance(msg_type, str) or msg_type in _NOT_PASSED_ON:
        return False
    if channel == "iopub":
        return msg_type in IOPUB_TYPES
    return msg_type == "input_request" if channel == "stdin" else msg_type.endswith("_reply")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def json_object(data: bytes) -> JSONObject:
    """Return the JSON object in `data`; raises ValueError (or RecursionError) if it holds none.

    The quick parser refuses half a surrogate pair and deep nesting, which are rare and allowed.
    """
    try:
        value = from_json(data, allow_inf_nan=False)
    except ValueError:
        value = _DECODER.decode(data.decode())
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  as for all that is no such JSON
    return value
