"""What a front end asks while a user types: answered by the `%tci` magics or by the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tci_kernel import magics

if TYPE_CHECKING:
    from tci_kernel.connection import Connection


async def ask(
    question: str, arguments: dict[str, Any], connection: Connection
) -> dict[str, Any] | None:
    """Return the content of the reply to `complete`, `inspect` or `history`, None for nothing."""
    if question == "complete":
        answer = magics.complete(arguments["code"], arguments["cursor_pos"], connection.context)
        if answer is not None:
            return answer
    if question == "inspect":
        bundle = magics.inspect(arguments["code"], arguments["cursor_pos"])
        if bundle is not None:
            return {"status": "ok", "found": True, "data": bundle, "metadata": {}}
    content = await connection.question(question, arguments)
    return _with_magics(content, arguments) if question == "complete" else content


def _with_magics(
    content: dict[str, Any] | None, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Add `%tci` to what the session offers where a line begins with `%`, `%t`, …."""
    code, cursor_pos = arguments["code"], arguments["cursor_pos"]
    offers = magics.offers(code, cursor_pos)
    if not offers:
        return content
    start = code.rfind("%", 0, cursor_pos)
    empty = {"status": "ok", "cursor_start": start, "cursor_end": cursor_pos, "metadata": {}}
    content = content or {**empty, "matches": []}
    return {**content, "matches": [*offers, *content["matches"]]}
