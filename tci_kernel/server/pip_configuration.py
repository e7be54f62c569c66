"""What a session's pip needs to know of the pip of this machine: where packages come from."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_TIMEOUT = 60.0

#: Options that say where packages come from; all others (`user`, `target`, `require-virtualenv` …)
#: are about the machine's own environments.
_OPTIONS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "proxy",
    "constraint", "timeout",
)  # fmt: skip
_ALIASES = {"default-timeout": "timeout", "pypi-url": "index-url"}

#: The sections that `pip install` reads, each overriding those before it (pip's user guide,
#: "Precedence / Override order").
_SECTIONS = ("global", "install", ":env:")


def read(python: Path, wheel: Path | None) -> dict[str, str]:
    """Return the options in force for `pip install`; blocks for some 100 ms.

    `wheel` is a pip to ask where the interpreter has none installed. A configuration that pip
    itself cannot read gives no options.
    """
    pip = ["-m", "pip"] if wheel is None else [str(wheel / "pip")]
    answer = subprocess.run(  # noqa: S603  the interpreter was probed
        [python, *pip, "config", "list"],
        check=False, capture_output=True, text=True, timeout=_TIMEOUT, cwd=os.sep,
    )  # fmt: skip
    found: dict[str, str] = {}
    lines = dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)
    for section in _SECTIONS:
        for key, value in lines.items():
            name = key.removeprefix(f"{section}.")
            name = _ALIASES.get(name, name)
            if name != key and name in _OPTIONS:
                found[name] = ast.literal_eval(value)
    return found


def write(path: Path, options: dict[str, str]) -> None:
    """Write a session's pip.conf, for its owner only: the address of an index may hold a password.

    It switches the cache off: a session installs a thing once, its folder goes with it, and a cache
    that sessions share would let one of them put packages into another.
    """
    parser = configparser.RawConfigParser()
    parser["global"] = {
        **{name: _on_one_line(value) for name, value in options.items()},
        "no-cache-dir": "true",
        "disable-pip-version-check": "true",
    }
    path.touch(mode=0o600, exist_ok=False)
    with path.open("w", encoding="utf-8") as file:
        parser.write(file)


def local_paths(options: dict[str, str]) -> list[Path]:
    """Return the files and folders of this machine that the options name."""
    values = [
        word
        for name in ("index-url", "extra-index-url", "find-links", "cert", "constraint")
        for word in options.get(name, "").split()
    ]
    return [path for value in values if (path := _local_path(value)) is not None]


def _local_path(value: str) -> Path | None:
    address = urlsplit(value)
    if address.scheme == "file":
        path = Path(url2pathname(address.path))
        # A mirror's pages at …/simple link to the files beside that folder (PEP 503 mirrors).
        return path.parent if path.name == "simple" else path
    return None if address.netloc else Path(value).expanduser()


def _on_one_line(value: str) -> str:
    return " ".join(value.split())
