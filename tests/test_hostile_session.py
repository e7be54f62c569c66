"""Whatever a session says: each request gets its reply and its idle, and the kernel lives on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import Server, environment
from hostile_session import HEAD, HostileSession
from notebooks import Notebook, opened
from tci_kernel.transport import pieces
from tci_kernel.transport.message import KINDS

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
deep = st.integers(1, 5000).map(lambda n: b'{"a":' + b"[" * n + b"]" * n + b"}")
#: What a kernel may say on which channel, and what it may not.
KINDS_SAID = [(channel, kind) for channel in KINDS for kind in sorted(KINDS[channel])]
FORBIDDEN = ["shutdown_reply", "execute_request", "_reply", "", None, 1, []]

odd_headers = st.dictionaries(st.sampled_from(["msg_id", "version", "session"]), json_values)
parents = st.just("PARENT") | st.fixed_dictionaries({"msg_id": json_values, "session": json_values})
payloads = st.lists(
    st.fixed_dictionaries({"source": st.sampled_from(["edit_magic", "edit", "page"]) | json_values})
    | json_values,
    max_size=3,
)
contents = st.dictionaries(
    st.sampled_from(["execution_state", "execution_count", "data", "text", "status", "payload"]),
    st.sampled_from(["idle", "busy", "ok", "error"]) | payloads | json_values,
)
#: What the content of a complete_reply has.
COMPLETION = ["status", "matches", "cursor_start", "cursor_end", "metadata"]
odd_parts = json_values | deep | st.binary(max_size=20)


@st.composite
def said(draw: st.DrawFn) -> Any:
    """Return a message whose headers, most often, are good enough for what follows to matter."""
    channel, kind = draw(st.sampled_from(KINDS_SAID))
    header: Any = {"msg_id": "m", "msg_type": kind, "version": "5.4", "session": "s"}
    parts = [header, draw(parents), {}, draw(contents)]
    match draw(st.sampled_from(["as it is", "as it is", "forbidden", "header", "part"])):
        case "forbidden":
            header["msg_type"] = draw(st.sampled_from(FORBIDDEN))
        case "header":
            header.update(draw(odd_headers))
        case "part":
            parts[draw(st.integers(0, 3))] = draw(odd_parts)
    return channel, parts


heads = st.dictionaries(
    st.sampled_from(["accepted", "last", "child", "more", "superseded", "idle", "problem", "hello"])
    | st.text(),
    json_values | st.just(HEAD["child"]),
    max_size=3,
)


def made_up(kind: str, parent: Any, **content: Any) -> Any:
    """Return a message with a good header."""
    header = {"msg_id": "m", "msg_type": kind, "version": "5.4", "session": "s"}
    return "shell" if kind.endswith("_reply") else "iopub", [header, parent, {}, content]


thorough = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HostileSession, Notebook]]:
    """Open a notebook on a session that says what a test makes up."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    service = HostileSession()
    env = {
        "TCI_BASE_URL": service.url,
        "TCI_API_KEY": "sk-1",
        "TCI_TRANSPORT": "live",
        "TCI_CONFIG": str(folder / "none"),
    }
    with opened(folder, env) as notebook:
        # Messages that were made up alike have one signature, and are no replay.
        notebook.client.session.digest_history_size = 0
        yield service, notebook
    service.close()


@pytest.fixture
def session(pair: tuple[HostileSession, Notebook]) -> Iterator[HostileSession]:
    """Lend the session to a test, after which the notebook leaves it for one that behaves."""
    yield pair[0]
    begin_anew(*pair)


@pytest.fixture
def notebook(pair: tuple[HostileSession, Notebook]) -> Notebook:
    """Return the notebook on the session."""
    return pair[1]


def begin_anew(session: HostileSession, notebook: Notebook) -> None:
    """Leave the session, which may be refused for ever, and begin one that behaves."""
    session.messages, session.head, session.printed, session.deaf = [], {}, None, False
    assert is_well(ends(notebook, "%tci new\n1"))


def ends(notebook: Notebook, code: str = "1") -> list[dict[str, Any]]:
    """Run a cell to a reply and an idle of its own; return all that came meanwhile."""
    pid = notebook.manager.provisioner.pid
    request = notebook.send(code)
    socket = notebook.client.iopub_channel.socket
    messages: list[dict[str, Any]] = []
    replied = idle = False
    while not (replied and idle):
        for channel, source in ("iopub", socket), ("shell", notebook.client.shell_channel.socket):
            if source.poll(0 if messages else 10):
                _, frames = notebook.client.session.feed_identities(source.recv_multipart())
                message = notebook.client.session.deserialize(frames)
                assert message["msg_type"] in KINDS[channel]
                assert channel == "iopub" or starts_nothing(message)
                messages.append(message)
                own = message["parent_header"].get("msg_id") == request
                replied |= own and message["msg_type"] == "execute_reply"
                idle |= own and message["content"].get("execution_state") == "idle"
    assert notebook.manager.provisioner.pid == pid
    assert notebook.manager.is_alive()
    return messages


def starts_nothing(reply: dict[str, Any]) -> bool:
    """Tell whether a reply asks of the front end only what no program is started for."""
    sources = [item["source"] for item in reply["content"].get("payload") or []]
    return all(source in ("page", "set_next_input", "ask_exit") for source in sources)


def is_well(messages: list[dict[str, Any]]) -> bool:
    """Tell whether one of the replies to a cell is that it went well."""
    replies = [m["content"] for m in messages if m["msg_type"] == "execute_reply"]
    return any(reply.get("status") == "ok" for reply in replies)


def stands(session: HostileSession, notebook: Notebook, code: str) -> None:
    """Run a cell in which messages are made up, and one in which none are; no fault is told."""
    came = ends(notebook, code)
    session.messages = []
    after = ends(notebook)
    assert is_well(after)
    assert "fault of" not in str([message["content"].get("evalue") for message in came + after])


@thorough
@example(messages=[made_up("status", "PARENT")])
@example(messages=[made_up("stream", {"msg_id": []})])
@given(messages=st.lists(said(), max_size=5))
def test_made_up_messages_harm_nobody(
    session: HostileSession, notebook: Notebook, messages: list[Any]
) -> None:
    """Messages of any shape on any channel: what a kernel may not send does not come out."""
    session.messages = messages
    stands(session, notebook, "1")


@thorough
@given(messages=st.lists(said(), max_size=5))
def test_a_cell_of_two_halves_ends_too(
    session: HostileSession, notebook: Notebook, messages: list[Any]
) -> None:
    """A cell with `%tci` lines, of which this side gives the reply, ends whatever comes between."""
    session.messages = messages
    stands(session, notebook, "%tci help\n1")


@thorough
@example(head={"accepted": -1})
@given(head=heads)
def test_frames_that_lie_about_themselves_harm_nobody(
    session: HostileSession, notebook: Notebook, head: dict[str, Any]
) -> None:
    """A frame whose head is odd is used or refused; the next cell is a new beginning."""
    session.head = head
    ends(notebook)
    begin_anew(session, notebook)


@thorough
@given(printed=st.text() | st.from_regex(pieces._PIECE))
def test_printed_text_harms_nobody(
    session: HostileSession, notebook: Notebook, printed: str
) -> None:
    """Text in the place of a frame, or one that looks like a frame, is asked for once more."""
    session.printed = printed
    assert is_well(ends(notebook))
    begin_anew(session, notebook)


def test_a_session_that_prints_no_frame_ends_the_cell(
    session: HostileSession, notebook: Notebook
) -> None:
    """The cell fails with a reason; the session is left by `%tci new`."""
    ends(notebook)
    session.deaf = True
    assert "does not return frames" in str(ends(notebook))
    begin_anew(session, notebook)


def test_a_problem_that_stays_ends_the_cell(session: HostileSession, notebook: Notebook) -> None:
    """An agent that fails at each request is given up with its own words."""
    ends(notebook)
    before = len(session.requests)
    session.head = {"problem": "Traceback:\nOSError: no room", "accepted": 0, "idle": None}
    assert "no room" in str(ends(notebook))
    assert len(session.requests) - before < 20


def test_a_session_that_always_has_more_is_not_flooded(
    session: HostileSession, notebook: Notebook
) -> None:
    """It is asked no more often than one in which a cell runs."""
    ends(notebook)
    session.head = {"more": True}
    ends(notebook)
    before = len(session.requests)
    notebook.silence(2.0)
    assert len(session.requests) - before < 20
    begin_anew(session, notebook)


def test_huge_messages_pass(session: HostileSession, notebook: Notebook) -> None:
    """Megabytes in any part are handed on or left out; the cell ends."""
    text = "x" * 2**22
    header = {"msg_id": text, "msg_type": "stream", "session": text, "version": "5.4"}
    session.messages = [
        ("iopub", (header, "PARENT", {text: text}, {"name": "stdout", "text": text})),
        ("shell", (header, {"msg_id": text, "session": text}, {}, {})),
        ("stdin", ({**header, "msg_type": "input_request"}, {"session": text}, {}, {})),
    ]
    assert any(message["content"].get("text") == text for message in ends(notebook))


def test_a_reply_that_cannot_be_read_is_an_error(
    session: HostileSession, notebook: Notebook
) -> None:
    """Somebody waits for a reply: one with broken content is answered in words."""
    header = {"msg_id": "m", "msg_type": "execute_reply", "version": "5.4"}
    session.messages = [("shell", (header, "PARENT", {}, b'{"a": \xff'))]
    [reply] = [m for m in ends(notebook) if m["msg_type"] == "execute_reply"][:1]
    assert reply["content"]["ename"] == "InvalidResponse"


def test_no_editor_is_started(session: HostileSession, notebook: Notebook) -> None:
    """Of what a reply asks of a front end, a file to edit is left out and the rest comes."""
    payload: list[Any] = [
        {"source": "edit_magic", "filename": "/etc/passwd", "line_number": 1},
        {"source": ["page"]},
        "page",
        {"source": "set_next_input", "text": "x", "replace": False},
    ]
    content = {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": payload}
    session.messages = [made_up("execute_reply", "PARENT", **content)]
    reply = next(m for m in ends(notebook) if m["msg_type"] == "execute_reply")
    assert reply["content"] == {**content, "payload": payload[3:]}


def test_no_file_is_touched(session: HostileSession, notebook: Notebook) -> None:
    """What looks like a magic or names a file is text: nothing is read or written here."""
    secret = notebook.folder / "secret.txt"
    secret.write_text("the secret")
    header = {"msg_id": "m", "msg_type": "execute_reply", "version": "5.4"}
    payload = [
        {"source": "set_next_input", "text": "%tci upload secret.txt"},
        {"source": "edit_magic", "filename": str(secret), "line_number": 1},
    ]
    content = {"status": "ok", "execution_count": 1, "user_expressions": {}, "payload": payload}
    session.messages = [
        ("shell", (header, "PARENT", {}, content)),
        ("iopub", ({**header, "msg_type": "stream"}, "PARENT", {}, {"text": "%tci download /x"})),
    ]
    before = len(session.requests)
    ends(notebook)
    assert not any(b"the secret" in body for *_, body in session.requests[before:])
    assert list(notebook.folder.iterdir()) == [secret]
    secret.unlink()


@thorough
@given(content=st.dictionaries(st.sampled_from(COMPLETION), json_values))
def test_odd_completions_harm_nobody(
    session: HostileSession, notebook: Notebook, content: dict[str, Any]
) -> None:
    """Where this side adds to what a session completes, the reply comes whatever that is."""
    ends(notebook)
    session.messages = [made_up("complete_reply", "PARENT", **content)]
    request = notebook.client.complete("%t", 2)
    reply = notebook.client.get_shell_msg(timeout=10)
    assert reply["parent_header"]["msg_id"] == request
    session.messages = []
    assert is_well(ends(notebook))


def test_the_history_cannot_be_filled(session: HostileSession, notebook: Notebook) -> None:
    """A session that says again and again that a cell begins has it kept once."""
    ends(notebook)
    begins = made_up("execute_input", "PARENT", code="filling = 1", execution_count=1)
    session.messages = [begins] * 10
    ends(notebook, "filling = 1")
    kept = notebook.ask("history", hist_access_type="search", pattern="filling*")
    assert [source for *_, source in kept["history"]] == ["filling = 1"]


def test_a_restart_gets_away(session: HostileSession, notebook: Notebook) -> None:
    """A session that holds every answer back cannot keep a kernel from restarting."""
    ends(notebook)
    session.head = {"idle": None, "more": True, "accepted": 0}
    notebook.restart()
    begin_anew(session, notebook)


FORGED = """
import json
kernel = get_ipython().kernel
parent = json.dumps(kernel.get_parent()["header"], default=str).encode()
for kind in %r:
    for content in b"{}", b"[]", b'{"execution_state": 1, "execution_count": "x", "data": []}':
        header = {"msg_id": "m", "msg_type": kind, "version": "5.4"}
        for header in b"{}", b"[]", json.dumps(header).encode():
            for above in parent, b"{}", b"[]", b'{"msg_id": []}':
                parts = [b"<IDS|MSG>", b"", header, above, b"{}", content]
                kernel.iopub_socket.send_multipart(parts)
"""


def test_what_user_code_forges_harms_nobody(live: Notebook) -> None:
    """A real session's child that sends messages past ipykernel goes on, and its variables."""
    live.run("kept = 1")
    request = live.send(FORGED % sorted(set().union(*KINDS.values())))
    live.reply(request)
    assert "kept" in live.ask("complete", code="ke", cursor_pos=2)["matches"]
    live.silence(0.5)
    assert live.run("kept").result == "1"


def test_an_agent_that_was_replaced_is_left(shared_server: Server, tmp_path: Path) -> None:
    """Code that takes the agent's place in the session ends the cell; `%tci new` helps."""
    before = set(shared_server.sessions())
    with opened(tmp_path, environment(shared_server, tmp_path, "live")) as notebook:
        assert notebook.run("1").result == "1"
        [session] = set(shared_server.sessions()) - before
        shared_server.run(
            "# tci-agent\nimport sys, types\n"
            "piece = '<tci 1 %s 1 0 3 9 00000000 raw AAAA>'\n"
            "sys.modules['_tci_agent.entry'] = types.SimpleNamespace(\n"
            "    request=lambda nonce, argument: print(piece % nonce))",
            session,
        )
        assert notebook.run("2").error == "LiveRefused"
        assert notebook.run("%tci new\n3").result == "3"
