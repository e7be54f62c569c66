"""What a session is made of: an interpreter, a folder of its own, and a clean environment.

A session's Python is a light virtual environment in the session's folder. It searches its own
packages first and then those of the interpreter it was made from, so that `pip install` in a
session adds and shadows packages for that session only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tci_kernel.errors import NotConfigured
from tci_kernel.server import pip_configuration
from tci_kernel.server.home import furnish

_PROBE = Path(__file__).with_name("probe.py")
_TIMEOUT = 60.0
_WINDOWS = os.name == "nt"
_BIN = "Scripts" if _WINDOWS else "bin"

#: Variables that a session takes over from the server; all others stay behind, keys above all.
_KEPT = {
    "TZ", "LANG", "LANGUAGE", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "SYSTEMROOT", "COMSPEC", "PATHEXT",
}  # fmt: skip
_KEPT_PREFIXES = ("LC_", "OMP_", "OPENBLAS_", "MKL_")
_KEPT_SUFFIX = "_PROXY"

_SYSTEM_PATH = (
    os.environ["PATH"]
    if _WINDOWS
    else "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

# /bin/sh starts Python because a path in a #! line may be neither long nor hold a space.
_SCRIPT = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys
from {module} import {name}
sys.exit({function}())
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that sessions are made from.

    `readable` are the files and folders outside the system's own that it cannot do without.
    """

    path: Path
    version: tuple[int, int, int]
    prefix: Path
    base_prefix: Path
    site_packages: tuple[Path, ...]
    readable: tuple[Path, ...]
    scripts: tuple[tuple[str, str], ...] = field(repr=False)
    pip_wheel: Path | None
    pip_options: dict[str, str] = field(repr=False, hash=False)  # an index may carry a password

    @classmethod
    def probe(cls, path: Path | None = None) -> Interpreter:
        """Ask an interpreter (default: this one) what it is, by running it; blocks.

        Raises `NotConfigured` if it does not run or has no ipykernel.
        """
        report = _report(path or Path(sys.executable))
        python = Path(report["path"])
        wheel = None if report["pip"] or not report["pip_wheel"] else Path(report["pip_wheel"])
        options = pip_configuration.read(python, wheel) if report["pip"] or wheel else {}
        folders = [report["prefix"], report["base_prefix"], *report["search_path"]]
        return cls(
            path=python,
            version=tuple(report["version"]),
            prefix=Path(report["prefix"]),
            base_prefix=Path(report["base_prefix"]),
            site_packages=tuple(map(Path, report["site_packages"])),
            readable=(
                *map(Path, [*folders, *report["editable"]]),
                *pip_configuration.local_paths(options),
            ),
            scripts=tuple((name, target) for name, target in report["scripts"]),
            pip_wheel=wheel,
            pip_options=options,
        )


@dataclass(frozen=True)
class Folder:
    """The folders of one session; all but `root` lie below it, and only the owner may enter.

    `work` is where cells start, `run` holds the kernel's sockets and connection file, `python` is
    the session's own interpreter.
    """

    root: Path
    work: Path
    home: Path
    tmp: Path
    run: Path
    python: Path

    @property
    def pip_conf(self) -> Path:
        """The session's pip configuration; it may hold the password of an index."""
        return self.root / "pip.conf"


def make_folder(root: Path, interpreter: Interpreter) -> Folder:
    """Make the folders of a session and its Python; blocks for some 50 ms.

    Raises `FileExistsError` if `root` is there already, `OSError` where it cannot be written.
    """
    root.mkdir(mode=0o700, parents=True)
    folder = Folder(
        root=root,
        work=root / "work",
        home=root / "home",
        tmp=root / "tmp",
        run=root / "run",
        python=root / "venv" / _BIN / ("python.exe" if _WINDOWS else "python"),
    )
    for path in (folder.work, folder.home, folder.tmp, folder.run):
        path.mkdir(mode=0o700)
    _make_python(folder, interpreter)
    furnish(folder.home, interpreter)
    pip_configuration.write(folder.pip_conf, interpreter.pip_options)
    return folder


def _make_python(folder: Folder, interpreter: Interpreter) -> None:
    """Make the session's virtual environment, with the packages of its parent behind its own."""
    venv = folder.root / "venv"
    subprocess.run(  # noqa: S603  the interpreter was probed
        [interpreter.path, "-I", "-m", "venv", "--without-pip", venv],
        check=True, capture_output=True, timeout=_TIMEOUT,
    )  # fmt: skip
    packages = next(venv.glob("[lL]ib/**/site-packages"))
    # Named to be read last, after whatever a session installs in place.
    (packages / "zzz-parent.pth").write_text(
        "".join(f"import site; site.addsitedir({str(p)!r})\n" for p in interpreter.site_packages),
        encoding="utf-8",
    )
    if interpreter.pip_wheel is not None:  # what ensurepip does, without starting pip for it
        zipfile.ZipFile(interpreter.pip_wheel).extractall(packages)
    if not _WINDOWS:
        _make_scripts(folder.python, interpreter)


def _make_scripts(python: Path, interpreter: Interpreter) -> None:
    """Write the commands of the parent's packages anew: its own would start the parent."""
    major, minor, _ = interpreter.version
    pip = "pip._internal.cli.main:main"
    targets = dict(interpreter.scripts)
    targets |= {"pip": pip, f"pip{major}": pip, f"pip{major}.{minor}": pip}
    for name, target in targets.items():
        module, _, function = target.partition(":")
        script = python.with_name(name)
        script.write_text(
            _SCRIPT.format(
                python=python, module=module, name=function.split(".")[0], function=function
            ),
            encoding="utf-8",
        )
        script.chmod(0o755)


def variables(folder: Folder, interpreter: Interpreter) -> dict[str, str]:
    """Return the whole environment of a session: nothing else of the server's may reach it."""
    path = [folder.python.parent, interpreter.prefix / _BIN]
    return {
        "LANG": "C.UTF-8",
        **_kept(),
        **_shell(),
        "PATH": os.pathsep.join([*map(str, path), _SYSTEM_PATH]),
        **dict.fromkeys(("HOME", "USERPROFILE"), str(folder.home)),
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder.tmp)),
        "VIRTUAL_ENV": str(folder.python.parent.parent),
        "PIP_CONFIG_FILE": str(folder.pip_conf),
        # Kernelspecs and nbconvert's templates are found by sys.prefix, which is the session's.
        "JUPYTER_PATH": str(interpreter.prefix / "share" / "jupyter"),
    }


def _kept() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.upper().endswith(_KEPT_SUFFIX)
    }


def _shell() -> dict[str, str]:
    """Return the user's shell, which `!` runs as in a local kernel, if sessions can see it.

    The account of a service has none, but the name of a program that refuses.
    """
    shell = os.environ.get("SHELL", "")
    seen = shell.startswith(("/bin/", "/usr/")) and os.access(shell, os.X_OK)
    return {"SHELL": shell} if seen and not shell.endswith(("/nologin", "/false")) else {}


def _report(path: Path) -> dict[str, Any]:
    """Return what `probe.py` finds out in an interpreter."""
    try:
        python = shutil.which(path.expanduser())
        if python is None:
            raise FileNotFoundError("there is no such program")
        answer = subprocess.run(  # noqa: S603  the interpreter is the user's own choice
            [os.path.abspath(python), "-E", "-c", _PROBE.read_text(encoding="utf-8")],  # noqa: PTH100  resolving would leave the virtual environment
            check=True, capture_output=True, text=True, timeout=_TIMEOUT, cwd=os.sep,
        )  # fmt: skip
        report: dict[str, Any] = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotConfigured(
            f"{path} cannot be used as the interpreter of sessions: {_reason(error)}. Nothing "
            "has run. Give the path of a Python 3.10 or later that has ipykernel."
        ) from None
    if not report["ipykernel"]:
        raise NotConfigured(
            f"{path} has no ipykernel, so it cannot run sessions. Nothing has run. "
            f"Install it: {path} -m pip install ipykernel"
        )
    return report


def _reason(error: Exception) -> str:
    """Return why a program is no interpreter; not its command, which holds the whole probe."""
    match error:
        case subprocess.CalledProcessError():
            said = error.stderr.strip() or f"it ended with status {error.returncode}"
        case subprocess.TimeoutExpired():
            said = f"it did not answer within {_TIMEOUT:.0f} seconds"
        case _:
            said = str(error)
    return said.splitlines()[-1].rstrip(".")
