"""What `pip install` puts where."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tci_kernel.settings import Settings

ROOT = Path(__file__).parent.parent
SPEC = "share/jupyter/kernels/tci_python"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive, and the wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT],
        check=True,
        cwd=folder,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    """Return the path of the built wheel."""
    return next(dist.glob("*.whl"))


@pytest.mark.slow
def test_wheel_brings_the_kernelspec(wheel: Path) -> None:
    """The wheel installs kernel.json and the logos where Jupyter looks for kernels."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".data/data/")[2] for name in archive.namelist()}
    assert {
        f"{SPEC}/{name}"
        for name in ("kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg")
    } <= names


@pytest.mark.slow
def test_wheel_is_typed_and_holds_the_package_only(wheel: Path) -> None:
    """The wheel has the py.typed marker, and no top level but the package and its metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "tci_kernel/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tci_kernel"}


@pytest.mark.slow
def test_source_archive_can_be_tested(dist: Path) -> None:
    """The source archive holds the tests, the examples and the Makefile that runs them."""
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "examples/tour.ipynb", "examples/wine.csv", "tests/conftest.py"} <= names


@pytest.mark.slow
def test_pip_install_alone_makes_the_kernel_known(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment, installing the wheel is all that Jupyter needs to list the kernel."""
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    subprocess.run(
        [scripts / "python", "-m", "pip", "install", "--quiet", wheel],
        check=True,
        cwd=tmp_path,
    )

    listing = subprocess.run(
        [scripts / "jupyter-kernelspec", "list", "--json"],
        check=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    known = json.loads(listing.stdout)["kernelspecs"]["tci_python"]
    assert Path(known["resource_dir"]) == tmp_path / "venv" / SPEC
    assert known["spec"]["display_name"] == "TCI Python"


def test_readme_lists_every_setting() -> None:
    """The README's table of settings has one row for each field, and no other."""
    listed = re.findall(
        r"^\| `TCI_(\w+)` \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name.lower() for name in listed] == list(Settings.model_fields)
