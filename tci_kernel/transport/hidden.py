"""Questions to a session that leave no trace in its `In`, `Out` and execution count."""

from __future__ import annotations

import json
import secrets
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any, NamedTuple

from tci_kernel.agent.wire import MARK
from tci_kernel.errors import InvalidResponse, ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.api import Execution, File, Output
    from tci_kernel.session import Session

#: The file name under which the far side is compiled; `far_side.history` knows it by that.
_NAME = "<tci-hidden>"


class Answer(NamedTuple):
    """What a function of the far side returned, and what it put out beside that."""

    value: Any
    outputs: list[Output]


async def ask(
    session: Session,
    function: str,
    arguments: dict[str, Any],
    *,
    source: str = "",
    files: Sequence[File] | None = None,
    timeout: float | None = None,
) -> Answer:
    """Call a function of `far_side`, or of more `source`, in the session.

    The function gets the session's shell and the JSON-able `arguments`. Raises `ServiceError` with
    its words if it raised, `InvalidResponse` if the session cannot be asked.
    """
    nonce = secrets.token_hex(8)
    code = hidden_code(function, arguments, nonce, source)
    execution = await session.execute(code, files, timeout=timeout)
    return hidden_answer(execution, nonce)


def hidden_code(function: str, arguments: dict[str, Any], nonce: str, source: str = "") -> str:
    """Return one statement that calls a function on the far side, in a namespace of its own."""
    far_side = resources("tci_kernel.transport").joinpath("far_side.py").read_text("utf-8")
    call = f"answer({function!r}, {json.dumps(arguments)!r}, {nonce!r})"
    text = f"{far_side}\n{source}\n{call}\n"
    # The mark keeps the live transport's agent from running it in the child.
    return f"{MARK}\nexec(compile({text!r}, {_NAME!r}, 'exec'), {{'__name__': '_tci'}})"


def hidden_answer(execution: Execution, nonce: str) -> Answer:
    """Return the result between the marks, and the outputs without it."""
    opening, closing = f"<<tci:{nonce}>>", f"<</tci:{nonce}>>"
    for index, output in enumerate(execution.outputs):
        before, opened, rest = output.text.partition(opening)
        answer, closed, after = rest.partition(closing)
        if output.type == "stdout" and opened and closed:
            others = list(execution.outputs)
            others[index] = output.model_copy(update={"data": before + after.removeprefix("\n")})
            return Answer(_value(answer), [other for other in others if other.data != ""])
    raise InvalidResponse("The session does not answer questions; it may not be an IPython kernel.")


def _value(answer: str) -> Any:
    try:
        result = json.loads(answer)
        error = result.get("error")
    except (ValueError, AttributeError, RecursionError):
        raise InvalidResponse("The session's answer to a question is damaged.") from None
    if error is not None:
        raise ServiceError(f"In the session: {error}")
    return result.get("value")
