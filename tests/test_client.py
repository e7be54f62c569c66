"""What the client sends again, what it never does, and what each failure is called."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
import traceback
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

import tci_kernel
from conftest import wait_until
from scripted_service import Reply, ScriptedService, serving, success
from tci_kernel import errors
from tci_kernel.api import Execution, File, SessionInfo
from tci_kernel.client import TCIClient
from tci_kernel.settings import Settings

KEY = "sk-very-secret"


def configured(url: str, **more: Any) -> Settings:
    """Return settings for a service on loopback."""
    return Settings(base_url=url, api_key=SecretStr(KEY), **more)


def execute(url: str, code: str = "1", session_id: str | None = None, **more: Any) -> Execution:
    """Run one request with a client of its own."""

    async def call() -> Execution:
        async with TCIClient(configured(url, **more)) as client:
            return await client.execute(code, session_id)

    return asyncio.run(call())


@pytest.fixture
def _quick_retries() -> Any:
    """Retry without pauses, where the pause is not the point."""
    stamina.set_testing(True, attempts=10, cap=True)
    yield
    stamina.set_testing(False)


def test_a_request_is_what_the_contract_says() -> None:
    """Code, language and key go out; absent fields are left out."""
    with serving(success({"type": "stdout", "data": "hi\n"})) as service:
        execution = execute(service.url, "print('hi')")
    [(method, path, headers, body)] = service.requests
    assert (method, path) == ("POST", "/tci/execute")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(body) == {"code": "print('hi')", "language": "python"}
    assert (execution.session_id, execution.outputs[0].text) == ("ses_scripted", "hi\n")


def test_unknown_parts_of_an_answer_are_kept() -> None:
    """New fields, output types, MIME types and status words pass through."""
    reply = success({"type": "hologram", "data": {"x/y": [1]}, "depth": 3})
    reply.body["data"]["status"] = "splendid"
    reply.body["data"]["billing"] = {"cents": 3}
    with serving(reply) as service:
        execution = execute(service.url)
    assert execution.status == "splendid"
    assert execution.model_extra == {"billing": {"cents": 3}}
    assert execution.outputs[0].bundle == {"x/y": [1]}
    assert execution.outputs[0].model_extra == {"depth": 3}


def test_sessions_are_listed() -> None:
    """The list comes with times that know their zone."""
    listed = {"id": "ses_1", "started_at": "2026-01-31T12:00:00.123456Z", "execute_count": 2}
    with serving(Reply(body={"data": {"sessions": [listed]}, "errors": None})) as service:

        async def call() -> list[SessionInfo]:
            async with TCIClient(configured(service.url)) as client:
                return await client.sessions()

        [info] = asyncio.run(call())
    assert (info.id, info.execute_count) == ("ses_1", 2)
    assert info.started_at is not None
    assert info.started_at.utcoffset() is not None


@pytest.mark.parametrize(
    ("reply", "error", "session_id"),
    [
        (Reply(401, {"data": None, "errors": ["bad key"]}), errors.Unauthorized, None),
        (Reply(403, {"data": None, "errors": [{"message": "no"}]}), errors.Unauthorized, None),
        (Reply(400, {"data": None, "errors": ["bad code"]}), errors.InvalidRequest, None),
        (Reply(404, b"<h1>Not Found</h1>"), errors.InvalidRequest, None),
        (Reply(404, {"data": None, "errors": ["?"]}), errors.SessionExpired, "ses_1"),
        (Reply(410, {"data": None, "errors": ["died"]}), errors.SessionExpired, "ses_1"),
        (
            Reply(403, {"errors": ["session belongs to another user"]}),
            errors.SessionExpired,
            "ses_1",
        ),
        (Reply(200, {"errors": ["Session has expired"]}), errors.SessionExpired, "ses_1"),
        (Reply(500, {"errors": [{"code": 7}]}), errors.ServiceError, None),
        (Reply(200, {"data": None, "errors": "broken"}), errors.ServiceError, None),
        (Reply(200, b"<html>a page</html>"), errors.InvalidResponse, None),
        (Reply(200, {"data": None, "errors": None}), errors.InvalidResponse, None),
        (Reply(200, {"data": {"outputs": "x"}}), errors.InvalidResponse, None),
        (Reply(302, b"", {"Location": "/elsewhere"}), errors.InvalidResponse, None),
    ],
)
def test_a_failure_has_a_name(
    reply: Reply, error: type[errors.TCIError], session_id: str | None
) -> None:
    """Each way to fail is an error of its own, and is not sent again."""
    with serving(reply) as service, pytest.raises(error):
        execute(service.url, session_id=session_id)
    assert len(service.requests) == 1


def test_a_reason_that_is_a_sentence_is_put_into_one() -> None:
    """What a service says stands in brackets without its full stop."""
    reply = Reply(410, {"errors": ["It has ended."]})
    with serving(reply) as service, pytest.raises(errors.SessionExpired) as caught:
        execute(service.url, session_id="ses_1")
    assert "has ended (HTTP 410: It has ended). Its variables" in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 403])
@pytest.mark.parametrize(
    "words",
    [
        "Session ses_1 is not there: it has expired, or was never yours.",
        "The session you requested has expired",
        "session 3f2c-77 was not found",
        "Session 'ses_1': not found",
        "session with id 42 does not exist",
        "Session ses_1 is no longer available",
        "no such session",
        "Invalid session_id 'ses_1'",
        "Unknown session: ses_1",
        "session ses_1 belongs to another user",
        "you do not have it: the session could not be found",
        {"code": "session_not_found"},
        {"code": "SESSION_EXPIRED"},
    ],
)
def test_a_session_that_is_gone_is_told_in_many_words(status: int, words: Any) -> None:
    """No document fixes them, nor the status."""
    reply = Reply(status, {"errors": [words]})
    with serving(reply) as service, pytest.raises(errors.SessionExpired):
        execute(service.url, session_id="ses_1")


@pytest.mark.parametrize(
    ("status", "words", "error"),
    [
        (500, "Internal error: the session pool is invalid", errors.ServiceError),
        (500, "session ses_1 not found", errors.ServiceError),
        (503, "session backend unavailable, error unknown", errors.ServiceError),
        (400, "session payload: field files[0] is invalid base64", errors.InvalidRequest),
        (400, "session payload field invalid", errors.InvalidRequest),
        (400, "Invalid session payload", errors.InvalidRequest),
        (400, "session not saved. File unknown", errors.InvalidRequest),
        (403, "The session token has expired", errors.Unauthorized),
        (409, "The session is busy; another user request unknown", errors.InvalidRequest),
        (200, "The session store failed: disk died", errors.ServiceError),
    ],
)
def test_a_failure_that_speaks_of_sessions_ends_none(
    status: int, words: str, error: type[errors.TCIError]
) -> None:
    """A session goes on unless the service says that this very session is gone."""
    with serving(Reply(status, {"errors": [words]})) as service, pytest.raises(error):
        execute(service.url, session_id="ses_1")


def test_a_page_about_some_session_ends_none() -> None:
    """A gate in between speaks of a session of its own."""
    page = Reply(403, b"<h1>Your session has expired</h1>")
    with serving(page) as service, pytest.raises(errors.Unauthorized):
        execute(service.url, session_id="ses_1")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>a page</html>"),
        Reply(200, {"data": {"sessions": "x"}}),
        Reply(500, {"errors": ["broken"]}),
    ],
)
def test_a_list_that_fails_speaks_of_no_cell(reply: Reply) -> None:
    """Listing sessions runs nothing, and its errors do not say that something may have run."""
    with serving(reply) as service, pytest.raises(errors.TCIError) as caught:
        asyncio.run(TCIClient(configured(service.url, retries=0)).sessions())
    assert "cell" not in str(caught.value)


def test_a_proxys_page_is_shortened() -> None:
    """A 502 with a page of HTML becomes a line."""
    page = b"<html><style>p {}</style><body><h1>Bad Gateway</h1>" + b"<p>x</p>" * 9999
    with serving(Reply(502, page)) as service, pytest.raises(errors.ServiceError) as caught:
        execute(service.url)
    assert "Bad Gateway" in str(caught.value)
    assert "<" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_request_that_may_have_run_is_not_sent_again(status: int) -> None:
    """After a 5xx nobody knows what ran: the error says so."""
    with serving(Reply(status, b""), success()) as service:
        with pytest.raises(errors.ServiceError, match="may have run") as caught:
            execute(service.url)
        assert caught.value.may_have_run
    assert len(service.requests) == 1


def test_a_cut_answer_is_not_sent_again() -> None:
    """A connection that ends before the answer is an error that says the cell may have run."""
    with (
        serving(Reply(cut=True), success()) as service,
        pytest.raises(errors.ConnectionLost, match="may have run"),
    ):
        execute(service.url)
    assert len(service.requests) == 1


@pytest.mark.usefixtures("_quick_retries")
def test_a_list_is_asked_for_again() -> None:
    """Asking for sessions runs nothing, so any fault is worth another try."""
    good = Reply(body={"data": {"sessions": []}, "errors": None})
    with serving(Reply(cut=True), Reply(503, b""), good) as service:

        async def call() -> list[SessionInfo]:
            async with TCIClient(configured(service.url)) as client:
                return await client.sessions()

        assert asyncio.run(call()) == []
    assert len(service.requests) == 3


def test_a_pause_that_the_service_asks_for_is_kept() -> None:
    """429 is sent again, not before Retry-After has passed."""
    wait = Reply(429, {"errors": ["slow down"]}, {"Retry-After": "0.7"})
    with serving(wait, success()) as service:
        begin = time.monotonic()
        execute(service.url)
        assert time.monotonic() - begin >= 0.7
    assert len(service.requests) == 2


def test_a_pause_that_is_too_long_is_reported() -> None:
    """A Retry-After of an hour is told to the user instead of waited for."""
    wait = Reply(429, {"errors": ["come back later"]}, {"Retry-After": "3600"})
    with serving(wait) as service, pytest.raises(errors.RateLimited, match="later") as caught:
        execute(service.url)
    assert caught.value.retry_after == 3600
    assert not caught.value.may_have_run


@pytest.mark.usefixtures("_quick_retries")
def test_a_refused_connection_is_tried_again() -> None:
    """A service that is not there is tried `retries` times, then named; nothing has run."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(errors.Unreachable, match="Nothing has run"):
            execute(url)


def test_a_connection_that_comes_back_is_used() -> None:
    """The retry after a refused connection runs the cell, once."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    started: list[ScriptedService] = []
    timer = threading.Timer(0.5, lambda: started.append(ScriptedService(success(), port=port)))
    timer.start()
    try:
        assert execute(f"http://127.0.0.1:{port}").session_id == "ses_scripted"
    finally:
        timer.join()
        started[0].close()
    assert len(started[0].requests) == 1


def test_a_refused_connection_costs_no_other_request() -> None:
    """A cell that is under way gets its answer when another request finds nobody listening."""
    with serving(success()) as service:
        service.hold.clear()

        async def call() -> Execution:
            async with TCIClient(configured(service.url, retries=0)) as client:
                cell = asyncio.create_task(client.execute("1"))
                await asyncio.to_thread(wait_until, lambda: service.requests)
                service.stop_listening()
                with pytest.raises(errors.Unreachable):
                    await client.sessions()
                service.hold.set()
                return await cell

        assert asyncio.run(call()).session_id == "ses_scripted"


@pytest.mark.usefixtures("_quick_retries")
def test_an_unknown_host_is_unreachable() -> None:
    """DNS that knows no such name is said as that."""
    with pytest.raises(errors.Unreachable):
        execute("https://tci.invalid", connect_timeout=5)


def test_a_cell_over_its_limit_names_the_setting() -> None:
    """TCI_CELL_TIMEOUT passed: the message names it and says that the cell may have run."""
    with serving(success()) as service:
        service.hold.clear()
        with pytest.raises(errors.TimedOut, match="TCI_CELL_TIMEOUT") as caught:
            execute(service.url, cell_timeout=0.2)
        service.hold.set()
    assert caught.value.may_have_run


@pytest.mark.usefixtures("_quick_retries")
def test_a_connection_that_is_not_accepted_names_the_setting() -> None:
    """TCI_CONNECT_TIMEOUT passed: the message names it and says that nothing has run."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler = [socket.socket() for _ in range(3)]
        for client in filler:
            client.setblocking(False)
            client.connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(errors.TimedOut, match="TCI_CONNECT_TIMEOUT") as caught:
            execute(url, connect_timeout=0.2, retries=0)
        for client in filler:
            client.close()
    assert not caught.value.may_have_run


def test_sending_that_stands_still_names_the_setting() -> None:
    """TCI_WRITE_TIMEOUT passed: the message names it."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(errors.TimedOut, match="TCI_WRITE_TIMEOUT"):
            execute(url, "#" * 2**23, write_timeout=0.3, retries=0)


def test_the_key_is_in_no_log_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """Neither logs at their loudest nor a failure's whole traceback show the key."""
    caplog.set_level(logging.DEBUG)
    echo = Reply(401, {"errors": [f"key {KEY} is not known"]})
    with serving(echo) as service, pytest.raises(errors.Unauthorized) as caught:
        execute(service.url)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(caught.value)
    assert "not known" in shown
    assert KEY not in shown


def test_the_password_of_an_address_is_in_no_log_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is sent as HTTP wants it, and neither logs nor a failure's whole traceback show it."""
    caplog.set_level(logging.DEBUG)
    with serving(Reply(cut=True)) as service:
        client = TCIClient(Settings(base_url=service.url.replace("//", "//user:hunter2@")))
        with pytest.raises(errors.ConnectionLost) as caught:
            asyncio.run(client.execute("1"))
    [(_, _, headers, _)] = service.requests
    assert headers["Authorization"] == "Basic " + b64encode(b"user:hunter2").decode()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "…@127.0.0.1" in shown
    assert "hunter2" not in shown


def test_run_is_the_sdks_call() -> None:
    """`run` gives `response.data.outputs`, also where an event loop is running."""

    async def in_a_notebook(url: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TCI_BASE_URL", url)
            files = [{"name": "a.txt", "encoding": "string", "content": "x"}]
            return tci_kernel.run("1", language="python", session_id="ses_0", files=files)

    with serving(success({"type": "stdout", "data": "ok"}, session_id="ses_0")) as service:
        response = asyncio.run(in_a_notebook(service.url))
    assert response.data.outputs[0].data == "ok"
    assert response.errors is None
    sent = json.loads(service.requests[0][3])
    assert sent["files"] == [{"name": "a.txt", "encoding": "string", "content": "x"}]


def test_run_refuses_another_language() -> None:
    """Only Python can be run."""
    with pytest.raises(errors.InvalidRequest, match="language"):
        tci_kernel.run("1", language="r")  # type: ignore[arg-type]


def test_run_names_a_bad_file() -> None:
    """A file that is not the contract is named before anything is sent."""
    with pytest.raises(errors.InvalidRequest, match="files"):
        tci_kernel.run("1", files=[{"name": "a"}])


def test_a_file_is_not_shown() -> None:
    """The repr of a file leaves its content out."""
    assert "secret" not in repr(File(name="a", encoding="string", content="secret"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
answers = st.fixed_dictionaries(
    {},
    optional={
        "data": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "session_id": st.text(max_size=5) | json_values,
                "outputs": st.lists(
                    st.fixed_dictionaries(
                        {},
                        optional={"type": st.text(max_size=6) | json_values, "data": json_values},
                    )
                )
                | json_values,
                "status": json_values,
                "errors": json_values,
            },
        ),
        "errors": json_values,
    },
)
bodies = (
    st.binary(max_size=60)
    | st.builds(lambda value: json.dumps(value).encode(), json_values | answers)
    | st.sampled_from([b"[" * 100_000, b"1" * 10_000, b'{"data":{"session_id":"\\ud800"}}'])
)


@given(status=st.integers(200, 599), body=bodies, session_id=st.none() | st.just("ses_1"))
def test_no_answer_makes_the_client_raise_anything_but_its_own(
    status: int, body: bytes, session_id: str | None
) -> None:
    """Whatever a service sends, the result is an execution or a `TCIError`."""

    async def call() -> None:
        wire = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
        settings = configured("http://127.0.0.1", retries=0)
        async with TCIClient(settings, wire=wire) as client:
            with contextlib.suppress(errors.TCIError):
                await client.execute("1", session_id)
            with contextlib.suppress(errors.TCIError):
                await client.sessions()

    asyncio.run(call())


def test_settings_folder_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can be made where no configuration exists."""
    monkeypatch.setenv("TCI_CONFIG", str(tmp_path / "none.toml"))
    assert TCIClient().settings.retries == 5
