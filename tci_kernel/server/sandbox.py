"""Isolation of sessions: bubblewrap where it can be had, else plain processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tci_kernel.server import bubblewrap

if TYPE_CHECKING:
    from tci_kernel.server.environment import Folder, Interpreter

_LAUNCH = Path(__file__).with_name("launch.py")
_TIMEOUT = 10.0

_BUBBLEWRAP = (
    "Sessions run in a bubblewrap sandbox: they read this machine's system and Python, write only "
    "their own folder, and have {network}."
)
_PLAIN = "Sessions are not isolated, because {reason}: their code can do here whatever you can."


class SandboxUnavailable(Exception):
    """The isolation that was asked for cannot be had on this machine; nothing was started."""


@dataclass(frozen=True)
class Limits:
    """What each process of a session may use; None is no limit.

    memory: bytes of data (RLIMIT_DATA: heap and private mappings, not files or reserved addresses,
        of which numerical libraries map far more than they use); more is a `MemoryError`.
    cpu: seconds of processor time; then SIGXCPU ends the process.
    file_size: bytes of any one file that is written; more is an `OSError`.
    """

    memory: int | None = None
    cpu: int | None = None
    file_size: int | None = None

    def as_json(self) -> str:
        """Return the limits by their names in the `resource` module."""
        limits = {
            "RLIMIT_DATA": self.memory,
            "RLIMIT_CPU": self.cpu,
            "RLIMIT_FSIZE": self.file_size,
        }
        return json.dumps({name: value for name, value in limits.items() if value is not None})


@dataclass(frozen=True)
class Sandbox:
    """How sessions are kept apart from the machine and from each other.

    A network that is on is the machine's own: servers on its loopback address and abstract sockets
    can be reached. `description` is one sentence for people.
    """

    kind: Literal["bubblewrap", "none"]
    network: bool
    description: str

    @classmethod
    def choose(
        cls, kind: Literal["auto", "bubblewrap", "none"], *, network: bool = True
    ) -> Sandbox:
        """Return the isolation asked for, after trying it once; `auto` takes the best there is.

        Raises `SandboxUnavailable` if bubblewrap is demanded, or needed to switch the network off,
        and does not work here.
        """
        reason = "the sandbox is switched off" if kind == "none" else _obstacle(network=network)
        if reason is None:
            access = "network access" if network else "no network"
            return cls("bubblewrap", network, _BUBBLEWRAP.format(network=access))
        if kind == "bubblewrap" or not network:
            wanted = "The bubblewrap sandbox" if network else "Switching the network off"
            raise SandboxUnavailable(
                f"{wanted} is not possible: {reason}. Nothing was started. "
                "Make bubblewrap work (`apt install bubblewrap`), or do without it: --sandbox none."
            )
        return cls("none", network, _PLAIN.format(reason=reason))

    def command(
        self, argv: list[str], folder: Folder, interpreter: Interpreter, limits: Limits
    ) -> list[str]:
        """Return the command that runs `argv` in this isolation, ending when this process does.

        Its exit status is that of `argv`, or 128 + n if signal n ended it. Start it in a session
        of its own (`start_new_session`, as jupyter_client does) and from a thread that stays:
        Linux takes the end of that thread for the end of the starter.
        """
        if os.name == "nt":  # neither process groups nor limits of this kind
            return argv
        program = [sys.executable, "-I", "-S", str(_LAUNCH)]
        launch = [*program, str(os.getpid()), limits.as_json()]
        if self.kind == "none":
            return [*launch, "watch", *argv]
        bwrap = shutil.which("bwrap") or "bwrap"
        options = bubblewrap.options(folder, interpreter, network=self.network)
        return [*launch, "exec", bwrap, *options, "--", *argv]


def _obstacle(*, network: bool) -> str | None:
    """Return why bubblewrap does not work here, or None if it does, by trying it."""
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    attempt = [program, *bubblewrap.isolation(network=network), "--ro-bind", "/", "/"]
    try:
        subprocess.run(  # noqa: S603  the system's own bubblewrap
            [*attempt, "--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", ":"],
            check=True, capture_output=True, text=True, timeout=_TIMEOUT,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines() or [f"status {error.returncode}"]
        return f"bubblewrap does not work here ({said[-1].removeprefix('bwrap: ')})"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here ({error})"
    return None
