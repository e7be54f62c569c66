"""What a front end gets for a cell."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Server, live_only, plain_only
from notebooks import Notebook


def test_streams_come_in_their_order(notebook: Notebook) -> None:
    """Stdout and stderr keep the order in which they were written."""
    cell = notebook.run(
        "import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr, flush=True)\nprint('c')"
    )
    assert [(c["name"], c["text"]) for c in cell.contents("stream")] == [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("stdout", "c\n"),
    ]


def test_variables_live_from_cell_to_cell(notebook: Notebook) -> None:
    """All cells run in one session."""
    notebook.run("x = 42")
    assert notebook.run("x").result == "42"


@pytest.mark.parametrize("comment", ["# %tci", "# what?"])
def test_a_cell_that_breaks_ipythons_transformer_fails(notebook: Notebook, comment: str) -> None:
    """A backslash at the end of `x=%` is an error, as on a local kernel, and no cell is lost."""
    notebook.run("1")
    [error] = notebook.run(f"{comment}\nx=%\\").contents("error")
    assert error["ename"] in {"IndexError", "SyntaxError"}
    assert error["ename"] in "".join(error["traceback"])
    assert notebook.run("'well'").result == "'well'"


def test_results_are_numbered(notebook: Notebook) -> None:
    """`Out[n]` has the number of its cell, in the message and in the session."""
    notebook.run("'first'")
    cell = notebook.run("'second'")
    assert cell.count == 2
    assert cell.contents("execute_input")[0]["execution_count"] == 2
    assert cell.contents("execute_result")[0]["execution_count"] == 2
    assert notebook.run("Out[2], In[2]").result == "('second', \"'second'\")"


def test_rich_results_are_whole(notebook: Notebook) -> None:
    """A MIME bundle arrives with all its types, JSON types as objects, unknown ones too."""
    cell = notebook.run(
        "from IPython.display import display\n"
        "display({'application/json': {'a': [1]}, 'text/plain': 'x',\n"
        "         'application/vnd.made-up+json': {'b': 2}}, raw=True)"
    )
    assert cell.contents("display_data")[0]["data"] == {
        "application/json": {"a": [1]},
        "text/plain": "x",
        "application/vnd.made-up+json": {"b": 2},
    }


def test_a_figure_is_an_image(notebook: Notebook) -> None:
    """A matplotlib figure arrives as PNG."""
    cell = notebook.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    [display] = cell.contents("display_data")
    assert base64.b64decode(display["data"]["image/png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("code", "ename", "evalue"),
    [
        ("1/0", "ZeroDivisionError", "division by zero"),
        ("raise ValueError('two\\nlines')", "ValueError", "two\nlines"),
        ("raise KeyError", "KeyError", ""),
        ("a b", "SyntaxError", "invalid syntax"),
        ("try: 1/0\nexcept Exception as e: raise TypeError('x: y') from e", "TypeError", "x: y"),
    ],
)
def test_an_error_is_taken_apart(notebook: Notebook, code: str, ename: str, evalue: str) -> None:
    """A failure has its class, text and coloured traceback, on IOPub and in the reply."""
    cell = notebook.run(code)
    [error] = cell.contents("error")
    assert (error["ename"], error["evalue"].split(" (")[0]) == (ename, evalue)
    assert "\x1b[" in "".join(error["traceback"])
    assert "Cell" in "".join(error["traceback"])
    reply = cell.reply["content"]
    assert reply["status"] == "error"
    assert {key: reply[key] for key in error} == error


def test_an_error_aborts_the_queue(notebook: Notebook) -> None:
    """Cells that were queued behind a failure do not run."""
    first = notebook.send("import time; time.sleep(0.3); 1/0")
    second = notebook.send("print('must not run')")
    assert notebook.finish(first).status == "error"
    cell = notebook.finish(second)
    assert cell.status == "aborted"
    assert cell.stdout == ""


def test_an_error_aborts_what_is_on_its_way(notebook: Notebook) -> None:
    """Cells that are sent at once with one that fails do not run, wherever they are by then."""
    notebook.run("ran = []")
    for number in range(10):
        # A moment, in which a busy machine can send the others too.
        failing = f"import time; time.sleep({0.2 + number / 100}); 1/0"
        requests = [
            notebook.send(failing),
            *(notebook.send(f"ran.append({number})") for _ in "abc"),
        ]
        cells = [notebook.finish(request) for request in requests]
        assert [cell.status for cell in cells] == ["error", *["aborted"] * 3]
    assert notebook.run("ran").result == "[]"


def test_an_error_does_not_abort_what_is_sent_later(notebook: Notebook) -> None:
    """A cell of this side that follows on a failed one, as in `nbconvert --allow-errors`, runs."""
    notebook.run("1")  # starts the session
    assert notebook.run("1/0").status == "error"
    assert notebook.run("%tci status").status == "ok"
    assert notebook.run("print('runs')").stdout == "runs\n"


def test_an_error_does_not_abort_what_is_sent_at_its_reply(notebook: Notebook) -> None:
    """However soon the next cell is sent by who knows of the failure, it runs."""
    notebook.run("1")
    for number in range(30):
        notebook.reply(notebook.send("1/0"))
        assert notebook.finish(notebook.send(f"{number}")).result == str(number)


def test_an_error_does_not_abort_the_queue_if_told_so(notebook: Notebook) -> None:
    """With `stop_on_error` false the next cell runs."""
    first = notebook.send("1/0", stop_on_error=False)
    second = notebook.send("print('runs')")
    notebook.finish(first)
    assert notebook.finish(second).stdout == "runs\n"


def test_hidden_requests_make_no_session_and_no_count(notebook: Notebook, server: Server) -> None:
    """What a front end asks by itself starts nothing; a person's first cell is [1]."""
    before = set(server.sessions())
    assert notebook.run("probe = 1", store_history=False).status == "ok"
    assert notebook.run("probe = 1", silent=True).status == "ok"
    notebook.ask("complete", code="pri", cursor_pos=3)
    notebook.ask("inspect", code="print", cursor_pos=3)
    assert set(server.sessions()) == before
    assert notebook.run("1").count == 1


def test_hidden_requests_need_no_configuration(open_notebook: Callable[..., Notebook]) -> None:
    """What a front end asks by itself is answered even where a cell would be an error."""
    notebook = open_notebook(TCI_BACKEND="hosted", TCI_BASE_URL="", TCI_API_KEY="")
    assert notebook.run("probe = 1", store_history=False).status == "ok"
    assert notebook.run("1").error == "NotConfigured"


@plain_only
def test_hidden_requests_run_without_a_trace(notebook: Notebook) -> None:
    """With a session they run, and leave `In`, `Out`, `_` and the count alone."""
    notebook.run("'mine'")
    cell = notebook.run("seen = 7; print('probe'); seen", store_history=False)
    assert (cell.stdout, cell.result) == ("probe\n", "7")
    assert notebook.run("1/0", store_history=False).status == "error"
    assert notebook.run("seen = 8; print('never shown')", silent=True).messages[1:] == []
    cell = notebook.run("seen, In[1:], list(Out), _, _i")
    assert cell.count == 2
    assert cell.result == (
        "(8, [\"'mine'\", 'seen, In[1:], list(Out), _, _i'], [1], 'mine', \"'mine'\")"
    )


def test_user_expressions_are_evaluated(notebook: Notebook) -> None:
    """The reply has the value of each expression, or its error."""
    cell = notebook.run("x = 5", user_expressions={"good": "x + 1", "bad": "1/0"})
    expressions = cell.reply["content"]["user_expressions"]
    assert expressions["good"]["data"]["text/plain"] == "6"
    assert expressions["bad"]["ename"] == "ZeroDivisionError"


def test_cells_that_were_not_sent_count_too(notebook: Notebook) -> None:
    """A cell of `%tci` only takes a number, in the notebook and in the session's `In`."""
    notebook.run("1")
    assert notebook.run("%tci status").count == 2
    cell = notebook.run("len(In), In[1]")
    assert (cell.count, cell.result) == (3, "(4, '1')")
    assert "In[4]" in "".join(notebook.run("1/0").contents("error")[0]["traceback"]).replace(
        "\x1b[32m", ""
    ).replace("\x1b[39m", "")


def test_two_notebooks_do_not_mix(open_notebook: Callable[..., Notebook]) -> None:
    """Each kernel has a session of its own."""
    one, two = open_notebook(), open_notebook()
    one.run("x = 'one'")
    two.run("x = 'two'")
    assert (one.run("x").result, two.run("x").result) == ("'one'", "'two'")


def test_a_given_session_is_joined(open_notebook: Callable[..., Notebook], server: Server) -> None:
    """TCI_SESSION_ID shares a session; it is not ended with the kernel."""
    session_id = server.new_session()
    server.run("y = 'shared'", session_id)
    notebook = open_notebook(TCI_SESSION_ID=session_id)
    assert notebook.run("y").result == "'shared'"
    notebook.close()
    assert session_id in server.sessions()


@live_only
def test_a_joined_session_keeps_its_variables(
    open_notebook: Callable[..., Notebook], server: Server
) -> None:
    """What notebook and program have defined is there after the notebook, whose cell has ended."""
    session_id = server.new_session()
    server.run("x = 'program'", session_id)
    notebook = open_notebook(TCI_SESSION_ID=session_id)
    notebook.run("y = x + ' and notebook'")
    server.run("z = 'later'", session_id)
    request = notebook.send("import time; ready = True; time.sleep(60)")
    notebook.wait_for(request, "execute_input")
    notebook.close()
    assert server.stdout("print(x, y, z, sep=', ')", session_id) == (
        "program, program and notebook, later\n"
    )


@plain_only
def test_input_says_that_it_cannot_ask(notebook: Notebook) -> None:
    """`input()` in plain transport fails with a message that says why."""
    cell = notebook.run("input('name? ')")
    assert cell.error == "StdinNotImplementedError"
    assert "plain transport" in cell.contents("error")[0]["evalue"]


def test_the_kernel_imports_nothing_from_the_notebooks_folder(
    open_notebook: Callable[..., Notebook], tmp_path: Path
) -> None:
    """A file that is named like a module is not run by the process that holds the key."""
    for name in ("typing", "logging", "secrets", "queue", "httpx", "uuid", "tarfile"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    notebook = open_notebook()
    assert notebook.run("%tci upload queue.py\n1 + 1").result == "2"
    assert not (tmp_path / "ran").exists()


def test_cell_magics_and_shell_lines_belong_to_the_session(notebook: Notebook) -> None:
    """All that begins with `%` or `!`, but `%tci`, runs in the session."""
    assert notebook.run("%%capture out\nprint('x')").status == "ok"
    assert notebook.run("out.stdout").result == "'x\\n'"
    assert notebook.run("!echo from-the-shell").stdout.strip() == "from-the-shell"


def test_a_large_output_is_whole(notebook: Notebook) -> None:
    """Ten megabytes of stdout arrive to the last byte."""
    cell = notebook.run("print('x' * 10_000_000)")
    assert len(cell.stdout) == 10_000_001


def test_text_of_any_kind_arrives(notebook: Notebook) -> None:
    """Emoji, control characters and half surrogate pairs end in a reply."""
    assert notebook.run("print('🙂\\x00é')").stdout == "🙂\x00é\n"
    assert notebook.run("'\\ud800'").status == "ok"


def test_the_session_is_not_shown_the_key(notebook: Notebook, server: Server) -> None:
    """The key is not in the session's environment nor in the kernel's outputs."""
    cell = notebook.run("import os; print(dict(os.environ)); %tci status".replace("; %tci", "\n#"))
    assert server.token not in cell.stdout
    assert server.token not in str(notebook.run("%tci status").messages)


def test_a_wrong_key_is_an_error_in_the_cell(
    open_notebook: Callable[..., Notebook], tmp_path: Path
) -> None:
    """The cell says what is wrong; the kernel lives, and counts."""
    notebook = open_notebook(TCI_API_KEY="sk-wrong")
    cell = notebook.run("1")
    assert cell.error == "Unauthorized"
    assert "sk-wrong" not in str(cell.messages)
    assert notebook.run("1").count == 2


def test_no_configuration_is_an_error_in_the_cell(open_notebook: Callable[..., Notebook]) -> None:
    """TCI_BACKEND=hosted without an address: the message says what to set."""
    notebook = open_notebook(TCI_BACKEND="hosted", TCI_BASE_URL="", TCI_API_KEY="")
    cell = notebook.run("1")
    assert cell.error == "NotConfigured"
    assert "TCI_BASE_URL" in cell.contents("error")[0]["evalue"]


@live_only
def test_much_output_comes_in_few_requests(
    notebook: Notebook, server: Server, transport: str
) -> None:
    """After the first megabytes that came whole, as many more come in one request."""
    flood = "import base64, os\nprint(base64.b64encode(os.urandom(6_000_000)).decode())"
    notebook.run(flood)
    [session] = server.sessions()
    before = server.sessions()[session]["execute_count"]
    assert len(notebook.run(flood).stdout) == 8_000_001
    assert server.sessions()[session]["execute_count"] - before < 6
