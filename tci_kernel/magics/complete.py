"""Tab within a `%tci` line: verbs, options, and paths below the allowed folders."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from tci_kernel.magics.cell import begins_line, line_at
from tci_kernel.magics.roots import Roots
from tci_kernel.magics.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tci_kernel.magics.display import Context
    from tci_kernel.magics.parse import Verb

#: A word, an unfinished quoted word, or the blanks between words.
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"[^"]*"|'[^']*')+|["'\\].*|\s+""")


def complete(code: str, cursor_pos: int, context: Context) -> dict[str, Any] | None:
    """Return the content of a complete_reply within a leading `%tci` line, None elsewhere."""
    line = line_at(code, cursor_pos)
    if line is None:
        return None
    given = code[line.start : cursor_pos]
    start, word = _last_word(given)
    before = given[:start].split()
    if not before:
        return _reply(["%tci"] if "%tci".startswith(word) else [], line.start + start, cursor_pos)
    if len(before) == 1:
        matches = [name for name in VERBS if name.startswith(word)]
    else:
        matches = _arguments(VERBS.get(before[1]), before[-1], word, context)
    return _reply(matches, line.start + start, cursor_pos)


def offers(code: str, cursor_pos: int) -> list[str]:
    """Return `%tci` where its beginning has been typed first in a cell."""
    return ["%tci"] if begins_line(code, cursor_pos) else []


def _last_word(text: str) -> tuple[int, str]:
    """Return where the word at the end of an unfinished line begins, and the word."""
    start = 0
    for found in _WORD.finditer(text):
        start = found.end() if found.group().isspace() else found.start()
    return start, text[start:]


def _arguments(verb: Verb | None, previous: str, word: str, context: Context) -> list[str]:
    if verb is None:
        return []
    flags = [option.flag for option in verb.options]
    if word.startswith("-"):
        return [flag for flag in flags if flag.startswith(word)]
    if previous in flags or not verb.operands:
        return []
    return list(_paths(word, Roots.of(context)))


def _paths(word: str, roots: Roots) -> Iterator[str]:
    """Yield what could follow, as it would be typed; a folder stays open for more."""
    quote = word[:1] if word[:1] in {'"', "'"} else ""
    typed = word[len(quote) :]
    folder, name = os.path.split(typed)
    for entry in _entries(roots, folder):
        if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
            path = os.path.join(folder, entry.name)  # noqa: PTH118  keeps "./" as it was typed
            yield _typed(path, quote, is_folder=entry.is_dir())


def _entries(roots: Roots, folder: str) -> list[Path]:
    here = roots.resolve(folder)
    try:
        return sorted(entry for entry in here.iterdir() if roots.allow(entry))
    except OSError:
        return []


def _typed(path: str, quote: str, *, is_folder: bool) -> str:
    if is_folder:
        opened = quote or ("'" if shlex.quote(path) != path else "")
        return f"{opened}{path}/"
    return f"{quote}{path}{quote}" if quote else shlex.quote(path)


def _reply(matches: list[str], start: int, end: int) -> dict[str, Any]:
    return {
        "status": "ok",
        "matches": matches,
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {},
    }
