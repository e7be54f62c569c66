"""`%tci upload` into sessions of a real embedded server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tci_kernel.client import TCIClient
from tci_kernel.errors import FileRefused, MagicError, ServiceError
from tci_kernel.magics import Context, Display, run
from tci_kernel.session import Session
from tci_kernel.settings import Settings
from tci_kernel.state import StateFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from conftest import Server

PART = 16 * 1024
#: What the uploads below leave in a session's folder, and nothing else may.
LIST = "import os; print(sorted(os.path.join(d, f) for d, _, fs in os.walk('.') for f in fs))"


class Notebook:
    """A folder with a notebook in it, whose kernel has one session."""

    def __init__(self, server: Server, folder: Path, **settings: Any) -> None:
        self.server = server
        self.settings = Settings(
            backend="hosted", base_url=server.url, api_key=server.token, **settings
        )
        self.state = StateFile(Path("kernel-test.json"), folder.parent / "state")
        self.session_id: str | None = None

    def upload(self, line: str) -> list[Display]:
        """Return what an upload shows."""
        return self.within(lambda context: _shown(f"%tci upload {line}", context))

    def within(self, act: Callable[[Context], Coroutine[Any, Any, Any]]) -> Any:
        """Return what a coroutine gives that uses the kernel's session."""

        async def with_session() -> Any:
            async with TCIClient(self.settings) as client:
                session = Session(client, self.state)
                session.id = self.session_id
                try:
                    return await act(Context(session, "plain"))
                finally:
                    self.session_id = session.id

        return asyncio.run(with_session())

    def stdout(self, code: str) -> str:
        """Return what code prints in the session."""
        return self.server.stdout(code, self.session_id)

    def files(self) -> list[str]:
        """Return the names of all files in the session's directory, hidden ones too."""
        return [name[2:] for name in eval(self.stdout(LIST))]

    def sha256(self, name: str) -> str:
        """Return the checksum of a file in the session."""
        code = f"import hashlib; print(hashlib.sha256(open({name!r}, 'rb').read()).hexdigest())"
        return self.stdout(code).strip()


async def _shown(line: str, context: Context) -> list[Display]:
    async with aclosing(run(line, context)) as displays:
        return [display async for display in displays]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder of a notebook and go there."""
    here = tmp_path / "notebooks"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def notebook(server: Server, folder: Path) -> Notebook:
    """Return a notebook whose uploads are cut at 16 kB."""
    return Notebook(server, folder, upload_part_size=PART)


def _text(displays: list[Display]) -> str:
    return displays[-1].bundle["text/plain"]


def test_file_arrives_under_its_own_name(notebook: Notebook, folder: Path) -> None:
    """A binary file lies in the session's directory as it was, and the summary names it."""
    (folder / "data.bin").write_bytes(bytes(range(256)))
    displays = notebook.upload("data.bin")
    assert notebook.sha256("data.bin") == hashlib.sha256(bytes(range(256))).hexdigest()
    assert re.search(r"data\.bin +256 bytes", _text(displays))


def test_file_larger_than_a_request_arrives_whole(notebook: Notebook, folder: Path) -> None:
    """A file that needs many requests is put together again, and no part of it stays."""
    content = os.urandom(5 * PART + 7)
    (folder / "big.bin").write_bytes(content)
    notebook.upload("big.bin")
    assert notebook.sha256("big.bin") == hashlib.sha256(content).hexdigest()
    assert notebook.files() == ["big.bin"]


def test_folder_keeps_its_structure(notebook: Notebook, folder: Path) -> None:
    """A folder arrives with what is in it, empty files too, however many requests it takes."""
    for name in ("data/a.txt", "data/deep/er/b.txt", "data/empty"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name * 1000 if "empty" not in name else "")
    notebook.upload("data")
    assert notebook.files() == ["data/a.txt", "data/deep/er/b.txt", "data/empty"]
    assert notebook.stdout("print(len(open('data/deep/er/b.txt').read()))") == "18000\n"


def test_upload_of_the_notebooks_folder_takes_what_is_in_it(
    notebook: Notebook, folder: Path
) -> None:
    """`%tci upload .` puts the files themselves into the session's directory."""
    (folder / "a.txt").write_text("a")
    notebook.upload(".")
    assert notebook.files() == ["a.txt"]


def test_names_may_have_blanks_and_any_letters(notebook: Notebook, folder: Path) -> None:
    """A quoted name with blanks, accents, Chinese or an emoji is the same in the session."""
    name = "größe 数据 🐍 it's.txt"
    (folder / name).write_text("ok")
    notebook.upload(f'"{name}"')
    assert notebook.files() == [name]


def test_glob_takes_what_matches(notebook: Notebook, folder: Path) -> None:
    """A glob uploads the files that it matches, hidden ones not."""
    for name in ("a.csv", "b.csv", "c.txt", ".d.csv"):
        (folder / name).write_text(name)
    notebook.upload("*.csv")
    assert notebook.files() == ["a.csv", "b.csv"]


def test_to_names_a_folder_of_the_session(notebook: Notebook, folder: Path) -> None:
    """`--to` makes the folder in the session and puts the files there."""
    (folder / "a.csv").write_text("a")
    notebook.upload("a.csv --to in/raw")
    assert notebook.files() == ["in/raw/a.csv"]


@pytest.mark.parametrize("to", ["/tmp", "../x", "a/../../b", r"'a\b'"])
def test_to_outside_the_sessions_directory_is_refused(
    notebook: Notebook, folder: Path, to: str
) -> None:
    """A `--to` that leads elsewhere is an error, and no session is made for it."""
    (folder / "a.csv").write_text("a")
    with pytest.raises(MagicError, match="--to"):
        notebook.upload(f"a.csv --to {to}")
    assert notebook.session_id is None


def test_upload_overwrites(notebook: Notebook, folder: Path) -> None:
    """A second upload replaces the files of the first."""
    (folder / "a.txt").write_text("a much longer text")
    notebook.upload("a.txt")
    (folder / "a.txt").write_text("short")
    notebook.upload("a.txt")
    assert notebook.stdout("print(open('a.txt').read())") == "short\n"


def test_an_empty_name_is_no_folder(notebook: Notebook) -> None:
    """What a template left empty does not upload everything."""
    with pytest.raises(MagicError, match='no file ""'):
        notebook.upload('""')


def test_path_outside_the_roots_is_refused(notebook: Notebook, folder: Path) -> None:
    """A file beside the notebook's folder, however it is named, is refused with the setting."""
    secret = folder.parent / "secret.txt"
    secret.write_text("secret")
    (folder / "link.txt").symlink_to(secret)
    for name in ("../secret.txt", str(secret), "link.txt", "../*.txt"):
        with pytest.raises(FileRefused, match="TCI_FILE_ROOTS"):
            notebook.upload(name)
    assert notebook.session_id is None


def test_file_root_is_allowed(server: Server, folder: Path) -> None:
    """A folder that `TCI_FILE_ROOTS` names may be uploaded from."""
    other = folder.parent / "other"
    other.mkdir()
    (other / "a.txt").write_text("a")
    notebook = Notebook(server, folder, file_roots=(other,))
    notebook.upload("../other/a.txt")
    assert notebook.files() == ["a.txt"]


def test_folder_leaves_out_what_could_be_secret(notebook: Notebook, folder: Path) -> None:
    """In a folder, hidden entries, links that lead out, and pipes are left out and named."""
    data = folder / "data"
    (data / ".git").mkdir(parents=True)
    (data / ".git" / "config").write_text("secret")
    (data / "a.txt").write_text("a")
    (data / "out").symlink_to(folder.parent)
    (data / "round").symlink_to(data)
    os.mkfifo(data / "pipe")
    text = _text(notebook.upload("data"))
    assert notebook.files() == ["data/a.txt"]
    assert "hidden: data/.git" in text
    assert "links out of the notebook's folder: data/out" in text
    assert "links to a folder around them: data/round" in text
    assert "no regular files: data/pipe" in text


def test_link_within_the_roots_is_followed(notebook: Notebook, folder: Path) -> None:
    """A link in a folder to something allowed brings what it leads to."""
    (folder / "real").mkdir()
    (folder / "real" / "a.txt").write_text("a")
    (folder / "data").mkdir()
    (folder / "data" / "alias").symlink_to(folder / "real")
    notebook.upload("data")
    assert notebook.files() == ["data/alias/a.txt"]


@pytest.mark.parametrize("name", ["missing.csv", "*.nothing", "/dev/zero"])
def test_what_is_no_file_is_an_error(notebook: Notebook, name: str) -> None:
    """A name without a file, a glob without a match and a device are errors."""
    with pytest.raises(MagicError):
        notebook.upload(name)


def test_two_files_of_one_name_are_an_error(notebook: Notebook, folder: Path) -> None:
    """Two files that would become one are refused; the same file named twice is not."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.csv").write_text(name)
    with pytest.raises(MagicError, match=r"both become x\.csv"):
        notebook.upload("a/x.csv b/x.csv")
    notebook.upload("a/x.csv a/*.csv")
    assert notebook.files() == ["x.csv"]


def test_user_who_changed_the_directory_finds_the_file_where_the_service_writes(
    notebook: Notebook, folder: Path
) -> None:
    """After `os.chdir` in the session, an upload still goes to the session's directory."""
    (folder / "a.txt").write_text("a")
    notebook.upload("a.txt")
    notebook.stdout("import os; start = os.getcwd(); os.makedirs('sub'); os.chdir('sub')")
    (folder / "a.txt").write_text("b")
    notebook.upload("a.txt")
    assert notebook.stdout("print(open(start + '/a.txt').read(), os.listdir())") == "b []\n"


def test_upload_leaves_no_trace_in_the_session(notebook: Notebook, folder: Path) -> None:
    """An upload adds no name to the user's namespace, no input and no execution count."""
    (folder / "a.txt").write_text("a")
    notebook.upload("a.txt")
    code = "print(In, sorted(globals()), get_ipython().execution_count)"
    assert notebook.stdout(code) == notebook.server.stdout(code)


def test_progress_is_one_display_that_ends_as_a_table(server: Server, folder: Path) -> None:
    """Bars replace each other in one display, a few a second, and at last the table does."""
    (folder / "big.bin").write_bytes(bytes(3_000_000))
    displays = Notebook(server, folder, upload_part_size=PART).upload("big.bin")
    assert len({display.display_id for display in displays}) == 1
    assert [display.update for display in displays] == [False] + [True] * (len(displays) - 1)
    assert "<progress " in displays[1].bundle["text/html"]
    assert "3.0 MB" in displays[1].bundle["text/plain"]
    assert "<table>" in displays[-1].bundle["text/html"]
    assert len(displays) < 60


def test_file_that_changes_meanwhile_is_an_error(notebook: Notebook, folder: Path) -> None:
    """A file that is written to during its upload is refused, and nothing of it stays."""
    path = folder / "growing.bin"
    path.write_bytes(bytes(20 * PART))

    async def grow(context: Context) -> None:
        async with aclosing(run("%tci upload growing.bin", context)) as displays:
            async for _ in displays:
                with path.open("ab") as file:
                    file.write(b"more")

    with pytest.raises(MagicError, match="changed while it was uploaded"):
        notebook.within(grow)
    assert notebook.files() == []


def test_interrupt_leaves_no_empty_folder(notebook: Notebook, folder: Path) -> None:
    """A folder of the session is made for files that have arrived, not for such as will."""
    (folder / "big.bin").write_bytes(bytes(5_000_000))

    async def interrupt(context: Context) -> None:
        task = asyncio.create_task(_shown("%tci upload big.bin --to a/b", context))
        await asyncio.wait_for(_draft(context), 30)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        notebook.within(interrupt)
    assert notebook.stdout("import os; print(os.listdir())") == "[]\n"


def test_interrupt_leaves_no_half_file(notebook: Notebook, folder: Path) -> None:
    """A cancelled upload keeps the file that was there and removes what it had begun."""
    path = folder / "big.bin"
    path.write_text("old")
    notebook.upload("big.bin")
    path.write_bytes(bytes(5_000_000))

    async def interrupt(context: Context) -> None:
        task = asyncio.create_task(_shown("%tci upload big.bin", context))
        await asyncio.wait_for(_draft(context), 30)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        notebook.within(interrupt)
    assert notebook.files() == ["big.bin"]
    assert notebook.stdout("print(open('big.bin').read())") == "old\n"


def test_interrupt_does_not_wait_for_a_busy_session(notebook: Notebook, folder: Path) -> None:
    """An upload that waits behind a cell can be given up at once, and nothing of it arrives."""
    (folder / "a.txt").write_text("a")

    async def interrupt(context: Context) -> float:
        await context.session.execute("1")
        cell = asyncio.create_task(context.session.execute("import time; time.sleep(6)"))
        await asyncio.sleep(0)
        task = asyncio.create_task(_shown("%tci upload a.txt", context))
        await asyncio.wait({task}, timeout=1)
        began = asyncio.get_running_loop().time()
        task.cancel()
        await asyncio.wait({task})
        waited = asyncio.get_running_loop().time() - began
        await asyncio.gather(cell, context.session.execute("1"))  # after what was left to tidy up
        return waited

    assert notebook.within(interrupt) < 4
    assert notebook.files() == []


async def _draft(context: Context) -> None:
    """Return when a part of an upload has arrived."""
    names = ""
    while ".tci-upload" not in names:
        execution = await context.session.execute("import os; print(*os.listdir())")
        names = execution.outputs[0].text


def test_failure_in_the_session_tells_what_has_arrived(notebook: Notebook, folder: Path) -> None:
    """Where a target cannot be written, the table lists the files before it, and no part stays."""
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").write_bytes(bytes(PART))
    notebook.upload("a.txt")
    notebook.stdout("import os; os.makedirs('b.txt/x')")
    shown: list[Display] = []

    async def collect(context: Context) -> None:
        async for display in run("%tci upload a.txt b.txt", context):
            shown.append(display)  # noqa: PERF401  what came before the error is wanted

    with pytest.raises(ServiceError, match="In the session"):
        notebook.within(collect)
    assert "1 of 2 files uploaded" in _text(shown)
    assert notebook.files() == ["a.txt"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads a peak of memory that Linux keeps")
def test_large_file_takes_little_memory(server: Server, folder: Path) -> None:
    """200 MB arrive intact while the uploading process grows by less than 64 MB."""
    checksum = hashlib.sha256()
    with (folder / "large.bin").open("wb") as file:
        for _ in range(200):
            checksum.update(chunk := os.urandom(1_000_000))
            file.write(chunk)
    environment = {
        **os.environ,
        "TCI_BASE_URL": server.url,
        "TCI_API_KEY": server.token,
        "TCI_BACKEND": "hosted",
    }
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
    )
    session_id, grown = done.stdout.split()
    notebook = Notebook(server, folder)
    notebook.session_id = session_id
    assert notebook.sha256("large.bin") == checksum.hexdigest()
    assert int(grown) < 64_000_000


#: Uploads in a process of its own, and prints by how many bytes its peak of memory grew.
MEASURED = """
import asyncio, re
from pathlib import Path
from tci_kernel.client import TCIClient
from tci_kernel.magics import Context, run
from tci_kernel.session import Session
from tci_kernel.state import StateFile

def peak():
    return 1024 * int(re.search("VmHWM:\\s*(.*) kB", Path("/proc/self/status").read_text())[1])

async def upload():
    async with TCIClient() as client:
        session = Session(client, StateFile(Path("none.json"), Path("none")))
        await session.execute("1")
        before = peak()
        async for _ in run("%tci upload large.bin", Context(session, "plain")):
            pass
        print(session.id, peak() - before)

asyncio.run(upload())
"""
