"""Isolation of sessions, seen from inside real kernels."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from sandboxed import (
    BUBBLEWRAP,
    both,
    needs_bubblewrap,
    session,
    temporary_root,
)
from tci_kernel.server.environment import Interpreter, make_folder, variables
from tci_kernel.server.sandbox import Limits, Sandbox, SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandboxed import Session

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sessions are plain processes there")


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Give the Python that runs these tests."""
    return Interpreter.probe()


@pytest.fixture(scope="module")
def inside(interpreter: Interpreter) -> Iterator[Session]:
    """Give one sandboxed session to all tests that only look around in it."""
    with session(interpreter, BUBBLEWRAP) as running:
        yield running


def exists(path: Path | str) -> str:
    """Return code that tells whether a path is there."""
    return f"import os; os.path.lexists({str(path)!r})"


@needs_bubblewrap
@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/ssl/private", "/run/user", "/var/log"])
def test_private_parts_of_the_system_are_invisible(inside: Session, path: str) -> None:
    """A session sees no passwords, keys, logs or sockets of the machine."""
    assert inside.run(exists(path)) == "False"


@needs_bubblewrap
def test_home_and_tmp_of_the_user_are_invisible(inside: Session) -> None:
    """Files of the user and of other programs are not there, even under their exact names."""
    with temporary_root() as root:
        make = root.parent / "letter.txt"
        make.write_text("private")
        home = Path.home() / f".letter-{uuid.uuid4().hex}"
        home.write_text("private")
        try:
            assert inside.run(exists(make)) == "False"
            assert inside.run(exists(home)) == "False"
        finally:
            home.unlink()


@needs_bubblewrap
def test_other_sessions_are_invisible(inside: Session, interpreter: Interpreter) -> None:
    """One session finds neither files nor processes of another."""
    with session(interpreter, BUBBLEWRAP) as other:
        other.run("open('note.txt', 'w').write('mine')")
        assert (other.folder.work / "note.txt").read_text() == "mine"
        assert inside.run(exists(other.folder.root)) == "False"
        assert inside.run("[p for p in os.listdir('/proc') if p.isdigit() and int(p) > 50]") == "[]"


@needs_bubblewrap
@pytest.mark.parametrize(
    "path",
    [
        "/x",
        "/etc/x",
        "/usr/x",
        "/opt/x",
        "/root/x",
        "/dev/x",
        "/var/x",
        f"{sys.prefix}/x",
        f"{sys.base_prefix}/x",
    ],
)
def test_only_the_sessions_folder_is_writable(inside: Session, path: str) -> None:
    """Neither the system nor the interpreter can be changed from a session."""
    said = inside.run(f"open({path!r}, 'w')")
    assert said.startswith(("OSError", "FileNotFoundError", "PermissionError")), said
    assert not Path(path).exists()


@needs_bubblewrap
def test_switches_of_the_machine_are_read_only(inside: Session) -> None:
    """A session of a server that root runs cannot set the machine's kernel parameters."""
    said = inside.run("open('/proc/sys/kernel/core_pattern', 'r+')")
    assert said.startswith(("OSError", "PermissionError")), said


@needs_bubblewrap
def test_a_session_has_no_privileges(inside: Session) -> None:
    """No capability is left, and no program can bring one back."""
    status = inside.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["CapEff"] == fields["CapBnd"] == "0000000000000000"
    assert fields["NoNewPrivs"] == "1"


@both
def test_environment_is_clean(
    sandbox: Sandbox, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and Jupyter's own variables of the server are not in a session's environment."""
    for name in ("TCI_API_KEY", "TOGETHER_API_KEY", "JPY_API_TOKEN"):
        monkeypatch.setenv(name, "hidden")
    with session(interpreter, sandbox) as running:
        assert running.run("import os; print(os.getcwd())") == str(running.folder.work)
        assert running.run("[k for k in os.environ if k.startswith(('JPY_', 'TCI_'))]") == "[]"
        assert running.run("'hidden' in str(os.environ)") == "False"
        assert running.run("print(os.path.expanduser('~'))") == str(running.folder.home)


@both
def test_install_in_a_cell_is_importable_at_once(
    sandbox: Sandbox, interpreter: Interpreter
) -> None:
    """`!pip` and `%pip` install into the session, upgrades and downgrades included."""
    with session(interpreter, sandbox) as running:
        running.run("!pip install -q cowsay==6.1")
        assert running.run("import cowsay; print(cowsay.__file__)").startswith(
            str(running.folder.root)
        )
        running.run("%pip install -q iniconfig==2.0.0")
        assert running.run("import importlib.metadata as m; print(m.version('iniconfig'))") == (
            "2.0.0"
        )


@both
def test_numpy_and_matplotlib_draw(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """A figure of a session arrives as a picture."""
    with session(interpreter, sandbox) as running:
        code = (
            "import numpy as np, matplotlib.pyplot as plt; plt.plot(np.arange(9) ** 2); plt.show()"
        )
        bundles = [m["content"].get("data", {}) for m in running.messages(code)]
    assert any("image/png" in bundle for bundle in bundles), bundles


@both
def test_processes_of_a_cell_can_be_parallel(sandbox: Sandbox, interpreter: Interpreter) -> None:
    """Shared memory and semaphores work, so process pools do."""
    code = (
        "from multiprocessing import get_context\n"
        "with get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))"
    )
    with session(interpreter, sandbox) as running:
        assert running.run(code) == "[1, 2]"


@needs_bubblewrap
def test_network_can_be_switched_off(interpreter: Interpreter) -> None:
    """Without network no address can be reached, this machine's neither; cells still run."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    connect = f"import socket; print(socket.create_connection({address}, 5).getpeername()[0])"
    with contextlib.closing(listener):
        with session(interpreter, BUBBLEWRAP) as running:
            assert running.run(connect) == "127.0.0.1"
        with session(interpreter, Sandbox.choose("bubblewrap", network=False)) as running:
            assert running.run(connect).startswith(("ConnectionRefusedError", "OSError"))


def test_without_bubblewrap_sessions_are_plain_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` falls back to a plain process, openly."""
    monkeypatch.setenv("PATH", "/nonexistent")
    sandbox = Sandbox.choose("auto")
    assert sandbox.kind == "none"
    assert "not isolated" in sandbox.description
    assert "not installed" in sandbox.description


@pytest.mark.parametrize(("kind", "network"), [("bubblewrap", True), ("auto", False)])
def test_what_only_bubblewrap_can_do_is_refused_without_it(
    kind: Literal["auto", "bubblewrap"], network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An isolation that was asked for is never left out silently."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxUnavailable, match="not installed"):
        Sandbox.choose(kind, network=network)


@needs_bubblewrap
def test_bubblewrap_that_may_not_make_namespaces_is_told_from_a_missing_one() -> None:
    """Where the system forbids namespaces, the description gives bubblewrap's own reason."""
    forbidding = ["bwrap", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    code = (
        "from tci_kernel.server.sandbox import Sandbox; print(Sandbox.choose('auto').description)"
    )
    answer = subprocess.run(
        [*forbidding, "--dev-bind", "/", "/", "--", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    if "--disable-userns" in answer.stderr:
        pytest.skip("this bubblewrap cannot forbid namespaces")
    assert "not isolated, because bubblewrap does not work here (" in answer.stdout, answer


def test_a_sandbox_that_is_switched_off_is_described(interpreter: Interpreter) -> None:
    """`none` is a choice, and the description names it."""
    assert "switched off" in Sandbox.choose("none").description


@needs_bubblewrap
def test_certificates_of_the_user_are_readable(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate file that a variable names can be read wherever it lies."""
    bundle = tmp_path / "company.pem"
    bundle.write_text("certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        argv = BUBBLEWRAP.command(["/bin/cat", str(bundle)], folder, interpreter, Limits())
        said = subprocess.run(
            argv, env=variables(folder, interpreter), capture_output=True, text=True, check=False
        )
    assert said.stdout == "certificate", said.stderr


@needs_bubblewrap
def test_a_stray_search_path_does_not_open_the_home(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search path that holds the home folder itself is not shown to sessions."""
    from dataclasses import replace

    monkeypatch.setenv("HOME", str(tmp_path))
    stray = replace(interpreter, readable=(*interpreter.readable, tmp_path, tmp_path.parent))
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        argv = BUBBLEWRAP.command(["/bin/ls", str(tmp_path)], folder, stray, Limits())
        said = subprocess.run(
            argv, env=variables(folder, stray), capture_output=True, text=True, check=False
        )
    assert "No such file" in said.stderr


@needs_bubblewrap
@pytest.mark.parametrize("link", ["py", "bin/python3"])
def test_interpreter_behind_links_runs(link: str, tmp_path: Path) -> None:
    """A Python that is reached by a linked folder or program, as uv's is, works in the sandbox."""
    (tmp_path / "bin").mkdir()
    real = Path(sys.base_prefix) / "bin" / "python3"
    (tmp_path / link).symlink_to(Path(sys.base_prefix) if link == "py" else real)
    python = tmp_path / ("py/bin/python3" if link == "py" else link)
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (packages / "parent.pth").write_text(str(Path(pytest.__file__).parents[1]))
    interpreter = Interpreter.probe(tmp_path / "venv" / "bin" / "python")
    with session(interpreter, BUBBLEWRAP) as running:
        assert running.run("print(1)") == "1"


def other_pythons() -> list[str]:
    """Return other versions that this machine has: `TCI_TEST_PYTHONS`, else those on PATH."""
    named = os.environ.get("TCI_TEST_PYTHONS")
    if named:
        return named.split(os.pathsep)
    names = (f"python3.{minor}" for minor in range(10, 15) if minor != sys.version_info[1])
    return [path for name in names if (path := shutil.which(name))]


@pytest.mark.slow
@both
@pytest.mark.parametrize("python", other_pythons() or [None])
def test_sessions_run_on_another_python(
    python: str | None, sandbox: Sandbox, tmp_path: Path
) -> None:
    """`--python` may be another version, in an environment anywhere."""
    if (
        python is None
        or subprocess.run([python, "-m", "venv", tmp_path / "env"], check=False).returncode
    ):
        pytest.skip("no other Python here; name some in TCI_TEST_PYTHONS")
    other = tmp_path / "env" / "bin" / "python"
    subprocess.run([other, "-m", "pip", "install", "-q", "ipykernel"], check=True)
    interpreter = Interpreter.probe(other)
    with session(interpreter, sandbox) as running:
        assert running.run("import sys; print(sys.version_info[:3])") == str(interpreter.version)
        running.run("!pip install -q iniconfig==2.0.0")
        assert running.run("import iniconfig; print(iniconfig.__file__)").startswith(
            str(running.folder.root)
        )
