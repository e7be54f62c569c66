"""Prints what an interpreter is, as JSON.

The source of this module runs in the interpreter in question (`python -E -c`), which need not be
the server's: it uses the standard library only, and nothing of this package.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Print one JSON object; its fields are those that `Interpreter.probe` reads."""
    sys.path[:] = [entry for entry in sys.path if entry]  # '' is the folder this happens to run in
    from importlib.util import find_spec  # noqa: PLC0415  only now is the path clean

    report = {
        "path": sys.executable,
        "version": list(sys.version_info[:3]),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "ipykernel": find_spec("ipykernel") is not None,
        "site_packages": site_packages(),
        "search_path": sys.path,
        "editable": editable(),
        "scripts": scripts(),
        "pip": find_spec("pip") is not None,
        "pip_wheel": pip_wheel(),
    }
    print(json.dumps(report))  # noqa: T201  stdout is the way to the server


def site_packages() -> list[str]:
    """Return the folders of installed packages, in the order in which they are searched."""
    import site  # noqa: PLC0415

    folders = {*site.getsitepackages(), site.getusersitepackages()}
    return [entry for entry in sys.path if entry in folders]


def editable() -> list[str]:
    """Return the projects that are installed in place; their code lies outside site-packages."""
    from importlib.metadata import distributions  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415
    from urllib.request import url2pathname  # noqa: PLC0415

    folders = []
    for distribution in distributions():
        record = json.loads(distribution.read_text("direct_url.json") or "{}")
        if record.get("dir_info", {}).get("editable"):
            folders.append(url2pathname(urlsplit(record["url"]).path))
    return folders


def scripts() -> list[tuple[str, str]]:
    """Return the commands of installed packages, as (name, "module:function")."""
    from importlib.metadata import distributions  # noqa: PLC0415

    return [
        (entry.name, entry.value.split("[")[0].strip())
        for distribution in distributions()
        for entry in distribution.entry_points
        if entry.group == "console_scripts"
    ]


def pip_wheel() -> str | None:
    """Return the pip that Python itself brings, or None where a distributor took it out."""
    import sysconfig  # noqa: PLC0415
    from importlib.util import find_spec  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    spec = find_spec("ensurepip")
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
    if spec is not None and spec.origin is not None:
        folders.append(str(Path(spec.origin).parent / "_bundled"))
    wheels = [wheel for folder in folders if folder for wheel in Path(folder).glob("pip-*.whl")]
    return str(wheels[0]) if wheels else None


if __name__ == "__main__":
    main()
