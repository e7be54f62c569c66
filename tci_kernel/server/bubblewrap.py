"""The options of bubblewrap for a session: nothing is there but what this list lets in."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from tci_kernel.server.environment import variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tci_kernel.server.environment import Folder, Interpreter

#: Where a distribution keeps its programs; some are links to others.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store")

#: Processors and memory nodes: numerical libraries size their thread pools by them.
_SYS = ("/sys/devices/system/cpu", "/sys/devices/system/node")

#: Names, certificates and tables that programs look up; no secrets, no accounts' passwords.
_ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "fonts",
    "gai.conf", "group", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "locale.alias", "localtime", "magic", "magic.mime", "mime.types", "nsswitch.conf", "os-release",
    "passwd", "pki", "protocols", "resolv.conf", "rpc", "services", "terminfo", "timezone",
)  # fmt: skip
#: Not all of /etc/ssl: it also holds the machine's private keys.
_ETC_SSL = ("ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf")

#: Switches of the whole machine that root may write even without a capability, so a server that
#: root runs must not hand them on.
_PROC = (
    "/proc/bus", "/proc/dynamic_debug", "/proc/fs", "/proc/irq", "/proc/mtrr", "/proc/sys",
    "/proc/sysrq-trigger",
)  # fmt: skip

#: Variables whose values are files or folders that have to be there.
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


def isolation(*, network: bool) -> list[str]:
    """Return the options that do not depend on the session."""
    return [
        "--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", *([] if network else ["--unshare-net"]),
        "--cap-drop", "ALL",
        "--die-with-parent",
    ]  # fmt: skip


def options(folder: Folder, interpreter: Interpreter, *, network: bool) -> list[str]:
    """Return all options for a session.

    There is no `--new-session`: the kernel has to stay in the process group that an interrupt is
    sent to. The starter's `start_new_session` keeps the terminal away as well.
    """
    etc = [Path("/etc", name) for name in (*_ETC, *_ETC_SSL)]
    environment = variables(folder, interpreter)
    named = [Path(environment[name]) for name in _CERTIFICATES if name in environment]
    readable = _outside_system([*interpreter.readable, *named])
    return [
        *isolation(network=network),
        *_present([*map(Path, _SYSTEM), *etc]),
        *_read_only(map(Path, _SYS)),
        "--proc", "/proc",
        *_read_only(map(Path, _PROC)),
        "--dev", "/dev",
        "--tmpfs", "/dev/shm",  # noqa: S108  these three are the session's own
        "--remount-ro", "/dev",
        "--bind", str(folder.tmp), "/tmp",  # noqa: S108
        "--symlink", "../tmp", "/var/tmp",  # noqa: S108
        *_read_only(readable),
        *_links(folder.python, [folder.root, *readable, *map(Path, _SYSTEM)]),
        "--bind", str(folder.root), str(folder.root),
        "--remount-ro", "/",
        "--chdir", str(folder.work),
    ]  # fmt: skip


def _present(paths: Iterable[Path]) -> list[str]:
    """Return options that show system paths: a link into /usr as a link, the rest read-only."""
    shown: list[str] = []
    for path in paths:
        if path.is_symlink() and path.resolve().is_relative_to("/usr"):
            shown += ["--symlink", str(path.readlink()), str(path)]
        else:
            shown += _read_only([path])
    return shown


def _read_only(paths: Iterable[Path]) -> list[str]:
    return [word for path in paths for word in ("--ro-bind-try", str(path), str(path))]


def _outside_system(paths: Iterable[Path]) -> list[Path]:
    """Return what is to be shown besides the system, under its own name and its real one.

    A path that holds the user's home, as a stray entry of a search path may, stays hidden.
    """
    hidden = set(_homes())
    both = {name for path in paths for name in (path.absolute(), path.resolve())}
    shown: list[Path] = []
    for path in sorted(both - hidden):  # a folder sorts before what it holds
        if not _covered(path, [*shown, *map(Path, _SYSTEM)]):
            shown.append(path)
    return shown


def _homes() -> Iterator[Path]:
    """Give the user's home and all that holds it, under its own name and its real one."""
    with contextlib.suppress(RuntimeError):  # a user without a home, as containers have
        for home in (Path.home(), Path.home().resolve()):
            yield from (home, *home.parents)


def _links(program: Path, shown: list[Path]) -> list[str]:
    """Return options that make the links by which an interpreter is reached, where not shown."""
    links: list[str] = []
    while program.is_symlink():
        target = program.readlink()
        if not _covered(program, shown):
            links += ["--symlink", str(target), str(program)]
        program = program.parent / target
    return links


def _covered(path: Path, shown: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in shown)
