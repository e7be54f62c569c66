"""The life of sessions: made, listed, queued on, left, expired, dead."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from conftest import TOKEN, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server


def started(server: Server, session: str, count: int) -> bool:
    """Tell whether a session has begun that many requests."""
    return server.sessions()[session]["execute_count"] >= count


def leave(
    server: Server, body: str, after: float = 0.3, *, when: Callable[[], Any] | None = None
) -> None:
    """Send an execute request and close the connection without waiting for the answer.

    `when` says that the code runs; without it nothing tells a client that its request is read.
    """
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        head = f"POST /tci/execute HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        if when is None:
            time.sleep(after)
        else:
            wait_until(when)


def test_ids_are_long_and_random(server: Server) -> None:
    """A session's id is `ses_` and 128 random bits or more."""
    first, second = server.new_session(), server.new_session()
    assert re.fullmatch(r"ses_[0-9a-f]{32,}", first)
    assert first != second


def test_listing_tells_times_and_counts(server: Server) -> None:
    """A session is listed with its times in UTC with microseconds, and with its requests."""
    before = datetime.now(timezone.utc)
    session = server.new_session()
    first = server.sessions()[session]
    server.run("pass", session)
    second = server.sessions()[session]
    assert (first["execute_count"], second["execute_count"]) == (1, 2)
    assert second["last_execute_at"] > first["last_execute_at"] >= first["started_at"]
    assert second["started_at"] == first["started_at"]
    for name in ("started_at", "last_execute_at", "expires_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first[name])
    start, end = (parsed(first[name]) for name in ("started_at", "expires_at"))
    assert end - start == timedelta(minutes=60)
    assert before <= start <= datetime.now(timezone.utc)


def parsed(time_on_the_wire: str) -> datetime:
    """Return a time of the API."""
    return datetime.strptime(time_on_the_wire, "%Y-%m-%dT%H:%M:%S.%f%z")


def test_requests_to_one_session_run_in_order(server: Server) -> None:
    """Requests that come while a cell runs wait for it, each in its turn."""
    session = server.run("seen = []")["session_id"]
    with ThreadPoolExecutor(6) as pool:
        pool.submit(server.run, "import time; time.sleep(0.5)", session)
        wait_until(lambda: started(server, session, 2))
        for number in range(5):
            pool.submit(server.run, f"seen.append({number})", session)
            time.sleep(0.03)  # so that they arrive in this order
    assert server.stdout("print(seen)", session) == "[0, 1, 2, 3, 4]\n"


def test_sessions_run_in_parallel(server: Server) -> None:
    """A cell of one session waits for one of another to come: only parallel ones ever meet."""
    meet = """
import pathlib, time
pathlib.Path({mine!r}).touch()
end = time.monotonic() + 30
while not pathlib.Path({other!r}).exists() and time.monotonic() < end:
    time.sleep(0.01)
print(time.monotonic() < end)
"""
    folder = server.stdout("import os; print(os.getcwd())").strip()
    a, b = f"{folder}/a", f"{folder}/b"
    sessions = [server.new_session(), server.new_session()]
    cells = [meet.format(mine=a, other=b), meet.format(mine=b, other=a)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(server.stdout, cells, sessions)) == ["True\n", "True\n"]


def test_an_unknown_session_is_a_404(server: Server) -> None:
    """An id that was never given says that it is not there, and what to do."""
    answer = server.post("1", "ses_never")
    assert answer.status_code == 404
    assert "ses_never is not there: it has expired, or was never yours" in answer.text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9), probably because it ran out of memory"),
        ("import os; os.abort()", "signal 6 (SIGABRT)"),
    ],
)
@pytest.mark.parametrize("sandbox", ["none", "auto"])
def test_a_cell_that_ends_its_process_is_a_410(
    make_server: Callable[..., Server], code: str, reason: str, sandbox: str
) -> None:
    """The answer comes within a second, says how the process ended, and the session is gone."""
    server = make_server(sandbox=sandbox)
    session = server.new_session()
    began = time.monotonic()
    answer = server.post(code, session)
    assert time.monotonic() - began < 2
    assert answer.status_code == 410
    assert reason in answer.json()["errors"][0]
    assert answer.json()["data"] is None
    assert server.sessions() == {}
    assert server.post("1", session).status_code == 410


def test_a_process_that_dies_between_requests_is_a_410(server: Server) -> None:
    """A session whose process goes while nothing runs leaves the list, and says why it went."""
    code = "import os, threading; threading.Timer(0.1, os._exit, [5]).start()"
    session = server.run(code)["session_id"]
    wait_until(lambda: session not in server.sessions())
    answer = server.post("1", session)
    assert answer.status_code == 410
    assert "exit code 5" in answer.text


def test_requests_that_wait_behind_a_death_are_answered(server: Server) -> None:
    """Everything queued behind a cell that kills its process gets the same 410, and no hang."""
    session = server.new_session()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(server.post, "import time, os; time.sleep(0.5); os._exit(1)", session)
        wait_until(lambda: started(server, session, 2))
        others = [pool.submit(server.post, "1", session) for _ in range(2)]
        assert {answer.result().status_code for answer in (first, *others)} == {410}


def test_exit_ends_the_session(server: Server) -> None:
    """`exit()` in a cell ends the session's process, and with it the session."""
    session = server.run("exit()")["session_id"]
    wait_until(lambda: session not in server.sessions())
    assert server.post("1", session).status_code == 410


def test_a_session_expires(make_server: Callable[..., Server]) -> None:
    """After its lifetime a session is gone with its process, and its id says why."""
    server = make_server(lifetime=2 / 60)
    pid = int(server.stdout("import os; print(os.getpid())"))
    (session,) = server.sessions()
    wait_until(lambda: not server.sessions())
    answer = server.post("1", session)
    assert answer.status_code == 404
    assert "has expired after 0.0333333 minutes" in answer.text
    wait_until(lambda: not psutil.pid_exists(pid))


def test_a_cell_that_outlives_its_session_is_answered(make_server: Callable[..., Server]) -> None:
    """A session that expires under a running cell ends it with an answer that says so."""
    answer = make_server(lifetime=2 / 60).post("import time; time.sleep(60)")
    assert answer.status_code == 404
    assert "has expired" in answer.text


def test_more_sessions_than_allowed_are_refused(make_server: Callable[..., Server]) -> None:
    """One session too many is a 429 with Retry-After; a free place is given again."""
    server = make_server(max_sessions=1)
    session = server.new_session()
    answer = server.post("1")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert server.run("1", session)
    server.post("import os; os._exit(0)", session)
    assert server.run("1")


def test_spares_are_not_listed(make_server: Callable[..., Server]) -> None:
    """A warm session is nobody's: it is not in the list, and it starts when it is handed out."""
    server = make_server(warm=2)
    wait_until(lambda: len(server.children()) >= 2)
    assert server.sessions() == {}
    before = datetime.now(timezone.utc)
    session = server.new_session()
    assert parsed(server.sessions()[session]["started_at"]) >= before


def test_a_queued_request_whose_client_leaves_never_runs(server: Server) -> None:
    """A request that still waits for its turn is dropped when its connection closes."""
    session = server.run("ran = False")["session_id"]
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.run, "import time; time.sleep(1)", session)
        wait_until(lambda: started(server, session, 2))
        leave(server, f'{{"code": "ran = True", "language": "python", "session_id": "{session}"}}')
        first.result()
    assert server.stdout("print(ran)", session) == "False\n"
    assert server.sessions()[session]["execute_count"] == 3


def test_a_running_request_whose_client_leaves_is_interrupted(
    server: Server, tmp_path: Path
) -> None:
    """A cell ends like on Ctrl-C when nobody is left to hear it; the session goes on."""
    session = server.run("import time; ended = None")["session_id"]
    mark = tmp_path / "running"
    code = (
        f"try: open('{mark}', 'w').close(); time.sleep(60)\\n"
        "except KeyboardInterrupt: ended = 'interrupted'"
    )
    body = f'{{"code": "{code}", "language": "python", "session_id": "{session}"}}'
    leave(server, body, when=mark.exists)
    assert server.stdout("print(ended)", session) == "interrupted\n"


def test_a_client_may_leave_at_any_moment(server: Server) -> None:
    """However near a request is to its begin or its end, the session takes the next one."""
    session = server.run("import time")["session_id"]
    body = f'{{"code": "time.sleep(0.02)", "language": "python", "session_id": "{session}"}}'
    for tenths in range(0, 400, 2):
        leave(server, body, tenths / 10_000)
        # IPython 8 may add that an interrupt has met its history.
        assert "here\n" in server.stdout("print('here')", session)


def test_a_session_that_nobody_knows_is_ended(server: Server, tmp_path: Path) -> None:
    """A client that leaves before it learns the id of its new session leaves nothing behind."""
    mark = tmp_path / "pid"
    code = f"import os, time; open('{mark}', 'w').write(str(os.getpid())); time.sleep(60)"
    body = f'{{"code": "{code}", "language": "python"}}'
    leave(server, body, when=lambda: mark.exists() and mark.read_text())
    wait_until(lambda: not psutil.pid_exists(int(mark.read_text())))


@pytest.mark.parametrize("after", [0.02, 0.04, 0.06, 0.08, 0.1])
def test_a_client_that_leaves_while_its_session_starts_leaves_nothing(
    make_server: Callable[..., Server], after: float
) -> None:
    """The kernel that was being started for it ends, however far its start has come."""
    server = make_server()
    code = "import time; time.sleep(60)"  # so that no answer comes before the client has left
    leave(server, f'{{"code": "{code}", "language": "python"}}', after)
    wait_until(lambda: not server.sessions() and not server.children())


def test_a_time_limit_of_the_client_does_not_hurt_the_session(server: Server) -> None:
    """After a client gave up on a cell, the session answers again when the cell is done."""
    session = server.new_session()
    with pytest.raises(httpx.ReadTimeout):
        server.client.post(
            "/tci/execute",
            json={
                "code": "import time; time.sleep(0.6)",
                "language": "python",
                "session_id": session,
            },
            timeout=0.2,
        )
    assert server.stdout("print('back')", session) == "back\n"


@pytest.mark.slow
@pytest.mark.parametrize("sandbox", ["none", "auto"])
def test_twenty_sessions_start_at_once(make_server: Callable[..., Server], sandbox: str) -> None:
    """Twenty requests for a new session at the same moment all get one."""
    server = make_server(sandbox=sandbox, warm=1)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(server.stdout, [f"print({n})" for n in range(20)]))
    assert answers == [f"{n}\n" for n in range(20)]
    assert len(server.sessions()) == 20
