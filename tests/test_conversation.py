"""What the agent says in the place of a child, makes of what is no Unicode, and waits for."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from tci_kernel.agent import ledger
from tci_kernel.agent.conversation import Conversation
from tci_kernel.agent.wire import loads

if TYPE_CHECKING:
    from tci_kernel.agent.wire import Frames


def conversation() -> Conversation:
    """Return a conversation with a relay and a child, in which nothing has been said."""
    talk = Conversation({"max_buffer": 10**7, "execution_count": 1})
    talk.lock.acquire()  # as whoever speaks does
    return talk


def message(kind: str, message_id: str, parent: str = "", **content: object) -> Frames:
    """Return the frames of a message; its parent is an execute_request."""
    header = {"msg_id": message_id, "msg_type": kind, "session": "s"}
    asked = {"msg_id": parent, "msg_type": "execute_request"} if parent else {}
    # As jupyter_client packs: the bytes of a name that is no UTF-8 travel as they are.
    packed = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return [json.dumps(header).encode(), json.dumps(asked).encode(), b"{}", packed]


def said(of: Conversation) -> list[tuple[str, str, str]]:
    """Return the kinds of all messages for the relay, their parents, and the states they tell."""
    messages = []
    for held in of.outbox.take()[0]:
        header, parent = json.loads(held.frames[0]), json.loads(held.frames[1])
        state = loads(held.frames[3]).get("execution_state", "")
        messages.append((header["msg_type"], parent["msg_id"], state))
    return messages


def test_all_that_a_dead_child_was_asked_is_ended() -> None:
    """A question on control gets its reply, and a comm's message its idle, as the cell does."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "cell", code="x"))
    talk.ask("shell", message("comm_msg", "slider", comm_id="c"))
    talk.ask("control", message("usage_request", "usage"))
    assert len(talk.due()) == 3
    talk.bury("Python has died.")
    assert not talk.ledger.asked
    ends = said(talk)
    assert ("usage_reply", "usage", "") in ends
    for asked in ("cell", "slider", "usage"):
        assert ends.count(("status", asked, "idle")) == 1


def test_a_reply_with_a_name_that_is_no_unicode_arrives() -> None:
    """A failure that names such a file is a failure: the cell behind it does not run."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "first", code="x"), 0)
    talk.ask("shell", message("execute_request", "second", code="y"), 0)
    assert len(talk.due()) == 1
    odd = message("execute_reply", "r", "first", status="error", evalue="caf\udce9")
    talk.hear("shell", odd)
    talk.hear("iopub", message("status", "i", "first", execution_state="idle"))
    assert talk.due() == []
    assert ("execute_reply", "first", "") in said(talk)
    assert ("execute_reply", "second", "") in said(talk)


def test_text_that_is_no_unicode_costs_no_other() -> None:
    """Lines that wait are joined, whatever bytes stand in one of them."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "cell", code="x"))
    for number in range(200):
        text = f"{number} caf\udce9\n"
        talk.hear("iopub", message("stream", f"m{number}", "cell", name="stdout", text=text))
    frames = [held.frames[3].decode("utf-8", "replace") for held in talk.outbox.take()[0]]
    assert "".join(json.loads(frame)["text"] for frame in frames).count("\n") == 200


def test_a_comms_message_of_which_the_child_says_nothing_is_let_go() -> None:
    """A child tells no end of one that passes by a cell that awaits; the cell's end is enough."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "cell", code="await x"))
    talk.ask("shell", message("comm_msg", "slider", comm_id="c"))
    talk.due()
    for asked in talk.ledger.asked.values():
        asked.sent_at -= 2 * ledger.REPLY_GRACE
    talk.end_unanswered(0.0)
    assert len(talk.ledger.asked) == 2
    talk.hear("iopub", message("status", "b", "cell", execution_state="busy"))
    talk.hear("shell", message("execute_reply", "r", "cell", status="ok"))
    talk.hear("iopub", message("status", "i", "cell", execution_state="idle"))
    talk.end_unanswered(0.0)
    assert not talk.ledger.asked


def test_a_reply_that_is_held_up_is_waited_for() -> None:
    """That a cell has no reply is certain only when the child has replied to a later question."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "cell", code="1"))
    talk.due()
    talk.hear("iopub", message("status", "i", "cell", execution_state="idle"))
    [asked] = talk.ledger.asked.values()
    assert talk.ledger.unanswered_since() == 0.0
    asked.idle_since -= 2 * ledger.REPLY_GRACE
    assert talk.ledger.unanswered_since() == asked.idle_since
    talk.end_unanswered(asked.idle_since - 1)
    assert talk.ledger.asked
    talk.end_unanswered(asked.idle_since + 0.1)
    assert not talk.ledger.asked
    assert talk.outbox.take()[0][-1].channel == "shell"


def test_what_goes_on_coming_is_waited_for() -> None:
    """Without a pause one frame takes it all; the rest would need a request of its own."""
    talk = conversation()
    talk.ask("shell", message("execute_request", "cell", code="1"))
    talk.due()

    def speak() -> None:
        for number in range(20):
            with talk.lock:
                text = f"{number}\n"
                talk.hear("iopub", message("stream", f"m{number}", "cell", name="out", text=text))
                talk.lock.notify_all()
            time.sleep(0.02)

    child = threading.Thread(target=speak)
    began = time.monotonic()
    child.start()
    talk.wait(hold=30, gather=0.3, flow=30)
    assert len(said(talk)) == 20
    assert time.monotonic() - began < 10
    child.join()
