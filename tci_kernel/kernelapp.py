"""The kernel's process: how it starts, and how it ends when nobody asks it to."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from ipykernel.kernelapp import IPKernelApp

from tci_kernel.kernel import TCIKernel

#: Time for the control thread to send its last reply.
_FINISH_SECONDS = 2.0


class TCIKernelApp(IPKernelApp):  # type: ignore[misc]  # ipykernel's base class is untyped
    """Runs a `TCIKernel`; ends it properly on SIGTERM and when its parent is gone."""

    name = "tci-kernel"
    kernel_class = TCIKernel

    def init_poller(self) -> None:
        """Watch the parent: the stock poller ends the process without ending the session.

        A launcher that sets no JPY_PARENT_PID (VS Code) can vanish too. One that sets it may have
        vanished already, and left this process to process 1.
        """
        if sys.platform == "win32":
            super().init_poller()
        elif os.getppid() != 1 or self.parent_handle > 1:
            self.poller = threading.Thread(target=_watch_parent, daemon=True, name="parent watch")

    def init_iopub(self, context: Any) -> None:
        """Publish without a limit: by default ZeroMQ drops what a busy front end does not take.

        Set before the socket is bound, or it holds for no front end that comes later.
        """
        context.sndhwm = 0
        super().init_iopub(context)

    def init_io(self) -> None:
        """Log what libraries have to say with the rest, or it appears as the output of no cell."""
        super().init_io()
        self.log.propagate = False
        for handler in self.log.handlers:
            logging.getLogger().addHandler(handler)
        # That a request is repeated is told in the notebook, if it takes long.
        logging.getLogger("stamina").setLevel(logging.ERROR)

    def init_signal(self) -> None:
        """Let SIGINT end a cell, never the event loop; end properly on SIGTERM."""
        signal.signal(signal.SIGINT, self._on_sigint)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def start(self) -> None:
        """Run until the main loop stops, then let the control thread finish what it does.

        The stock order closes IOPub first, and a reply to shutdown_request that is being flushed
        just then waits for it until the front end kills the process.
        """
        super().start()
        self.control_thread.stop()
        self.control_thread.join(_FINISH_SECONDS)

    def _on_sigint(self, *_: Any) -> None:
        if self._listens:
            self.kernel.io_loop.add_callback_from_signal(self.kernel.interrupt)

    def _on_sigterm(self, *_: Any) -> None:
        if not self._listens:
            sys.exit(0)
        self.kernel.io_loop.add_callback_from_signal(self.kernel.terminate)

    @property
    def _listens(self) -> bool:
        return self.kernel is not None and hasattr(self.kernel, "io_loop")


def _watch_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent != 1:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run a kernel until its front end ends it."""
    TCIKernelApp.launch_instance()
