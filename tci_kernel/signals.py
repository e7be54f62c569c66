"""Signals for an event loop."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def on_signal(
    number: int,
    act: Callable[[], object],
    loop: asyncio.AbstractEventLoop,
    at_once: Callable[[], None] = lambda: None,
) -> None:
    """Have a loop of the main thread call `act` on a signal, however soundly the loop sleeps.

    Before that `at_once` is called, between any two steps of the main thread: the loop may have
    other things to do first.

    A plain handler is run by the main thread alone. A signal that another thread takes, or that
    comes just before the loop begins to wait, is handled when something else wakes the loop: with
    nobody to talk to, never.
    """
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:  # on Windows
        wake: Callable[[], object] = partial(loop.call_soon_threadsafe, act)
    else:
        wake = bool  # the loop is woken by the number itself

    def handle(*_: object) -> None:
        at_once()
        wake()

    signal.signal(number, handle)
