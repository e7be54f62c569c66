"""`jupyter console` in a terminal: prompts, several lines, Ctrl-C at any moment, the end."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psutil
import pyte
import pytest

from conftest import DEADLINE, Server, environment, has_ended, wait_until

ROWS, COLUMNS = 50, 120
ENTER, TAB, UP = "\r", "\t", "\x1b[A"
CTRL_C, CTRL_D, CTRL_L = "\x03", "\x04", "\x0c"


class Console:
    """A console on a kernel of its own, and the screen of its terminal."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.Stream(self._screen)
        self.process = pexpect.spawn(
            sys.executable,
            ["-m", "jupyter_console", "--kernel=tci_python"],
            cwd=str(folder),
            env={**os.environ, **env, "IPYTHONDIR": str(folder / "ipython"), "TERM": "xterm"},
            dimensions=(ROWS, COLUMNS),
            encoding="utf-8",
        )
        self.prompt(1)

    @property
    def screen(self) -> str:
        """What the terminal shows now."""
        self._read()
        return "\n".join(line.rstrip() for line in self._screen.display)

    def _read(self) -> None:
        """Show what the console has written, and answer when it asks where the cursor is."""
        try:
            written = self.process.read_nonblocking(2**16, timeout=0.05)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self._stream.feed(written)
        if "\x1b[6n" in written:
            cursor = self._screen.cursor
            self.type(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")

    def type(self, keys: str) -> None:
        """Press keys."""
        self.process.send(keys)

    def see(self, pattern: str) -> str:
        """Wait until the screen shows a pattern; return what matched."""
        end = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.screen, re.MULTILINE)):
            assert time.monotonic() < end, f"no {pattern!r} on:\n{self.screen.strip()}"
        return found[0]

    def prompt(self, number: int) -> str:
        """Wait for the empty prompt of a cell; return the screen."""
        self.see(rf"^In \[{number}\]:\n*\Z")
        return self.screen

    @property
    def number(self) -> int:
        """The number of the last prompt."""
        return int(re.findall(r"^In \[(\d+)\]:", self.screen, re.MULTILINE)[-1])

    def run(self, keys: str) -> str:
        """Type a cell and wait for the next prompt; return the screen."""
        following = self.number + 1
        self.type(keys + ENTER)
        return self.prompt(following)

    def leave(self) -> None:
        """Press Ctrl-D and confirm."""
        self.type(CTRL_D)
        self.see(r"Do you really want to exit")
        self.type("y" + ENTER)
        self.process.expect(pexpect.EOF, timeout=DEADLINE)
        self.process.close()


@pytest.fixture
def open_console(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Console]]:
    """Open consoles with one history; those that a test leaves open are hung up."""
    folder = tmp_path_factory.mktemp("console")
    opened: list[Console] = []

    def open_one() -> Console:
        opened.append(Console(folder, environment(shared_server, folder, "live")))
        return opened[-1]

    yield open_one
    for console in opened:
        console.process.close()


@pytest.fixture(scope="module")
def running(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Open one console for several tests."""
    folder = tmp_path_factory.mktemp("console")
    console = Console(folder, environment(shared_server, folder, "live"))
    yield console
    console.process.close()


@pytest.fixture
def console(running: Console) -> Console:
    """Lend the console to a test, with an empty screen."""
    running.type(CTRL_L)
    wait_until(lambda: len(running.screen.split()) == 2)
    return running


def test_results_and_prompts_have_one_number(console: Console) -> None:
    """`Out[n]` is under `In [n]`, and the next prompt counts on."""
    number = console.number
    assert f"Out[{number}]: 42" in console.run("6 * 7")


def test_a_block_is_indented_and_ends_with_an_empty_line(console: Console) -> None:
    """Enter after a colon goes on, indented by itself; an empty line runs the block."""
    console.type("for i in range(2):" + ENTER)
    console.see(r"^ +\.\.\.:")
    console.type("print('line', i)" + ENTER)
    console.see(r"^ +\.\.\.:     print.*\n +\.\.\.:")
    assert "\nline 0\nline 1\n" in console.run("")


def test_tab_completes_names_of_the_session(console: Console) -> None:
    """A name that only the session knows is completed."""
    console.run("remarkable = 1")
    console.type("remark" + TAB)
    console.see(r"remarkable$")
    assert "Out" in console.run("")


def test_ctrl_c_at_the_prompt_empties_it(console: Console) -> None:
    """What was typed is dropped, nothing runs, and the number stays."""
    number = console.number
    console.type("1 / 0" + CTRL_C)
    screen = console.prompt(number)
    assert "ZeroDivisionError" not in screen
    assert "Out" in console.run("'well'")


def test_ctrl_c_ends_what_runs(console: Console) -> None:
    """Code that sleeps ends at once, with its traceback; the next cell runs."""
    number = console.number
    console.type("print('be' + 'gun'); import time; time.sleep(60)" + ENTER)
    console.see("^begun")
    console.type(CTRL_C)
    assert "KeyboardInterrupt" in console.prompt(number + 1)
    assert "Out" in console.run("'well'")


def test_a_question_is_answered_or_left_by_ctrl_c(console: Console) -> None:
    """`input()` asks in the terminal; Ctrl-C there is KeyboardInterrupt in the code."""
    number = console.number
    console.type("input('who? ')" + ENTER)
    console.see(r"^who\? $|^who\?$")
    console.type("Ada" + ENTER)
    assert "'Ada'" in console.prompt(number + 1)
    console.type("input('again? ')" + ENTER)
    console.see(r"^again\?")
    console.type(CTRL_C)
    assert "KeyboardInterrupt" in console.prompt(number + 2)
    assert "Out" in console.run("'well'")


def test_ctrl_d_ends_all_but_the_history(
    open_console: Callable[[], Console], server: Server
) -> None:
    """Ctrl-D ends kernel and session; Up in the next console finds what was typed."""
    before = server.sessions().keys()
    first = open_console()
    first.run("remembered = 1")
    [kernel] = psutil.Process(first.process.pid).children()
    first.leave()
    assert first.process.exitstatus == 0
    wait_until(lambda: has_ended(kernel.pid) and server.sessions().keys() == before)
    second = open_console()
    second.type(UP)
    second.see(r"^In \[1\]: remembered = 1$")
    second.type(CTRL_C)


def test_ctrl_c_while_the_session_starts(
    open_console: Callable[[], Console], server: Server
) -> None:
    """The first cell is left at once, the next runs; a terminal that is closed leaves nothing."""
    before = server.sessions().keys()
    console = open_console()
    console.type("import time; time.sleep(60)" + ENTER)
    wait_until(lambda: server.sessions().keys() != before)
    console.type(CTRL_C)
    assert "KeyboardInterrupt" in console.prompt(2)
    assert "Out[2]: 'well'" in console.run("'well'")
    console.process.close()
    wait_until(lambda: server.sessions().keys() == before)
