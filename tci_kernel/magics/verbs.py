"""The table of verbs; `run` carries out one `%tci` line."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING

from tci_kernel.errors import MagicError
from tci_kernel.magics.display import Display
from tci_kernel.magics.parse import Arguments, Option, Verb, arguments, suggestion, words
from tci_kernel.magics.sessions import new, sessions
from tci_kernel.magics.status import status
from tci_kernel.magics.tables import table
from tci_kernel.magics.upload import upload

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tci_kernel.api import MimeBundle
    from tci_kernel.magics.display import Context

#: `?%tci`, `%tci?` and `%tci upload?`, but not a glob that ends in `?`.
_QUESTION = re.compile(r"\?{1,2}%tci\s*(?P<before>\w*)|(?:%tci)?\s*(?P<after>\w*)\s*\?{1,2}")


async def _help(arguments: Arguments, context: Context) -> AsyncGenerator[Display, None]:
    del arguments, context
    yield Display(help_page())


VERBS = {
    verb.name: verb
    for verb in (
        Verb("status", "Where cells run, how the session stands, what it cost.", status),
        Verb("sessions", "Your live sessions.", sessions),
        Verb("new", "End the session with its variables and files; the next cell makes one.", new),
        Verb(
            "upload",
            "Copy files, folders or globs into the session's working directory.",
            upload,
            "PATH...",
            (Option("--to", "DIR", "Folder in the session's working directory to put them in."),),
        ),
        Verb("help", "Explain these lines.", _help),
    )
}


async def run(line: str, context: Context) -> AsyncGenerator[Display, None]:
    """Carry out one `%tci` line and yield what it shows.

    Raises `MagicError` for a line that is wrong, other `TCIError`s as they happen.
    """
    if question := _QUESTION.fullmatch(line.strip()):
        yield Display(help_page(question["before"] or question["after"]))
        return
    name, *rest = words(line) or ["help"]
    verb = VERBS.get(name)
    if verb is None:
        raise MagicError(
            f"%tci has no verb {name!r}{suggestion(name, VERBS)}. It has: {', '.join(VERBS)}. "
            "Nothing has run."
        )
    async with aclosing(verb.act(arguments(verb, rest), context)) as displays:
        async for display in displays:
            yield display


def help_page(name: str | None = None) -> MimeBundle:
    """Return the help of one verb, or of all if there is none of that name."""
    verb = VERBS.get(name or "")
    if verb is not None:
        options = [(f"{option.flag} {option.value}", option.help) for option in verb.options]
        return table([(verb.usage, verb.help), *options])
    return table(
        [(verb.usage, verb.help) for verb in VERBS.values()],
        notes=["%tci lines stand first in a cell. They run on this side; the rest runs as usual."],
    )
