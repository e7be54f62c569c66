"""What a request gives back: the outputs of its cell, in the form and order of the API."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Server


def test_printed_text_comes_back_as_stdout(server: Server) -> None:
    """What a cell prints is one output of type stdout."""
    data = server.run("print('hello')")
    assert data["outputs"] == [{"type": "stdout", "data": "hello\n"}]
    assert data["status"] == "success"
    assert set(data) == {"outputs", "session_id", "status"}


def test_variables_persist_in_a_session(server: Server) -> None:
    """A variable of one request is there in the next one with the same session_id."""
    session = server.run("x = 42")["session_id"]
    assert server.stdout("print(x)", session) == "42\n"


def test_sessions_do_not_share_variables(server: Server) -> None:
    """A variable of one session does not exist in another."""
    server.run("mine = 1")
    outputs = server.run("mine")["outputs"]
    assert [output["type"] for output in outputs] == ["error"]


def test_outputs_keep_their_order_and_streams_are_merged(server: Server) -> None:
    """Consecutive pieces of one stream are one output; between different kinds the order stays."""
    code = """
import sys
from IPython.display import display
print("a", flush=True); print("b", flush=True)
print("c", file=sys.stderr, flush=True)
display({"text/plain": "shown"}, raw=True)
print("d", flush=True)
"result"
"""
    assert server.run(code)["outputs"] == [
        {"type": "stdout", "data": "a\nb\n"},
        {"type": "stderr", "data": "c\n"},
        {"type": "display_data", "data": {"text/plain": "shown"}},
        {"type": "stdout", "data": "d\n"},
        {"type": "execute_result", "data": {"text/plain": "'result'"}},
    ]


def test_an_exception_is_an_error_output_with_its_traceback(server: Server) -> None:
    """Code that raises answers with HTTP 200 and the traceback as one string."""
    outputs = server.run("print('before')\n1/0\nprint('after')")["outputs"]
    assert [output["type"] for output in outputs] == ["stdout", "error"]
    assert "ZeroDivisionError" in outputs[1]["data"]
    assert "\n" in outputs[1]["data"]


def test_a_syntax_error_is_an_error_output(server: Server) -> None:
    """Code that does not parse answers like code that raises."""
    (output,) = server.run("def")["outputs"]
    assert output["type"] == "error"
    assert "SyntaxError" in output["data"]


def test_the_cell_after_an_error_runs(server: Server) -> None:
    """An error does not abort requests that are already waiting or come right after."""
    session = server.new_session()
    for number in range(20):
        server.run("1/0", session)
        assert server.stdout(f"print({number})", session) == f"{number}\n"


def test_a_figure_is_display_data_with_png_and_text(server: Server) -> None:
    """A matplotlib figure comes as image/png, base64 on the wire, beside its text/plain."""
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()"
    (output,) = [o for o in server.run(code)["outputs"] if o["type"] == "display_data"]
    assert set(output["data"]) == {"image/png", "text/plain"}
    assert base64.b64decode(output["data"]["image/png"]).startswith(b"\x89PNG")


def test_json_types_stay_objects(server: Server) -> None:
    """The value of a JSON MIME type, and a None in it, is the object that the code displayed."""
    code = "from IPython.display import JSON\nJSON({'a': [1, None, {'b': True}]})"
    (output,) = server.run(code)["outputs"]
    assert output["data"]["application/json"] == {"a": [1, None, {"b": True}]}


def test_shell_commands_and_magics_work(server: Server) -> None:
    """A session is an IPython kernel: `!command` and `%magic` run in it."""
    assert server.stdout("!echo from the shell").strip() == "from the shell"
    assert "answer" in server.stdout("answer = 42\n%who")


def test_what_the_api_has_no_place_for_is_left_out(server: Server) -> None:
    """clear_output and display updates give no outputs, and do not disturb the others."""
    code = """
from IPython.display import clear_output, display
handle = display({"text/plain": "first"}, raw=True, display_id=True)
handle.update({"text/plain": "second"}, raw=True)
clear_output()
print("end")
"""
    types = [output["type"] for output in server.run(code)["outputs"]]
    assert types == ["display_data", "stdout"]


def test_input_fails_at_once(server: Server) -> None:
    """`input()` raises, because nobody could answer."""
    (output,) = server.run("input('name? ')")["outputs"]
    assert "StdinNotImplementedError" in output["data"]


def test_no_message_of_a_fast_cell_is_lost(server: Server) -> None:
    """Thousands of displays in one go all arrive, in order, also where every core is busy."""
    code = "from IPython.display import display\nfor i in range(5000): display(i)"
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        outputs = server.run(code)["outputs"]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [output["data"]["text/plain"] for output in outputs] == [str(i) for i in range(5000)]


def test_the_first_cell_is_number_one(server: Server) -> None:
    """What the server does to get a session ready does not count as a cell of the user's."""
    (output,) = server.run("1/0")["outputs"]
    assert "In[1]" in re.sub(r"\x1b\[[0-9;]*m", "", output["data"])
    assert server.stdout("print(In)") == "['', 'print(In)']\n"


def test_large_text_arrives_whole(server: Server) -> None:
    """Ten million characters of stdout are all there."""
    assert server.stdout("print('x' * 10_000_000)") == "x" * 10_000_000 + "\n"


def test_text_that_is_no_unicode_is_answered(server: Server) -> None:
    """A lone surrogate, which UTF-8 cannot carry, does not keep a request from its answer."""
    session = server.run(r"print('a\ud800b')")["session_id"]
    assert server.stdout("print('next')", session) == "next\n"


def test_forged_messages_do_not_disturb_the_server(server: Server) -> None:
    """Code that sends what is no Jupyter message on its own IOPub socket hurts nobody."""
    code = """
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
app.iopub_socket.send_multipart([b"<IDS|MSG>", b"no signature"])
app.iopub_socket.send(b"")
parent = app.kernel.get_parent()
for content in ({}, {"name": "stdout", "text": 5}, {"name": "stdout", "text": [6]}, {"data": "x"}):
    for kind in ("stream", "error", "display_data", "status"):
        app.kernel.session.send(app.iopub_socket, kind, content, parent=parent)
print("here")
"""
    assert server.stdout(code) == "here\n"


def test_output_over_the_limit_is_dropped_and_counted(make_server: Callable[..., Server]) -> None:
    """Past --max-output the code goes on, its text is cut, and a last stderr output says so."""
    server = make_server(max_output=0.001)
    data = server.run("print('x' * 5000)\ndone = True\n1/0")
    kinds = [output["type"] for output in data["outputs"]]
    assert kinds == ["stdout", "error", "stderr"]
    assert data["outputs"][0]["data"] == "x" * 1048
    assert "ZeroDivisionError" in data["outputs"][1]["data"]
    assert "more characters of output were dropped" in data["outputs"][2]["data"]
    assert server.stdout("print(done)", data["session_id"]) == "True\n"


def test_a_cell_without_a_reply_has_not_succeeded(server: Server) -> None:
    """Where ipykernel itself fails around the code, the answer says so, and the session goes on."""
    session = server.new_session()
    fault = (
        "async def fail_once(*_, **__):\n"
        "    kernel.do_execute = whole\n"
        "    raise RuntimeError('a fault of the kernel')\n"
        "kernel = get_ipython().kernel; whole = kernel.do_execute; kernel.do_execute = fail_once"
    )
    server.run(fault, session)
    [output] = server.run("print('never')", session)["outputs"]
    assert output["type"] == "error"
    assert "has not said how this cell ended" in output["data"]
    assert server.stdout("print('again')", session) == "again\n"
