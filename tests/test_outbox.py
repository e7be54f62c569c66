"""What of the child's output is kept until it is acknowledged, and what gives way."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from tci_kernel.agent.outbox import BATCH, CROWD, Held, Outbox


def add_text(outbox: Outbox, text: str, name: str = "stdout", parent: str = "cell") -> None:
    """Add stream text."""
    content = json.dumps({"name": name, "text": text}).encode()
    outbox.add("iopub", [b"{}", b"{}", b"{}", content], parent)


def texts(held: list[Held]) -> str:
    """Return the texts of messages that have one."""
    return "".join(json.loads(message.frames[3]).get("text", "") for message in held)


def test_messages_stay_until_acknowledged() -> None:
    """What was taken comes again, until its number is acknowledged."""
    outbox = Outbox(10**6)
    for text in "abc":
        add_text(outbox, text)
    assert texts(outbox.take()[0]) == texts(outbox.take()[0]) == "abc"
    outbox.acknowledge(2)
    assert [message.number for message in outbox.take()[0]] == [3]
    outbox.acknowledge(3)
    assert (outbox.take(), outbox.size) == (([], False), 0)


def test_a_frame_is_bounded() -> None:
    """More than a batch is said to be more, and one huge message goes alone."""
    outbox = Outbox(2**30)
    outbox.add("iopub", [b"x" * (BATCH + 1)])
    add_text(outbox, "next")
    taken, more = outbox.take()
    assert ([message.number for message in taken], more) == ([1], True)
    outbox.acknowledge(1)
    assert texts(outbox.take()[0]) == "next"


def test_a_crowd_of_texts_joins() -> None:
    """Many short texts of one stream become few; each stream, each cell, stays for itself."""
    outbox = Outbox(10**6)
    for number in range(2000):
        add_text(outbox, f"{number} ", ("stdout", "stderr")[number // 500 % 2])
    add_text(outbox, "next", parent="another cell")
    held, _ = outbox.take()
    assert texts(held) == "".join(f"{number} " for number in range(2000)) + "next"
    assert len(held) < 100
    assert held[-1].parent == "another cell"


def test_a_few_texts_stay_apart() -> None:
    """What is flushed at its pace arrives as it was."""
    outbox = Outbox(10**6)
    for number in range(CROWD):
        add_text(outbox, f"{number} ")
    assert len(outbox.take()[0]) == CROWD


def test_only_text_gives_way() -> None:
    """Over the limit the middle of a stream is dropped; displays and other streams are kept."""
    outbox = Outbox(20_000)
    add_text(outbox, "begin ")
    for number in range(1000):
        add_text(outbox, f"{number:0100}")
        if number % 100 == 0:
            outbox.add("iopub", [b"{}", b"{}", b"{}", b'{"display": 1}'])
    add_text(outbox, " end")
    held, _ = outbox.take()
    printed = texts(held)
    assert outbox.size <= outbox.limit
    assert printed.startswith("begin ")
    assert printed.endswith(f"{999:0100} end")
    assert sum(message.parent is None for message in held) == 10
    assert printed.count("bytes of output dropped") == 1


def test_the_note_counts_what_was_dropped() -> None:
    """Kept and dropped bytes together are what was printed."""
    outbox = Outbox(20_000)
    for _ in range(2000):
        add_text(outbox, "é" * 50)
    kept, _, rest = texts(outbox.take()[0]).partition("\n[… ")
    dropped, _, tail = rest.partition(" bytes of output dropped …]\n")
    assert len((kept + tail).encode()) + int(dropped) == 2000 * 100


def test_what_was_in_a_frame_is_not_changed() -> None:
    """Text that a relay may have seen stays as it was."""
    outbox = Outbox(20_000)
    for number in range(20):
        add_text(outbox, f"{number:0400}")
    before = outbox.take()[0]
    for number in range(100):
        add_text(outbox, f"{number:0400}")
    assert outbox.take()[0][:20] == before


def test_one_huge_text_keeps_its_ends() -> None:
    """A single text over the limit loses its middle only."""
    outbox = Outbox(20_000)
    add_text(outbox, "first" + "x" * 50_000 + "last")
    printed = texts(outbox.take()[0])
    assert printed.startswith("first")
    assert printed.endswith("last")
    assert len(printed) < 20_000


def test_what_comes_behind_a_huge_frame_keeps_its_end() -> None:
    """A frame that is on its way leaves the room for what comes behind it as it is."""
    outbox = Outbox(12_800)
    add_text(outbox, "a" * 10_700)
    outbox.take()
    add_text(outbox, "b" * 3_000)
    assert texts(list(outbox.held.values())) == "a" * 10_700 + "b" * 3_000
    add_text(outbox, "c" * 20_000)
    kept = texts(list(outbox.held.values()))
    assert "dropped" in kept
    assert kept.endswith("c")
    assert outbox.size - outbox.in_frames <= outbox.limit


def test_huge_texts_in_a_row_stay_below_the_limit() -> None:
    """Each text over a quarter of the limit first keeps its ends, and gives way like any other."""
    outbox = Outbox(20_000)
    for number in range(100):
        add_text(outbox, f"<{number:07998}>")
    printed = texts(outbox.take()[0])
    assert outbox.size <= outbox.limit
    assert printed.startswith("<000")
    assert printed.endswith("00099>")
    kept = re.sub(r"\n\[… \d+ bytes of output dropped …\]\n", "", printed)
    dropped = re.findall(r"(\d+) bytes of output dropped", printed)
    assert len(kept) + sum(map(int, dropped)) == 100 * 8000


@given(
    st.lists(
        st.tuples(st.sampled_from(["stdout", "stderr", None]), st.text(max_size=200)), max_size=200
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_the_books_are_right(items: list[tuple[str | None, str]], takes: list[int]) -> None:
    """Whatever comes: sizes add up, numbers rise, and all that is no stream text is held."""
    outbox = Outbox(4000)
    displays = []
    for position, (name, text) in enumerate(items):
        if name is None:
            outbox.add("iopub", [b"{}", b"{}", b"{}", b"{}"])
            displays.append(outbox.last)
        else:
            add_text(outbox, text, name)
        if position in takes:
            outbox.take()
    held = list(outbox.held.values())
    numbers = [message.number for message in held]
    assert outbox.size == sum(message.size for message in held)
    assert numbers == sorted(set(numbers)) == list(outbox.held)
    assert set(displays) <= set(numbers)
