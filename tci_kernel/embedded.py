"""The user's own server: found if it runs, started if not, one however many kernels ask.

It ends by itself some minutes after its last session. Whoever is refused by an `Address` that was
good before just asks for another one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import SecretStr, ValidationError

from tci_kernel.detached import Detached
from tci_kernel.errors import NotConfigured, Unreachable
from tci_kernel.private import is_owned, private_folder, user_folder
from tci_kernel.serverinfo import ServerInfo
from tci_kernel.settings import KEY_VARIABLES

if TYPE_CHECKING:
    from tci_kernel.settings import Settings

    Process: TypeAlias = Detached | subprocess.Popen[bytes]

#: Seconds that a server may take until it answers.
START_TIMEOUT = 60.0
#: Seconds between two looks at whether it does.
LOOK_INTERVAL = 0.02
#: The longest path of a Unix socket, in bytes, on the system that takes the least (macOS).
LONGEST_SOCKET = 103
#: How much of a failed server's log an error shows, in characters.
LOG_TAIL = 2_000


@dataclass(frozen=True)
class Address:
    """Where a server listens: on `socket`, else on the host and port of `url` with a token."""

    socket: Path | None
    url: str
    token: SecretStr | None


@dataclass(frozen=True)
class Place:
    """The files of one server; those in other environments or with other settings have others."""

    folder: Path
    name: str

    @classmethod
    def of(cls, settings: Settings) -> Place:
        """Return the place of the server that fits these settings.

        Raises `NotConfigured` if its path is too long for a socket.
        """
        kind = (
            version("tci-kernel"),
            sys.prefix,
            settings.python,
            settings.sandbox,
            settings.warm,
            settings.transport == "plain",
        )
        place = cls(runtime_dir(settings), hashlib.sha256(repr(kind).encode()).hexdigest()[:8])
        if place.socket is not None and len(os.fsencode(place.socket)) > LONGEST_SOCKET:
            raise NotConfigured(
                f"{place.socket} is too long for a socket ({LONGEST_SOCKET} bytes). "
                "Set TCI_RUNTIME_DIR to a shorter path."
            )
        return place

    @property
    def socket(self) -> Path | None:
        """The server's Unix socket, or None where the system has none."""
        return self.file("sock") if hasattr(socket, "AF_UNIX") else None

    def file(self, kind: str) -> Path:
        """Return the server's `info`, `log`, `lock` or `sock` file."""
        return self.folder / f"{self.name}.{kind}"

    def info(self) -> ServerInfo | None:
        """Return what the server tells about itself, or None if it does not run."""
        try:
            return ServerInfo.model_validate_json(self.file("info").read_bytes())
        except (OSError, ValidationError):
            return None


async def address(settings: Settings) -> Address:
    """Return the address of the user's server, started if it does not run.

    Raises `NotConfigured` if it cannot start with these settings, `Unreachable` if it does not
    answer in time.
    """
    place = Place.of(settings)
    running = _running(place)
    return running if running is not None else await asyncio.to_thread(_start_once, place, settings)


def running(settings: Settings) -> Address | None:
    """Return the address of the user's server if it runs; raises `NotConfigured`."""
    return _running(Place.of(settings))


def describe(settings: Settings) -> ServerInfo | None:
    """Return what the running server tells about itself, or None."""
    place = Place.of(settings)
    return place.info() if _running(place) is not None else None


def runtime_dir(settings: Settings) -> Path:
    """Return the private folder of the user's servers, made if need be.

    Raises `NotConfigured` if others could have put something there.
    """
    if settings.runtime_dir is not None:
        return private_folder(settings.runtime_dir)
    system = os.environ.get("XDG_RUNTIME_DIR")
    if system and is_owned(Path(system)):  # after `su` it may still be another user's
        return private_folder(Path(system) / "tci-kernel")
    return private_folder(user_folder())


def _running(place: Place) -> Address | None:
    """Return the server's address if it takes connections; one of a killed server does not."""
    info = place.info()
    if info is None or not _takes_connections(info):
        return None
    token = None if info.token is None else SecretStr(info.token)
    return Address(info.socket, info.url or "http://localhost", token)


def _takes_connections(info: ServerInfo) -> bool:
    try:
        if info.socket is None:
            parts = urlsplit(info.url or "")
            socket.create_connection((parts.hostname or "", parts.port or 0)).close()
            return True
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            connection.connect(str(info.socket))
    except BlockingIOError:  # it is there, with more callers than it can take at the moment
        return True
    except OSError:
        return False
    return True


def _start_once(place: Place, settings: Settings) -> Address:
    """Start the server unless another kernel has done so while this one waited; blocks."""
    with FileLock(place.file("lock")):
        found = _running(place)
        if found is not None:
            return found
        return _await_answer(place, _spawn(place, settings))


def _spawn(place: Place, settings: Settings) -> Process:
    try:
        return _process(place, settings)
    except subprocess.CalledProcessError:  # its text is the program that was to start the server
        reason = _log(place) or "no reason given"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = str(error)
    raise NotConfigured(
        f"The embedded server did not start: {reason}; nothing has run. "
        f"There must be memory and room for one more process, and for files in {place.folder}."
    )


def _process(place: Place, settings: Settings) -> Process:
    start = Detached if hasattr(os, "fork") else subprocess.Popen
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    log = os.open(place.file("log"), flags, 0o600)
    try:
        return start(
            _command(place, settings),
            cwd=place.folder,  # not the notebook's: its modules would shadow the server's
            env={name: os.environ[name] for name in os.environ if name not in KEY_VARIABLES},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # an interrupt of the notebook is not for the server
        )
    finally:
        os.close(log)


def _command(place: Place, settings: Settings) -> list[str]:
    where = ["--port", "0"] if place.socket is None else ["--socket", str(place.socket)]
    python = [] if settings.python is None else ["--python", settings.python]
    # In plain transport nobody would speak to the agent, and cells would come to its child by it.
    agent = [] if settings.transport == "plain" else ["--agent"]
    return [
        *(sys.executable, "-m", "tci_kernel", "serve", *where, *python),
        *("--info", str(place.file("info"))),
        *("--sandbox", settings.sandbox),
        *("--warm", str(settings.warm), *agent),
        *("--idle", str(settings.server_idle)),
    ]


def _await_answer(place: Place, process: Process) -> Address:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        found = _running(place)
        if found is not None:
            return found
        if process.poll() is not None:
            raise NotConfigured(
                f"The embedded server did not start; nothing has run. It says:\n{_log(place)}"
            )
        time.sleep(LOOK_INTERVAL)
    process.terminate()
    raise Unreachable(
        f"The embedded server did not answer within {START_TIMEOUT:.0f} seconds; nothing has run. "
        f"Its log, {place.file('log')}, says:\n{_log(place)}"
    )


def _log(place: Place) -> str:
    return place.file("log").read_text(errors="replace")[-LOG_TAIL:].strip()
