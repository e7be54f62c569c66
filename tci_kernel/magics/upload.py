"""The verb `upload`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from tci_kernel.errors import TCIError
from tci_kernel.magics.files import find
from tci_kernel.magics.progress import Progress
from tci_kernel.magics.roots import Roots
from tci_kernel.magics.tables import size, table
from tci_kernel.magics.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tci_kernel.api import MimeBundle
    from tci_kernel.magics.display import Context, Display
    from tci_kernel.magics.files import Found, LeftOut, LocalFile
    from tci_kernel.magics.parse import Arguments

#: Most files, and most names left out, that are listed one by one.
_LISTED = 20


async def upload(arguments: Arguments, context: Context) -> AsyncGenerator[Display, None]:
    """Copy local files into the session, which is made if there is none."""
    roots = Roots.of(context)
    to = arguments.options.get("--to", "")
    found = await asyncio.to_thread(find, arguments.words, to, roots)
    total = sum(file.size for file in found.files)
    transfer = Transfer(context.session, found.files)
    progress = Progress(total)
    if total > context.session.client.settings.upload_part_size // 4:
        yield progress.bar(0)
    try:
        async with aclosing(transfer.requests()) as requests:
            async for _ in requests:
                if progress.due and transfer.sent < total:
                    yield progress.bar(transfer.sent)
    except TCIError:
        if transfer.arrived:
            yield progress.show(_summary(transfer.arrived, found, progress.seconds))
        raise
    yield progress.show(_summary(transfer.arrived, found, progress.seconds))


def _summary(arrived: list[LocalFile], found: Found, seconds: float) -> MimeBundle:
    """Return a table of what is in the session now, and what is not."""
    total = sum(file.size for file in arrived)
    rows = [(file.name, size(file.size)) for file in arrived[:_LISTED]]
    if len(arrived) > _LISTED:
        rows.append((f"… and {len(arrived) - _LISTED} more", ""))
    wanted = "" if len(arrived) == len(found.files) else f" of {len(found.files)}"
    files = "file" if len(found.files) == 1 else "files"
    notes = [f"{len(arrived)}{wanted} {files} uploaded, {size(total)} in {seconds:.1f} s."]
    return table(rows, ("Uploaded", "Size"), [*notes, *_reasons(found.left_out)])


def _reasons(left_out: list[LeftOut]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for entry in left_out:
        reasons.setdefault(entry.reason, []).append(entry.name)
    return [
        f"Left out, {reason}: {', '.join(names[:_LISTED])}{', …' * (len(names) > _LISTED)}"
        for reason, names in reasons.items()
    ]
