"""What a person is told of the line to the agent."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from hostile_session import HostileSession
from tci_kernel.client import TCIClient
from tci_kernel.session import Session
from tci_kernel.settings import Settings
from tci_kernel.state import StateFile
from tci_kernel.transport import line
from tci_kernel.transport.requests import Status


def test_waiting_behind_another_request_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an upload is under way, nobody is told that the service does not answer."""
    monkeypatch.setattr(line, "_TELL_AFTER", 0.5)
    told: list[str] = []

    async def ask_behind_an_upload(service: HostileSession) -> None:
        async with TCIClient(Settings(base_url=service.url)) as client:
            session = Session(client, StateFile(Path("none.json"), tmp_path))
            await session.execute("1")
            service.hold.clear()
            upload = asyncio.create_task(session.execute("2"))
            while not session.busy:  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0)
            asked = asyncio.create_task(line.Line(session, "relay", told.append).ask(Status("r")))
            await asyncio.sleep(1.0)  # nothing tells that something does not happen
            service.hold.set()
            await asyncio.gather(upload, asked)

    with contextlib.closing(HostileSession()) as service:
        asyncio.run(ask_behind_an_upload(service))
    assert told == []
