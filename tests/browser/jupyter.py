"""A Jupyter server of the tests' own, which touches nothing of the user's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import nbformat
import psutil

from conftest import DEADLINE, TOKEN, wait_until

#: No questions about news, no looking for updates or extensions: traffic goes to loopback only.
_OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--port=0",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]
_PAGE_CONFIG = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}


#: All cells are in the page, also those that are scrolled away.
_TRACKER_SETTINGS = {"windowingMode": "none"}


class Jupyter:
    """A `jupyter lab` process, which serves Notebook too.

    Its kernels use an embedded server of their own, whose socket lies in `runtime`.
    """

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder = folder / "notebooks"
        self.folder.mkdir()
        _write_json(folder / "config/labconfig/page_config.json", _PAGE_CONFIG)
        extension = folder / "config/lab/user-settings/@jupyterlab/notebook-extension"
        _write_json(extension / "tracker.jupyterlab-settings", _TRACKER_SETTINGS)
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TCI_")},
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_PATH": str(folder / "share/jupyter"),  # before what the environment has
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            "TCI_CONFIG": str(folder / "no-config.toml"),
            "TCI_RUNTIME_DIR": str(runtime),
            "TCI_BACKEND": "local",  # chosen, so that the first cell need not tell where it runs
        }
        self._run("tci_kernel", "install", "--prefix", str(folder))
        self.log = folder / "jupyter.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *_OPTIONS],
                env=self._env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self.url = wait_until(self._find_url)
        self.client = httpx.Client(
            base_url=f"{self.url}/api/",
            headers={"Authorization": f"token {TOKEN}"},
            timeout=DEADLINE,
            trust_env=False,
        )

    def _run(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        subprocess.run(command, env=self._env, stdout=subprocess.DEVNULL, check=True)

    def _find_url(self) -> str | None:
        text = self.log.read_text()
        assert self.process.poll() is None, text
        found = re.search(r"(http://127\.0\.0\.1:\d+)/lab", text)
        return found and found[1]

    def write(self, name: str, kernel: str) -> None:
        """Write a notebook of one empty cell for a kernel into the server's folder."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell()],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel}},
        )
        nbformat.write(notebook, self.folder / name)

    def kernel_process(self, path: str) -> psutil.Process:
        """Return the process of a notebook's kernel: on this machine, whatever it runs."""
        sessions = self.client.get("sessions").json()
        [kernel] = [session["kernel"]["id"] for session in sessions if session["path"] == path]
        children = psutil.Process(self.process.pid).children()
        [process] = [child for child in children if kernel in " ".join(child.cmdline())]
        return process

    def end_kernels(self) -> None:
        """Shut all kernels down, and with them their sessions."""
        for session in self.client.get("sessions").json():
            self.client.delete(f"sessions/{session['id']}")

    def end(self) -> None:
        """Shut the kernels down, and end the server."""
        self.end_kernels()
        self.client.close()
        self.process.terminate()
        self.process.wait(DEADLINE)


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
