"""One call that runs code and waits for it, for programs with nothing else to do."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from tci_kernel.answers import first_problem
from tci_kernel.api import ExecuteResponse, Execution, File
from tci_kernel.client import TCIClient
from tci_kernel.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run(
    code: str,
    language: Literal["python"] = "python",
    session_id: str | None = None,
    files: Sequence[File | Mapping[str, str]] | None = None,
) -> ExecuteResponse:
    """Run code in a TCI session and wait for it: the vendors' SDK call, under this roof.

    Works inside a notebook too, where an event loop is running already. The answer's
    `data.session_id` continues the session in a later call. Raises a `TCIError`.
    """
    if language != "python":
        raise InvalidRequest(f"language={language!r}: only 'python' can be run. Nothing has run.")

    async def call() -> Execution:
        async with TCIClient() as client:
            return await client.execute(code, session_id, _files(files))

    with ThreadPoolExecutor(1, thread_name_prefix="tci-run") as pool:
        return ExecuteResponse(data=pool.submit(asyncio.run, call()).result())


def _files(files: Sequence[File | Mapping[str, str]] | None) -> list[File] | None:
    try:
        return [File.model_validate(file) for file in files] if files else None
    except ValidationError as error:
        raise InvalidRequest(f"files: {first_problem(error)}. Nothing has run.") from None
