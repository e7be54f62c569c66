"""What `tci-kernel serve` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path  # noqa: TC003  part of the public shape
from typing import Literal

from pydantic import SecretStr  # noqa: TC002  part of the public shape

from tci_kernel.server.sandbox import Limits


@dataclass(frozen=True)
class Options:
    """Settings of one server; sizes are bytes, `idle` is seconds (0: never ends by itself).

    With a `socket` it listens there and asks for no token, else on `host` and `port` (0: any).
    `warm` sessions are kept ready, with `agent` such that live transport finds its child running.
    """

    host: str = "127.0.0.1"
    port: int = 8642
    token: SecretStr | None = None
    socket: Path | None = None
    info: Path | None = None
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    network: bool = True
    python: Path | None = None
    warm: int = 0
    agent: bool = False
    lifetime: timedelta = timedelta(minutes=60)
    max_sessions: int = 64
    max_body: int = 64 * 2**20
    max_output: int = 64 * 2**20
    limits: Limits = field(default_factory=Limits)
    idle: float = 0.0
