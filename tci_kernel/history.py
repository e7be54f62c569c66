"""What the user has run, in this kernel and in those before it.

A session's own history ends with the session. This one is kept where a local kernel keeps it, in
the file of IPython's profile, so that a console finds there what was typed into the one before.
One thread does it all: the file may lie on a slow disk, and no cell waits for its history.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Session, line and source; with `output` the source is a pair of source and output.
Entry = tuple[int, int, Any]


def is_sessions(query: Mapping[str, Any]) -> bool:
    """Tell whether a history_request is about what this kernel ran: the session has that whole."""
    return query.get("hist_access_type") == "range" and query.get("session", 0) == 0


class History:
    """The history file of one IPython profile, and what this kernel adds to it.

    `folder` is the profile's. `options` are those of `c.HistoryManager` in its configuration:
    `enabled` and `hist_file` hold here too.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        self._options = {"hist_file": folder / "history.sqlite", **options}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._session = 0
        self._line = 0
        self._last = ""

    def add(self, message_id: str, code: Any) -> None:
        """Note a cell that begins to run; once, however often that is said."""
        if message_id != self._last:
            self._last = message_id
            self._thread.submit(self._write, code)

    async def answer(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a history_reply; it is empty where the file cannot be read."""
        entries: list[Entry] = []
        with contextlib.suppress(Exception):  # no file is worth a front end that waits for ever
            loop = asyncio.get_running_loop()
            entries = await loop.run_in_executor(self._thread, self._read, query)
        return {"status": "ok", "history": entries}

    @cached_property
    def _file(self) -> Any:
        from IPython.core.history import HistoryAccessor  # noqa: PLC0415  needed in the thread only

        known = {"hist_file", "enabled"} & self._options.keys()
        return HistoryAccessor(**{name: self._options[name] for name in known})

    def _write(self, code: Any) -> None:
        if not self._file.enabled:
            return
        self._session = self._session or self._new_session()
        self._line += 1
        source = code.rstrip("\n")
        entry = (self._session, self._line, source, source)
        with self._file.db as db:
            db.execute("INSERT INTO history VALUES (?, ?, ?, ?)", entry)

    def _new_session(self) -> int:
        began = datetime.now().isoformat(" ")  # noqa: DTZ005  as IPython's own entries
        with self._file.db as db:
            row = db.execute("INSERT INTO sessions VALUES (NULL, ?, NULL, NULL, '')", (began,))
        return int(row.lastrowid)

    def _read(self, query: Mapping[str, Any]) -> list[Entry]:
        columns = {"raw": query.get("raw", True), "output": query.get("output", False)}
        count = query.get("n")
        match query["hist_access_type"]:
            case "tail":
                return self._tail(count or 10, columns)
            case "search":
                pattern, unique = query.get("pattern") or "*", query.get("unique", False)
                return list(self._file.search(pattern, n=count, unique=unique, **columns))
            case "range":
                session = query.get("session", 0)
                session += self._session if session < 0 else 0
                start, stop = query.get("start", 0), query.get("stop")
                return list(self._file.get_range(session, start, stop, **columns))
        return []

    def _tail(self, count: int, columns: dict[str, bool]) -> list[Entry]:
        """Return the last cells, those of this kernel behind those of others that run beside it."""
        tail = self._file.get_tail(count, include_latest=True, **columns)
        others = [entry for entry in tail if entry[0] != self._session]
        return [*others, *self._file.get_range(self._session, **columns)][-count:]
