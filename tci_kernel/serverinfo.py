"""What an embedded server tells about itself in a file beside its socket."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003  pydantic resolves annotations at run time
from typing import Literal

from pydantic import BaseModel


class ServerInfo(BaseModel):
    """A running server: `isolation` is one sentence on how its sessions are kept apart.

    `url` and `token` are there where it listens on TCP, `socket` where it has a Unix socket.
    """

    pid: int
    version: str
    python: str
    sandbox: Literal["bubblewrap", "none"]
    isolation: str
    socket: Path | None = None
    url: str | None = None
    token: str | None = None

    def write(self, file: Path) -> None:
        """Write the file, for its owner's eyes only, at once for whoever reads it."""
        draft = file.with_suffix(".part")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:  # noqa: PTH123  a descriptor
            out.write(self.model_dump_json())
        draft.replace(file)
