"""How a failed cell looks to a front end: `ename`, `evalue` and `traceback`."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
#: IPython's headline: the class, then these words at the right margin.
_HEADLINE = re.compile(r"^(\w+)\s+Traceback \(most recent call last\)", re.MULTILINE)
#: The last line of a traceback: the class, then the text, which may go on over more lines.
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*)|:?)$", re.MULTILINE | re.DOTALL)
#: So many lines an error's text may have behind the name of its class.
_MOST_LINES = 100


class Failure(NamedTuple):
    """The content that an IOPub `error` and an error reply share."""

    ename: str
    evalue: str
    traceback: list[str]

    @property
    def content(self) -> dict[str, Any]:
        """The content as the message specification has it."""
        return self._asdict()


def from_traceback(text: str) -> Failure:
    """Take apart a traceback as a session sends it: one string, ANSI colours kept."""
    plain = _ANSI.sub("", text).rstrip()
    headlines = _HEADLINE.findall(plain)
    if headlines:
        ename = headlines[-1]
        evalue = plain.rpartition(f"\n{ename}: ")[2] if f"\n{ename}: " in plain else ""
    else:
        ename, evalue = _last_line(plain)
    return Failure(ename, evalue, text.split("\n"))


def _last_line(plain: str) -> tuple[str, str]:
    """Find the class and the text at the end of a traceback that has no headline."""
    lines = plain.split("\n")[-_MOST_LINES:]
    for number in range(len(lines) - 1, -1, -1):
        found = _LAST_LINE.match("\n".join(lines[number:]))
        if found and (found[2] is not None or number == len(lines) - 1):
            return found[1], found[2] or ""
    return "Error", lines[-1]


def from_exception(error: BaseException) -> Failure:
    """Present an error of this side: its class and text, without frames nobody can act on."""
    if isinstance(error, asyncio.CancelledError):
        error = KeyboardInterrupt("interrupted")
    ename = type(error).__name__
    return Failure(ename, str(error), [f"\x1b[0;31m{ename}\x1b[0m: {error}"])
