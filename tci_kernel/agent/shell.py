"""The session's own IPython."""

from __future__ import annotations

import contextlib
import linecache
import sys
from typing import TYPE_CHECKING, Any

from .wire import ENTRY, MARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Shell:
    """The session's own IPython, whose cells from other clients run in the child."""

    def __init__(self, ipython: Any) -> None:
        self.ipython = ipython
        self.history = ipython.history_manager
        self.store_inputs = self.history.store_inputs

    def install(self, on_cell: Callable[[], None]) -> None:
        """Turn foreign cells away from this shell, and keep requests out of its history.

        `on_cell` is called for each cell and request.
        """
        self.on_cell = on_cell
        self.history.store_inputs = self._store_inputs
        self.ipython.input_transformers_cleanup.insert(0, self._transform)

    def remove(self) -> None:
        """Leave the shell as it was."""
        del self.history.store_inputs
        self.ipython.input_transformers_cleanup.remove(self._transform)

    def _store_inputs(self, line: int, source: str, source_raw: str | None = None) -> None:
        if not (source_raw or source).startswith(MARK):
            self.store_inputs(line, source, source_raw)

    def _transform(self, lines: list[str]) -> list[str]:
        """Replace a foreign cell by a call that runs it in the child."""
        self.on_cell()
        code = "".join(lines)
        if code.startswith(MARK) or not code.strip():
            return lines
        return [f"__import__('sys').modules[{ENTRY!r}].run_foreign({code!r})\n"]

    def forget_boot(self) -> None:
        """Remove the request that loads the agent from the history of which it became part."""
        history = self.history
        if not (history.input_hist_raw and history.input_hist_raw[-1].startswith(MARK)):
            return
        del history.input_hist_raw[-1], history.input_hist_parsed[-1]
        history._i00, history._i, history._ii = history._i, history._ii, history._iii
        names = {"_i": history._i, "_ii": history._ii, "_iii": history._iii}
        self.ipython.push(names, interactive=False)
        for number in (self.ipython.execution_count, self.ipython.execution_count - 1):
            if self.ipython.user_ns.get(f"_i{number}", "").startswith(MARK):
                self.ipython.drop_by_id({f"_i{number}": self.ipython.user_ns[f"_i{number}"]})
        with history.db_input_cache_lock, contextlib.suppress(Exception):  # a database of any state
            _forget_stored(history)

    def forget_request(self) -> None:
        """Remove the running request from the caches in which IPython keeps each cell for ever."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if "".join(linecache.getlines(name)[:1]).startswith(MARK):
                linecache.cache.pop(name, None)
                getattr(self.ipython.compile, "_filename_map", {}).pop(name, None)
                return
            frame = frame.f_back

    def variables(self) -> dict[str, Any]:
        """Return what the user has put into the session's namespace."""
        hidden = self.ipython.user_ns_hidden
        names = self.ipython.user_ns.items()
        return {
            name: value
            for name, value in names
            if not name.startswith("_") and hidden.get(name, hidden) is not value
        }


def _forget_stored(history: Any) -> None:
    """Remove requests from the history's database, or from what is about to go there."""
    history.db_input_cache = [
        entry for entry in history.db_input_cache if not entry[2].startswith(MARK)
    ]
    with history.db:
        history.db.execute(
            "DELETE FROM history WHERE session = ? AND source_raw LIKE ?",
            (history.session_number, MARK + "%"),
        )
