"""The figures as a table in Markdown: medians, and ratios to the stock kernel."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from bench.measures import MEASURES, START

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Medians in seconds, bytes or counts, by added round trip (ms), name of measure, and kernel.
Figures = dict[tuple[int, str, str], float | None]

SCALES = {"ms": 1e3, "MB": 1 / 2**20, "": 1.0}


def table(figures: Figures, round_trips: Sequence[int], kinds: Sequence[str]) -> str:
    """Return one table for each round trip."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("tci-kernel", "ipykernel"))
    parts = [f"# Benchmark\n\nMedians, and in brackets the ratio to stock. {packages}.\n"]
    for round_trip in round_trips:
        head = ["", *kinds]
        rows = [
            _row(figures, round_trip, measure.name, measure.unit, kinds)
            for measure in (START, *MEASURES)
        ]
        rows = [row for row in rows if any(row[1:])]
        parts.append(f"## {round_trip} ms of added round trip\n\n{_aligned([head, *rows])}")
    return "\n".join(parts)


def _row(
    figures: Figures, round_trip: int, name: str, unit: str, kinds: Sequence[str]
) -> list[str]:
    """Return the name of a measure and its figures."""
    stock = figures.get((round_trip, name, "stock"))
    row = [name]
    for kind in kinds:
        value = figures.get((round_trip, name, kind))
        text = "" if value is None else f"{value * SCALES[unit]:,.1f} {unit}".strip()
        if value is not None and stock and kind != "stock":
            text += f" ({value / stock:.2f})"
        row.append(text)
    return row


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [rows[0], rule, *rows[1:]]
    return "".join(f"| {' | '.join(_padded(line, widths))} |\n" for line in lines)


def _padded(cells: list[str], widths: list[int]) -> list[str]:
    first, *others = zip(cells, widths, strict=True)
    return [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
