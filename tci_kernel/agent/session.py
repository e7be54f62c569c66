"""The session's own process: what it has, and how it is left as it was."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import signal
import sys
from typing import TYPE_CHECKING, Any

from .shipped import VERSION
from .wire import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .wire import JSONObject


def about(*, ipython: bool) -> JSONObject:
    """Return the versions and places of this session."""
    return {
        "version": VERSION,
        "refusal": "",
        "python": platform.python_version(),
        "ipykernel": version_of("ipykernel"),
        "jupyter_client": version_of("jupyter_client"),
        "platform": platform.platform(),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "ipython": ipython,
    }


def version_of(package: str) -> str:
    """Return the version of an installed package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def demand_pieces() -> None:
    """Raise ImportError or OSError if something is missing for a child process."""
    import zmq

    if not zmq.has("ipc") or not hasattr(os, "fork"):
        raise OSError("The session's system has no Unix sockets.")
    for package in ("ipykernel", "jupyter_client"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"The session has no {package}.")


def ipython_of_session() -> Any:
    """Return the shell that runs this session's cells, or None if it is no (recent) IPython."""
    core = sys.modules.get("IPython")
    ipython = core.get_ipython() if core is not None else None
    return ipython if hasattr(ipython, "input_transformers_cleanup") else None


def unload() -> None:
    """Take the agent out of the session's modules."""
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@contextlib.contextmanager
def interrupts(handler: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    """Have interrupts of the session handled so, because no exception may break a held lock."""
    try:
        before = signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread, which alone is interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
