"""The plain transport: one cell is one request; its outputs come when the request returns.

It needs nothing of the session but that code runs, so it works with any service that speaks the
API. There is no output before a cell's end, no `input()`, and an interrupt ends only the waiting.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tci_kernel.errors import InvalidResponse, TCIError
from tci_kernel.transport.failure import Failure, from_exception, from_traceback
from tci_kernel.transport.hidden import ask
from tci_kernel.transport.message import harmless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tci_kernel.api import Execution, Output
    from tci_kernel.session import Session

#: A completion or tooltip that takes longer than this (seconds) is of no use any more.
_PATIENCE = 10.0

_NO_STDIN = (
    "input() cannot ask in plain transport: a cell is one request, and nothing can be sent to it "
    "while it runs. Set the value in the code."
)


class Message(NamedTuple):
    """One IOPub message to be sent."""

    type: str
    content: dict[str, Any]


class Result(NamedTuple):
    """What a cell gave: IOPub messages in their order, and what its reply says.

    `payload` are pages to be shown; `expressions` the values of the request's user_expressions.
    """

    messages: list[Message]
    failure: Failure | None = None
    payload: tuple[dict[str, Any], ...] = ()
    expressions: dict[str, Any] | None = None


class PlainTransport:
    """Runs cells and asks questions over one session."""

    name = "plain"

    def __init__(self, session: Session, start_up: Sequence[str] = ()) -> None:
        self._session = session
        self._start_up = start_up
        self._set_up_in: str | None = None
        self._counted: tuple[str | None, int] = (None, 0)

    async def execute(self, code: str, execution_count: int, expressions: dict[str, str]) -> Result:
        """Run a person's cell; raises a `TCIError` if it could not be run or its end is unknown."""
        counted = self._counted == (self._session.id, execution_count - 1)
        await self._prepare(0 if counted else execution_count)
        result = await self._execute(code, execution_count)
        self._set_up_in = self._session.id
        self._counted = (self._session.id, execution_count)
        if expressions and result.failure is None:
            return result._replace(expressions=await self._evaluate(expressions))
        return result

    async def _prepare(self, execution_count: int = 0) -> None:
        """Ask the session for what a cell finds on a local kernel, if anything is missing.

        That is an empty namespace after a restart, what the front end set up before there was a
        session, and the notebook's number, of which the session may not have got all.
        """
        fresh = self._session.fresh
        new = fresh or self._session.id is None or self._session.id != self._set_up_in
        codes = list(self._start_up) if new else []
        arguments = {"fresh": fresh, "codes": codes, "execution_count": execution_count}
        if any(arguments.values()):
            try:
                await ask(self._session, "prepare", arguments)
            except InvalidResponse:  # not IPython: nothing is numbered or set up
                if fresh:
                    raise
            self._session.remember(fresh=False)
        self._set_up_in = self._session.id

    async def _execute(self, code: str, execution_count: int) -> Result:
        if not _pages(code):
            return _result(await self._session.execute(code), execution_count)
        answer = await ask(self._session, "page", {"code": code})
        pages = tuple(harmless(answer.value))
        return _outputs(answer.outputs, execution_count)._replace(payload=pages)

    async def execute_hidden(self, code: str, execution_count: int, *, silent: bool) -> Result:
        """Run code that is to leave no trace in the session's history and count."""
        await self._prepare()
        answer = await ask(self._session, "run", {"code": code, "silent": silent})
        return _outputs(answer.outputs, execution_count)

    async def _evaluate(self, user_expressions: dict[str, str]) -> dict[str, Any]:
        """Return the results of a request's `user_expressions`, by their names."""
        try:
            answer = await ask(self._session, "expressions", {"user_expressions": user_expressions})
        except TCIError as error:  # the cell has run, and what it gave is there
            failed = {"status": "error", **from_exception(error).content}
            return dict.fromkeys(user_expressions, failed)
        return answer.value if isinstance(answer.value, dict) else {}

    async def question(self, function: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Return the content of the session's reply to a front end's question.

        None without a session, in one that is busy (the question would wait behind the cell), and
        from one that cannot answer.
        """
        if self._session.id is None or self._session.busy or self._session.fresh:
            return None
        try:
            answer = await ask(self._session, function, arguments, timeout=_PATIENCE)
        except TCIError:
            return None
        return answer.value if isinstance(answer.value, dict) else None


def _result(execution: Execution, execution_count: int) -> Result:
    """Return what a cell gave; older services report a failure beside the outputs."""
    result = _outputs(execution.outputs, execution_count)
    if result.failure is None and execution.errors:
        said = "\n".join(map(str, execution.errors))
        failure = Failure("ExecutionError", said, [said])
        return Result([*result.messages, Message("error", failure.content)], failure)
    return result


def _pages(code: str) -> bool:
    """Tell whether a cell has an `x?`: what that shows is not among an execution's outputs."""
    if "?" not in code:
        return False
    from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415  rarely needed

    try:
        cell = TransformerManager().transform_cell(code)
    except Exception:  # noqa: BLE001  IPython raises many kinds; the session says it better
        return False
    return re.search(r"get_ipython\(\)\.run_line_magic\('(pinfo2?|psearch)'", cell) is not None


def _outputs(outputs: list[Output], execution_count: int) -> Result:
    messages = []
    failure = None
    for output in outputs:
        message = _message(output, execution_count)
        if message.type == "error":
            failure = Failure(**message.content)
        messages.append(message)
    return Result(messages, failure)


def _message(output: Output, execution_count: int) -> Message:
    """Return the native message of one output."""
    match output.type:
        case "stdout" | "stderr":
            return Message("stream", {"name": output.type, "text": output.text})
        case "error":
            failure = from_traceback(output.text)
            if failure.ename == "StdinNotImplementedError":
                lines = [*failure.traceback, _NO_STDIN]
                failure = Failure(failure.ename, _NO_STDIN, lines)
            return Message("error", failure.content)
        case "execute_result":
            content = {"data": output.bundle, "metadata": {}, "execution_count": execution_count}
            return Message("execute_result", content)
        case _:  # display_data, and what a service may invent: shown rather than dropped
            return Message("display_data", {"data": output.bundle, "metadata": {}})
