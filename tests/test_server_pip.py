"""`!pip install` over HTTP: importable at once, and only in the session that asked for it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

#: A tiny pure package that nothing here depends on.
PACKAGE = "toolz"


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["none", "auto"])
@pytest.mark.parametrize("command", ["!pip", "%pip"])
def test_a_package_is_there_at_once_and_in_this_session_only(
    make_server: Callable[..., Server], sandbox: str, command: str
) -> None:
    """What one session installs, its next line imports; no other session can, nor the server."""
    assert importlib.util.find_spec(PACKAGE) is None
    server = make_server(sandbox=sandbox)
    session = server.run(f"{command} install {PACKAGE}")["session_id"]
    assert server.stdout(f"import {PACKAGE}; print('imported')", session) == "imported\n"
    (output,) = server.run(f"import {PACKAGE}")["outputs"]
    assert "ModuleNotFoundError" in output["data"]
    importlib.invalidate_caches()
    assert importlib.util.find_spec(PACKAGE) is None
