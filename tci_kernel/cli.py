"""The command line.

Each command imports what it needs when it runs: `--help` and typing errors are answered at once.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tci_kernel.serving import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they show local variables, and one may be a key
    help="A Jupyter kernel whose cells run in a remote TCI session.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  see the module's docstring

        typer.echo(f"tci-kernel {version('tci-kernel')}")
        raise typer.Exit


@app.callback()
def commands(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Run cells in TCI sessions."""


@app.command()
def sessions() -> None:
    """List your live sessions."""
    from tci_kernel.client import TCIClient  # noqa: PLC0415
    from tci_kernel.magics.sessions import live_sessions, session_table  # noqa: PLC0415

    async def listed() -> str:
        async with TCIClient() as client:
            table = session_table(await live_sessions(client), client.settings.session_id)
        return str(table["text/plain"])

    with _errors_told():
        typer.echo(asyncio.run(listed()))


@app.command()
def doctor() -> None:
    """Check configuration, connection, key, session and transport; say what to do."""
    from tci_kernel.doctor import examine  # noqa: PLC0415

    async def tell() -> bool:
        well = True
        async for finding in examine():
            typer.echo(str(finding))
            well = well and finding.verdict != "Fail"
        return well

    if not asyncio.run(tell()):
        raise typer.Exit(1)


@app.command()
def install(
    *,
    user: Annotated[bool, typer.Option("--user", help="For this user; so it is anyway.")] = False,
    sys_prefix: Annotated[
        bool, typer.Option("--sys-prefix", help="For this Python environment.")
    ] = False,
    prefix: Annotated[str | None, typer.Option(help="For the environment in this folder.")] = None,
    name: Annotated[str, typer.Option(help="Name of the kernel.")] = "tci_python",
    display_name: Annotated[str, typer.Option(help="Name that people see.")] = "TCI Python",
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Set a variable, such as TCI_BASE_URL; no keys."),
    ] = None,
) -> None:
    """Install the kernel where Jupyter and other front ends find it."""
    from tci_kernel.kernelspecs import install as install_kernelspec  # noqa: PLC0415

    if user + sys_prefix + (prefix is not None) > 1:
        raise typer.BadParameter("--user, --sys-prefix and --prefix exclude each other.")
    variables = dict(_variable(text) for text in env or ())
    with _errors_told():
        where = sys.prefix if sys_prefix else prefix
        folder = install_kernelspec(name, display_name, variables, where)
        typer.echo(f"Installed {display_name!r} as {name} in {folder}")


@app.command()
def uninstall(
    *, name: Annotated[str, typer.Option(help="Name of the kernel.")] = "tci_python"
) -> None:
    """Remove an installed TCI kernel, the user's own before that of the environment."""
    from tci_kernel.kernelspecs import uninstall as uninstall_kernelspec  # noqa: PLC0415

    with _errors_told():
        typer.echo(f"Removed {uninstall_kernelspec(name)}")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"--env {text}: it is written NAME=VALUE.")
    return name, value


@contextmanager
def _errors_told() -> Iterator[None]:
    """End the command with the words of an error, and no traceback."""
    from tci_kernel.errors import TCIError  # noqa: PLC0415

    try:
        yield
    except TCIError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


app.command()(serve)
