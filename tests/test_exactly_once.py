"""Whatever happens to requests on their way: nothing runs twice, nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import Server
from fault_proxy import HELD, QUICK, FaultProxy, faulting
from notebooks import Notebook, opened

#: One failure in three runs would be one too many.
pytestmark = pytest.mark.flaky(reruns=0)

Road = tuple[FaultProxy, Notebook]


@pytest.fixture(scope="module")
def road(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """Open a notebook whose requests go through a proxy; an answer is lost after half a second."""
    folder = tmp_path_factory.mktemp("road")
    with faulting(shared_server.url, seed=7) as proxy:
        env = {
            "TCI_BASE_URL": proxy.url,
            "TCI_API_KEY": shared_server.token,
            "TCI_TRANSPORT": "live",
            "TCI_ANSWER_TIMEOUT": "0.5",
            "TCI_CONFIG": str(folder / "none.toml"),
        }
        with opened(folder, env) as notebook:
            yield proxy, notebook
            proxy.rate = 0.0


@pytest.mark.parametrize("kind", HELD + QUICK)
def test_each_fault_passes_unnoticed(kind: str, road: Road) -> None:
    """A cell whose request fails, and fails again, gives what it always does."""
    proxy, notebook = road
    notebook.run("ran = []")
    proxy.coming.extend([kind, kind])
    cell = notebook.run("ran.append(1); print('out'); ran")
    assert (cell.stdout, cell.stderr, cell.result) == ("out\n", "", "[1]")
    assert notebook.run("ran").result == "[1]"
    assert not proxy.coming


def test_what_a_library_logs_of_a_fault_is_not_shown(road: Road) -> None:
    """All that comes while a request is made again belongs to the cell."""
    proxy, notebook = road
    proxy.coming.extend(["failed_before", "reset_after"])
    request = notebook.send("1")
    notebook.reply(request)
    parents = {message["parent_header"].get("msg_id") for message in notebook.silence(0.5)}
    assert parents == {request}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_thousand_cells_run_once_each_over_a_bad_network(road: Road) -> None:
    """With every tenth request faulted, 1,000 cells leave 1,000 lines and as many outputs."""
    proxy, notebook = road
    note = "def note(n):\n  print(n)\n  open('log', 'a').write(f'{n}\\n')"
    count = notebook.run(note).count
    proxy.counts.clear()
    proxy.kinds, proxy.rate = QUICK + HELD, 0.1
    cells = []
    for first in range(0, 1000, 5):
        requests = [notebook.send(f"note({n})") for n in range(first, first + 5)]
        cells += [notebook.finish(request) for request in requests]
    proxy.rate = 0.0
    log = notebook.run("print(open('log').read())").stdout
    assert [cell.stdout for cell in cells] == [f"{n}\n" for n in range(1000)]
    assert [cell.count for cell in cells] == list(range(count + 1, count + 1001))
    assert log.split() == [str(n) for n in range(1000)]
    assert set(proxy.counts) == {"none", *QUICK, *HELD}, proxy.counts
