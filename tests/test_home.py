"""What the home of a session begins with."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Server, wait_until
from tci_kernel.server import home
from tci_kernel.server.environment import Interpreter


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Give the Python that runs these tests."""
    return Interpreter.probe()


@pytest.fixture
def template(interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep templates in a folder of the test's own."""
    monkeypatch.setattr(home, "user_folder", lambda name: tmp_path / name)
    return home.template(interpreter)


#: Collects the caches of a session's home.
SIZES = (
    "import os; from pathlib import Path; home = Path.home(); "
    "paths = list(home.rglob('*.pkl')); sizes = [os.path.getsize(path) for path in paths]"
)


def files(folder: Path) -> list[str]:
    """Return the names of the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_home_has_what_completion_reads(
    interpreter: Interpreter, template: Path, tmp_path: Path
) -> None:
    """Once the template is made, a new home has a copy, with jedi's cache of the built-ins."""
    own = tmp_path / "home"
    own.mkdir()
    home.furnish(own, interpreter)
    assert not files(own)
    asyncio.run(home.fill_template(interpreter))
    home.furnish(own, interpreter)
    assert any("jedi" in name.lower() for name in files(own))
    assert files(own) == files(template)


def test_a_template_is_made_once(interpreter: Interpreter, template: Path) -> None:
    """What is newer than the packages is left as it is, and nothing is left beside it."""
    asyncio.run(home.fill_template(interpreter))
    made = template.stat().st_mtime_ns
    asyncio.run(home.fill_template(interpreter))
    assert template.stat().st_mtime_ns == made
    assert not template.with_suffix(".new").exists()


def test_templates_of_the_past_go(
    interpreter: Interpreter, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is filled takes those along whose interpreter is gone or has become another."""
    monkeypatch.setattr(home, "_FILL", "")
    gone = tmp_path / "python"
    gone.symlink_to(interpreter.path)
    former = dataclasses.replace(interpreter, version=(3, 0, 0))
    for other in (dataclasses.replace(interpreter, path=gone), former):
        asyncio.run(home.fill_template(other))
    gone.unlink()
    asyncio.run(home.fill_template(interpreter))
    assert {path.stem for path in template.parent.iterdir()} == {template.name}


@pytest.mark.parametrize("obstacle", ["link", "file"])
def test_a_session_does_without(
    interpreter: Interpreter, template: Path, tmp_path: Path, obstacle: str
) -> None:
    """Where there can be no templates, homes are empty and nothing fails."""
    template.parent.rmdir()
    if obstacle == "link":
        template.parent.symlink_to(tmp_path)
    else:
        template.parent.touch()
    asyncio.run(home.fill_template(interpreter))
    own = tmp_path / "home"
    own.mkdir()
    home.furnish(own, interpreter)
    assert not files(own)


def test_a_session_that_spoils_its_caches_spoils_no_others(
    shared_server: Server, make_server: Callable[..., Server], interpreter: Interpreter
) -> None:
    """Homes are copies: what a session writes there stays there."""
    wait_until(home.template(interpreter).is_dir)  # the running server makes it
    server = make_server()
    assert int(server.stdout(f"{SIZES}; print(min(sizes))")) > 0
    server.run(f"{SIZES}\nfor path in paths: open(path, 'w').close()")
    assert int(server.stdout(f"{SIZES}; print(min(sizes))")) > 0
