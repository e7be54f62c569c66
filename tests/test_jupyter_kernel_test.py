"""The Jupyter project's own conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import jupyter_kernel_test
import pytest

from conftest import Server


@pytest.fixture(scope="module", autouse=True)
def _environment(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TCI_BASE_URL", shared_server.url)
        patch.setenv("TCI_API_KEY", shared_server.token)
        patch.setenv("TCI_CONFIG", str(tmp_path_factory.mktemp("config") / "none"))
        # A search of the history is to find what these tests have run.
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield


class Samples:
    """All that can be asked of a Python kernel over either transport."""

    transport: str
    kernel_name = "tci_python"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import colle", "matches": {"collections"}},
    ]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hi')", "def f(x):\n  x*2\n\n\n"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q", "a b"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('x'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('x'))",
            "mime": "text/latex",
        },
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "search")  # as stock ipykernel
    code_inspect_sample = "zip"

    @classmethod
    def setUpClass(cls) -> None:
        """Start the kernel on its transport."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TCI_TRANSPORT", cls.transport)
            super().setUpClass()

    @pytest.fixture(autouse=True)
    def _session(self) -> None:
        """Questions are put to a session: a cell has made one."""
        self.flush_channels()
        self.execute_helper("None")


class TestPlain(Samples, jupyter_kernel_test.KernelTests):
    """One cell, one request."""

    transport = "plain"


class TestLive(Samples, jupyter_kernel_test.KernelTests):
    """The whole protocol."""

    transport = "live"
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    support_iopub_welcome = True
