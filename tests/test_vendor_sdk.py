"""A vendor's own SDK against the embedded server: all that users do with the service.

The SDK has an environment of its own, kept in pytest's cache: it needs another httpx than the
tests do, and must not see this package.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server

SDK = "together==2.42.0"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Begins every script: `run` is the call of the vendor's documentation.
PRELUDE = """
import base64, json, sys, time
import together
client = together.Together(api_key=sys.argv[2], base_url=sys.argv[1], max_retries=0, timeout=120)

def run(code, **more):
    return client.code_interpreter.execute(code=code, language="python", **more)

def outputs(answer):
    assert answer.errors is None, answer
    return [(output.type, output.data) for output in answer.data.outputs]

def refused(error, **more):
    try:
        run("1", **more)
    except error as raised:
        return raised.status_code
    raise AssertionError("it was not refused")
"""


@pytest.fixture(scope="session")
def sdk_python(pytestconfig: pytest.Config) -> Path:
    """Return the interpreter of an environment that holds the SDK."""
    folder = Path(pytestconfig.cache.mkdir("vendor-sdk")) / SDK
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", SDK], check=True)
        (folder / "complete").touch()
    return python


@pytest.fixture
def script(sdk_python: Path, server: Server) -> Callable[..., Any]:
    """Run a script with the SDK on a server; it prints one JSON value, which is returned."""

    def run(code: str, path: str = "", token: str = TOKEN) -> Any:
        ended = subprocess.run(
            [sdk_python, "-I", "-c", PRELUDE + code, server.url + path, token],
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return run


@pytest.mark.parametrize("path", ["", "/v1", "/v1/"])
def test_print(script: Callable[..., Any], path: str) -> None:
    """Printed text is read from `stdout`, below each base URL in use."""
    code = "print(json.dumps(outputs(run(\"print('Hello, world!')\"))))"
    assert script(code, path) == [["stdout", "Hello, world!\n"]]


def test_state(script: Callable[..., Any]) -> None:
    """A variable is there in the next call with the same session_id."""
    code = """
first = run("x = 42")
print(json.dumps(outputs(run("print(x)", session_id=first.data.session_id))))
"""
    assert script(code) == [["stdout", "42\n"]]


def test_install(script: Callable[..., Any]) -> None:
    """`!pip install numpy`, then the eigenvalues of a random matrix."""
    code = """
session = run("!pip install numpy").data.session_id
code = "import numpy as np; print(len(np.linalg.eigvals(np.random.rand(3, 3))))"
print(json.dumps(outputs(run(code, session_id=session))))
"""
    assert script(code) == [["stdout", "3\n"]]


def test_files(script: Callable[..., Any]) -> None:
    """A script runs, JSON parses, binary is exact."""
    code = """
blob = bytes(range(256))
files = [
    {"name": "myscript.py", "encoding": "string", "content": "import sys; print('script')"},
    {"name": "data.json", "encoding": "string", "content": json.dumps({"a": 1})},
    {"name": "blob.bin", "encoding": "base64", "content": base64.b64encode(blob).decode()},
]
code = '''
!python myscript.py
import json
print(json.load(open("data.json"))["a"], open("blob.bin", "rb").read() == bytes(range(256)))
'''
text = "".join(data for _, data in outputs(run(code, files=files)))
print(json.dumps(text.split()))
"""
    assert script(code) == ["script", "1", "True"]


def test_figure(script: Callable[..., Any]) -> None:
    """A figure is display_data with image/png and text/plain."""
    code = """
code = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
answer = run(code).model_dump(by_alias=True)
(shown,) = [o["data"] for o in answer["data"]["outputs"] if o["type"] == "display_data"]
shown = {kind: value for kind, value in shown.items() if value is not None}
print(json.dumps([sorted(shown), base64.b64decode(shown["image/png"])[1:4].decode()]))
"""
    assert script(code) == [["image/png", "text/plain"], "PNG"]


def test_sessions(script: Callable[..., Any]) -> None:
    """The list shows a session, whose count and times move."""
    code = """
def listed(session):
    sessions = client.code_interpreter.sessions.list().data.sessions
    return next(found for found in sessions if found.id == session)

session = run("1").data.session_id
before = listed(session)
run("1", session_id=session)
after = listed(session)
print(json.dumps([
    before.execute_count, after.execute_count,
    after.last_execute_at > before.last_execute_at,
    after.expires_at > after.last_execute_at >= after.started_at == before.started_at,
]))
"""
    assert script(code) == [1, 2, True, True]


def test_errors(script: Callable[..., Any]) -> None:
    """An exception is an output; a dead session and a bad body are errors of the SDK."""
    code = """
(kind, data), = outputs(run("1/0"))
bad = [{"name": "../x", "encoding": "string", "content": ""}]
print(json.dumps([
    kind, "ZeroDivisionError" in data,
    refused(together.NotFoundError, session_id="ses_dead"),
    refused(together.BadRequestError, files=bad),
]))
"""
    assert script(code) == ["error", True, 404, 400]


def test_wrong_key(script: Callable[..., Any]) -> None:
    """A wrong key is the SDK's authentication error."""
    code = "print(json.dumps(refused(together.AuthenticationError)))"
    assert script(code, token="wrong") == 401


def test_many_sessions(script: Callable[..., Any]) -> None:
    """Sixteen sessions in parallel, as a loop that scores generated code has them."""
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(16) as pool:
    answers = list(pool.map(lambda n: run(f"print({n} ** 2)"), range(16)))
texts = [outputs(answer)[0][1] for answer in answers]
print(json.dumps([texts == [f"{n * n}\\n" for n in range(16)],
                  len({answer.data.session_id for answer in answers})]))
"""
    assert script(code) == [True, 16]
