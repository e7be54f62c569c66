"""Whatever a service answers, each request of a front end gets its reply and its idle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notebooks import Notebook, opened
from scripted_service import Reply, ScriptedService, serving, success
from test_client import bodies


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedService, Notebook]]:
    """Open a notebook on a service whose answers the test makes up."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    with serving(Reply()) as service:
        env = {
            "TCI_BASE_URL": service.url,
            "TCI_API_KEY": "sk-1",
            "TCI_TRANSPORT": "plain",
            "TCI_RETRIES": "0",
            "TCI_CONFIG": str(folder / "none"),
        }
        with opened(folder, env) as notebook:
            yield service, notebook


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(status=st.sampled_from([200, 200, 200, 400, 404, 410, 429, 500, 502]), body=bodies)
def test_a_mangled_answer_leaves_no_request_without_reply_and_idle(
    hostile: tuple[ScriptedService, Notebook], status: int, body: bytes
) -> None:
    """A cell and a completion end properly, in a result or in an error."""
    service, notebook = hostile
    service.replies = [Reply(status, body)]
    assert notebook.run("1", deadline=10).status in {"ok", "error"}
    assert notebook.ask("complete", code="pri", cursor_pos=3)["status"] == "ok"


def test_a_cut_connection_leaves_no_request_without_reply_and_idle(
    hostile: tuple[ScriptedService, Notebook],
) -> None:
    """A connection that ends without an answer is an error of the cell."""
    service, notebook = hostile
    service.replies = [Reply(cut=True)]
    assert notebook.run("1", deadline=10).error in {"ConnectionLost", "SessionExpired"}


def test_values_that_cannot_be_had_cost_no_output(
    hostile: tuple[ScriptedService, Notebook],
) -> None:
    """Where a cell has run and only its user_expressions fail, all that it gave is shown."""
    service, notebook = hostile
    service.replies = [success()]
    notebook.run("0")  # a session that is as it should be
    service.replies = [success({"type": "stdout", "data": "precious"}), Reply(502)]
    cell = notebook.run("1", user_expressions={"a": "1"}, deadline=10)
    assert (cell.status, cell.stdout) == ("ok", "precious")
    assert cell.reply["content"]["user_expressions"]["a"]["ename"] == "ServiceError"


def test_an_error_of_many_lines_ends_the_cell(
    hostile: tuple[ScriptedService, Notebook],
) -> None:
    """An error is told by its last lines, so the kernel is not busy with all the others."""
    service, notebook = hostile
    service.replies = [success({"type": "error", "data": "line\n" * 300_000 + "OddError: why"})]
    assert notebook.run("1", deadline=20).error == "OddError"
