"""What the user has run, in this kernel and in those before it.

A session's own history ends with the session. This one is kept where a local kernel keeps it, in
the file of IPython's profile, so that a console finds there what was typed into the one before.
IPython's own accessor renames a file that another program has locked, so the file is read and
written here. A thread that the process does not wait for does it: the disk may be slow or gone.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import re
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import closing, suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping

    Task: TypeAlias = Callable[[], object]

#: Session, line and source; with `output` the source is a pair of source and output.
Entry = tuple[int, int, Any]

#: Seconds that another program may keep the file locked.
LOCK_TIMEOUT = 0.5
#: Seconds that a front end waits for an answer.
READ_TIMEOUT = 1.0
#: Seconds that the end of the process waits for cells that are not written yet.
FLUSH_TIMEOUT = 0.5
#: How many cells may wait for the disk; more are not kept.
LONGEST_QUEUE = 1_000

#: Cells that IPython does not keep either.
_EXIT = re.compile(r"(exit|quit)(\s*\(.*\))?$")

#: The tables of IPython's `HistoryAccessor.init_db`.
_TABLES = """
CREATE TABLE IF NOT EXISTS sessions (session integer primary key autoincrement, start timestamp,
    end timestamp, num_cmds integer, remark text);
CREATE TABLE IF NOT EXISTS history (session integer, line integer, source text, source_raw text,
    PRIMARY KEY (session, line));
CREATE TABLE IF NOT EXISTS output_history (session integer, line integer, output text,
    PRIMARY KEY (session, line));
"""

logger = logging.getLogger(__name__)


def is_sessions(query: Mapping[str, Any]) -> bool:
    """Tell whether a history_request is about what this kernel ran: the session has that whole."""
    return query.get("hist_access_type") == "range" and query.get("session", 0) == 0


class History:
    """The history of one IPython profile, and what this kernel adds to it; nothing here blocks.

    `folder` is the profile's. `options` are those of `c.HistoryManager` in its configuration:
    `enabled` and `hist_file` hold here too.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        path = options.get("hist_file", folder / "history.sqlite")
        enabled = str(options.get("enabled", True)).lower()  # text, if from a command line
        self._kept = enabled not in {"false", "0"} and path != ":memory:"
        self._file = HistoryFile(path)

    def add(self, code: Any) -> None:
        """Note a cell that begins to run."""
        if self._kept and _is_worth_keeping(code):
            with suppress(Full):
                self._tasks.put_nowait(partial(self._file.write, code.rstrip("\n")))

    async def answer(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a history_reply; it is empty where the file cannot be read."""
        entries: list[Entry] = []
        if self._kept:
            with suppress(Exception):  # no file is worth a front end that waits for ever
                reading: Future[list[Entry]] = Future()
                read = partial(self._file.read, query)
                self._tasks.put_nowait(partial(_fulfil, reading, read))
                entries = await asyncio.wait_for(asyncio.wrap_future(reading), READ_TIMEOUT)
        return {"status": "ok", "history": entries}

    @cached_property
    def _tasks(self) -> Queue[Task]:
        """What the thread has to do; reading is behind the writing that it is to see."""
        tasks: Queue[Task] = Queue(LONGEST_QUEUE)
        threading.Thread(target=_work, args=[tasks], name="history", daemon=True).start()
        atexit.register(_flush, tasks)
        return tasks


class HistoryFile:
    """A database as IPython makes them; one thread writes and reads."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._writable = True
        self._unwritten: deque[str] = deque(maxlen=LONGEST_QUEUE)
        self._patience = LOCK_TIMEOUT
        self._session = 0
        self._line = 0

    def write(self, source: str) -> None:
        """Add a cell of this kernel.

        What another program keeps locked is written with the next cell; after any other failure
        nothing is written any more.
        """
        if not self._writable:
            return
        self._unwritten.append(source)
        try:
            while self._unwritten:
                self._insert(self._unwritten[0])
                self._unwritten.popleft()
                self._patience = LOCK_TIMEOUT
        except Exception as error:  # noqa: BLE001  whatever it is: cells matter more
            self._writable = "locked" in str(error)
            self._patience = 0.0  # who asks for the history waits behind this
            logger.debug("The history in %s is not written: %s", self._path, error)

    def read(self, query: Mapping[str, Any]) -> list[Entry]:
        """Return the entries that a history_request asks for; raises what SQLite raises."""
        import sqlite3  # noqa: PLC0415  some Pythons have none

        statement, values = self._select(query)
        place = f"{Path(self._path).absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(place, uri=True, timeout=LOCK_TIMEOUT)) as database:
            rows = database.execute(statement, values).fetchall()
        if query.get("output", False):
            return [(session, line, (source, out)) for session, line, source, out, _ in rows[::-1]]
        return [(session, line, source) for session, line, source, _, _ in rows[::-1]]

    @cached_property
    def _database(self) -> sqlite3.Connection:
        import sqlite3  # noqa: PLC0415  not at the start of the kernel

        database = sqlite3.connect(self._path, timeout=self._patience)
        database.executescript(_TABLES)
        return database

    def _insert(self, source: str) -> None:
        self._database.execute(f"PRAGMA busy_timeout = {round(1000 * self._patience)}")
        with self._database as database:
            session = self._session or _new_session(database)
            entry = (session, self._line + 1, _as_python(source), source)
            database.execute("INSERT INTO history VALUES (?, ?, ?, ?)", entry)
        self._session = session
        self._line += 1

    def _select(self, query: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """Return a statement that gives the last entry first, and its values."""
        rest, values = self._rest(query)
        source = "source_raw" if query.get("raw", True) else "source"
        output, table = "NULL", "history"
        if query.get("output", False):
            output, table = "output", "history LEFT JOIN output_history USING (session, line)"
        # With max() the other columns are those of the last among equal cells.
        order = "max(session * 131072 + line)" if "GROUP" in rest else "NULL"
        return f"SELECT session, line, {source}, {output}, {order} FROM {table} {rest}", values  # noqa: S608  our own words

    def _rest(self, query: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        count = query.get("n")
        match query["hist_access_type"]:
            case "tail":  # the cells of this kernel behind those of others that run beside it
                order = "ORDER BY session = ? DESC, session DESC, line DESC LIMIT ?"
                return order, (self._session, 10 if count is None else count)
            case "search":
                unique = "GROUP BY source_raw" if query.get("unique", False) else ""
                where = f"WHERE source_raw GLOB ? {unique} ORDER BY session DESC, line DESC LIMIT ?"
                return where, (query.get("pattern") or "*", -1 if count is None else count)
            case "range":
                return self._range(query)
            case kind:
                raise ValueError(f"There is no history of type {kind!r}.")

    def _range(self, query: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
        session, start, stop = query.get("session", 0), query.get("start", 0), query.get("stop")
        which, values = "?", [session]
        if session <= 0:  # before a cell of its own, this kernel's session is the next one
            which = "? + coalesce(?, (SELECT max(session) + 1 FROM sessions))"
            values.append(self._session or None)
        until = "AND line < ?" if stop else ""
        where = f"WHERE session = {which} AND line >= ? {until} ORDER BY line DESC"
        return where, (*values, start, *([stop] if stop else []))


def _new_session(database: sqlite3.Connection) -> int:
    began = datetime.now().isoformat(" ")  # noqa: DTZ005  as IPython's own entries
    row = database.execute("INSERT INTO sessions VALUES (NULL, ?, NULL, NULL, '')", (began,))
    return row.lastrowid or 0


def _is_worth_keeping(code: Any) -> bool:
    """Tell whether IPython would keep a cell: text that can be stored, not blank, no exit."""
    try:
        return bool(code.encode().strip()) and not _EXIT.match(code.strip())
    except (AttributeError, UnicodeEncodeError):
        return False


def _as_python(source: str) -> str:
    """Return a cell as IPython runs it: magics and shell commands are calls there."""
    from IPython.core.inputtransformer2 import TransformerManager  # noqa: PLC0415

    with suppress(Exception):  # IPython raises many kinds for what is no Python
        return str(TransformerManager().transform_cell(source)).rstrip("\n")
    return source


def _work(tasks: Queue[Task]) -> None:
    while True:
        tasks.get()()


def _fulfil(reading: Future[list[Entry]], read: Callable[[], list[Entry]]) -> None:
    """Read, unless nobody waits for it any more."""
    if not reading.set_running_or_notify_cancel():
        return
    try:
        reading.set_result(read())
    except Exception as error:  # noqa: BLE001  it is raised where it is waited for
        reading.set_exception(error)


def _flush(tasks: Queue[Task]) -> None:
    """Wait until the tasks are done, but not for long."""
    done = threading.Event()
    with suppress(Full):
        tasks.put_nowait(done.set)
        done.wait(FLUSH_TIMEOUT)
