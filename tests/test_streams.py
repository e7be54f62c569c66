"""Much text: said in pieces, in its place, and whole."""

from __future__ import annotations

from itertools import groupby

import pytest

from conftest import live_only
from notebooks import Notebook
from tci_kernel.agent.streams import PIECE, pieces


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("", []),
        ("x" * PIECE, [PIECE]),
        ("x" * (PIECE + 1), [PIECE, 1]),
        ("a line\n" * (PIECE // 7) + "another line\n", [PIECE // 7 * 7, 13]),
        ("x" * (PIECE + 5) + "\nx", [PIECE, 7]),
    ],
    ids=["nothing", "one piece", "one line", "lines", "a long line and another"],
)
def test_a_text_is_cut_between_lines(text: str, lengths: list[int]) -> None:
    """A piece ends with a line if it can: what a terminal makes of one is not torn apart."""
    assert [len(piece) for piece in pieces(text)] == lengths
    assert "".join(pieces(text)) == text


@live_only
def test_much_text_comes_in_pieces(notebook: Notebook) -> None:
    """No message has more than a piece, so that the first is on its way while the last is made."""
    texts = [content["text"] for content in notebook.run(LINES).contents("stream")]
    assert len(texts) > 5
    assert max(map(len, texts)) <= PIECE
    assert all(text.endswith("\n") for text in texts)
    assert "".join(texts) == "".join(f"{number:0100}\n" for number in range(60_000))


#: Written at once; print writes the end of a line by itself.
LINES = "import sys; sys.stdout.write(''.join(f'{n:0100}\\n' for n in range(60_000)));"


def test_what_is_said_between_much_text_keeps_its_place(notebook: Notebook) -> None:
    """However long it takes to pack a text, nothing that is said behind it passes it by."""
    cell = notebook.run(
        "import sys\n"
        "from IPython.display import display\n"
        "for letter in 'abc':\n"
        "    print(letter * 5_000_000)\n"
        "    display(letter)\n"
        "    print(letter, file=sys.stderr, flush=True)\n"
        "letter * 3_000_000"
    )
    kinds = {"stream", "display_data", "execute_result"}
    said = [message["content"] for message in cell.messages if message["msg_type"] in kinds]
    places = [key for key, _ in groupby(content.get("name", "data") for content in said)]
    assert places == ["stdout", "data", "stderr"] * 3 + ["data"]
    assert cell.stdout == "".join(letter * 5_000_000 + "\n" for letter in "abc")


@live_only
def test_processes_that_were_forked_speak_too(notebook: Notebook) -> None:
    """What a forked process prints arrives, however much it is."""
    cell = notebook.run(
        "from multiprocessing import get_context\n"
        "def speak(letter): print(letter * 2_000_000, flush=True)\n"
        "with get_context('fork').Pool(2) as pool: pool.map(speak, 'ab')\n"
        "print('end')"
    )
    assert [cell.stdout.count(letter) for letter in ("a", "b")] == [2_000_000, 2_000_000]
    assert "end\n" in cell.stdout


@live_only
@pytest.mark.parametrize("code", ["(text + '\\n') * 500_000", "(text + 'z' * 2**20) * 2"])
def test_much_text_that_is_no_unicode_ends_the_cell(notebook: Notebook, code: str) -> None:
    """A piece that cannot be packed as it is says what can be said, and no other is lost."""
    cell = notebook.run(f"text = 'a smile \\ud83d'\nprint({code})\nprint('end')")
    assert cell.stdout.endswith("end\n")
    assert cell.stdout.count("a smile ?") == cell.stdout.count("smile") >= 2
    assert notebook.run("1").result == "1"


@live_only
def test_little_text_is_heard_while_a_cell_keeps_pythons_lock(notebook: Notebook) -> None:
    """What was printed before long work in C comes while that goes on."""
    notebook.run("number = 3**3_000_000")
    request = notebook.send("print('begun')\nwhile True: number * number")
    notebook.wait_for(request, "stream", deadline=10)
    notebook.manager.interrupt_kernel()
    assert notebook.finish(request).error == "KeyboardInterrupt"


@live_only
def test_what_stderr_said_first_comes_first(notebook: Notebook) -> None:
    """Much text of one stream does not pass by a little of the other."""
    cell = notebook.run(
        "import sys, time\nprint('first', file=sys.stderr); print('x' * 3_000_000); time.sleep(0.5)"
    )
    assert [c["name"] for c in cell.contents("stream")][:2] == ["stderr", "stdout"]


@live_only
def test_a_flush_that_is_over_is_not_done_again(notebook: Notebook) -> None:
    """Text that is written a moment before an earlier text was due leaves with what follows it."""
    notebook.run("import sys, time\nsys.stdout.flush_interval = 2")
    cell = notebook.run(
        "for text, seconds in ('a', 1), ('b', 1.5), ('c', 0):\n"
        "    print(text, end='', flush=text == 'a')\n"
        "    time.sleep(seconds)"
    )
    assert [content["text"] for content in cell.contents("stream")] == ["a", "bc"]


@live_only
@pytest.mark.parametrize("length", [1, 20_000_000])
def test_a_stream_that_is_closed_has_said_all(notebook: Notebook, length: int) -> None:
    """A program that closes its stdout ends as it should, and its text is there."""
    cell = notebook.run(f"import sys\nprint('x' * {length}, flush=True)\nsys.stdout.close()")
    assert (cell.status, cell.stdout) == ("ok", "x" * length + "\n")


@live_only
def test_a_hook_gets_whole_texts(notebook: Notebook) -> None:
    """Who takes the messages of a stream gets them as from a stock kernel."""
    notebook.run(HOOK)
    notebook.run("sys.stdout.write('x' * 3_000_000);")
    assert notebook.run("sizes").result == "[3000000]"


HOOK = """
import sys
sizes = []
def take(message):
    if len(message["content"]["text"]) > 9: sizes.append(len(message["content"]["text"]))
    else: return message
sys.stdout.pub_thread.schedule(lambda: sys.stdout.register_hook(take))
"""
