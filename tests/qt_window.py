"""A window of `jupyter qtconsole`, and the keys that are pressed in it."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

from qtconsole.qtconsoleapp import JupyterQtConsoleApp
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from conftest import DEADLINE


class QtConsole:
    """A console on a kernel of its own."""

    def __init__(self, kernel: str = "tci_python") -> None:
        self.app = JupyterQtConsoleApp()
        # By itself it names the file after the process: all consoles here would share it.
        connection_file = Path.cwd() / f"{uuid.uuid4().hex}.json"
        self.app.initialize([f"--kernel={kernel}", f"--f={connection_file}"])
        self.app.window.show()
        self.widget = self.app.widget
        self.kernel: int = self.app.kernel_manager.provisioner.pid
        self.prompt(1)

    @property
    def text(self) -> str:
        """What the window shows now."""
        QApplication.processEvents()
        return str(self.widget._control.document().toPlainText())

    def press(self, keys: str) -> None:
        """Press one key, as Qt calls it, by itself or as `Ctrl+…`."""
        control, _, key = keys.rpartition("+")
        modifier = Qt.ControlModifier if control else Qt.NoModifier
        QTest.keyClick(self.widget._control, getattr(Qt, f"Key_{key}"), modifier)

    def press_and_confirm(self, keys: str) -> None:
        """Press a key that asks a question, which Qt waits for; say yes."""
        QTimer.singleShot(20, self._confirm)
        self.press(keys)

    def _confirm(self) -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            [yes] = [button for button in box.buttons() if "Yes" in button.text()]
            yes.click()
        else:
            QTimer.singleShot(20, self._confirm)

    def type(self, text: str) -> None:
        """Type."""
        QTest.keyClicks(self.widget._control, text)

    def enter(self, line: str = "") -> None:
        """Type a line and press Enter."""
        self.type(line)
        self.press("Return")

    def see(self, pattern: str) -> str:
        """Wait until the window shows a pattern; return what matched."""
        end = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.text, re.MULTILINE)):
            assert time.monotonic() < end, f"no {pattern!r} in:\n{self.text}"
            QTest.qWait(20)
        return found[0]

    def prompt(self, number: int) -> str:
        """Wait for the empty prompt of a cell; return all text."""
        self.see(rf"^In \[{number}\]: \Z")
        return self.text

    @property
    def pictures(self) -> int:
        """How many pictures the window shows: Qt puts this character into the text for each."""
        return self.text.count("\N{OBJECT REPLACEMENT CHARACTER}")

    @property
    def number(self) -> int:
        """The number of the last prompt."""
        return int(re.findall(r"^In \[(\d+)\]:", self.text, re.MULTILINE)[-1])

    def run(self, line: str) -> str:
        """Type a cell and wait for the next prompt; return all text."""
        following = self.number + 1
        self.enter(line)
        return self.prompt(following)

    @property
    def closed(self) -> bool:
        """Whether the window is closed."""
        QApplication.processEvents()
        return not self.app.window.isVisible()

    def close(self) -> None:
        """Close the window, and end the kernel if it runs."""
        self.widget._confirm_exit = self.app.window.confirm_exit = False
        self.app.window.close()
