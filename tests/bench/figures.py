"""What every benchmark shares: interleaved rounds, medians, a table and a JSON file of figures."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its goal: `ok` is whether `value` is at most `goal`."""

    figure: str
    value: float
    goal: float
    ok: bool

    @classmethod
    def at_most(cls, figure: str, value: float, goal: float) -> Figure:
        """A figure that should not exceed its goal."""
        return cls(figure, round(value, 4), goal, value <= goal)


def arguments(description: str) -> argparse.Namespace:
    """Read the command line that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--rounds", type=int, default=15, help="interleaved rounds; medians are taken over them"
    )
    return parser.parse_args()


def report(title: str, figures: list[Figure], file: Path | None) -> int:
    """Print the figures, write them to `file`, and return the exit code: 0 when every goal is met."""
    table = Table("figure", "value", "goal", "", title=title)
    for entry in figures:
        mark = "[green]ok[/]" if entry.ok else "[red]missed[/]"
        table.add_row(entry.figure, f"{entry.value:g}", f"≤ {entry.goal:g}", mark)
    Console().print(table)
    if file is not None:
        file.write_text(json.dumps([asdict(entry) for entry in figures], indent=2) + "\n")
    return 0 if all(entry.ok for entry in figures) else 1


async def cpu_per_call(
    variants: Mapping[str, Callable[[int], Awaitable[None]]], *, calls: int, rounds: int
) -> dict[str, list[float]]:
    """Run each variant for `calls` calls in every round, in turn; return microseconds of CPU per call, per round."""
    for run in variants.values():
        await run(calls // 4 or 1)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            started = process_time()
            await run(calls)
            times[name].append((process_time() - started) / calls * 1e6)
    return times


def median_ratio(one: list[float], other: list[float]) -> float:
    """The median of the ratios, round by round: a machine whose speed drifts slows both of a pair."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
