"""`jupyter qtconsole`: prompts, several lines, pictures, Ctrl-C at any moment, the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from conftest import Server, environment, has_ended, wait_until

if TYPE_CHECKING:
    from qt_window import QtConsole


@pytest.fixture(scope="module")
def start(
    shared_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], QtConsole]]:
    """Start consoles on the shared server, with one history, in windows that nobody sees."""
    folder = tmp_path_factory.mktemp("qtconsole")
    interrupts = signal.getsignal(signal.SIGINT)  # qtconsole takes it for its own end
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(shared_server, folder, "live").items():
            patch.setenv(name, value)
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(folder / "config"))
        patch.setenv("QT_API", "pyqt5")
        patch.setenv("QT_QPA_PLATFORM", "offscreen")
        patch.chdir(folder)
        from qt_window import QtConsole

        yield QtConsole
    signal.signal(signal.SIGINT, interrupts)


@pytest.fixture
def open_console(start: Callable[[], QtConsole]) -> Iterator[Callable[[], QtConsole]]:
    """Open consoles; those that a test leaves open are closed."""
    opened: list[QtConsole] = []

    def open_one() -> QtConsole:
        opened.append(start())
        return opened[-1]

    yield open_one
    for console in opened:
        console.close()


@pytest.fixture(scope="module")
def console(start: Callable[[], QtConsole]) -> Iterator[QtConsole]:
    """Open one console for several tests."""
    console = start()
    yield console
    console.close()


def test_results_and_prompts_have_one_number(console: QtConsole) -> None:
    """`Out[n]` is under `In [n]`, and the next prompt counts on."""
    number = console.number
    assert f"Out[{number}]: 42" in console.run("6 * 7")


def test_a_block_is_indented_and_ends_with_an_empty_line(console: QtConsole) -> None:
    """Enter after a colon goes on, indented by itself; an empty line runs the block."""
    number = console.number
    console.enter("for i in range(2):")
    console.see(r"^ +\.\.\.:     \Z")
    console.enter("print('line', i)")
    console.see(r"^ +\.\.\.:     print.*\n +\.\.\.:     \Z")
    console.enter()
    assert "\nline 0\nline 1\n" in console.prompt(number + 1)


def test_a_figure_is_a_picture(console: QtConsole) -> None:
    """A matplotlib figure stands in the window, below its cell."""
    before = console.pictures
    console.run("import matplotlib.pyplot as plt; plt.plot([1, 4, 9]);")
    wait_until(lambda: console.pictures == before + 1)


def test_tab_completes_names_of_the_session(console: QtConsole) -> None:
    """A name that only the session knows is completed."""
    number = console.number
    console.run("remarkable = 1")
    console.type("remark")
    console.press("Tab")
    console.see(r"remarkable\Z")
    console.enter()
    assert f"Out[{number + 1}]: 1" in console.prompt(number + 2)


def test_ctrl_c_ends_what_runs(console: QtConsole) -> None:
    """Code that sleeps ends at once, with its traceback; the next cell runs."""
    number = console.number
    console.enter("print('be' + 'gun'); import time; time.sleep(60)")
    console.see("^begun")
    console.press("Ctrl+C")
    assert "KeyboardInterrupt" in console.prompt(number + 1).rpartition("begun")[2]
    assert f"Out[{number + 1}]: 'well'" in console.run("'well'")


def test_a_question_is_answered_or_left_by_ctrl_c(console: QtConsole) -> None:
    """`input()` asks in the window; Ctrl-C there is KeyboardInterrupt in the code."""
    number = console.number
    console.enter("input('who? ')")
    console.see(r"^who\? \Z")
    console.enter("Ada")
    assert f"Out[{number}]: 'Ada'" in console.prompt(number + 1)
    console.enter("input('again? ')")
    console.see(r"^again\? \Z")
    console.press("Ctrl+C")
    assert "KeyboardInterrupt" in console.prompt(number + 2).rpartition("again?")[2]
    assert f"Out[{number + 2}]: 'well'" in console.run("'well'")


def test_a_restart_empties_the_namespace(console: QtConsole) -> None:
    """Ctrl-. restarts after a question: the next cell is the first, variables are gone."""
    console.run("x = 1")
    console.press_and_confirm("Ctrl+Period")
    console.see(r"^Restarting kernel\.\.\.\s+^In \[\d+\]: \Z")
    console.enter("'x' in globals()")
    assert "Out[1]: False" in console.prompt(2)


def test_ctrl_d_ends_all_but_the_history(
    open_console: Callable[[], QtConsole], server: Server
) -> None:
    """Ctrl-D ends kernel and session; Up in the next console finds what was typed."""
    before = server.sessions().keys()
    first = open_console()
    first.run("remembered = 1")
    kernel = first.kernel
    first.press_and_confirm("Ctrl+D")
    assert first.closed
    wait_until(lambda: has_ended(kernel) and server.sessions().keys() == before)
    second = open_console()
    second.press("Up")
    second.see(r"^In \[1\]: remembered = 1\Z")


def test_exit_closes_the_console(open_console: Callable[[], QtConsole], server: Server) -> None:
    """`exit` closes the window without a question, and ends kernel and session."""
    before = server.sessions().keys()
    console = open_console()
    kernel = console.kernel
    console.enter("exit")
    wait_until(lambda: console.closed)
    wait_until(lambda: has_ended(kernel) and server.sessions().keys() == before)
