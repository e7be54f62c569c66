"""Where the settings come from, and that the key stays where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tci_kernel.errors import NotConfigured
from tci_kernel.settings import Settings, load


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("TCI_") or name in {"TOGETHER_API_KEY", "BYTECOMPUTE_API_KEY"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("TCI_CONFIG", str(tmp_path / "config.toml"))


def test_nothing_configured_means_the_embedded_server() -> None:
    """Without any key or address, cells run on this machine."""
    assert load().local


@pytest.mark.parametrize(
    ("variable", "host"),
    [
        ("TOGETHER_API_KEY", "https://api.together.ai"),
        ("BYTECOMPUTE_API_KEY", "https://api.bytecompute.ai"),
        ("TCI_API_KEY", "https://api.together.ai"),
    ],
)
def test_a_key_alone_names_its_host(
    variable: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor's key variable is enough: its host goes with it."""
    monkeypatch.setenv(variable, "sk-1")
    settings = load()
    assert (settings.local, settings.url) == (False, host)
    assert settings.key is not None
    assert settings.key.get_secret_value() == "sk-1"


def test_a_vendors_key_is_not_sent_to_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address of somebody else, a vendor's key does not count."""
    monkeypatch.setenv("TOGETHER_API_KEY", "sk-1")
    monkeypatch.setenv("TCI_BASE_URL", "https://tci.example.org")
    assert load().key is None


def test_local_backend_wins_over_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCI_BACKEND=local runs here whatever keys are set."""
    monkeypatch.setenv("TOGETHER_API_KEY", "sk-1")
    monkeypatch.setenv("TCI_BACKEND", "local")
    assert load().local


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The TOML file gives what the environment does not."""
    (tmp_path / "config.toml").write_text(
        'base_url = "https://one.example"\ntransport = "plain"\nfile_roots = ["/data"]\n'
    )
    monkeypatch.setenv("TCI_BASE_URL", "https://two.example/v1/tci/")
    settings = load()
    assert settings.url == "https://two.example/v1"
    assert settings.transport == "plain"
    assert settings.file_roots == (Path("/data"),)


def test_file_roots_are_a_path_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCI_FILE_ROOTS has the form of PATH."""
    import os

    monkeypatch.setenv("TCI_FILE_ROOTS", os.pathsep.join(["/a", "/b"]))
    assert load().file_roots == (Path("/a"), Path("/b"))


def test_a_key_does_not_travel_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key and http:// to another machine are refused, and the key is not in the message."""
    monkeypatch.setenv("TCI_BASE_URL", "http://tci.example.org")
    monkeypatch.setenv("TCI_API_KEY", "sk-secret")
    with pytest.raises(NotConfigured, match="not encrypted") as caught:
        _ = load().url
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "127.0.0.1:8080", "http://[::1"])
def test_what_is_no_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that cannot be, a missing scheme or a broken host is told before anything is sent."""
    monkeypatch.setenv("TCI_BASE_URL", url)
    with pytest.raises(NotConfigured, match=r"TCI_BASE_URL is not an .*address.* Nothing has run"):
        _ = load().url


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost", "[::1]:1"])
def test_a_key_may_go_to_loopback(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine http:// is enough."""
    monkeypatch.setenv("TCI_BASE_URL", f"http://{host}")
    monkeypatch.setenv("TCI_API_KEY", "sk-1")
    assert load().url == f"http://{host}"


def test_a_key_that_cannot_be_one_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with a line break is refused here: the HTTP library would quote it."""
    monkeypatch.setenv("TCI_API_KEY", "sk-secret\nX: y")
    with pytest.raises(NotConfigured) as caught:
        _ = load().key
    assert "secret" not in str(caught.value)


def test_a_wrong_value_is_named_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, not the value."""
    monkeypatch.setenv("TCI_WARM", "sk-secret")
    with pytest.raises(NotConfigured, match="TCI_WARM") as caught:
        load()
    assert "sk-secret" not in str(caught.value)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    """A TOML file that does not parse is an error that names the file."""
    (tmp_path / "config.toml").write_text("base_url = \n")
    with pytest.raises(NotConfigured, match=r"config\.toml"):
        load()


def test_the_key_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr, str nor JSON of the settings shows the key."""
    monkeypatch.setenv("TCI_API_KEY", "sk-secret")
    settings = Settings()
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "sk-secret" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@tci.example.org",
        "user:hunter2@tci.example.org",
        "https://user:hunter2/more@tci.example.org",
        "https://user:hunter2@tci.example.org:99999",
    ],
)
def test_an_address_with_a_password_is_not_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in an address is a key too: what is wrong with the address is said without it."""
    monkeypatch.setenv("TCI_BASE_URL", url)
    monkeypatch.setenv("TCI_API_KEY", "sk-1")
    with pytest.raises(NotConfigured, match=r"TCI_BASE_URL|not encrypted") as caught:
        _ = load().url
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter2@tci.example.org:8443/v1", "https://…@tci.example.org:8443/v1"),
        ("https://user:hunt@er2@tci.example.org", "https://…@tci.example.org"),
        ("https://tci.example.org:8443/v1", "https://tci.example.org:8443/v1"),
    ],
)
def test_what_is_shown_of_an_address_is_all_but_its_user(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, port and path tell which service it is; neither they nor a repr have the password."""
    monkeypatch.setenv("TCI_BASE_URL", url)
    settings = load()
    assert settings.shown_url == shown
    assert "er2" not in repr(settings)
