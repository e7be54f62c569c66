"""Files of a request: where they land, what is refused, and that they cannot be led astray."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server

READ = "print(open({!r}).read(), end='')"
LIST = "import os; print(sorted(os.listdir()))"


def text(name: str, content: str) -> dict[str, str]:
    """Return a text file of a request."""
    return {"name": name, "encoding": "string", "content": content}


def binary(name: str, content: bytes) -> dict[str, str]:
    """Return a binary file of a request."""
    return {"name": name, "encoding": "base64", "content": base64.b64encode(content).decode()}


def test_a_text_script_is_there_before_the_code(server: Server) -> None:
    """An uploaded script runs by `!python` in the same request."""
    files = [text("myscript.py", "print('from the script, ü')")]
    assert "from the script, ü" in server.stdout("!python myscript.py", files=files)


def test_uploaded_json_parses(server: Server) -> None:
    """An uploaded JSON file holds what was sent."""
    files = [text("data.json", json.dumps({"a": [1, 2]}))]
    code = "import json; print(json.load(open('data.json'))['a'])"
    assert server.stdout(code, files=files) == "[1, 2]\n"


def test_binary_files_are_exact(server: Server) -> None:
    """All byte values survive, and no line ending is changed."""
    content = bytes(range(256)) + b"\r\n\n\r"
    code = f"print(open('b', 'rb').read() == bytes.fromhex({content.hex()!r}))"
    assert server.stdout(code, files=[binary("b", content)]) == "True\n"


def test_text_keeps_its_line_endings(server: Server) -> None:
    """A text file is written as UTF-8, exactly as it was sent."""
    content = "a\r\nb\nü"
    code = "print(open('t', 'rb').read())"
    assert server.stdout(code, files=[text("t", content)]) == f"{content.encode()!r}\n"


def test_nested_names_make_folders(server: Server) -> None:
    """The folders of a name are made; those that exist are used."""
    session = server.run(files=[text("a/b/one.txt", "1")])["session_id"]
    server.run(session_id=session, files=[text("a/b/two.txt", "2"), text("./a//three.txt", "3")])
    code = "import os; print(sorted(os.listdir('a')), sorted(os.listdir('a/b')))"
    assert server.stdout(code, session) == "['b', 'three.txt'] ['one.txt', 'two.txt']\n"


def test_a_file_is_replaced(server: Server) -> None:
    """A name that exists gets the new content."""
    session = server.run(files=[text("x", "a long old content")])["session_id"]
    assert server.stdout(READ.format("x"), session, files=[text("x", "new")]) == "new"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "/etc/x",
        "//x",
        "../x",
        "a/../../x",
        "a/..",
        "a/",
        "a\0b",
        "C:/x",
        "c:x",
        "a\\b",
        "..\\x",
        "\\\\host\\x",
        "x" * 256,
    ],
)
def test_a_name_that_leads_elsewhere_is_a_400(server: Server, name: str) -> None:
    """Such a name is refused with a reason, and nothing of the request is written or run."""
    session = server.new_session()
    answer = server.post("1", session, files=[text("good", "1"), text(name, "2")])
    assert answer.status_code == 400
    assert "refused" in answer.text
    assert server.stdout(LIST, session) == "[]\n"


@pytest.mark.parametrize("content", ["a", "%%%%", "QUJD\n", "QUJ=D", "ü"])
def test_bad_base64_is_a_400(server: Server, content: str) -> None:
    """Content that is not base64 is refused before any file is written."""
    session = server.new_session()
    files = [text("good", "1"), {"name": "bad", "encoding": "base64", "content": content}]
    answer = server.post("1", session, files=files)
    assert answer.status_code == 400
    assert "not base64" in answer.text
    assert server.stdout(LIST, session) == "[]\n"


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        ("os.symlink({outside!r}, 'link')", "link/x"),
        ("os.makedirs('a'); os.symlink({outside!r}, 'a/link')", "a/link/b/x"),
        (
            "os.rename(os.getcwd(), os.getcwd() + '2'); os.symlink({outside!r}, os.getcwd()[:-1])",
            "x",
        ),
    ],
)
def test_no_folder_is_followed_through_a_link(
    server: Server, tmp_path: Path, plant: str, name: str
) -> None:
    """A link that the session's code planted leads no upload out of the session."""
    session = server.run(f"import os; here = os.getcwd(); {plant.format(outside=str(tmp_path))}")[
        "session_id"
    ]
    answer = server.post("1", session, files=[text(name, "escaped")])
    assert answer.status_code == 400
    assert "The code has not run" in answer.text
    assert os.listdir(tmp_path) == []  # noqa: PTH208  names are what matters


def test_a_link_in_place_of_a_file_is_replaced(server: Server, tmp_path: Path) -> None:
    """An upload over a link takes the link's place and leaves its target alone."""
    target = tmp_path / "target"
    target.write_text("untouched")
    session = server.run(f"import os; os.symlink({str(target)!r}, 'link')")["session_id"]
    assert server.stdout(READ.format("link"), session, files=[text("link", "new")]) == "new"
    assert target.read_text() == "untouched"


def test_a_folder_in_place_of_a_file_is_a_400(server: Server) -> None:
    """An upload over a folder is refused, and leaves no draft behind."""
    session = server.run("import os; os.makedirs('folder')")["session_id"]
    answer = server.post("1", session, files=[text("folder", "1")])
    assert answer.status_code == 400
    assert server.stdout(LIST, session) == "['folder']\n"


def test_files_land_in_the_working_directory_the_session_began_in(server: Server) -> None:
    """`os.chdir` of the code does not move where uploads go."""
    session = server.run("import os; start = os.getcwd(); os.chdir('/')")["session_id"]
    code = "print(os.path.exists(start + '/x'))"
    assert server.stdout(code, session, files=[text("x", "1")]) == "True\n"


def test_a_large_file_arrives_in_the_sandbox(make_server: Callable[..., Server]) -> None:
    """Thirty megabytes of binary are the same bytes on the far side."""
    content: Any = os.urandom(30 * 2**20)
    import hashlib

    code = "import hashlib; print(hashlib.sha256(open('big', 'rb').read()).hexdigest())"
    server = make_server(sandbox="auto")
    expected = hashlib.sha256(content).hexdigest()
    assert server.stdout(code, files=[binary("big", content)]) == f"{expected}\n"
