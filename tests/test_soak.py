"""Memory stays level over idle and over busy work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil
import pytest

from conftest import Server, live_only
from notebooks import Notebook

Work = Callable[[Notebook], None]

#: Seconds of each kind of work; an hour is what shows a slow leak.
SECONDS = float(os.environ.get("TCI_TEST_SOAK", "20"))

#: What a process may grow by beside its caches, in bytes, and by how much an hour.
ALLOWANCE, ALLOWANCE_PER_HOUR = 6 * 2**20, 20 * 2**20

PID = "# tci-agent\nprint(__import__('os').getpid())"

#: Much of everything that passes through: text, a display, a result, an error.
BUSY = """
from IPython.display import HTML, display
print('x' * 100_000)
for n in range(200): print(n, flush=True)
display(HTML('y' * 50_000))
'z' * 50_000;
"""


def busy(notebook: Notebook) -> None:
    """Run cells as fast as they go."""
    assert notebook.run(BUSY).status == "ok"
    assert notebook.run("1 / 0").error == "ZeroDivisionError"
    assert notebook.ask("complete", code="prin", cursor_pos=4)["matches"]


def idle(notebook: Notebook) -> None:
    """Do nothing, with a thread that could say something at any time."""
    notebook.run("import threading; threading.Timer(0.9, print, ['late']).start()")
    notebook.silence(1.0)


@live_only
@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS + 180)
@pytest.mark.parametrize("work", [busy, idle])
def test_memory_stays_level(
    work: Work, make_server: Callable[..., Server], open_notebook: Callable[..., Notebook]
) -> None:
    """Local kernel, session kernel with the agent, and server do not grow with what they did."""
    server = make_server(lifetime=60 + SECONDS / 30)
    notebook = open_notebook(TCI_BASE_URL=server.url)
    notebook.run("1")
    [session_id] = server.sessions()
    pids = {
        "kernel": notebook.manager.provisioner.pid,
        "session": int(server.stdout(PID, session_id)),
        "server": server.process.pid,
    }
    _work(work, notebook, SECONDS / 2)  # caches and pools fill
    before = {name: psutil.Process(pid).memory_info().rss for name, pid in pids.items()}
    _work(work, notebook, SECONDS)
    grown = {
        name: psutil.Process(pid).memory_info().rss - before[name] for name, pid in pids.items()
    }
    assert max(grown.values()) < ALLOWANCE + ALLOWANCE_PER_HOUR * SECONDS / 3600, (before, grown)


def _work(work: Work, notebook: Notebook, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work(notebook)
