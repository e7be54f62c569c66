"""What the home of a session begins with: caches that a user's own home has from earlier days.

Without them the first completion of a name takes a second or two, and on a machine with many fonts
the first plot some more. They are made once by a program of this server's own, never by a session,
because what is read from such a cache is as good as code.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tci_kernel.errors import NotConfigured
from tci_kernel.private import private_folder, user_folder
from tci_kernel.server.storage import remove

if TYPE_CHECKING:
    from tci_kernel.server.environment import Interpreter

#: Has jedi read the built-ins and matplotlib list the fonts, where they are installed; ends when
#: this server does.
_FILL = """
import contextlib, os, sys, threading
threading.Thread(target=lambda: sys.stdin.read() or os._exit(1), daemon=True).start()
with contextlib.suppress(Exception):
    os.nice(10)
with contextlib.suppress(Exception):
    import jedi
    jedi.Interpreter("pr", [{}]).complete()
with contextlib.suppress(Exception):
    import matplotlib.font_manager
"""


def template(interpreter: Interpreter) -> Path:
    """Return the folder that homes of this interpreter's sessions are copied from."""
    key = hashlib.sha256(f"{interpreter.path} {interpreter.version}".encode()).hexdigest()[:12]
    return private_folder(user_folder("tci-home")) / key


def furnish(home: Path, interpreter: Interpreter) -> None:
    """Copy the template into a new home, if there is one by now."""
    with suppress(OSError, NotConfigured):  # a session does without
        shutil.copytree(template(interpreter), home, dirs_exist_ok=True)


async def fill_template(interpreter: Interpreter) -> None:
    """Make the template unless it is newer than the packages, or somebody else makes it now."""
    with suppress(OSError, NotConfigured):
        place = template(interpreter)
        if _is_fresh(place, interpreter):
            return
        with FileLock(place.with_suffix(".lock"), timeout=0):
            await _fill(place, interpreter)


async def _fill(place: Path, interpreter: Interpreter) -> None:
    made = place.with_suffix(".new")
    remove(made)
    made.mkdir(mode=0o700)
    if await _run(interpreter, made) == 0:
        remove(place)
        made.rename(place)
        _remove_outdated(place, interpreter)


def _remove_outdated(place: Path, interpreter: Interpreter) -> None:
    """Note whose template this is, and remove those of interpreters that are gone or replaced."""
    place.with_suffix(".python").write_bytes(os.fsencode(interpreter.path))
    for note in place.parent.glob("*.python"):
        path = Path(os.fsdecode(note.read_bytes()))
        if note.stem != place.name and (path == interpreter.path or not path.exists()):
            remove(note.with_suffix(""))
            note.with_suffix(".lock").unlink(missing_ok=True)
            note.unlink(missing_ok=True)


async def _run(interpreter: Interpreter, home: Path) -> int:
    process = await asyncio.create_subprocess_exec(
        *(interpreter.path, "-I", "-c", _FILL),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=home,
        env=_environment(home),
    )
    try:
        return await process.wait()
    finally:
        with suppress(ProcessLookupError):
            process.kill()


def _is_fresh(place: Path, interpreter: Interpreter) -> bool:
    packages = [path.stat().st_mtime for path in interpreter.site_packages if path.exists()]
    return place.is_dir() and place.stat().st_mtime >= max(packages, default=0)


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        **dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), str(home)),
    }
