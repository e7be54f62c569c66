"""The words of a `%tci` line, and what a verb makes of them."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tci_kernel.errors import MagicError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from tci_kernel.magics.display import Context, Display


@dataclass(frozen=True)
class Option:
    """An option with a value, as `--to DIR`."""

    flag: str
    value: str
    help: str


@dataclass(frozen=True)
class Arguments:
    """What follows a verb: plain words, and options by their flags."""

    words: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verb:
    """One thing that `%tci` does; `operands` names the words it needs, "" means none."""

    name: str
    help: str
    act: Callable[[Arguments, Context], AsyncGenerator[Display, None]]
    operands: str = ""
    options: tuple[Option, ...] = ()

    @property
    def usage(self) -> str:
        """How the line is written."""
        options = [f"[{option.flag} {option.value}]" for option in self.options]
        return " ".join(part for part in ("%tci", self.name, self.operands, *options) if part)


def words(line: str) -> list[str]:
    """Split a line at blanks, respecting quotes; `%tci` itself may be left out.

    Raises `MagicError` for a quote that is not closed.
    """
    lexer = shlex.shlex(re.sub(r"^\s*%tci\b", "", line), posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if os.name == "nt":
        lexer.escape = ""
    try:
        return list(lexer)
    except ValueError:
        raise MagicError(
            f"A quote or backslash has no partner in: {line.strip()}\n"
            "Put names with blanks, quotes or backslashes between quotes. Nothing has run."
        ) from None


def arguments(verb: Verb, given: Iterable[str]) -> Arguments:
    """Sort a verb's words into operands and options; raises `MagicError` for wrong ones."""
    operands: list[str] = []
    options: dict[str, str] = {}
    rest = iter(given)
    for word in rest:
        if word == "--":
            operands += rest
        elif word.startswith("-") and word != "-":
            flag, equals, value = word.partition("=")
            _check_flag(verb, flag)
            options[flag] = value if equals else next(rest, "")
            if not options[flag]:
                raise _wrong(verb, f"{flag} needs a value")
        else:
            operands.append(word)
    if operands and not verb.operands:
        raise _wrong(verb, f"{verb.name} takes no {operands[0]!r}")
    if verb.operands and not operands:
        raise _wrong(verb, f"{verb.name} needs a {verb.operands.rstrip('.')}")
    return Arguments(tuple(operands), options)


def _check_flag(verb: Verb, flag: str) -> None:
    flags = [option.flag for option in verb.options]
    if flag not in flags:
        raise _wrong(verb, f"{verb.name} has no option {flag}{suggestion(flag, flags)}")


def _wrong(verb: Verb, what: str) -> MagicError:
    return MagicError(f"%tci: {what}. It is written: {verb.usage}. Nothing has run.")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" if something known is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
