"""The documents name what is in the code, and name all of it where they have a table."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from tci_kernel.cli import app
from tci_kernel.magics.cell import split
from tci_kernel.magics.parse import arguments, words
from tci_kernel.magics.verbs import VERBS
from tci_kernel.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tci_kernel"

#: What users read: the pages, and what stands beside the code.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Variables that are read, and are no settings of the kernel.
VARIABLES = {"TCI_CONFIG", "TCI_SERVE_TOKEN"}

#: Where a path in a document may begin.
FOLDERS = (ROOT, PACKAGE, PACKAGE / "transport")


@cache
def source() -> str:
    """Return all code of the package and its tests."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    return "\n".join(file.read_text("utf-8") for file in files if file != Path(__file__))


def named(document: str) -> list[str]:
    """Return the names of code and the paths that stand in code type."""
    marked = re.findall(r"`([^`\n]+)`", (ROOT / document).read_text("utf-8"))
    return sorted({name for name in marked if re.fullmatch(r"[\w./]*\w/?", name)})


def exists(name: str) -> bool:
    """Tell whether a path or setting is there, a dotted name defined, or a word in the code."""
    if name.startswith("TCI_"):
        return name.removeprefix("TCI_").lower() in Settings.model_fields
    if "/" in name or name.endswith((".py", ".md", ".toml")):
        return any((folder / name).exists() for folder in FOLDERS)
    first, _, rest = name.partition(".")
    if not rest:
        return re.search(rf"\b{first}\b", source()) is not None
    modules = [module.read_text("utf-8") for module in PACKAGE.rglob(f"{first}.py")]
    classes = re.findall(rf"(?ms)^class {first}\b.*?(?=^\S)", source())
    defined = rf"\b(?:def|class) {rest}\b|^ *(?:self\.)?{rest}(?::| =)"
    return any(re.search(defined, text, re.MULTILINE) for text in modules + classes)


@pytest.mark.parametrize("name", named("ARCHITECTURE.md"))
def test_architecture_names_what_is_there(name: str) -> None:
    """Each path and each name of ARCHITECTURE.md exists."""
    assert exists(name)


def test_a_name_that_is_not_there_is_noticed() -> None:
    """The check can fail: for files, for methods, and for words."""
    absent = ["transport/" + "nowhere.py", "Session.no" + "thing", "No" + "where"]
    assert not any(map(exists, absent))


def test_readme_has_every_setting() -> None:
    """The table of settings has each setting, and nothing else."""
    table = re.findall(r"^\| `TCI_(\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(name.lower() for name in table) == sorted(Settings.model_fields)


def test_readme_has_every_verb() -> None:
    """The table of magics has each verb, and nothing else."""
    table = re.findall(r"^\| `%tci (\w+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(VERBS)


def test_documentation_has_every_verb() -> None:
    """The page on `%tci` has a section for each verb, and for nothing else."""
    page = (ROOT / "docs" / "magics.md").read_text("utf-8")
    assert sorted(re.findall(r"^## %tci (\w+)$", page, re.MULTILINE)) == sorted(VERBS)


def name_of(page: Path) -> str:
    """Return how a test calls a page."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Return the samples of one language on a page."""
    fence = rf"^```{language}\n(.+?)^```$"
    return re.findall(fence, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_settings_that_are_there(page: Path) -> None:
    """Each variable on a page is a setting, or one of two that are not ours, or of the tests."""
    named = set(re.findall(r"\bTCI_(?!TEST_)[A-Z_]+\b", page.read_text("utf-8"))) - {"TCI_"}
    assert named - VARIABLES <= {f"TCI_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_names_commands_that_are_there(page: Path) -> None:
    """Each `tci-kernel` line of a page has a command, and options of that command."""
    commands = get_command(app).commands
    inline = re.findall(r"`(tci-kernel [^`…]+)`", page.read_text("utf-8"))
    for line in [*inline, *"\n".join(blocks(page, "console")).splitlines()]:
        program, *rest = shlex.split(line, comments=True) or [""]
        if program == "tci-kernel" and rest:
            known = {option for param in commands[rest[0]].params for option in param.opts}
            assert {word for word in rest if word.startswith("--")} <= known | {"--help"}, line


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_lines_that_can_be_done(page: Path) -> None:
    """Each `%tci` line of a sample stands first in its cell, with a verb and what it needs."""
    for code in blocks(page, "python"):
        for line in split(code).magics:
            name, *rest = words(line)
            arguments(VERBS[name], rest)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_links_lead_to_files(document: str) -> None:
    """Links and pictures of what stands beside the code exist; Sphinx checks those of the pages."""
    text = (ROOT / document).read_text("utf-8")
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)}
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
