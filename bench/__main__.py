"""`python -m bench`: measures stock ipykernel, plain and live transport in one run."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import measures
from bench.kernels import KINDS, Kernels, kernels, settle
from bench.measures import MEASURES, START, Measure
from bench.proxy import distance
from bench.table import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.table import Figures


def main() -> None:
    """Measure, print the table, and write it to a file."""
    options = _options()
    figures: Figures = {}
    for milliseconds in options.round_trips:
        for kind in options.kernels:
            with distance(milliseconds / 1000) as far, kernels(kind, far) as started:
                for measure, value in _measure(started, options.only, options.repeat):
                    figures[milliseconds, measure.name, kind] = value
                    _tell(f"{milliseconds} ms, {kind}: {measure.name}")
    _tell("")
    text = table(figures, options.round_trips, options.kernels)
    print(text)  # noqa: T201  this is a command
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    add = parser.add_argument
    add("--round-trips", type=int, nargs="+", default=[0, 50, 150], help="added milliseconds")
    add("--kernels", nargs="+", choices=KINDS, default=KINDS)
    add("--only", nargs="+", default=[""], metavar="WORD", help="rows whose names hold a word")
    add("--repeat", type=float, default=1.0, help="multiplies how often each is measured")
    add("--output", type=Path, default=Path("build/bench.md"))
    return parser.parse_args()


def _measure(
    started: Kernels, only: list[str], factor: float
) -> Iterator[tuple[Measure, float | None]]:
    """Yield the median of each measure."""

    def chosen(measure: Measure) -> int:
        wanted = any(word in measure.name for word in only)
        return max(1, round(measure.repeat * factor)) if wanted else 0

    starts = [_start(started) for _ in range(chosen(START))]
    if starts:
        yield START, median(starts)
    settle()
    with started.start() as kernel:
        kernel.wait_for_ready()
        for measure in filter(chosen, MEASURES):
            kernel.run(measure.setup)
            taken = [measure.take(kernel) for _ in range(chosen(measure))]
            known = [value for value in taken if value is not None]
            yield measure, median(known) if known else None


def _start(started: Kernels) -> float:
    settle()
    begin = time.perf_counter()
    with started.start() as kernel:
        return measures.start(begin, kernel)


def _tell(text: str) -> None:
    """Show a person how far this is, where a person looks."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


if __name__ == "__main__":
    main()
