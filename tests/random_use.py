"""Random use of a kernel against what is promised: a program that finds what no test expects.

    python tests/random_use.py SEED SECONDS [RATE]

Cells of many kinds, questions, interrupts, restarts and deaths come in any order from two front
ends, and a share of `RATE` of all requests meets with a fault of the network. Each request must get
one reply and one idle; a cell that is ok has run once and shown all its output, one that was
aborted has not run.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from conftest import Server, environment
from fault_proxy import QUICK, faulting
from notebooks import DEADLINE, Notebook, opened

#: Cells by kind; each writes its number to a file first.
CELLS = {
    "quick": "print({n})",
    "fails": "1 / 0",
    "sleeps": "import time; time.sleep(0.3)",
    "prints": "import time\nfor i in range(20): print(i, flush=True); time.sleep(0.01)",
    "asks": "print(input('?'))",
    "dies": "import os; os._exit(1)",
    "awaits": "import asyncio; await asyncio.sleep(0.2)",
    "is long": "print('x' * 2_000_000)",
    "begins here": "print({n})",
    "is silent": "pass",
    "is slow": "import time; time.sleep(30)",
}
#: What a cell that is ok has printed.
PRINTED = {
    "quick": "{n}\n",
    "begins here": "{n}\n",
    "prints": "".join(f"{i}\n" for i in range(20)),
    "is long": "x" * 2_000_000 + "\n",
}
QUESTIONS: dict[str, dict[str, Any]] = {
    "complete": {"code": "pri", "cursor_pos": 3},
    "inspect": {"code": "print", "cursor_pos": 5, "detail_level": 0},
    "is_complete": {"code": "for x in y:"},
    "comm_info": {},
    "kernel_info": {},
}
KINDS = [*["quick"] * 5, *(kind for kind in CELLS if kind != "is slow"), *QUESTIONS]


@dataclass
class Request:
    """A request under way, and what has come of it."""

    kind: str
    number: int
    reply: str = ""
    idle: bool = False
    printed: str = field(default="", repr=False)

    @property
    def ended(self) -> bool:
        """Whether reply and idle are there."""
        return bool(self.reply) and self.idle


class Use:
    """One user of one notebook; raises `AssertionError` where a promise is broken."""

    def __init__(self, notebook: Notebook, other: Any, server: Server, seed: int) -> None:
        self.notebook, self.other = notebook, other
        self.server = server
        self.random = random.Random(seed)
        self.requests: dict[str, Request] = {}
        self.number = 0
        self.interrupted = False
        self.ran: set[int] = set()
        self.never_ran: set[int] = set()

    def round(self) -> None:
        """Send some requests, do something to the kernel, and wait for the answers."""
        for _ in range(self.random.randint(1, 8)):
            self.send(self.random.choice(KINDS))
            self.hear(self.random.choice((0, 0, 0.1)))
        acts = [
            self.nothing,
            self.interrupt,
            self.stop_slow_cell,
            self.restart,
            self.die,
            self.halt,
        ]
        self.random.choice(acts)()
        end = time.monotonic() + DEADLINE
        while open_ := [r for r in self.requests.values() if not r.ended]:
            assert time.monotonic() < end, f"not answered: {open_}"
            self.hear(0.05)
        for request in self.requests.values():
            self.judge(request)
        self.requests.clear()

    def send(self, kind: str) -> None:
        """Send a cell or a question."""
        self.number += 1
        client = self.other if self.random.random() < 0.25 else self.notebook.client
        if kind in QUESTIONS:
            message = client.session.msg(f"{kind}_request", QUESTIONS[kind])
            client.shell_channel.send(message)
            request = message["header"]["msg_id"]
        else:
            code = f"open('ran', 'a').write('{self.number}\\n'); " + CELLS[kind]
            code = code.replace("; import", "\nimport").replace("{n}", str(self.number))
            if kind == "begins here":
                code = f"%tci help\n{code}"
            if kind == "is silent":  # as start-up code it runs again after a crash, which is meant
                code = CELLS[kind]
            stops = self.random.random() < 0.5
            request = client.execute(code, silent=kind == "is silent", stop_on_error=stops)
        self.requests[request] = Request(kind, self.number)

    def hear(self, seconds: float) -> None:
        """Take what comes for some time."""
        end = time.monotonic() + seconds
        while any(map(self.take_from, (self.notebook.client, self.other))):
            pass
        while time.monotonic() < end:
            if not any(map(self.take_from, (self.notebook.client, self.other))):
                time.sleep(0.002)

    def take_from(self, client: Any) -> bool:
        """Take one message that a front end has got, if there is one; both get all outputs."""
        for get in (client.get_shell_msg, client.get_iopub_msg, client.get_stdin_msg):
            with contextlib.suppress(Empty):
                message = get(timeout=0)
                if get != self.other.get_iopub_msg:
                    self.take(message, client)
                return True
        return False

    def take(self, message: dict[str, Any], client: Any) -> None:
        """Note one message, and answer a question."""
        kind, content = message["msg_type"], message["content"]
        request = self.requests.get(message["parent_header"].get("msg_id", ""))
        if kind == "input_request":
            client.input("yes") if self.random.random() < 0.8 else self.interrupt()
        elif request is None or message["parent_header"]["msg_type"] == "interrupt_request":
            return  # a manager gives its interrupts the ids that its client gives its requests
        elif kind.endswith("_reply"):
            assert not request.reply, f"two replies: {request}"
            request.reply = content.get("status", "ok")
        elif content.get("execution_state") == "idle":
            assert not request.idle, f"two idles: {request}"
            request.idle = True
        elif kind == "stream" and content["name"] == "stdout":
            request.printed += content["text"]

    def judge(self, request: Request) -> None:
        """Compare what a request gave with what is promised."""
        if request.kind in {*QUESTIONS, "is silent"}:
            return
        if request.reply == "aborted":
            self.never_ran.add(request.number)
        elif request.reply == "ok":
            self.ran.add(request.number)
            expected = PRINTED.get(request.kind, request.printed)
            assert request.printed == expected.replace("{n}", str(request.number)), request

    def check(self) -> None:
        """Compare what has run with what was said of it."""
        cell = self.notebook.run("print(open('ran', 'a+').seek(0) or open('ran').read())")
        interrupted, self.interrupted = self.interrupted, False
        ename = cell.reply["content"].get("ename")
        if interrupted and ename in {"KeyboardInterrupt", "KernelError"}:
            return  # one that was sent just before may overtake, as to any kernel
        assert cell.status == "ok", cell
        numbers = [int(line) for line in cell.stdout.split()]
        assert len(numbers) == len(set(numbers)), f"twice: {numbers}"
        assert self.ran <= set(numbers), f"ok, but not run: {self.ran - set(numbers)}"
        assert not self.never_ran & set(numbers), f"aborted, but run: {self.never_ran}"

    def nothing(self) -> None:
        """Let it work."""

    def interrupt(self) -> None:
        """Interrupt by signal or by message."""
        self.interrupted = True
        self.hear(self.random.random() * 0.4)
        if self.random.random() < 0.5:
            self.notebook.manager.interrupt_kernel()
        else:
            client = self.notebook.client
            client.control_channel.send(client.session.msg("interrupt_request", {}))

    def stop_slow_cell(self) -> None:
        """Interrupt a cell that takes long; if another one was met, once more."""
        self.send("is slow")
        slow = list(self.requests.values())[-1]
        while not slow.ended:
            self.interrupt()
            self.hear(1.0)

    def restart(self) -> None:
        """Restart; what was under way is nobody's any more."""
        self.hear(self.random.random() * 0.5)
        self.notebook.restart()
        self.requests.clear()

    def die(self) -> None:
        """Kill the kernel's process, and start it again; what it had not passed on is lost."""
        self.hear(self.random.random() * 0.5)
        self.notebook.manager.restart_kernel(now=True)
        self.requests.clear()
        self.send("quick")

    def halt(self) -> None:
        """Let the server stand still for a moment."""
        self.server.process.send_signal(signal.SIGSTOP)
        self.hear(self.random.random() * 0.5)
        self.server.process.send_signal(signal.SIGCONT)


def main(seed: int, seconds: float, rate: float = 0.0) -> None:
    """Use a kernel for some time."""
    folder = Path(tempfile.mkdtemp())
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    server = Server(warm=1)
    with faulting(server.url, rate=rate, seed=seed, kinds=QUICK) as proxy:
        variables = {**environment(server, folder, "live"), "TCI_BASE_URL": proxy.url}
        with opened(folder, variables) as notebook, notebook.another_front_end() as other:
            use = Use(notebook, other, server, seed)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                use.round()
                use.check()
    server.end()
    sys.stdout.write(f"{use.number} requests, {dict(proxy.counts)}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), *map(float, sys.argv[2:]))
