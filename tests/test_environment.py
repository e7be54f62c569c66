"""What a session is made of: interpreter, folder, packages, variables."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandboxed import temporary_root
from tci_kernel.errors import NotConfigured
from tci_kernel.server.environment import Folder, Interpreter, make_folder, variables

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """Give the Python that runs these tests."""
    return Interpreter.probe()


@pytest.fixture
def folder(interpreter: Interpreter) -> Iterator[Folder]:
    """Give the folder of a new session."""
    with temporary_root() as root:
        yield make_folder(root, interpreter)


def in_session(folder: Folder, interpreter: Interpreter, *argv: str) -> str:
    """Run a command with the environment of a session; return what it printed."""
    answer = subprocess.run(
        argv,
        env=variables(folder, interpreter),
        cwd=folder.work,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def version_in(folder: Folder, interpreter: Interpreter, package: str) -> str:
    """Return the version of a package that a session imports."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return in_session(folder, interpreter, str(folder.python), "-c", code)


def python_without_pip(
    folder: Path, python: Path | str = sys.executable, *, packages: bool = True
) -> Path:
    """Make an environment as uv does: the packages of this one, unless unwanted, but no pip."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (target,) = folder.glob("lib/*/site-packages")
    for entry in Path(pytest.__file__).parents[1].iterdir() if packages else ():
        if not entry.name.startswith("pip"):
            (target / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


def test_probe_describes_this_interpreter(interpreter: Interpreter) -> None:
    """Without a path, sessions are made from the interpreter of the server."""
    assert interpreter.path == Path(sys.executable)
    assert interpreter.version == sys.version_info[:3]
    assert Path(sys.base_prefix) in interpreter.readable


def test_probe_of_a_missing_program_says_so() -> None:
    """A path where nothing is gives an error that names it."""
    with pytest.raises(NotConfigured, match=r"/nowhere/python.*no such program"):
        Interpreter.probe(Path("/nowhere/python"))


def test_probe_of_another_program_says_what_it_said(tmp_path: Path) -> None:
    """A program that is no Python gives an error with its own words."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho I am a teapot >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(NotConfigured, match="I am a teapot"):
        Interpreter.probe(program)


def test_probe_of_a_silent_program_tells_its_status() -> None:
    """A program that fails without a word is no reason to show what it was to run."""
    with pytest.raises(NotConfigured, match="it ended with status 1"):
        Interpreter.probe(Path(shutil.which("false") or ""))


def test_probe_of_a_python_without_ipykernel_says_how_to_install_it(tmp_path: Path) -> None:
    """A Python that cannot run a kernel is refused before any session starts on it."""
    python = python_without_pip(tmp_path / "bare", packages=False)
    with pytest.raises(NotConfigured, match="-m pip install ipykernel"):
        Interpreter.probe(python)


def test_probe_takes_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is meant from the folder in which the server was started."""
    python = python_without_pip(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert Interpreter.probe(Path("here/bin/python")).path == python


def test_folders_are_private(folder: Folder) -> None:
    """Only the owner can enter a session's folders or read its pip configuration."""
    folders = (folder.root, folder.work, folder.home, folder.tmp, folder.run)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert stat.S_IMODE(folder.pip_conf.stat().st_mode) == 0o600


def test_folder_is_never_shared(folder: Folder, interpreter: Interpreter) -> None:
    """A folder that is there already is not taken for a new session."""
    with pytest.raises(FileExistsError):
        make_folder(folder.root, interpreter)


def test_session_has_its_own_prefix_and_the_parents_packages(
    folder: Folder, interpreter: Interpreter
) -> None:
    """A session's Python is its own, and imports what its parent has installed."""
    code = "import sys, pytest; print(sys.prefix, pytest.__file__, sep='\\n')"
    prefix, module = in_session(folder, interpreter, "python", "-c", code).splitlines()
    assert Path(prefix) == folder.root / "venv"
    assert module == pytest.__file__


def test_session_imports_what_its_parent_has_installed_in_place(
    folder: Folder, interpreter: Interpreter
) -> None:
    """An editable install of the parent works in a session."""
    import tci_kernel

    code = "import tci_kernel; print(tci_kernel.__file__)"
    assert in_session(folder, interpreter, "python", "-c", code) == tci_kernel.__file__


def test_commands_of_the_parents_packages_run_in_the_session(
    folder: Folder, interpreter: Interpreter
) -> None:
    """`jupyter` from a session's PATH runs on the session's own Python."""
    assert "ipykernel" in in_session(folder, interpreter, "jupyter", "--version")
    script = (folder.python.parent / "jupyter").read_text()
    assert str(folder.python) in script


def test_install_stays_in_the_session(folder: Folder, interpreter: Interpreter) -> None:
    """`pip install` shadows a parent's package in one session; parent and others keep theirs."""
    before = version("iniconfig")
    said = in_session(folder, interpreter, "pip", "install", "iniconfig==2.0.0")
    assert "Successfully installed iniconfig-2.0.0" in said
    assert version_in(folder, interpreter, "iniconfig") == "2.0.0"
    assert in_session(folder, interpreter, sys.executable, "-m", "pip", "show", "iniconfig")
    assert version("iniconfig") == before != "2.0.0"
    with temporary_root() as root:
        assert version_in(make_folder(root, interpreter), interpreter, "iniconfig") == before


def test_uninstall_brings_the_parents_package_back(
    folder: Folder, interpreter: Interpreter
) -> None:
    """What a session uninstalls is its own copy."""
    in_session(folder, interpreter, "pip", "install", "iniconfig==2.0.0")
    in_session(folder, interpreter, "pip", "uninstall", "-y", "iniconfig")
    assert version_in(folder, interpreter, "iniconfig") == version("iniconfig")


def test_scripts_of_installed_packages_are_on_the_path(
    folder: Folder, interpreter: Interpreter
) -> None:
    """A package's command can be called right after its installation."""
    in_session(folder, interpreter, "python", "-m", "pip", "install", "cowsay==6.1")
    assert "moo" in in_session(folder, interpreter, "cowsay", "-t", "moo")


def test_pip_works_where_the_parent_has_none(tmp_path: Path) -> None:
    """A parent without pip, as uv makes them, gives sessions with the pip that Python brings."""
    interpreter = Interpreter.probe(python_without_pip(tmp_path / "uv"))
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        assert str(root) in in_session(folder, interpreter, "pip", "--version")
        in_session(folder, interpreter, "pip", "install", "iniconfig==2.0.0")
        assert version_in(folder, interpreter, "iniconfig") == "2.0.0"


def test_packages_come_from_where_pip_looks_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indexes and folders of packages reach a session; what concerns this machine does not."""
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://me:secret@example.org/simple\nuser = true\n"
        f"[install]\nfind-links =\n  {tmp_path}\n  https://example.org/wheels\n"
    )
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    interpreter = Interpreter.probe()
    with temporary_root() as root:
        folder = make_folder(root, interpreter)
        listed = in_session(folder, interpreter, "pip", "config", "debug")
        written = folder.pip_conf.read_text()
    assert f"find-links: {tmp_path} https://example.org/wheels" in listed
    assert "index-url = https://me:secret@example.org/simple" in written
    assert "timeout = 7" in written
    assert "user" not in written
    assert tmp_path in interpreter.readable
    assert "secret" not in repr(interpreter)


def test_variables_are_a_short_list_without_keys(
    folder: Folder, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no Jupyter token and nothing unknown passes from the server to a session."""
    secrets = ("TCI_API_KEY", "TOGETHER_API_KEY", "TCI_TOKEN", "JPY_API_TOKEN", "AWS_SECRET", "X")
    for name in secrets:
        monkeypatch.setenv(name, "hidden")
    found = variables(folder, interpreter)
    assert "hidden" not in found.values()
    assert found["HOME"] == str(folder.home)
    assert found["PATH"].startswith(str(folder.python.parent))


@pytest.mark.parametrize(
    "name", ["HTTPS_PROXY", "no_proxy", "TZ", "LC_TIME", "OMP_NUM_THREADS", "SSL_CERT_FILE"]
)
def test_variables_of_the_place_are_kept(
    name: str, folder: Folder, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies, certificates, zone, language and thread counts hold in a session too."""
    monkeypatch.setenv(name, "kept")
    assert variables(folder, interpreter)[name] == "kept"


@pytest.mark.parametrize(
    ("shell", "kept"), [("/bin/sh", True), ("/home/me/fish", False), ("/bin/false", False)]
)
def test_a_shell_that_a_session_can_see_is_the_sessions(
    shell: str,
    kept: bool,
    folder: Folder,
    interpreter: Interpreter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's shell runs `!` as in a local kernel, if it is one of the system's."""
    monkeypatch.setenv("SHELL", shell)
    assert variables(folder, interpreter).get("SHELL") == (shell if kept else None)


def test_text_is_utf8_where_the_server_has_no_language(
    folder: Folder, interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started without a language gives sessions UTF-8."""
    monkeypatch.delenv("LANG", raising=False)
    assert variables(folder, interpreter)["LANG"] == "C.UTF-8"
