"""`input()`: what a cell asks of the person who runs it."""

from __future__ import annotations

import time
from queue import Empty

import psutil
import pytest

from notebooks import Notebook


def test_input_is_asked_and_answered(live: Notebook) -> None:
    """The prompt reaches the front end, and its answer the cell."""
    request = live.send("input('name? ')")
    assert live.answer("Ada 🙂") == {"prompt": "name? ", "password": False}
    assert live.finish(request).result == "'Ada 🙂'"


def test_a_password_is_asked_as_one(live: Notebook) -> None:
    """`getpass` tells the front end to hide what is typed."""
    request = live.send("import getpass; len(getpass.getpass('key: '))")
    assert live.answer("secret") == {"prompt": "key: ", "password": True}
    assert live.finish(request).result == "6"


def test_what_was_printed_comes_before_the_question(live: Notebook) -> None:
    """A person sees what a cell has printed when it asks."""
    request = live.send("print('choose:'); input()")
    assert live.wait_for(request, "stream")["content"]["text"] == "choose:\n"
    live.answer("")
    assert live.finish(request).result == "''"


def test_questions_come_one_after_the_other(live: Notebook) -> None:
    """Each answer goes to its question."""
    request = live.send("[input(str(n)) for n in range(5)]")
    prompts = [live.answer(f"a{n}")["prompt"] for n in range(5)]
    assert prompts == ["0", "1", "2", "3", "4"]
    assert live.finish(request).result == "['a0', 'a1', 'a2', 'a3', 'a4']"


def test_the_debugger_can_be_used(live: Notebook) -> None:
    """`pdb` asks for its commands and goes on when told so."""
    request = live.send("x = 41\nimport pdb; pdb.set_trace()\nx")
    live.answer("x = x + 1")
    live.answer("continue")
    assert live.finish(request).result == "42"


@pytest.mark.parametrize("ask", ["input()", "__import__('getpass').getpass()"])
def test_a_client_that_forbids_questions_gets_an_error(live: Notebook, ask: str) -> None:
    """With `allow_stdin` false the cell fails as on any ipykernel, and nobody is asked."""
    cell = live.run(ask, allow_stdin=False)
    assert (cell.status, cell.error) == ("error", "StdinNotImplementedError")
    with pytest.raises(Empty):
        live.client.get_stdin_msg(timeout=0.2)


def test_a_question_can_be_interrupted(live: Notebook) -> None:
    """An interrupt ends a cell that waits for an answer; a late answer harms nothing."""
    request = live.send("input('for ever? ')")
    live.client.get_stdin_msg(timeout=10)
    begun = time.monotonic()
    assert live.command("interrupt_request", {})["status"] == "ok"
    assert live.finish(request).error == "KeyboardInterrupt"
    assert time.monotonic() - begun < 1
    live.client.input("too late")
    request = live.send("input('again? ')")
    live.answer("yes")
    assert live.finish(request).result == "'yes'"


def test_answers_are_not_kept(live: Notebook) -> None:
    """An answer that has been handed on leaves nothing in the kernel, however large its header."""
    kernel = psutil.Process(live.manager.provisioner.pid)

    def memory_after_answers(word: str) -> int:
        for number in range(8):
            long = f"{word}{number}" + "x" * 2**22
            live.tell("input_reply", {"value": ""}, channel="stdin", msg_id=long)
            live.run("1")
        return kernel.memory_info().rss

    before = memory_after_answers("warm")
    assert memory_after_answers("then") - before < 16 * 2**20


def test_a_cell_with_magics_can_ask(live: Notebook) -> None:
    """The rest of a cell that begins with a `%tci` line asks too."""
    request = live.send("%tci status\ninput('and? ')")
    assert live.answer("so")["prompt"] == "and? "
    assert live.finish(request).result == "'so'"
