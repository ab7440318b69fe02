"""What a spectator sees of a run: a line for each round, and a clock while one is played; log lines in a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import structlog
from rich.console import Console
from rich.text import Text

from crossfade.drill.drills import Drill
from crossfade.drill.episode import Result


class Board:
    """Shows a run on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._log = structlog.get_logger("drill")
        self._acknowledged = 0
        self._crashes = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show a step of the preparation and how long it took."""
        began = perf_counter()
        if self._console.is_terminal:
            with self._console.status(f"{title} …"):
                yield
            self._console.print(
                f"[green]✓[/] {title} [dim]{perf_counter() - began:.1f} s[/]", highlight=False
            )
        else:
            yield
            self._log.info("drill.step", step=title, seconds=round(perf_counter() - began, 2))

    @contextmanager
    def round(self, drill: Drill, number: int, rounds: int) -> Iterator[None]:
        """Show that a round is being played."""
        if not self._console.is_terminal:
            yield
            return
        title = f"[bold]{drill.name}[/] {number}/{rounds}: {drill.summary}"
        with self._console.status(f"{title} [dim]({self._acknowledged:,} writes so far)[/]"):
            yield

    def show(self, result: Result) -> None:
        """Show what came of a round."""
        self._acknowledged += result.acknowledged
        self._crashes += result.crashes
        if not self._console.is_terminal:
            self._log.log(
                20 if result.ok else 40,
                "drill.round",
                drill=result.drill,
                round=result.round,
                ok=result.ok,
                acknowledged=result.acknowledged,
                unknown=result.unknown,
                crashes=result.crashes,
                moves=result.moves,
                fenced=result.fenced,
                conflicts=result.conflicts,
                lost=result.lost,
                different=result.different,
                problems=dict(result.problems),
                failures=result.failures,
                contradictions=result.contradictions(),
                drain_seconds=round(result.drain_seconds, 2),
                seconds=round(result.seconds, 1),
            )
            return
        mark = "[green]✓[/]" if result.ok else "[red]✗[/]"
        self._console.print(
            f"{mark} {result.drill:<13} {result.round:>3}  {result.acknowledged:>6,} acknowledged"
            f"  {result.unknown:>3} unknown  {result.crashes:>3} killed  {result.moves:>3} moves"
            f"  [dim]drained in {result.drain_seconds:.1f} s, {result.seconds:.1f} s in all[/]",
            highlight=False,
        )
        for line in (*result.failures, *result.contradictions()):
            self._console.print(Text(f"    {line}", style="red"))
        for problem, count in result.problems.most_common(5):
            self._console.print(f"    [red]{count} × {problem}[/]", highlight=False)
