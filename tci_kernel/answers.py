"""What an answer of a TCI service means: its data, or the error that it stands for."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import from_json

from tci_kernel.api import Envelope, error_text
from tci_kernel.errors import (
    MAY_HAVE_RUN,
    InvalidRequest,
    InvalidResponse,
    RateLimited,
    ServiceError,
    SessionExpired,
    TCIError,
    Unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_Model = TypeVar("_Model", bound=BaseModel)

#: The most of a service's own error text that a person is shown.
_SHOWN = 300
#: So much of a page is looked at for them: taking it apart may take the square of its length.
_LONGEST_PAGE = 2**15

#: What is shorter is no key but a word that somebody tries out, and may stand in any text.
_SHORTEST_SECRET = 8

#: How services say that a session is not there (any more); no document fixes the words. What they
#: say of other things, such as a session's payload, does not count.
_GONE = re.compile(
    r"session ?"
    r"((with|id|you|requested|or|is|was|does|has|had|been|already|either|could|can|belongs|owned|by"
    r"|to|access) )*"
    r"(expired|terminated|died|ended|closed|invalid|unknown|forbidden|no such|doesn t exist"
    r"|not ?(be )?(found|there|yours|exist)|another (user|caller|account)"
    r"|no longer (exists|there|active|alive|available|valid))\b"
    r"|(expired|no such|unknown|invalid) session( id)?"
    r"(?= ?$| ?[.;!?]| (exists|found|given|for|or|in|it|is|was)\b)"
)

#: Statuses with which they say it, and those that say it by themselves.
_REFUSALS = {HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}
_ABSENCES = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


class Answer(NamedTuple):
    """An HTTP answer as the client got it, and the `secret` that must not be shown from it.

    `fate` is what its error says of the cell, if it may have run.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    secret: SecretStr | None = None
    fate: str = MAY_HAVE_RUN


def read(answer: Answer, session_id: str | None) -> dict[str, Any]:
    """Return the data of an answer to a request for `session_id`.

    Raises the `TCIError` that the status and the reported errors mean.
    """
    envelope = _envelope(answer.body)
    if answer.status == HTTPStatus.OK and envelope is not None and envelope.data is not None:
        return envelope.data
    raise _failure(answer, envelope, session_id)


def validated(model: type[_Model], data: dict[str, Any], fate: str = MAY_HAVE_RUN) -> _Model:
    """Return the data of an answer as a model; raises `InvalidResponse` saying what is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidResponse(
            f"The answer does not follow the TCI API: {first_problem(error)}.{fate}"
        ) from None


def first_problem(error: ValidationError) -> str:
    """Say in a line where a model was first violated, without the value."""
    problem = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"


def _envelope(body: bytes) -> Envelope | None:
    """Return the body as the contract's envelope, or None where it is something else."""
    try:
        return Envelope.model_validate(_json(body))
    except (ValueError, RecursionError):
        return None


def _json(body: bytes) -> Any:
    """Parse JSON such that it can be sent on: no NaN and no half of a surrogate pair.

    The quick parser refuses both.
    """
    with suppress(ValueError):
        return from_json(body, allow_inf_nan=False)
    value = json.loads(body, parse_constant=str)
    if re.search(rb"\\u[dD][89a-fA-F]", body):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _failure(answer: Answer, envelope: Envelope | None, session_id: str | None) -> TCIError:
    """Return the error that a failed answer means."""
    status = answer.status
    reported = _reported(answer, envelope)
    said = f"HTTP {status}" + (f": {reported}" if reported else "")
    if session_id is not None and _is_gone(status, envelope, reported):
        # What follows the first sentence is advice to who writes requests.
        cause = said.split(". ", maxsplit=1)[0].rstrip(".")
        return SessionExpired(
            f"The session {session_id} has ended ({cause}). Its variables and files are gone. "
            "Run again to start a new session, from the first cell.",
            cause=cause,
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return _refusal(answer, said)
    if status == HTTPStatus.OK and envelope is not None and envelope.errors:
        return ServiceError(f"The service failed ({said}).{answer.fate}")
    return InvalidResponse(
        f"The answer does not follow the TCI API ({said}). Check TCI_BASE_URL.{answer.fate}"
    )


def _is_gone(status: int, envelope: Envelope | None, reported: str) -> bool:
    """Tell whether a failed answer says that there is no such session (any more)."""
    if envelope is None:  # a page of a proxy in between, for the most part
        return status in _ABSENCES and _says_gone(reported)
    return status in _ABSENCES or (status in _REFUSALS and _says_gone(reported))


def _says_gone(reported: str) -> bool:
    """Tell whether words are about the end of a session, whatever id stands between them."""
    without_ids = re.sub(r"[\w-]*\d[\w-]*", " ", reported.lower())
    return bool(_GONE.search(re.sub(r"[^a-z.;!?]+", " ", without_ids)))


def _refusal(answer: Answer, said: str) -> TCIError:
    """Return the error that a 4xx or 5xx status means."""
    if answer.status == HTTPStatus.UNAUTHORIZED and answer.secret is None:
        return Unauthorized(
            f"The service asks for a key, and none is configured ({said}). Nothing has run. "
            "Set TCI_API_KEY."
        )
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Unauthorized(
            f"The service does not accept the key ({said}). Nothing has run. "
            "Set TCI_API_KEY to a valid key."
        )
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(
            f"The service asks for fewer requests ({said}). Nothing has run; run again later.",
            retry_after=_retry_after(answer.headers),
        )
    if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidRequest(f"The service refused the request ({said}). Nothing has run.")
    return ServiceError(f"The service failed ({said}).{answer.fate}")


def _reported(answer: Answer, envelope: Envelope | None) -> str:
    """Return the service's own words about a failure: in one line, short, without HTML."""
    if envelope is not None and envelope.errors:
        text = error_text(envelope.errors)
    else:
        page = answer.body[:_LONGEST_PAGE].decode("utf-8", "replace")
        text = re.sub(r"<(script|style).*?</\1>|<[^<>]*>", " ", page, flags=re.DOTALL)
    secret = answer.secret.get_secret_value() if answer.secret is not None else ""
    if len(secret) >= _SHORTEST_SECRET:  # some services echo a wrong key
        text = text.replace(secret, "…")
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a service asks for, in seconds; a date in its place is ignored."""
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):
        return None
