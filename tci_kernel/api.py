"""The wire contract of a TCI service, shared by the client and the embedded server.

Requests are strict (an unknown field is a mistake); responses are lenient: unknown fields, output
types and MIME types are kept, because services add them without notice.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    field_validator,
)

Stream = Literal["stdout", "stderr"]
MimeBundle = dict[str, Any]

#: One failure as the service reports it: prose, or an object of unknown shape.
WireError = str | dict[str, Any]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Response(BaseModel):
    model_config = ConfigDict(extra="allow")


class File(_Request):
    """A file that is written to the session's working directory before the code runs."""

    name: str
    encoding: Literal["string", "base64"]
    content: str = Field(repr=False)


class ExecuteRequest(_Request):
    """The body of `POST /tci/execute`; without `session_id` the service makes a session."""

    code: str
    language: Literal["python"] = "python"
    session_id: str | None = None
    files: list[File] | None = None


class Output(_Response):
    """One output of a cell, in the order in which it came.

    `data` is a string for `stdout`, `stderr` and `error` (a traceback, ANSI colours kept), and an
    object from MIME type to value for `display_data` and `execute_result`.
    """

    type: str
    data: Any = None

    @property
    def text(self) -> str:
        """A text output, or the plain text of a display, whatever JSON value the service sent."""
        data = self.data.get("text/plain") if isinstance(self.data, dict) else self.data
        if isinstance(data, list):
            return "".join(str(piece) for piece in data)
        return "" if data is None else str(data)

    @property
    def bundle(self) -> MimeBundle:
        """The data of a display as a MIME bundle; a bare value counts as plain text."""
        return self.data if isinstance(self.data, dict) else {"text/plain": self.text}


class Execution(_Response):
    """What one `execute` request gave."""

    session_id: str
    outputs: list[Output] = Field(default_factory=list)
    status: str | None = None
    errors: list[WireError] | None = None

    @field_validator("outputs", mode="before")
    @classmethod
    def _absent_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value

    @field_validator("errors", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return _listed(value)


class ExecuteResponse(_Response):
    """An execution in the shape that the vendors' SDKs return: `response.data.outputs`."""

    data: Execution
    errors: None = None


def _wire_time(value: datetime) -> str:
    utc = value.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='microseconds')}Z"


#: A time, which the API writes always with microseconds and always in UTC.
WireTime = Annotated[datetime, PlainSerializer(_wire_time)]


class SessionInfo(_Response):
    """One live session, as `GET /tci/sessions` lists it; times are UTC."""

    id: str
    started_at: WireTime | None = None
    last_execute_at: WireTime | None = None
    expires_at: WireTime | None = None
    execute_count: int | None = None


class SessionList(_Response):
    """The caller's live sessions."""

    sessions: list[SessionInfo] = Field(default_factory=list)

    @field_validator("sessions", mode="before")
    @classmethod
    def _absent_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value


class Envelope(_Response):
    """What every answer is wrapped in: `data`, or `errors`, or (older services) both."""

    data: dict[str, Any] | None = None
    errors: list[WireError] | None = None

    @field_validator("errors", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return _listed(value)


def _listed(value: Any) -> Any:
    """Return the errors of an answer as a list: services send one, many, or none."""
    if value is None:
        return None
    return value if isinstance(value, list) else [value]


def error_text(errors: list[WireError]) -> str:
    """Return what a service says went wrong, for a person to read."""
    return "; ".join(_one_error_text(error) for error in errors)


def _one_error_text(error: WireError) -> str:
    if isinstance(error, str):
        return error
    for key in ("message", "detail", "error", "title"):
        value = error.get(key)
        if isinstance(value, str) and value:
            return value
    return TypeAdapter(dict[str, Any]).dump_json(error).decode()
