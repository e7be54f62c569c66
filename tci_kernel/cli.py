"""The command line.

Each command imports what it needs when it runs: `--help` and typing errors are answered at once.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from pathlib import Path  # noqa: TC003  typer resolves annotations at run time
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and one may be a key
    help="A Jupyter kernel whose cells run in a remote TCI session.",
)

MEGABYTE = 2**20


class SandboxKind(str, Enum):
    """How sessions are isolated; `auto` takes bubblewrap where it works."""

    auto = "auto"
    bubblewrap = "bubblewrap"
    none = "none"


@app.callback()
def commands() -> None:
    """Run cells in TCI sessions."""


@app.command()
def serve(  # noqa: PLR0913  a command line has as many options as it has
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any.")] = 8642,
    token: Annotated[
        str | None,
        typer.Option(envvar="TCI_SERVE_TOKEN", help="Key to ask for; made at start if not given."),
    ] = None,
    socket: Annotated[
        Path | None, typer.Option(help="Listen on this Unix socket instead, without a key.")
    ] = None,
    sandbox: Annotated[
        SandboxKind, typer.Option(help="Isolation of sessions; `bubblewrap` fails without it.")
    ] = SandboxKind.auto,
    network: Annotated[
        bool, typer.Option("--network/--no-network", help="Whether sessions have a network.")
    ] = True,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter of the sessions; needs ipykernel.")
    ] = None,
    warm: Annotated[int, typer.Option(min=0, help="Started sessions to keep ready.")] = 0,
    lifetime: Annotated[float, typer.Option(help="Minutes that a session lives.")] = 60.0,
    max_sessions: Annotated[int, typer.Option(min=1, help="Most sessions at once.")] = 64,
    max_body: Annotated[float, typer.Option(help="Most megabytes of one request.")] = 64,
    max_output: Annotated[float, typer.Option(help="Most megabytes of output of a request.")] = 64,
    memory: Annotated[int | None, typer.Option(help="Megabytes of memory of a session.")] = None,
    cpu: Annotated[int | None, typer.Option(help="Seconds of CPU of a session.")] = None,
    file_size: Annotated[
        int | None, typer.Option(help="Most megabytes of a file that a session writes.")
    ] = None,
    idle: Annotated[
        float, typer.Option(min=0, help="End after so many seconds without a session; 0: never.")
    ] = 0.0,
    info: Annotated[Path | None, typer.Option(hidden=True)] = None,
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
