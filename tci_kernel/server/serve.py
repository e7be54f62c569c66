"""One server's life: it listens, serves, ends when told or when nobody uses it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import threading
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydantic import SecretStr
from tornado import netutil
from tornado.httpserver import HTTPServer

from tci_kernel.errors import NotConfigured
from tci_kernel.server.agents import with_agent
from tci_kernel.server.app import application
from tci_kernel.server.environment import Interpreter
from tci_kernel.server.home import fill_template
from tci_kernel.server.launcher import Launcher
from tci_kernel.server.pool import Pool
from tci_kernel.server.sandbox import Sandbox
from tci_kernel.server.sessions import Sessions
from tci_kernel.server.storage import remove_abandoned, server_folder, storage
from tci_kernel.serverinfo import ServerInfo
from tci_kernel.settings import is_loopback
from tci_kernel.signals import on_signal

if TYPE_CHECKING:
    import socket

    from tci_kernel.server.options import Options

#: Seconds in which answers still go out while the server ends.
LAST_ANSWERS = 0.2
#: Seconds between two looks at whether the last session has gone.
LOOK_INTERVAL = 5.0
#: Open files that are enough for thousands of sessions.
MANY_FILES = 65_536


def run(options: Options) -> None:
    """Serve until SIGTERM, SIGINT, or `idle`; raises `SandboxUnavailable`, `NotConfigured`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    interpreter = Interpreter.probe(options.python)
    sandbox = Sandbox.choose(options.sandbox, network=options.network)
    if options.socket is None and options.token is None:
        options = replace(options, token=SecretStr(secrets.token_urlsafe(24)))
    _allow_many_files()
    with server_folder(storage()) as folder:
        launcher = Launcher(folder, interpreter, sandbox, options.limits)
        asyncio.run(_serve(options, launcher))


def _allow_many_files() -> None:
    """Raise the limit on open files to what this user may have: a session needs about ten."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource  # noqa: PLC0415

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < MANY_FILES:
            wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(options: Options, launcher: Launcher) -> None:
    ending = _ending()
    start = with_agent(launcher.start) if options.agent else launcher.start
    pool = Pool(start, options.warm)
    sessions = Sessions(
        pool,
        lifetime=options.lifetime,
        most=options.max_sessions,
        output_limit=options.max_output,
    )
    server = HTTPServer(application(sessions, options.token, options.max_body))
    listening = _listen(options)
    server.add_sockets(listening)
    _announce(options, launcher, listening[0])
    pool.fill()
    # A thread of its own, because the end of the event loop would wait for one of its threads.
    threading.Thread(target=remove_abandoned, args=(storage(),), daemon=True).start()
    filling = asyncio.create_task(fill_template(launcher.interpreter))
    await _until_unused(sessions, options.idle, ending)
    filling.cancel()
    await _end(server, sessions, options)
    launcher.close()


def _ending() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        on_signal(number, ending.set, loop)
    return ending


def _listen(options: Options) -> list[socket.socket]:
    try:
        if options.socket is not None:
            return [netutil.bind_unix_socket(str(options.socket), mode=0o600)]
        return netutil.bind_sockets(options.port, options.host)
    except OSError as error:
        where = options.socket or f"{options.host}:{options.port}"
        raise NotConfigured(
            f"Cannot listen on {where}: {error.strerror or error}. "
            "Is a server running there already? --port 0 takes any free port."
        ) from None


def _announce(options: Options, launcher: Launcher, listening: socket.socket) -> None:
    """Tell a person where the server is, and write the file that tells it to kernels."""
    url = None
    if options.socket is None:
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{host}:{listening.getsockname()[1]}"
    if options.info is not None:
        _info(options, launcher, url).write(options.info)
    print(_greeting(options, launcher, url), flush=True)  # noqa: T201  this is a command


def _info(options: Options, launcher: Launcher, url: str | None) -> ServerInfo:
    return ServerInfo(
        pid=os.getpid(),
        version=version("tci-kernel"),
        python=str(launcher.interpreter.path),
        sandbox=launcher.sandbox.kind,
        isolation=launcher.sandbox.description,
        socket=options.socket,
        url=url,
        token=options.token.get_secret_value() if options.token else None,
    )


def _greeting(options: Options, launcher: Launcher, url: str | None) -> str:
    isolation = launcher.sandbox.description
    if url is None or options.token is None:
        return f"TCI server on {options.socket}. {isolation}"
    lines = [
        f"TCI server on {url}. {isolation}",
        "To use it, set",
        f"    TCI_BASE_URL={url}",
        f"    TCI_API_KEY={options.token.get_secret_value()}",
    ]
    if not is_loopback(options.host):
        lines.append(
            f"Warning: {options.host} can be reached by other machines, and nothing is encrypted: "
            "whoever sees the traffic sees the key. Put a TLS proxy in front of it."
        )
    return "\n".join(lines)


async def _until_unused(sessions: Sessions, idle: float, ending: asyncio.Event) -> None:
    """Wait for a signal, or until there has been no session for `idle` seconds."""
    now = asyncio.get_running_loop().time
    while not ending.is_set():
        left = sessions.used_at + idle - now()
        if idle and not sessions.busy and left <= 0:
            return
        pause = min(idle, LOOK_INTERVAL) if sessions.busy else left
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ending.wait(), pause if idle else None)


async def _end(server: HTTPServer, sessions: Sessions, options: Options) -> None:
    """End in an order that lets a successor take the same address at any moment."""
    # 1. The names go while the address is still ours.
    for name in (options.info, options.socket):
        if name is not None:
            name.unlink(missing_ok=True)
    # 2. Nobody else comes in; who is in is answered.
    server.stop()
    await sessions.close()
    await asyncio.sleep(LAST_ANSWERS)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(server.close_all_connections(), LAST_ANSWERS)
