"""The page on troubleshooting has the words of the errors, and only words that the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tci_kernel import errors

ROOT = Path(__file__).parent.parent

#: The errors of the tree, by their names; `FrameError` and its kind live beside the wire.
TREE = set(re.findall(r"^[ │├└─]*(\w+)", (errors.__doc__ or "").split("\n\n")[1], re.MULTILINE))

#: What else a person may see: what the server answers, errors of the session, the kernel's notices.
OTHERS = {"HTTP 400", "HTTP 413", "HTTP 429", "HTTP 503", "SandboxUnavailable"}
OTHERS |= {"DeadKernelError", "KernelError", "SessionBusy", "StdinNotImplementedError", "TCI"}


@cache
def headings() -> list[tuple[str, str]]:
    """Return the errors that the page explains: the name, and how the text begins."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    found = re.findall(r"^### (\w+(?: \d+)?): (.+)$", page, re.MULTILINE)
    return [(name, text.removesuffix("…").rstrip()) for name, text in found]


def text_of(node: ast.AST) -> str | None:
    """Return a string of the code with `…` for what is put into it, None for other code."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{\w+\}", "…", node.value)
    return None


@cache
def nodes() -> list[ast.AST]:
    """Return the syntax of the whole package, piece by piece."""
    files = sorted((ROOT / "tci_kernel").rglob("*.py"))
    return [node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))]


@cache
def strings() -> set[str]:
    """Return all strings of the package, the name of a notice taken off."""
    texts = filter(None, map(text_of, nodes()))
    return {text.removeprefix("TCI: ") for text in texts}


def raised() -> Iterator[tuple[str, str]]:
    """Yield each text with which an error of the tree is made."""
    for node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            text = text_of(node.args[0])
            if node.func.id in TREE and text:
                yield node.func.id, text


def explained(name: str, text: str) -> bool:
    """Tell whether the page has a heading for an error."""
    return any(kind == name and text.startswith(head) for kind, head in headings())


@pytest.mark.parametrize(("name", "head"), headings())
def test_what_is_explained_is_said(name: str, head: str) -> None:
    """Each heading is the name of an error and the beginning of a text in the code."""
    assert name in TREE | OTHERS
    assert any(text.startswith(head) for text in strings()), head


@pytest.mark.parametrize(("name", "text"), sorted(set(raised())))
def test_what_is_said_is_explained(name: str, text: str) -> None:
    """Each text of an error of the tree has a heading."""
    assert explained(name, text), f"docs/troubleshooting.md lacks: ### {name}: {text}"


def test_every_error_has_a_heading() -> None:
    """No error of the tree is left out."""
    assert {name for name, _ in headings()} >= TREE


def test_a_text_that_is_not_there_is_noticed() -> None:
    """The checks can fail, in both directions."""
    assert not explained("MagicError", "Nobody has ever said so.")
    assert "Nobody has ever said so." not in "".join(strings())
