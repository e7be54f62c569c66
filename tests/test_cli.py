"""The commands, run as a user runs them: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tci_kernel import embedded
from tci_kernel.settings import Settings

if TYPE_CHECKING:
    from conftest import Server

KEY = "a-key-that-nobody-may-see"


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with some variables set; it must come to an end."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return subprocess.run(
        [sys.executable, "-m", "tci_kernel", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
        env={**clean, "NO_COLOR": "1", "COLUMNS": "120", **environment},
    )


@pytest.fixture
def service(server: Server) -> dict[str, str]:
    """Return the variables that choose the test server as a hosted service."""
    return {"TCI_BASE_URL": server.url, "TCI_API_KEY": server.token}


def test_version_is_the_packages() -> None:
    """`--version` prints the version that is installed."""
    assert _run("--version").stdout == f"tci-kernel {version('tci-kernel')}\n"


def test_unknown_arguments_are_refused_at_once() -> None:
    """What VS Code passes to a script that it takes for an interpreter ends with code 2."""
    began = time.monotonic()
    done = _run("-I", "a.py", "b.py")
    assert done.returncode == 2
    assert "-I" in done.stderr
    assert time.monotonic() - began < 5


def test_help_lists_every_command() -> None:
    """`--help` names all commands."""
    words = _run("--help").stdout.split()
    assert {"serve", "sessions", "doctor", "install", "uninstall"} <= set(words)


def test_sessions_prints_the_table(server: Server, service: dict[str, str]) -> None:
    """`sessions` lists the live sessions, and marks the one that is set."""
    session_id = server.new_session()
    done = _run("sessions", TCI_SESSION_ID=session_id, **service)
    row = next(line for line in done.stdout.splitlines() if line.startswith(session_id))
    assert row.endswith("this kernel's")


def test_sessions_does_not_start_a_server(runtime_dir: Path) -> None:
    """`sessions` on this machine says that there are none, and starts nothing."""
    assert "no live sessions" in _run("sessions").stdout
    assert embedded.describe(Settings()) is None


def test_sessions_tells_a_wrong_key(service: dict[str, str]) -> None:
    """A refused key is one sentence and code 1, without the key and without a traceback."""
    done = _run("sessions", **{**service, "TCI_API_KEY": KEY})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr


def _spec(prefix: Path, name: str = "tci_python") -> Path:
    return prefix / "share" / "jupyter" / "kernels" / name


def test_install_writes_a_whole_kernelspec(tmp_path: Path) -> None:
    """`install` writes kernel.json with the interpreter's full path, and the logos."""
    done = _run("install", "--prefix", str(tmp_path), "--env", "TCI_BACKEND=local")
    assert done.returncode == 0, done.stderr
    spec = json.loads((_spec(tmp_path) / "kernel.json").read_text())
    assert spec["argv"] == [sys.executable, "-m", "tci_kernel", "-f", "{connection_file}"]
    assert spec["display_name"] == "TCI Python"
    assert spec["interrupt_mode"] == "message"
    assert spec["env"] == {"TCI_BACKEND": "local"}
    logos = {path.name for path in _spec(tmp_path).glob("logo-*")}
    assert logos == {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}


def test_uninstall_removes_what_install_wrote(tmp_path: Path) -> None:
    """A kernel installed for the user under another name is removed by that name."""
    place = {"JUPYTER_DATA_DIR": str(tmp_path)}
    _run("install", "--user", "--name", "tci_other", "--display-name", "Other", **place)
    folder = tmp_path / "kernels" / "tci_other"
    assert json.loads((folder / "kernel.json").read_text())["display_name"] == "Other"
    assert _run("uninstall", "--name", "tci_other", **place).returncode == 0
    assert not folder.exists()


def test_uninstall_leaves_the_environments_kernel(tmp_path: Path) -> None:
    """Of two kernels of one name, the user's own goes, wherever Jupyter looks first."""
    place = {"JUPYTER_DATA_DIR": str(tmp_path / "user"), "JUPYTER_PREFER_ENV_PATH": "1"}
    place["JUPYTER_PATH"] = str(tmp_path / "share" / "jupyter")
    _run("install", "--prefix", str(tmp_path), **place)
    _run("install", **place)
    assert str(tmp_path / "user") in _run("uninstall", **place).stdout
    assert _spec(tmp_path).exists()


def test_a_service_that_is_not_there_is_one_sentence() -> None:
    """Requests that are repeated leave no lines of their own on the terminal."""
    done = _run("sessions", TCI_BASE_URL="http://127.0.0.1:9", TCI_RETRIES="1")
    assert done.returncode == 1
    assert done.stderr.startswith("http://127.0.0.1:9 cannot be reached")
    assert done.stderr.count("\n") == 1


def test_install_refuses_a_password_in_an_address(tmp_path: Path) -> None:
    """A kernelspec is for all to read, so an address comes without its user."""
    address = "TCI_BASE_URL=https://user:a-password@service.example"
    done = _run("install", "--prefix", str(tmp_path), "--env", address)
    assert done.returncode == 1
    assert "a-password" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["TCI_API_KEY", "TOGETHER_API_KEY", "BYTECOMPUTE_API_KEY"])
def test_install_refuses_keys(tmp_path: Path, variable: str) -> None:
    """A key is not written to a kernelspec; the error says where it belongs."""
    done = _run("install", "--prefix", str(tmp_path), "--env", f"{variable}={KEY}")
    assert done.returncode == 1
    assert "config.toml" in done.stderr
    assert KEY not in done.stderr
    assert not _spec(tmp_path).exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["install", "--user", "--sys-prefix"], 2),
        (["install", "--env", "NOVALUE"], 2),
        (["install", "--name", "no/name"], 1),
        (["uninstall", "--name", "there-is-none"], 1),
        (["uninstall", "--name", "python3"], 1),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], code: int, tmp_path: Path) -> None:
    """Contradicting options, bad names and kernels of others are errors without a traceback."""
    done = _run(*arguments, JUPYTER_DATA_DIR=str(tmp_path))
    assert done.returncode == code
    assert done.stderr
    assert "Traceback" not in done.stderr
