"""The kernel's process: how it starts, and how it ends when nobody asks it to."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from tornado.ioloop import IOLoop

from tci_kernel import ports
from tci_kernel.kernel import TCIKernel
from tci_kernel.signals import on_signal

#: Time for the control thread to send its last reply.
_FINISH_SECONDS = 2.0


class TCIKernelApp(IPKernelApp):  # type: ignore[misc]  # ipykernel's base class is untyped
    """Runs a `TCIKernel`; ends it properly on SIGTERM and when its parent is gone."""

    name = "tci-kernel"
    kernel_class = TCIKernel

    def init_path(self) -> None:
        """Leave the current folder out of the search for modules: user code runs elsewhere."""

    def init_poller(self) -> None:
        """Watch the parent: the stock poller ends the process without ending the session.

        A launcher that sets no JPY_PARENT_PID (VS Code) can vanish too. One that sets it may have
        vanished already, and left this process to process 1.
        """
        if sys.platform == "win32":
            super().init_poller()
        elif os.getppid() != 1 or self.parent_handle > 1:
            self.poller = threading.Thread(target=_watch_parent, daemon=True, name="parent watch")

    def _try_bind_socket(self, s: Any, port: int) -> int:
        """Bind a socket, to what listens on its port already if that is so."""
        listener = ports.hand_over(port)
        if listener is not None:
            s.setsockopt(zmq.USE_FD, listener)
        bound: int = super()._try_bind_socket(s, port)
        return bound

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
        """Until the event loop runs, let SIGINT end nothing, and SIGTERM the process at once."""
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def start(self) -> None:
        """Run until the main loop stops, then let the control thread finish what it does.

        SIGINT ends a cell, never the loop; SIGTERM ends the loop when the kernel has left.
        The stock order closes IOPub first, and a reply to shutdown_request that is being flushed
        just then waits for it until the front end kills the process.
        """
        loop: Any = IOLoop.current()
        terminate = partial(loop.add_callback, self.kernel.terminate)
        note = self.kernel.note_signal
        on_signal(signal.SIGINT, self.kernel.interrupt, loop.asyncio_loop, at_once=note)
        on_signal(signal.SIGTERM, terminate, loop.asyncio_loop)
        super().start()
        self.control_thread.stop()
        self.control_thread.join(_FINISH_SECONDS)


def _watch_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent != 1:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run a kernel until its front end ends it."""
    TCIKernelApp.launch_instance()
