"""What is measured: each function takes a kernel whose session is there, and returns one figure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.kernels import Kernel

QUEUED = 100
MEGABYTES = 10

#: Text that compresses well, and text that does not: in pieces, as a program writes it.
COMPRESSIBLE = """
line = "one of many lines of a log that looks much like the one before\\n"
for _ in range(100):
    print((line * 2000)[:100_000])
"""
INCOMPRESSIBLE = """
import base64, os
for _ in range(100):
    print(base64.b64encode(os.urandom(75_000)).decode())
"""
PLOT = """
figure, axes = plt.subplots()
axes.plot([x * x for x in range(100)])
plt.show()
"""


def trivial_cell(kernel: Kernel) -> float:
    """Return the time of a cell that does nothing."""
    return _timed(lambda: kernel.run("pass"))


def queued_cells(kernel: Kernel) -> float:
    """Return the time of cells that are sent all at once."""
    requests = [f"x = {number}" for number in range(QUEUED)]
    return _timed(lambda: kernel.finish([kernel.client.execute(code) for code in requests]))


def first_output(kernel: Kernel) -> float:
    """Return the time until the first output of a cell that takes a second more is there."""
    begin = time.perf_counter()
    request = kernel.client.execute("import time; print('first'); time.sleep(1)")
    kernel.hear(request, lambda message: message["msg_type"] == "stream")
    seconds = time.perf_counter() - begin
    kernel.finish([request])
    return seconds


def compressible(kernel: Kernel) -> float:
    """Return the time of a cell that prints much text of a usual kind."""
    return _timed(lambda: kernel.run(COMPRESSIBLE))


def incompressible(kernel: Kernel) -> float:
    """Return the time of a cell that prints as much noise."""
    return _timed(lambda: kernel.run(INCOMPRESSIBLE))


def many_prints(kernel: Kernel) -> float:
    """Return the time of a cell that prints a line at a time."""
    return _timed(lambda: kernel.run("for i in range(20_000): print(i)"))


def interrupt(kernel: Kernel) -> float:
    """Return the time from an interrupt to the reply of the cell that it ends."""
    request = kernel.client.execute("time.sleep(3)")
    kernel.hear(request, lambda message: message["msg_type"] == "execute_input")
    time.sleep(0.2 + kernel.distance.round_trip)  # till the cell sleeps, wherever that is
    kernel.interrupt()
    seconds = _timed(lambda: kernel.reply(request))
    kernel.run("pass")  # in plain transport it waits behind the cell, which runs on
    return seconds


def completion(kernel: Kernel) -> float:
    """Return the time of a completion."""
    return _timed(lambda: kernel.reply(kernel.client.complete("time.sl", 7)))


def plot(kernel: Kernel) -> float:
    """Return the time of a cell that draws a figure."""
    return _timed(lambda: kernel.run(PLOT))


def memory(kernel: Kernel) -> float:
    """Return the resident memory of the local kernel process, in bytes."""
    return float(kernel.memory)


def requests_per_cell(kernel: Kernel) -> float | None:
    """Return how many requests go to the service for a cell, if there is one."""
    if kernel.server is None:
        return None
    before = kernel.server.requests()
    cells = 10
    for _ in range(cells):
        kernel.run("pass")
    return (kernel.server.requests() - before) / cells


@dataclass(frozen=True)
class Measure:
    """One row of the table; `setup` is a cell that runs before, `repeat` how often at least."""

    name: str
    take: Callable[[Kernel], float | None]
    unit: str = "ms"
    setup: str = "import time"
    repeat: int = 5


#: Memory comes before what fills it: plots, and floods of text.
MEASURES = (
    Measure("trivial cell", trivial_cell, repeat=30),
    Measure("memory of the local kernel", memory, unit="MB", repeat=1),
    Measure("completion", completion, repeat=10),
    Measure("first output of a long cell", first_output, repeat=3),
    Measure("interrupt", interrupt, repeat=3),
    Measure("a plot", plot, setup="%matplotlib inline\nimport matplotlib.pyplot as plt" + PLOT),
    Measure("requests for a cell", requests_per_cell, unit="", repeat=2),
    Measure(f"{QUEUED} queued cells", queued_cells),
    Measure("20,000 prints", many_prints),
    Measure(f"{MEGABYTES} MB of stdout, compressible", compressible, repeat=15),
    Measure(f"{MEGABYTES} MB of stdout, random", incompressible, repeat=15),
)

START = Measure("start to first result", lambda _: None)


def start(begin: float, kernel: Kernel) -> float:
    """Return the time from the start of a kernel to the result of its first cell."""
    kernel.wait_for_ready()
    kernel.reply(kernel.client.execute("1 + 1"))
    return time.perf_counter() - begin


def _timed(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin
