"""ipykernel's own wire tests, run on this kernel: what passes on stock passes here."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from conftest import Server

FILES = ("test_message_spec.py", "test_kernel.py")
#: Seconds for all the tests on one kernel; each has its own deadline, too.
LIMIT = 600

#: Each start of a kernel in the tests' own tools, and how the kernel to be tested is named there.
STARTS = ("manager.start_new_kernel(", "manager.run_kernel(")
NAMED = 'kernel_name=os.environ["KERNEL_UNDER_TEST"], '


@pytest.fixture(scope="module")
def archive(request: pytest.FixtureRequest) -> Path:
    """Return the source archive of the installed ipykernel, kept in pytest's cache."""
    release = f"ipykernel-{version('ipykernel')}"
    folder = Path(request.config.cache.mkdir("ipykernel"))
    archive = folder / f"{release}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", "--no-deps"]
        source = ["--no-binary", "ipykernel", release.replace("-", "==")]
        done = subprocess.run(
            [*pip, *source, "--dest", folder], capture_output=True, text=True, check=False
        )
        if "connection" in done.stderr.lower():
            pytest.skip(f"no package index can be reached for {release}")
        assert done.returncode == 0, done.stderr
    return archive


@pytest.fixture(scope="module")
def wire_tests(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack ipykernel's tests, and start the kernel that is to be tested in each of them."""
    root = tmp_path_factory.mktemp("wire")
    folder = root / "tests"
    folder.mkdir()
    release = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as opened:
        for name in ("__init__.py", "utils.py", *FILES):
            member = opened.extractfile(f"{release}/tests/{name}")
            assert member is not None
            (folder / name).write_bytes(member.read())
    tools = (folder / "utils.py").read_text()
    for start in STARTS:
        assert tools.count(start) == 1
        tools = tools.replace(start, start + NAMED)
    (folder / "utils.py").write_text(tools)
    return root


def passed(root: Path, kernel_name: str, env: dict[str, str]) -> set[str]:
    """Return the names of the tests that pass on a kernel."""
    report = root / f"{kernel_name}.xml"
    options = ["-c", os.devnull, "--rootdir", root, "-q", "--timeout=60", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--junit-xml={report}"]
        + [f"tests/{name}" for name in FILES],
        env={**os.environ, **env, "KERNEL_UNDER_TEST": kernel_name},
        cwd=root,
        stdout=(root / f"{kernel_name}.log").open("wb"),
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
        check=False,
    )
    cases = ET.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases if not len(case)}


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT)
def test_what_passes_on_stock_passes_here(
    wire_tests: Path, shared_server: Server, tmp_path: Path
) -> None:
    """Each of ipykernel's tests of messages and kernel that stock passes is passed live."""
    env = {
        "TCI_BASE_URL": shared_server.url,
        "TCI_API_KEY": shared_server.token,
        "TCI_TRANSPORT": "live",
        "TCI_CONFIG": str(tmp_path / "none"),
    }
    stock = passed(wire_tests, "python3", env)
    assert len(stock) > 40
    here = passed(wire_tests, "tci_python", env)
    assert stock - here == set(), (wire_tests / "tci_python.log").read_text()[-20_000:]
