"""Completion, inspection, history and `is_complete`."""

from __future__ import annotations

import pytest

from conftest import Server, live_only, plain_only
from notebooks import Notebook


def test_completion_knows_the_sessions_names(notebook: Notebook) -> None:
    """Names of the session complete, with their types."""
    notebook.run("remarkable_name = 'x'")
    reply = notebook.ask("complete", code="remarkable_na", cursor_pos=13)
    assert reply["matches"] == ["remarkable_name"]
    assert (reply["cursor_start"], reply["cursor_end"]) == (0, 13)
    assert reply["metadata"]["_jupyter_types_experimental"][0]["text"] == "remarkable_name"


def test_inspection_shows_the_sessions_documentation(notebook: Notebook) -> None:
    """Shift-Tab shows signature and docstring of the session's own objects."""
    notebook.run("def area(radius):\n    'The area of a circle.'")
    reply = notebook.ask("inspect", code="area(", cursor_pos=4)
    assert reply["found"]
    assert "The area of a circle." in reply["data"]["text/plain"]


@plain_only
def test_inspection_works_on_an_ipykernel_of_old(notebook: Notebook) -> None:
    """Before 6.5 `do_inspect` took no `omit_sections`; what leaves none out is answered."""
    notebook.run(
        "kernel = get_ipython().kernel\n"
        "stock = kernel.do_inspect\n"
        "kernel.do_inspect = lambda code, cursor_pos, detail_level=0: stock(code, cursor_pos)"
    )
    assert notebook.ask("inspect", code="print", cursor_pos=5)["found"]


def test_a_question_mark_opens_the_pager(notebook: Notebook) -> None:
    """`x?` gives a page; the cell takes its number."""
    notebook.run("def area(radius):\n    'The area of a circle.'")
    reply = notebook.run("area?").reply["content"]
    [page] = reply["payload"]
    assert page["source"] == "page"
    assert "The area of a circle." in page["data"]["text/plain"]
    assert notebook.run("x = 1\narea??").reply["content"]["payload"]
    assert notebook.run("len(In)").result == "5"


def test_a_page_brings_no_editor(notebook: Notebook) -> None:
    """`%edit` would start a program on a file of this machine: what asks for that is left out."""
    payload = "{'source': 'edit_magic', 'filename': '/etc/passwd', 'line_number': 1}"
    code = f"get_ipython().payload_manager.write_payload({payload}, single=False)\nprint?"
    reply = notebook.run(code).reply["content"]
    assert [item["source"] for item in reply["payload"]] == ["page"]


def test_history_is_the_sessions(notebook: Notebook) -> None:
    """The tail of the history holds a person's cells and nothing else."""
    notebook.run("first = 1")
    notebook.ask("complete", code="fir", cursor_pos=3)
    notebook.run("second = 2")
    reply = notebook.ask("history", hist_access_type="tail", n=5)
    assert [source for _, _, source in reply["history"]][-2:] == ["first = 1", "second = 2"]


def test_questions_leave_no_trace(notebook: Notebook) -> None:
    """Completion and inspection are not in `In`, `Out`, `_i` and the count."""
    notebook.run("'one'")
    for _ in range(3):
        notebook.ask("complete", code="pri", cursor_pos=3)
        notebook.ask("inspect", code="print", cursor_pos=3)
    cell = notebook.run("In, list(Out), _, _i")
    assert cell.count == 2
    assert cell.result == "(['', \"'one'\", 'In, list(Out), _, _i'], [1], 'one', \"'one'\")"


@pytest.mark.parametrize("question", ["complete", "inspect"])
def test_without_a_session_the_answer_is_empty(notebook: Notebook, question: str) -> None:
    """Nothing is made up, and nothing waits."""
    reply = notebook.ask(question, code="pri", cursor_pos=3)
    assert reply["status"] == "ok"
    assert not reply.get("matches")
    assert not reply.get("found")


@pytest.mark.parametrize(
    ("code", "status", "indent"),
    [
        ("1 + 1", "complete", None),
        ("for x in y:", "incomplete", "    "),
        ("x = [", "incomplete", ""),
        ("a b", "invalid", None),
        ("!ls", "complete", None),
        ("%%time", "incomplete", ""),
        ("%tci status", "complete", None),
    ],
)
def test_is_complete_follows_ipython(
    notebook: Notebook, code: str, status: str, indent: str | None
) -> None:
    """A console knows when to run and how far to indent, without a session."""
    reply = notebook.ask("is_complete", code=code)
    assert (reply["status"], reply.get("indent")) == (status, indent)


def test_is_complete_is_answered_whatever_ipython_makes_of_it(notebook: Notebook) -> None:
    """Code at which IPython itself fails gets a reply, or a console would wait for it."""
    assert notebook.ask("is_complete", code='x=%"""')["status"] == "unknown"


@plain_only
def test_comms_are_closed(notebook: Notebook) -> None:
    """A widget's comm is refused by the protocol's own means: it is closed."""
    message = notebook.client.session.msg(
        "comm_open", {"comm_id": "c1", "target_name": "jupyter.widget", "data": {}}
    )
    notebook.client.shell_channel.send(message)
    closed = notebook.wait_for(message["header"]["msg_id"], "comm_close")
    assert closed["content"]["comm_id"] == "c1"


@live_only
def test_the_kernel_is_what_the_session_will_be(notebook: Notebook) -> None:
    """kernel_info before the first cell is the local kernel's, but for versions and features."""
    before = notebook.ask("kernel_info")
    assert before.pop("supported_features") == []  # they are the session's matter
    notebook.run("1")
    after = notebook.ask("kernel_info")
    after.pop("supported_features")
    assert before.keys() == after.keys()
    assert before["language_info"].keys() == after["language_info"].keys()
    for name in ("status", "protocol_version", "implementation"):
        assert before[name] == after[name]
    links = [[link["text"] for link in info["help_links"]] for info in (before, after)]
    assert links[0] == links[1]


@plain_only
def test_only_what_works_is_advertised(notebook: Notebook) -> None:
    """kernel_info offers no debugger and no subshells."""
    assert notebook.ask("kernel_info")["supported_features"] == []


@plain_only
def test_a_debugger_that_is_refused_is_told_in_the_next_cell(notebook: Notebook) -> None:
    """JupyterLab does not show the refusal, so the next cell says it, once."""
    request = {"type": "request", "seq": 1, "command": "initialize"}
    for _ in range(2):
        assert not notebook.command("debug_request", request)["success"]
    assert notebook.run("1").stderr.count("debugger could not be turned on") == 1
    assert notebook.run("1").stderr == ""


@plain_only
def test_what_is_not_advertised_is_refused(notebook: Notebook) -> None:
    """Debugger and subshell requests get an answer, so that nobody waits."""
    for kind, content in [
        ("debug_request", {"type": "request", "seq": 1, "command": "initialize"}),
        ("create_subshell_request", {}),
    ]:
        message = notebook.client.session.msg(kind, content)
        notebook.client.control_channel.send(message)
        reply = notebook.client.get_control_msg(timeout=10)
        assert reply["parent_header"]["msg_id"] == message["header"]["msg_id"]
        assert reply["content"].get("status") == "error" or reply["content"]["success"] is False


def test_nothing_is_debugged_before_there_is_a_session(notebook: Notebook, server: Server) -> None:
    """JupyterLab's question when it opens a notebook is answered, and starts no session."""
    before = server.sessions()
    request = {"type": "request", "seq": 1, "command": "debugInfo"}
    reply = notebook.command("debug_request", request)
    assert reply["success"]
    assert reply["body"]["isStarted"] is False
    assert server.sessions() == before


@pytest.mark.parametrize("typed", ["%", "%t", "  %tc"])
def test_the_magic_is_among_what_the_session_completes(notebook: Notebook, typed: str) -> None:
    """Tab behind the beginning of `%tci` offers it, in the place of what was typed."""
    before = notebook.ask("complete", code=typed, cursor_pos=len(typed))
    notebook.run("1")
    after = notebook.ask("complete", code=typed, cursor_pos=len(typed))
    for reply in (before, after):
        assert reply["matches"][0] == "%tci"
        assert (reply["cursor_start"], reply["cursor_end"]) == (typed.index("%"), len(typed))
    kinds = after["metadata"]["_jupyter_types_experimental"]
    assert [kind["text"] for kind in kinds] == after["matches"]
    assert ("%time" in after["matches"]) is (typed != "  %tc")


def test_magics_complete_and_explain_themselves(notebook: Notebook) -> None:
    """Tab and Shift-Tab in a `%tci` line are answered here, without a session."""
    reply = notebook.ask("complete", code="%tci stat", cursor_pos=9)
    assert reply["matches"] == ["status"]
    reply = notebook.ask("inspect", code="%tci status", cursor_pos=7)
    assert reply["found"]
