"""What `tci-kernel doctor` finds out about services of all kinds, and what it says follows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Server
from scripted_service import (
    ENDS_CHILDREN,
    LimitedService,
    Reply,
    UnorderlyService,
    serving,
    success,
)
from test_cli import KEY, _run

#: Run in each session, these take away what live transport needs.
NO_IPYKERNEL = (
    "import importlib.metadata as m, importlib.util as u; find, version = u.find_spec, m.version\n"
    "def hidden(name):\n"
    "    if name == 'ipykernel': raise m.PackageNotFoundError(name)\n"
    "    return version(name)\n"
    "m.version = hidden\n"
    "u.find_spec = lambda name, *a: None if name == 'ipykernel' else find(name, *a)"
)
NO_PROCESSES = (
    "import subprocess\n"
    "def refuse(*a, **k): raise PermissionError('no processes here')\n"
    "subprocess.Popen = refuse"
)


def findings(**environment: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code of `doctor`, and verdict and words about each subject."""
    done = _run("doctor", **environment)
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line.split(None, 1) for line in done.stdout.splitlines()]
    found = [(verdict, *[part.strip() for part in rest.split("  ", 1)]) for verdict, rest in lines]
    return done.returncode, {subject: (verdict, says) for verdict, subject, says in found}


@pytest.fixture
def limited(server: Server) -> Iterator[Callable[..., dict[str, str]]]:
    """Return the variables of a service whose sessions lack something."""
    with contextlib.ExitStack() as stack:

        def make(prelude: str = "", cut: int | None = None) -> dict[str, str]:
            service = stack.enter_context(contextlib.closing(LimitedService(server, prelude, cut)))
            return {"TCI_BASE_URL": service.url, "TCI_API_KEY": server.token}

        yield make


@pytest.fixture
def service(server: Server) -> dict[str, str]:
    """Return the variables that choose the test server as a hosted service."""
    return {"TCI_BASE_URL": server.url, "TCI_API_KEY": server.token}


def test_all_is_well(server: Server, service: dict[str, str]) -> None:
    """It says first that it starts a session, finds each thing in order, and ends the session."""
    before = set(server.sessions())
    done = _run("doctor", **service)
    assert "will be started ($0.03" in done.stdout.splitlines()[0]
    subjects = [line[6:19].strip() for line in done.stdout.splitlines()]
    assert subjects == [
        *("Session", "Configuration", "Connection", "Key", "Session", "Round trip", "Processes"),
        *("Output", "Two at once", "Packages", "Jupyter", "Transport"),
    ]
    assert "auto picks live" in done.stdout
    assert done.returncode == 0
    assert server.token not in done.stdout + done.stderr
    assert set(server.sessions()) == before


def test_the_embedded_server_is_examined(runtime_dir: Path) -> None:
    """Without any configuration it starts the embedded server and a session there, for nothing."""
    code, found = findings()
    assert code == 0
    assert "the embedded server on this machine" in found["Configuration"][1]
    assert "auto picks live" in found["Transport"][1]


def test_the_password_of_an_address_is_not_shown() -> None:
    """Of an address with a password, the findings show the rest."""
    code, found = findings(TCI_BASE_URL="http://user:hunter2@localhost:9", TCI_RETRIES="0")
    assert code == 1
    assert "http://…@localhost:9" in found["Configuration"][1]
    assert "hunter2" not in str(found)


def test_a_session_that_is_set_is_left_alone(server: Server, service: dict[str, str]) -> None:
    """The session of TCI_SESSION_ID, in which a kernel may be at work, gets no request."""
    session_id = server.new_session()
    before = server.sessions()[session_id]["execute_count"]
    assert findings(TCI_SESSION_ID=session_id, **service)[0] == 0
    assert server.sessions()[session_id]["execute_count"] == before


@pytest.mark.parametrize(
    ("cut", "verdict", "says", "picks"),
    [
        (300_000, "Note", "262.1 kB of stdout come back whole", "auto picks live"),
        (600, "Note", "too little for live transport", "auto picks plain"),
    ],
)
def test_output_that_is_cut_is_measured(
    limited: Callable[..., dict[str, str]], cut: int, verdict: str, says: str, picks: str
) -> None:
    """How much of stdout comes back whole decides about the transport."""
    code, found = findings(**limited(cut=cut))
    assert code == 0
    assert found["Output"][0] == verdict
    assert says in found["Output"][1]
    assert picks in found["Transport"][1]


def test_a_session_without_ipykernel_is_plain(limited: Callable[..., dict[str, str]]) -> None:
    """What is missing is named with what becomes of it, and `auto` picks plain."""
    code, found = findings(TCI_INSTALL="false", **limited(NO_IPYKERNEL))
    assert code == 0
    assert "without ipykernel" in found["Jupyter"][1]
    assert "TCI_INSTALL=false" in found["Jupyter"][1]
    assert "auto picks plain" in found["Transport"][1]


def test_a_session_without_processes_is_plain(limited: Callable[..., dict[str, str]]) -> None:
    """Where no child process can be started, `auto` picks plain; pip cannot run either."""
    code, found = findings(**limited(NO_PROCESSES))
    assert "No child process can be started" in found["Processes"][1]
    assert "auto picks plain" in found["Transport"][1]
    assert found["Packages"][0] == "Note"
    assert code == 0


def test_a_session_that_ends_processes_is_plain(limited: Callable[..., dict[str, str]]) -> None:
    """Where no child outlives its request, `auto` picks plain, which keeps the variables."""
    code, found = findings(**limited(ENDS_CHILDREN))
    assert "does not live on between requests" in found["Processes"][1]
    assert "auto picks plain" in found["Transport"][1]
    assert "SIGKILL" in found["Transport"][1]
    assert code == 0


@pytest.mark.parametrize(
    ("refuses", "says"),
    [(False, "run at the same time"), (True, "A second request to a busy session is refused")],
)
def test_what_becomes_of_two_requests_at_once_is_told(
    server: Server, refuses: bool, says: str
) -> None:
    """A service that does not queue them either runs both or refuses one."""
    with contextlib.closing(UnorderlyService(server, refuses=refuses)) as service:
        code, found = findings(TCI_BASE_URL=service.url, TCI_API_KEY=server.token)
    assert says in found["Two at once"][1]
    assert code == 0


def test_live_that_cannot_be_had_is_wrong(limited: Callable[..., dict[str, str]]) -> None:
    """With TCI_TRANSPORT=live a session that refuses it makes the exit code 1."""
    code, found = findings(TCI_TRANSPORT="live", TCI_INSTALL="false", **limited(NO_IPYKERNEL))
    assert code == 1
    assert found["Transport"][0] == "Fail"
    assert "TCI_TRANSPORT=live is set" in found["Transport"][1]


def test_a_service_that_does_not_run_code_is_wrong() -> None:
    """A service whose answer to print(6 * 7) is another ends the examination with code 1."""
    listing = Reply(body={"errors": None, "data": {"sessions": []}})
    with serving(listing, success({"type": "stdout", "data": "no"})) as service:
        code, found = findings(TCI_BASE_URL=service.url)
    assert code == 1
    assert "gave 'no'" in found["Session"][1]
    assert "Transport" not in found


def test_a_wrong_key_is_told(service: dict[str, str]) -> None:
    """With a wrong key it ends with code 1, names the key's variable and hides the key."""
    done = _run("doctor", **{**service, "TCI_API_KEY": KEY})
    assert done.returncode == 1
    assert "Fail  Key" in done.stdout
    assert "TCI_API_KEY" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_a_dead_address_is_told() -> None:
    """With nobody at the address it ends with code 1 and names the setting."""
    code, found = findings(TCI_BASE_URL="http://localhost:9", TCI_RETRIES="0")
    assert code == 1
    assert found["Connection"][0] == "Fail"
    assert "TCI_BASE_URL" in found["Connection"][1]


def test_a_setting_that_cannot_be_used_is_told() -> None:
    """With a wrong setting it ends with code 1 and names it."""
    code, found = findings(TCI_RETRIES="many")
    assert code == 1
    assert found["Configuration"][0] == "Fail"
    assert "TCI_RETRIES" in found["Configuration"][1]
