"""What a front end asks while a user types: answered by the `%tci` magics, the session, or both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tci_kernel import magics

if TYPE_CHECKING:
    from tci_kernel.connection import Connection
    from tci_kernel.transport.message import Message

#: Where IPython tells of what kind each match is, in their order.
_TYPES = "_jupyter_types_experimental"


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
    return _with_magics(content or {}, arguments) or None if question == "complete" else content


def completed(reply: Message, asked: dict[str, Any]) -> Message:
    """Return the child's complete_reply to a request with what this side adds to it.

    Either may hold anything; what makes no sense stays as it is.
    """
    try:
        content = _with_magics(reply.content, asked)
        changed = content is not reply.content
        return reply.with_content(json.dumps(content).encode()) if changed else reply
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return reply


def _with_magics(content: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Add `%tci` to what the session offers where a line begins with `%`, `%t`, …."""
    code, end = arguments["code"], arguments["cursor_pos"]
    offers = magics.offers(code, end)
    if not offers or content.get("status", "ok") != "ok":
        return content
    start, matches = code.rfind("%", 0, end), content.get("matches", [])
    if matches and content["cursor_start"] != start:
        return content
    metadata = dict(content.get("metadata", {}))
    if _TYPES in metadata:
        own = [{"start": start, "end": end, "text": offer, "type": "magic"} for offer in offers]
        metadata[_TYPES] = [*own, *metadata[_TYPES]]
    return {
        "status": "ok",
        "matches": [*offers, *matches],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": metadata,
    }
