"""Files on their way into a session, in as many requests as their size asks for."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from functools import cache
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from tci_kernel.errors import TCIError
from tci_kernel.magics.pieces import batches
from tci_kernel.transport.hidden import ask

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tci_kernel.magics.files import LocalFile
    from tci_kernel.session import Session

#: How long an interrupt waits for an upload to tidy up, in seconds.
_PATIENCE = 2.0


class Transfer:
    """One upload: `sent` bytes so far, and the files that have `arrived` whole."""

    def __init__(self, session: Session, files: list[LocalFile]) -> None:
        self.sent = 0
        self.arrived: list[LocalFile] = []
        self._session = session
        self._name = f"tci-upload-{secrets.token_hex(8)}"
        self._batches = batches(files, session.client.settings.upload_part_size)
        self._begun: list[str] = []

    async def requests(self) -> AsyncGenerator[None, None]:
        """Send everything, request by request; what was begun is removed when one fails."""
        try:
            while await self._send():
                yield
        except BaseException:
            await self._tidy_up()
            raise

    async def _send(self) -> bool:
        """Send the next pieces; return False if there are none."""
        batch = await asyncio.to_thread(next, self._batches, None)
        if batch is None:
            return False
        self._begun = [piece.file.name for piece in batch]
        parts = [piece.as_file(f"{self._name}-{n}.part") for n, piece in enumerate(batch)]
        pieces = [
            {"part": part.name, "name": p.file.name, "offset": p.offset, "digest": p.digest}
            for part, p in zip(parts, batch, strict=True)
        ]
        await self._ask("receive", {"pieces": pieces}, files=parts)
        self.sent += sum(piece.size for piece in batch)
        self.arrived += [piece.file for piece in batch if piece.digest is not None]
        return True

    async def _tidy_up(self) -> None:
        """Remove what was begun; in a busy session that waits, but not the user, for its turn."""
        if self._session.id is not None and self._begun:
            discarding = asyncio.create_task(self._discard())
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(discarding), _PATIENCE)

    async def _discard(self) -> None:
        with contextlib.suppress(TCIError):
            await self._ask("discard", {"names": self._begun})

    async def _ask(self, function: str, arguments: dict[str, Any], **how: Any) -> None:
        arguments = {"upload": self._name, **arguments}
        await ask(self._session, function, arguments, source=_far_side(), **how)


@cache
def _far_side() -> str:
    return resources("tci_kernel.magics").joinpath("receive.py").read_text("utf-8")
