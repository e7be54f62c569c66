"""The command `tci-kernel serve`: its options, as a command line has them.

The server is imported when it runs, so that `--help` and typing errors are answered at once.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

MEGABYTE = 2**20


class SandboxKind(str, Enum):
    """How sessions are isolated; `auto` takes bubblewrap where it works."""

    auto = "auto"
    bubblewrap = "bubblewrap"
    none = "none"


Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="TCI_SERVE_TOKEN", help="Key to ask for; made at start if not given."),
]
Socket = Annotated[
    Path | None, typer.Option(help="Listen on this Unix socket instead, without a key.")
]
Kind = Annotated[
    SandboxKind, typer.Option(help="Isolation of sessions; `bubblewrap` fails without it.")
]
Network = Annotated[
    bool, typer.Option("--network/--no-network", help="Whether sessions have a network.")
]
Python = Annotated[Path | None, typer.Option(help="Interpreter of the sessions; needs ipykernel.")]
Warm = Annotated[int, typer.Option(min=0, help="Started sessions to keep ready.")]
Agent = Annotated[
    bool, typer.Option("--agent", help="Keep live transport's own process ready in them too.")
]
Lifetime = Annotated[float, typer.Option(min=0.001, help="Minutes that a session lives.")]
MaxSessions = Annotated[int, typer.Option(min=1, help="Most sessions at once.")]
MaxBody = Annotated[float, typer.Option(min=0, help="Most megabytes of a request.")]
MaxOutput = Annotated[float, typer.Option(min=0, help="Most megabytes of its output.")]
Memory = Annotated[int | None, typer.Option(help="Megabytes of memory of a session.")]
Cpu = Annotated[int | None, typer.Option(help="Seconds of CPU of a session.")]
FileSize = Annotated[
    int | None, typer.Option(help="Most megabytes of a file that a session writes.")
]
Idle = Annotated[
    float, typer.Option(min=0, help="End after so many seconds without a session; 0: never.")
]
Info = Annotated[Path | None, typer.Option(hidden=True)]


def serve(  # noqa: PLR0913  a command line has as many options as it has
    *,
    host: Host = "127.0.0.1",
    port: Port = 8642,
    token: Token = None,
    socket: Socket = None,
    sandbox: Kind = SandboxKind.auto,
    network: Network = True,
    python: Python = None,
    warm: Warm = 0,
    agent: Agent = False,
    lifetime: Lifetime = 60.0,
    max_sessions: MaxSessions = 64,
    max_body: MaxBody = 64,
    max_output: MaxOutput = 64,
    memory: Memory = None,
    cpu: Cpu = None,
    file_size: FileSize = None,
    idle: Idle = 0.0,
    info: Info = None,
) -> None:
    """Serve the TCI endpoints on this machine, over real ipykernels."""
    from pydantic import SecretStr  # noqa: PLC0415  see the module's docstring

    from tci_kernel.errors import NotConfigured  # noqa: PLC0415
    from tci_kernel.server.options import Options  # noqa: PLC0415
    from tci_kernel.server.sandbox import Limits, SandboxUnavailable  # noqa: PLC0415
    from tci_kernel.server.serve import run  # noqa: PLC0415

    options = Options(
        host=host,
        port=port,
        token=SecretStr(token) if token and socket is None else None,
        socket=socket,
        info=info,
        sandbox=sandbox.value,
        network=network,
        python=python,
        warm=warm,
        agent=agent,
        lifetime=timedelta(minutes=lifetime),
        max_sessions=max_sessions,
        max_body=int(max_body * MEGABYTE),
        max_output=int(max_output * MEGABYTE),
        limits=Limits(
            memory=None if memory is None else memory * MEGABYTE,
            cpu=cpu,
            file_size=None if file_size is None else file_size * MEGABYTE,
        ),
        idle=idle,
    )
    try:
        run(options)
    except (NotConfigured, SandboxUnavailable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
