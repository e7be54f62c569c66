"""The half of `hidden` that runs inside the session: answers questions and leaves no trace.

It is sent as source (Python 3.8 or newer, standard library and the session's own IPython), runs in
a namespace of its own, and is never imported on this side.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any


def answer(function: str, arguments: str, nonce: str) -> None:
    """Call a function of this source with JSON arguments; print its JSON result between marks."""
    shell = get_ipython()  # type: ignore[name-defined]  # noqa: F821  the session's builtin
    number = _number_of_this_cell(shell)
    counted_already = shell.execution_count > number  # newer IPython counts before a cell runs
    shell.execution_count = number  # the next cell shall have the number that this one had
    try:
        result = {"value": globals()[function](shell, **json.loads(arguments))}
    except Exception as error:  # noqa: BLE001  whatever it is, the asker is to know
        result = {"error": f"{type(error).__name__}: {error}"}
    if not counted_already:
        shell.execution_count -= 1
    print(f"<<tci:{nonce}>>{json.dumps(result, default=repr)}<</tci:{nonce}>>")


def _number_of_this_cell(shell: Any) -> int:
    """Return the cell's number, having made the history pass over cells of this kind."""
    history = shell.history_manager
    stock = history.store_inputs
    if hasattr(stock, "tci_number"):
        return int(stock.tci_number)

    def store_inputs(line_num: int, source: str, source_raw: str | None = None) -> None:
        if "<tci-hidden>" in source:
            store_inputs.tci_number = line_num  # type: ignore[attr-defined]
        else:
            stock(line_num, source, source_raw)

    number = int(shell.execution_count)
    if "<tci-hidden>" not in shell.user_ns.get(f"_i{number}", ""):
        number -= 1
    store_inputs.tci_number = number  # type: ignore[attr-defined]
    history.store_inputs = store_inputs
    _forget(shell, history, number)
    return number


def _forget(shell: Any, history: Any, number: int) -> None:
    """Undo what IPython's `HistoryManager.store_inputs` did for the cell that runs."""
    history.input_hist_parsed.pop()
    history.input_hist_raw.pop()
    earlier = ["", "", "", "", *history.input_hist_raw]
    history._i00, history._i, history._ii, history._iii = earlier[:-5:-1]  # noqa: SLF001
    shell.user_ns.pop(f"_i{number}", None)
    shell.user_ns.update(_i=history._i, _ii=history._ii, _iii=history._iii)  # noqa: SLF001
    with contextlib.suppress(Exception):  # a history without a file has nothing to be deleted
        history.writeout_cache()
        with history.db:
            history.db.execute(
                "DELETE FROM history WHERE session = ? AND line = ?",
                (history.session_number, number),
            )


def prepare(shell: Any, fresh: bool, codes: list[str], execution_count: int) -> None:
    """Empty the namespace, as a restarted kernel's is; run a front end's own code; number."""
    if fresh:
        shell.reset(new_session=True)
    for code in codes:
        run(shell, code, silent=True)
    _skip(shell, execution_count)


def _skip(shell: Any, execution_count: int) -> None:
    """Let the next cell have this number, where numbers before it belong to cells not sent."""
    history = shell.history_manager
    for _ in range(execution_count - shell.execution_count):
        history.input_hist_parsed.append("")
        history.input_hist_raw.append("")
    shell.execution_count = max(shell.execution_count, execution_count)


def complete(shell: Any, code: str, cursor_pos: int) -> Any:
    """Return the content of a complete_reply."""
    return _finished(shell.kernel.do_complete(code, cursor_pos))


def inspect(
    shell: Any, code: str, cursor_pos: int, detail_level: int, omit_sections: list[str]
) -> Any:
    """Return the content of an inspect_reply."""
    more = (set(omit_sections),) if omit_sections else ()  # unknown to ipykernel before 6.5
    return _finished(shell.kernel.do_inspect(code, cursor_pos, detail_level, *more))


def history(shell: Any, **query: Any) -> Any:
    """Return the content of a history_reply."""
    return _finished(shell.kernel.do_history(**query))


def expressions(shell: Any, user_expressions: dict[str, str]) -> Any:
    """Return the results of a request's `user_expressions`."""
    return shell.user_expressions(user_expressions)


def run(shell: Any, code: str, silent: bool) -> None:
    """Run a cell that is to leave no trace; its outputs come as any cell's do."""
    hook = shell.displayhook
    cache_size, hook.cache_size = hook.cache_size, 0  # results stay out of `_` and `Out`
    try:
        shell.run_cell(code, store_history=False, silent=silent)
    finally:
        hook.cache_size = cache_size


def page(shell: Any, code: str) -> Any:
    """Run a person's `x?`, which pages instead of printing; return the pages."""
    shell.run_cell(code, store_history=True)
    pages = shell.payload_manager.read_payload()
    shell.payload_manager.clear_payload()
    return pages


def _finished(result: Any) -> Any:
    """Return the value of what may be a coroutine that never really waits."""
    if not hasattr(result, "send"):
        return result
    try:
        result.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the session's kernel waits")
