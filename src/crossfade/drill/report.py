"""What came of a run: figures with their goals, a table, a sentence."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crossfade.drill.drills import EPISODE_SECONDS
from crossfade.drill.episode import Result

if TYPE_CHECKING:
    from crossfade.drill.run import Options

_WRITES_A_ROUND: Final = 5_000
"""Acknowledged writes that a round of all drills must come to, so that twenty make 100,000."""
_PAUSE_GOAL: Final = 500.0
_CRASHES_FOR_EVERY_STEP: Final = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One number beside its goal."""

    figure: str
    value: float
    goal: str
    ok: bool

    @classmethod
    def at_least(cls, figure: str, value: float, goal: float) -> Figure:
        """A figure that should reach its goal."""
        return cls(figure, round(value, 2), f"≥ {goal:g}", value >= goal)

    @classmethod
    def at_most(cls, figure: str, value: float, goal: float) -> Figure:
        """A figure that should not exceed its goal."""
        return cls(figure, round(value, 2), f"≤ {goal:g}", value <= goal)

    @classmethod
    def told(cls, figure: str, value: float) -> Figure:
        """A figure without a goal."""
        return cls(figure, round(value, 2), "", ok=True)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known in the end.

    `crashed_at` counts, for every named step of a move, how often a process was killed there. `kept` is where the files
    of what went wrong are.
    """

    options: Options
    results: Sequence[Result]
    crashed_at: Mapping[str, int]
    kept: Path | None

    def figures(self) -> list[Figure]:
        """The numbers that decide, and some that explain."""
        results = self.results
        whole = sum(self.options.seconds_of(drill) for drill in self.options.drills) * self.options.rounds
        share = whole / EPISODE_SECONDS
        figures = [
            Figure.at_least(
                "acknowledged writes",
                sum(result.acknowledged for result in results),
                round(_WRITES_A_ROUND / 8 * share) if len(self.options.drills) > 1 else 1,
            ),
            Figure.at_least(
                "crashes injected", sum(result.crashes for result in results), self._crash_goal()
            ),
            Figure.at_most("lost", sum(result.lost for result in results), 0),
            Figure.at_most("different", sum(result.different for result in results), 0),
            Figure.at_most("errors seen by callers", sum(result.problems.total() for result in results), 0),
            Figure.at_most("other failures", sum(len(result.failures) for result in results), 0),
            Figure.told("writes of unknown outcome", sum(result.unknown for result in results)),
            Figure.told("writes sent on by the fence", sum(result.fenced for result in results)),
            Figure.told("conflicts settled", sum(result.conflicts for result in results)),
            self._steps(),
        ]
        figures += self._storm()
        figures += self._backfill()
        drains = [result.drain_seconds for result in results]
        figures.append(Figure.told("longest drain s", max(drains, default=0.0)))
        return figures

    def _steps(self) -> Figure:
        """At how many of the named steps of a move a process was killed; a long run comes to all of them."""
        reached = sum(count > 0 for count in self.crashed_at.values())
        if self._crash_goal() < _CRASHES_FOR_EVERY_STEP:
            return Figure.told("steps of a move killed at", reached)
        return Figure.at_least("steps of a move killed at", reached, len(self.crashed_at))

    def _crash_goal(self) -> int:
        goal = 0.0
        for drill in self.options.drills:
            share = self.options.seconds_of(drill) / EPISODE_SECONDS
            goal += (drill.crashes * share + drill.kills) * self.options.rounds
        return int(goal)

    def _storm(self) -> list[Figure]:
        """Moves, and how long they held writers up; under load that is the flip-storm's to say."""
        moves = sum(result.moves for result in self.results)
        figures = [Figure.told("authority moves", moves)]
        storms = [result for result in self.results if result.drill == "flip-storm"]
        pauses = sorted(pause * 1000 for result in storms for pause in result.pauses)
        if not storms:
            return figures
        short = [drill for drill in self.options.drills if drill.moves]
        seconds = sum(self.options.seconds_of(drill) for drill in short) * self.options.rounds
        goal = int(min(100, 100 * seconds / 60))
        figures.append(
            Figure.at_least("flip-storm: authority moves", sum(result.moves for result in storms), goal)
        )
        times = sorted(time / 1000 for result in storms for time in result.times)
        if len(pauses) > 1:
            figures.append(Figure.told("flip-storm: pause p50 ms", statistics.median(pauses)))
            figures.append(Figure.at_most("flip-storm: pause p99 ms", _p99(pauses), _PAUSE_GOAL))
        if times:
            figures.append(Figure.told("flip-storm: write p99 ms", _p99(times)))
            figures.append(Figure.told("flip-storm: slowest write ms", times[-1]))
        traffic = sum(result.acknowledged for result in storms)
        figures.append(Figure.told("flip-storm: writes per second", traffic / max(seconds, 1.0)))
        return figures

    def _backfill(self) -> list[Figure]:
        """What a backfill under traffic copied, and what the traffic felt of it."""
        results = [result for result in self.results if result.copied_rows]
        if not results:
            return []
        seconds = sum(result.copy_seconds for result in results)
        before = sorted(time / 1000 for result in results for time in result.usual)
        during = sorted(time / 1000 for result in results for time in result.copying)
        figures = [
            Figure.told("backfill: rows of history", sum(result.copied_rows for result in results)),
            Figure.told("backfill: seconds of copying", seconds),
            Figure.told("backfill: writes per second meanwhile", len(during) / max(seconds, 1.0)),
        ]
        if before and during:
            figures.append(Figure.told("backfill: write p50 ms before", statistics.median(before)))
            figures.append(Figure.told("backfill: write p50 ms meanwhile", statistics.median(during)))
            figures.append(Figure.told("backfill: write p99 ms before", _p99(before)))
            figures.append(Figure.told("backfill: write p99 ms meanwhile", _p99(during)))
        return figures

    @property
    def ok(self) -> bool:
        """Whether every figure is what it has to be."""
        return all(figure.ok for figure in self.figures())


def _p99(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def show(report: Report, console: Console) -> None:
    """Print what came of each drill, the figures, and everything that is wrong."""
    drills = Table("drill", box=None, pad_edge=False, title="Drills", title_justify="left")
    for title in ("rounds", "acknowledged", "unknown", "killed", "moves", "errors", "lost", "different"):
        drills.add_column(title, justify="right")
    for name in dict.fromkeys(result.drill for result in report.results):
        mine = [result for result in report.results if result.drill == name]
        drills.add_row(
            name,
            str(len(mine)),
            f"{sum(result.acknowledged for result in mine):,}",
            f"{sum(result.unknown for result in mine):,}",
            f"{sum(result.crashes for result in mine):,}",
            f"{sum(result.moves for result in mine):,}",
            _bad(sum(result.problems.total() + len(result.failures) for result in mine)),
            _bad(sum(result.lost for result in mine)),
            _bad(sum(result.different for result in mine)),
        )
    console.print(drills)
    console.print()
    table = Table("figure", "value", "goal", "", box=None, pad_edge=False)
    for figure in report.figures():
        mark = "" if not figure.goal else "[green]ok[/]" if figure.ok else "[red]missed[/]"
        table.add_row(figure.figure, f"{figure.value:,g}", figure.goal, mark)
    console.print(table)
    console.print()
    if any(report.crashed_at.values()):
        steps = ", ".join(f"{step} {count}" for step, count in report.crashed_at.items())
        console.print(Text(f"killed at the steps of a move: {steps}", style="dim"))
    for line in problems(report):
        console.print(Text(f"  {line}", style="red"))
    if report.kept is not None:
        console.print(f"journals and logs: {report.kept}", highlight=False)
    style = "bold green" if report.ok else "bold red"
    console.print(Text(("✓ " if report.ok else "✗ ") + sentence(report), style=style))


def _bad(count: int) -> Text:
    return Text(f"{count:,}", style="bold red" if count else "")


def problems(report: Report) -> list[str]:
    """Everything that is wrong, each kind once, with counts; of rows, a few examples."""
    found: Counter[str] = Counter()
    lines: list[str] = []
    for result in report.results:
        where = f"{result.drill} {result.round}"
        for problem, count in result.problems.items():
            found[f"{result.drill}: {problem}"] += count
        lines += [f"{where}: {line}" for line in (*result.failures, *result.contradictions())]
    return [f"{count} × {problem}" for problem, count in found.most_common()] + lines


def sentence(report: Report) -> str:
    """Say in one sentence what came of it."""
    acknowledged = sum(result.acknowledged for result in report.results)
    crashes = sum(result.crashes for result in report.results)
    lost = sum(result.lost for result in report.results)
    different = sum(result.different for result in report.results)
    errors = sum(result.problems.total() for result in report.results)
    text = (
        f"{acknowledged:,} acknowledged writes, {crashes:,} processes killed:"
        f" {lost:,} lost, {different:,} rows different, {errors:,} errors seen by callers"
    )
    missed = [figure.figure for figure in report.figures() if not figure.ok]
    return f"{text}." if not missed else f"{text}. Not as it should be: {', '.join(missed)}."


def write_json(report: Report, path: Path) -> None:
    """Write the figures as JSON."""
    path.write_text(json.dumps([asdict(figure) for figure in report.figures()], indent=2) + "\n", "utf-8")
