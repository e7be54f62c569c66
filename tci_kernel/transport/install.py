"""What live transport needs, installed in a session that lacks it, if the settings allow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tci_kernel.agent.wire import MARK
from tci_kernel.errors import ConnectionLost, LiveRefused, ServiceError, TimedOut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tci_kernel.session import Session
    from tci_kernel.transport.frames import Hello

#: What brings all the rest: jupyter_client, pyzmq, IPython.
PACKAGE = "ipykernel"

#: How long pip may take, in seconds.
_TIMEOUT = 300.0

#: Runs in the session, which may be any Python. The last two lines let a process that runs already
#: find what pip has put there.
_SOURCE = f"""
import importlib, os, site, subprocess, sys
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=1", "--timeout=10"]
done = subprocess.run(
    [*pip, "install", "--quiet", {PACKAGE!r}],
    cwd=os.sep,  # or modules of the user's would be found before pip's own
    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
)
print(done.stdout.decode("utf-8", "replace"))
site.addsitedir(site.getusersitepackages())
importlib.invalidate_caches()
"""

_INSTALLED = (
    f"TCI: {PACKAGE} has been installed in the session, for live transport. "
    "TCI_INSTALL=false forbids that."
)


async def start(attempt: Callable[[], Awaitable[Hello]], session: Session) -> tuple[Hello, str]:
    """Return what a start of live transport gives, and what the user is to know of it.

    Where the session only lacks a package, that is installed and the start tried once more.
    Raises `LiveRefused` if the session cannot do it, else the `TCIError` of a request.
    """
    try:
        return await attempt(), ""
    except LiveRefused as error:
        if not (error.installable and session.client.settings.install):
            raise
    said = await _install(session)
    try:
        return await attempt(), _INSTALLED
    except LiveRefused as error:
        raise LiveRefused(f"{error} It could not be installed: {said}") from error


async def _install(session: Session) -> str:
    """Install the package and return pip's last words."""
    code = f"{MARK}\nexec({_SOURCE!r}, {{}})"
    with contextlib.suppress(ConnectionLost, ServiceError, TimedOut):
        execution = await session.execute(code, timeout=_TIMEOUT)
        said = "".join(output.text for output in execution.outputs).strip()
        return said.rpartition("\n")[2] or "pip says nothing."
    return "the service did not let pip finish."
