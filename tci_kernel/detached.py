"""Starting a program that lives on without its parent, such as the user's own server.

VS Code ends a kernel together with all processes below it, on restart too: what other kernels use
must not be among them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Writes the number of the process that becomes the program, and leaves it without a parent.
_START = """
import os, sys
try:
    pid = os.fork()
except OSError as error:
    sys.exit(str(error))
if pid:
    os.write(int(sys.argv[1]), b"%d" % pid)
else:
    os.execv(sys.argv[2], sys.argv[2:])
"""


class Detached:
    """Starts `argv`, whose first word is a full path; `how` is as for `subprocess.Popen`.

    Raises `OSError` or `subprocess.SubprocessError` if there can be no such process.
    """

    def __init__(self, argv: Sequence[str], **how: Any) -> None:
        reader, writer = os.pipe()
        # The program keeps the other end until its own.
        self._pipe = os.fdopen(reader, "rb", buffering=0)
        start = [sys.executable, "-I", "-S", "-c", _START, str(writer), *argv]
        try:
            subprocess.run(start, check=True, pass_fds=[writer], **how)  # noqa: S603  our own words
            self._pid = int(self._pipe.read(20))
        except BaseException:
            self._pipe.close()
            raise
        finally:
            os.close(writer)
        os.set_blocking(reader, False)

    def poll(self) -> int | None:
        """Return None while the program runs, then 0: only a parent gets to know its status."""
        return None if self._pipe.read(1) is None else 0

    def terminate(self) -> None:
        """Ask the program to end."""
        if self.poll() is None:
            os.kill(self._pid, signal.SIGTERM)
