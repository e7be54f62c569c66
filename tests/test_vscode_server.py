"""VS Code on a Jupyter server: its own library plays each scenario with this kernel and python3.

The scenarios stand in `node/scenarios.js`. What the client gets must be the same from both kernels,
but for what no two runs have in common.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Server, environment, wait_until

pytestmark = pytest.mark.slow

NODE = Path(__file__).parent / "node"
#: Where `make node` puts the client's library.
LIBRARY = Path(__file__).parent.parent / "build" / "node" / "node_modules"
KERNELS = ("python3", "tci_python")
JUPYTER_TOKEN = "a-token-for-jupyter"

Played = dict[str, Any]


@dataclass
class JupyterServer:
    """A `jupyter server` process in folders of its own."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path

    def play(self, kernel: str) -> Played:
        """Play all scenarios with a kernel; return what the client got, by scenario."""
        (self.folder / kernel).mkdir()
        done = subprocess.run(
            ["node", "scenarios.js", self.url, JUPYTER_TOKEN, kernel, f"{kernel}/a.ipynb"],
            cwd=NODE,
            env={**os.environ, "NODE_PATH": str(LIBRARY)},
            stdout=subprocess.PIPE,
            check=True,
            timeout=150,
        )
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def client() -> None:
    """See to it that the client can be started."""
    if not (shutil.which("node") and LIBRARY.is_dir()):
        missing = "Node 18 or newer, or its packages, are missing: `make node` installs those."
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)


@pytest.fixture(scope="module")
def jupyter_server(
    client: None, shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JupyterServer]:
    """Start a Jupyter server on a free port of loopback, for kernels on the shared server."""
    folder = tmp_path_factory.mktemp("jupyter")
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    token = f"--IdentityProvider.token={JUPYTER_TOKEN}"
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *options, token],
        cwd=folder,
        env={**os.environ, **environment(shared_server, folder, "live"), **places},
        stderr=subprocess.DEVNULL,
    )
    [told] = wait_until(lambda: list((folder / "RUNTIME").glob("jpserver-*.json")))
    url = wait_until(lambda: json.loads(told.read_text() or "{}").get("url"))
    yield JupyterServer(process, url, folder)
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def played(jupyter_server: JupyterServer, shared_server: Server) -> dict[str, Played]:
    """Play all scenarios with both kernels at once; return what each gave."""
    before = set(shared_server.sessions())
    with ThreadPoolExecutor() as pool:
        results = dict(zip(KERNELS, pool.map(jupyter_server.play, KERNELS), strict=True))
    wait_until(lambda: set(shared_server.sessions()) == before, deadline=15)
    return results


#: What no two runs have in common, or tells a kernel's own name.
OWN = {"engine_info", "took", "info"}
ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


def comparable(played: Any) -> Any:
    """Return what a client got with ids numbered as they come, and neighbouring texts joined."""
    ids: dict[str, str] = {}
    numbered = ID.sub(lambda found: ids.setdefault(found[0], f"id {len(ids)}"), json.dumps(played))
    return _comparable(json.loads(numbered))


def _comparable(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _comparable(value) for key, value in part.items() if key not in OWN}
    return _joined([_comparable(value) for value in part]) if isinstance(part, list) else part


def _joined(parts: list[Any]) -> list[Any]:
    """Join neighbouring messages of one stream: how text is cut is a matter of time."""
    joined: list[Any] = []
    for part in parts:
        before = joined[-1] if joined else None
        if _stream(part) and _stream(part) == _stream(before):
            before["content"]["text"] += part["content"]["text"]
        else:
            joined.append(part)
    return joined


def _stream(part: Any) -> str | None:
    is_stream = isinstance(part, dict) and part.get("type") == "stream"
    return part["content"]["name"] if is_stream else None


SAME = [
    *("startUp", "cells", "queue", "completion", "completionWhileBusy", "variables", "interrupt"),
    *("input", "widget", "twoClients", "restart"),
]


@pytest.mark.parametrize("scenario", SAME)
def test_a_client_gets_what_python3_gives(played: dict[str, Played], scenario: str) -> None:
    """Replies and outputs of both kernels are the same, message by message."""
    expected, got = (played[kernel][scenario] for kernel in KERNELS)
    assert "failed" not in got, got["failed"]
    assert comparable(got) == comparable(expected)


def test_the_notebook_gets_the_same_language(played: dict[str, Played]) -> None:
    """What VS Code writes into a notebook's metadata is known before there is a session."""
    infos = [played[kernel]["startUp"]["info"] for kernel in KERNELS]
    assert infos[0]["language_info"] == infos[1]["language_info"]


def test_hidden_requests_do_not_count(played: dict[str, Played]) -> None:
    """A person's first cell is [1] after all that VS Code asks, and again after a restart."""
    scenarios = played["tci_python"]
    assert scenarios["cells"][0]["reply"]["execution_count"] == 1
    assert scenarios["restart"]["cell"]["reply"]["execution_count"] == 1


def test_an_interrupt_through_the_server_is_quick(played: dict[str, Played]) -> None:
    """The stop button ends a sleeping cell in less than two seconds."""
    assert played["tci_python"]["interrupt"]["took"] < 2000
