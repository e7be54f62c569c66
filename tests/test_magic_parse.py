"""How a cell is taken apart, and how a `%tci` line is read, completed and explained."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tci_kernel.client import TCIClient
from tci_kernel.errors import MagicError
from tci_kernel.magics import Context, complete, inspect, offers, run, split
from tci_kernel.session import Session
from tci_kernel.settings import Settings
from tci_kernel.state import StateFile


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Return a kernel without a session, whose notebook lies in a folder with some files."""
    here = tmp_path / "notebooks"
    for name in ("wine.csv", "wind.csv", "my data/a b.txt", ".hidden"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(name)
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.chdir(here)
    client = TCIClient(Settings(backend="hosted", base_url="http://localhost:9"))
    return Context(Session(client, StateFile(Path("none.json"), tmp_path)), "plain")


def _run(line: str, context: Context) -> str:
    async def shown() -> list[str]:
        return [display.bundle["text/plain"] async for display in run(line, context)]

    return "\n".join(asyncio.run(shown()))


@pytest.mark.parametrize(
    ("code", "magics", "rest"),
    [
        ("x = 1", (), "x = 1"),
        ("# only a comment", (), "# only a comment"),
        ("%tci status", ("%tci status",), ""),
        ("%tci status\n\n# nothing else", ("%tci status",), ""),
        ("%tci status\nx = 1", ("%tci status",), "#\nx = 1"),
        (
            "# a\n\n%tci new\n# b\n%tci status\nx",
            ("%tci new", "%tci status"),
            "# a\n\n#\n# b\n#\nx",
        ),
        ("  %tci new\n  x", ("%tci new",), "  #\n  x"),
        ("%tci upload a \\\n  b\nx", ("%tci upload a    b",), "#\n#\nx"),
        ("%tci new\n%%bash\nls", ("%tci new",), "\n%%bash\nls"),
        ("%tci?", ("%tci?",), ""),
        ("?%tci\nx", ("?%tci",), "#\nx"),
        ("%tcix", (), "%tcix"),
        ("%time x", (), "%time x"),
    ],
)
def test_leading_lines_are_taken_off(code: str, magics: tuple[str, ...], rest: str) -> None:
    """The lines before any code are this side's, and what is left keeps its line numbers."""
    cell = split(code)
    assert (cell.magics, cell.code) == (magics, rest)


@pytest.mark.parametrize(
    "code",
    [
        "x = 1\n%tci status",
        "x = %tci status",
        "if x:\n    %tci new",
        "%tci new\n\nx = 1\n%tci status",
        "%%tci status\nx",
    ],
)
def test_line_further_down_is_an_error(code: str) -> None:
    """A `%tci` after code, or as a cell magic, is refused before anything runs."""
    with pytest.raises(MagicError, match=r"stand first.*Nothing of this cell has run"):
        split(code)


@pytest.mark.parametrize(
    "code",
    ['s = """\n%tci status\n"""', "%%writefile x\n%tci status", "# x\ny = 1 %tci", "(\n%tci x\n)"],
)
def test_what_only_looks_like_a_line_stays(code: str) -> None:
    """The text `%tci` in a string, a cell magic's body or an expression is code."""
    assert split(code).code == code


def test_bare_magic_is_help(context: Context) -> None:
    """`%tci` alone shows what there is."""
    assert _run("%tci", context) == _run("%tci help", context)
    assert "%tci upload PATH... [--to DIR]" in _run("%tci", context)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%tci statsu", "did you mean status"),
        ("%tci xyzzy", "It has: status, sessions, new, upload, help"),
        ("%tci upload a --too b", "did you mean --to"),
        ("%tci upload a --to", "--to needs a value"),
        ("%tci upload", "upload needs a PATH"),
        ("%tci status now", "status takes no 'now'"),
        ("%tci upload it's", "quote"),
    ],
)
def test_wrong_line_says_what_is_right(line: str, says: str, context: Context) -> None:
    """A wrong verb, option or quote is an error that names what was meant or what there is."""
    with pytest.raises(MagicError, match=says):
        _run(line, context)


@pytest.mark.parametrize("line", ["%tci upload?", "?%tci upload", "%tci upload??"])
def test_question_mark_explains(line: str, context: Context) -> None:
    """A question mark shows the help of a verb instead of doing it."""
    assert "--to DIR" in _run(line, context)


@pytest.mark.parametrize(
    ("typed", "matches"),
    [
        ("%tci ", ["status", "sessions", "new", "upload", "help"]),
        ("%tci s", ["status", "sessions"]),
        ("x = 'ä'\n%tci s", None),
        ("# ä🐍\n%tci st", ["status"]),
        ("%tci upload wi", ["wind.csv", "wine.csv"]),
        ("%tci upload ", ["'my data/", "wind.csv", "wine.csv"]),
        ('%tci upload "my', ['"my data/']),
        ("%tci upload 'my data/a", ["'my data/a b.txt'"]),
        ("%tci upload .", [".hidden"]),
        ("%tci upload ../s", []),
        ("%tci upload --", ["--to"]),
        ("%tci upload a --to wi", []),
        ("%tci status wi", []),
        ("%tci nothing wi", []),
    ],
)
def test_tab_offers_what_may_follow(
    typed: str, matches: list[str] | None, context: Context
) -> None:
    """Tab completes verbs, options and allowed paths of a leading line, and nothing elsewhere."""
    reply = complete(typed, len(typed), context)
    assert (reply and reply["matches"]) == matches


def test_completion_replaces_the_word_at_the_cursor(context: Context) -> None:
    """The reply counts in code points and leaves what stands before and after the word."""
    code = "# 🐍\n%tci upload wine.csv wi"
    reply: Any = complete(code, len(code), context)
    assert code[: reply["cursor_start"]] == "# 🐍\n%tci upload wine.csv "
    assert reply["cursor_end"] == len(code)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("%", ["%tci"]), ("%tc", ["%tci"]), ("x\n%t", []), ("%ti", []), ("", []), ("a%t", [])],
)
def test_magic_itself_is_offered_where_it_may_stand(typed: str, offered: list[str]) -> None:
    """`%tci` is offered for its beginning, at the top of a cell only."""
    assert offers(typed, len(typed)) == offered


def test_inspection_explains_the_verb_at_the_cursor() -> None:
    """Shift-Tab in a leading line shows the help of its verb, and elsewhere nothing."""
    bundle = inspect("%tci upload x\ny", 6)
    assert bundle is not None
    assert "--to DIR" in bundle["text/plain"]
    assert inspect("%tci upload x\ny", 15) is None
    assert inspect("%tci?", 5) == inspect("%tci", 4)
