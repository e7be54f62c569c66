"""What `%tci status`, `sessions` and `new` show."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tci_kernel import embedded
from tci_kernel.api import SessionInfo
from tci_kernel.client import TCIClient
from tci_kernel.magics import Context, run
from tci_kernel.magics.sessions import session_table
from tci_kernel.magics.tables import size, table
from tci_kernel.magics.times import span
from tci_kernel.session import Session
from tci_kernel.settings import Settings
from tci_kernel.state import StateFile

if TYPE_CHECKING:
    from conftest import Server


async def _shown(line: str, client: TCIClient, folder: Path, code: str | None = None) -> str:
    """Return the text that a line shows, after some code has made a session."""
    session = Session(client, StateFile(Path("none.json"), folder))
    if code is not None:
        await session.execute(code)
    context = Context(session, "plain")
    return "\n".join([display.bundle["text/plain"] async for display in run(line, context)])


def _run(line: str, settings: Settings, folder: Path, code: str | None = None) -> str:
    async def shown() -> str:
        async with TCIClient(settings) as client:
            return await _shown(line, client, folder, code)

    return asyncio.run(shown())


@pytest.fixture
def hosted(server: Server) -> Settings:
    """Return settings for a service by address and key."""
    return Settings(backend="hosted", base_url=server.url, api_key=server.token)


def test_text_is_aligned_whatever_the_letters() -> None:
    """Columns of text begin at the same place, wide and combining letters counted as shown."""
    bundle = table([("数据.csv", "1"), ("e\u0301.csv", "2"), ("plain", "3")], ("Name", "N"))
    assert bundle["text/plain"].splitlines() == [
        "Name      N",
        "--------  -",
        "数据.csv  1",
        "e\u0301.csv     2",
        "plain     3",
    ]


def test_words_of_a_service_are_escaped() -> None:
    """Markup and terminal codes in a session's id show as text."""
    bundle = session_table([SessionInfo(id="<script>\x1b[2J</script>")], None)
    assert "<script>" not in bundle["text/html"]
    assert "&lt;script&gt;" in bundle["text/html"]
    assert "\x1b" not in "".join(bundle.values())


def test_table_has_no_colours_of_its_own() -> None:
    """The front end's theme, light or dark, colours a table."""
    assert "color" not in table([("a", "b")], ("x", "y"), ["note"])["text/html"]


def test_session_table_marks_the_current_one() -> None:
    """A session's row has its age, time left and runs; the current one is marked."""
    now = datetime.now(timezone.utc)
    times: dict[str, Any] = {
        "started_at": now - timedelta(minutes=12, seconds=5),
        "expires_at": now + timedelta(minutes=47, seconds=55),
    }
    infos = [SessionInfo(id="ses_a", execute_count=3, **times), SessionInfo(id="ses_b")]
    lines = session_table(infos, "ses_a")["text/plain"].splitlines()
    assert lines[2].split() == ["ses_a", "12", "min", "47", "min", "3", "this", "kernel's"]
    assert lines[3].split() == ["ses_b", "unknown", "unknown", "unknown"]


def test_sessions_lists_the_services_own(hosted: Settings, tmp_path: Path) -> None:
    """`%tci sessions` shows the session of this kernel, marked, and how often it ran."""
    text = _run("%tci sessions", hosted, tmp_path, "1")
    row = next(line for line in text.splitlines() if "this kernel's" in line)
    assert row.startswith("ses_")
    assert row.split()[-3] == "1"


def test_status_of_a_running_session(hosted: Settings, tmp_path: Path) -> None:
    """`%tci status` of a service names its address, the session, the time left and the cost."""
    text = _run("%tci status", hosted, tmp_path, "1")
    assert str(hosted.base_url) in text
    assert "the service's own" in text
    assert "59 min" in text
    assert "$0.03 (1 made by this kernel" in text


def test_status_starts_nothing(runtime_dir: Path, tmp_path: Path) -> None:
    """`%tci status` and `%tci sessions` start neither the embedded server nor a session."""
    settings = Settings(backend="local")
    text = _run("%tci status", settings, tmp_path)
    assert "There is no session yet" in text
    assert "nothing: it runs on this machine" in text
    assert "no live sessions" in _run("%tci sessions", settings, tmp_path)
    assert embedded.describe(settings) is None


def test_status_names_the_isolation_of_the_embedded_server(
    runtime_dir: Path, tmp_path: Path
) -> None:
    """`%tci status` has the embedded server's own sentence about its isolation."""
    settings = Settings(backend="local", sandbox="none", warm=0)
    text = _run("%tci status", settings, tmp_path, "1")
    info = embedded.describe(settings)
    assert info is not None
    assert info.isolation in text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": "http://localhost:9", "retries": 0}, "cannot be reached"),
        ({"base_url": "http://example.org", "api_key": "k"}, "not encrypted"),
        ({"backend": "hosted"}, "No address is configured"),
    ],
)
def test_status_shows_what_is_wrong(
    settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network, an address or a safe way for the key, status says so and does not fail."""
    for variable in ("TCI_BASE_URL", "TCI_API_KEY", "TOGETHER_API_KEY", "BYTECOMPUTE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    configured = Settings(session_id="ses_x", **settings)
    assert says in _run("%tci status", configured, tmp_path)


def test_status_shows_a_wrong_key(server: Server, tmp_path: Path) -> None:
    """A key that the service refuses is said, and not shown."""
    settings = Settings(
        backend="hosted", base_url=server.url, api_key="wrong-key", session_id="ses_x"
    )
    text = _run("%tci status", settings, tmp_path)
    assert "does not accept the key" in text
    assert "wrong-key" not in text


def test_status_shows_no_password(tmp_path: Path) -> None:
    """Of an address with a password, status shows the rest."""
    settings = Settings(base_url="http://user:hunter2@localhost:9", retries=0, session_id="ses_x")
    text = _run("%tci status", settings, tmp_path)
    assert "http://…@localhost:9" in text
    assert "hunter2" not in text


def test_new_ends_the_session(hosted: Settings, server: Server, tmp_path: Path) -> None:
    """After `%tci new` the old session is gone, and the sentence says what went with it."""
    text = _run("%tci new", hosted, tmp_path, "x = 1")
    assert "variables and files are gone" in text
    assert text.split()[1] not in server.sessions()


def test_new_spares_a_session_of_somebody_else(server: Server, tmp_path: Path) -> None:
    """`%tci new` lets go of a session that was only joined."""
    other = server.new_session()
    settings = Settings(
        backend="hosted", base_url=server.url, api_key=server.token, session_id=other
    )
    assert "goes on without this kernel" in _run("%tci new", settings, tmp_path)
    assert other in server.sessions()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2e12, "2.0 TB")],
)
def test_sizes_are_for_people(count: float, text: str) -> None:
    """A number of bytes is shown in the unit that keeps it short."""
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3900, "1 h 05 min")]
)
def test_spans_are_for_people(seconds: float, text: str) -> None:
    """A duration is shown in the unit that matters; clocks that differ make none negative."""
    assert span(timedelta(seconds=seconds)) == text
