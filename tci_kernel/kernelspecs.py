"""Kernelspecs for other places than the wheel's own, and for kernels with settings of their own."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from tci_kernel.errors import NotConfigured
from tci_kernel.settings import KEY_VARIABLES, config_file

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How the names of variables end that hold what nobody else is to know.
_SECRETS = ("_KEY", "_TOKEN", "_SECRET", "_PASSWORD")

_PACKAGE = Path(__file__).parent

#: Where the files of the kernelspec lie: inside the wheel's package, beside it in a checkout.
_SOURCES = (_PACKAGE / "kernelspec", _PACKAGE.parent / "kernelspec")


def install(
    name: str,
    display_name: str,
    environment: Mapping[str, str],
    prefix: str | None = None,
) -> Path:
    """Install a kernelspec for this interpreter, in place of one of that name.

    It goes below `prefix`, else to the user's own kernels. Returns its folder; raises
    `NotConfigured` for a key in the environment, a bad name, and where it cannot be written.
    """
    _refuse_keys(environment)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernelspec"
        shutil.copytree(_shipped(), source)
        _adapt(source / "kernel.json", display_name, environment)
        try:
            return Path(
                KernelSpecManager().install_kernel_spec(
                    str(source), name, user=prefix is None, prefix=prefix
                )
            )
        except (OSError, ValueError) as error:
            raise NotConfigured(f"The kernel {name!r} is not installed: {error}") from None


def uninstall(name: str) -> Path:
    """Remove a kernelspec of this package, the user's own before others; return where it was.

    Raises `NotConfigured` if there is none, or if it starts another kernel.
    """
    manager = KernelSpecManager()
    manager.ensure_native_kernel = False
    manager.kernel_dirs = [manager.user_kernel_dir, *manager.kernel_dirs]
    try:
        argv = manager.get_kernel_spec(name).argv
    except NoSuchKernel:
        raise NotConfigured(
            f"There is no kernel {name!r}; see `jupyter kernelspec list`."
        ) from None
    if "tci_kernel" not in argv:
        raise NotConfigured(f"{name!r} is not a TCI kernel: it stays.")
    try:
        return Path(manager.remove_kernel_spec(name))
    except OSError as error:
        raise NotConfigured(f"The kernel {name!r} cannot be removed: {error}") from None


def _refuse_keys(environment: Mapping[str, str]) -> None:
    for variable, value in environment.items():
        secret = variable in KEY_VARIABLES or variable.upper().endswith(_SECRETS)
        if secret or re.match(r"https?://[^/]*@", value):
            raise NotConfigured(
                f"{variable} is not written to a kernelspec, which others may read. Set it in the "
                f"environment that starts Jupyter, or as api_key in {config_file()}."
            )


def _shipped() -> Path:
    return next(source for source in _SOURCES if (source / "kernel.json").exists())


def _adapt(file: Path, display_name: str, environment: Mapping[str, str]) -> None:
    spec = json.loads(file.read_text("utf-8"))
    spec["argv"][0] = sys.executable  # some front ends do not show a kernel of a bare `python`
    spec["display_name"] = display_name
    if environment:
        spec["env"] = dict(environment)
    file.write_text(json.dumps(spec, indent=2) + "\n", "utf-8")
