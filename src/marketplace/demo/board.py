"""What a spectator sees: the set-up's steps, then a live board; log lines where there is no terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import Final, Protocol

import structlog
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crossfade.events import Verdict
from crossfade.stages import Side, Stage, position
from marketplace.demo.tally import WINDOW, ModelTally, Percentiles, Tally

_REFRESH = 0.25
_LOG_EVERY = 5.0
_EVENTS = 7
_COLOURS: Final = {
    Stage.OFF: "dim",
    Stage.DUALWRITE: "cyan",
    Stage.SHADOW: "blue",
    Stage.LIVE: "magenta",
    Stage.RAMPDOWN: "yellow",
    Stage.COMPLETE: "green",
}


class Gauges(Protocol):
    """What the board asks of the running demo beside the tally."""

    def queues(self) -> tuple[int, int, int]:
        """Return how many follower writes, shadow reads and captured keys are waiting."""

    def others(self) -> dict[str, str]:
        """Return what everybody else is doing who writes to the stores, by who it is."""

    def failures(self) -> int:
        """Return how many calls have failed that should not have."""


class Board:
    """Shows a demo on `console`."""

    def __init__(self, console: Console, tally: Tally, seconds: float) -> None:
        self._console = console
        self._tally = tally
        self._seconds = seconds
        self._log = structlog.get_logger("demo")

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show one step of the set-up and how long it took."""
        began = perf_counter()
        details: list[str] = []
        if not self._console.is_terminal:
            yield details.append
            took = perf_counter() - began
            self._log.info(
                "demo.setup", step=title, detail=details[-1] if details else "", seconds=round(took, 2)
            )
            return
        with self._console.status(f"{title} …") as status:

            def detail(text: str) -> None:
                details.append(text)
                status.update(f"{title} … [dim]{text}[/]")

            yield detail
        text = f"[dim]{details[-1]}[/]" if details else ""
        self._console.print(
            f"[green]✓[/] {title} {text} [dim]{perf_counter() - began:.1f} s[/]", highlight=False
        )

    def say(self, text: str) -> None:
        """Show a line beside the board."""
        if self._console.is_terminal:
            self._console.print(text, highlight=False)
        else:
            self._log.info("demo.note", text=Text.from_markup(text).plain)

    async def run(self, gauges: Gauges) -> None:
        """Keep the board up to date until cancelled."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(_LOG_EVERY)
                self._log_line(gauges)
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            try:
                while True:
                    live.update(self._render(gauges), refresh=True)
                    await asyncio.sleep(_REFRESH)
            finally:
                live.update(self._render(gauges), refresh=True)

    def _log_line(self, gauges: Gauges) -> None:
        models = self._tally.models
        follows, shadows, keys = gauges.queues()
        now = monotonic()
        self._log.info(
            "demo.progress",
            elapsed=round(self._tally.elapsed, 1),
            stages={name: str(model.stage) for name, model in models.items()},
            rate=round(sum(model.rate(now) for model in models.values()), 1),
            compared=sum(model.compared for model in models.values()),
            followed=sum(model.followed for model in models.values()),
            mismatched=sum(model.mismatched for model in models.values()),
            failed=gauges.failures(),
            waiting={"follow": follows, "shadow": shadows, "keys": keys},
            others=gauges.others(),
        )

    def _render(self, gauges: Gauges) -> Group:
        models = self._tally.models
        now = monotonic()
        table = Table(box=None, pad_edge=False, expand=False, header_style="bold")
        table.add_column("model", no_wrap=True, width=18)
        table.add_column("stage", no_wrap=True, width=21)
        for title, width in (
            ("ops/s", 5), ("compared", 8), ("differ", 6), ("followed", 8), ("verified", 8), ("repaired", 8),
            ("prisma", 9), ("sqlalch.", 9),
        ):  # fmt: skip
            table.add_column(title, justify="right", no_wrap=True, width=width)
        for name, model in models.items():
            table.add_row(
                name,
                _stage(model),
                f"{model.rate(now):.1f}",
                f"{model.compared:,}",
                Text(f"{model.mismatched:,}", style="bold red" if model.mismatched else "dim"),
                f"{model.followed:,}",
                f"{model.verified:,}",
                f"{model.repaired:,}",
                _ms(model.percentiles(Side.PRISMA, now - WINDOW)),
                _ms(model.percentiles(Side.SQLALCHEMY, now - WINDOW)),
            )
        return Group(self._headline(gauges, now), "", table, "", *self._events())

    def _headline(self, gauges: Gauges, now: float) -> Text:
        models = self._tally.models.values()
        follows, shadows, keys = gauges.queues()
        verdicts = {v: sum(m.reads[v] + m.writes[v] for m in models) for v in Verdict}
        failed = gauges.failures()
        text = Text.assemble(
            (f"{self._tally.elapsed:5.1f} s", "bold"),
            f" of {self._seconds:g}   {sum(m.rate(now) for m in models):.0f} calls/s   ",
            (f"{verdicts[Verdict.MATCHED]:,} matched", "green"),
            f"  {verdicts[Verdict.IN_FLIGHT]:,} in flight  ",
            (
                f"{verdicts[Verdict.MISMATCHED]:,} mismatched",
                "bold red" if verdicts[Verdict.MISMATCHED] else "dim",
            ),
            (f"  {failed} failed", "bold red") if failed else "",
        )
        text.append(
            f"\nwaiting: {follows} follower writes, {shadows} shadow reads, {keys} keys to verify", "dim"
        )
        text.append("   times: p50/p99 in ms", "dim")
        others = "   ".join(f"{who}: {what}" for who, what in gauges.others().items())
        text.append(f"\n{others}", "dim")
        return text

    def _events(self) -> list[Text]:
        latest = list(self._tally.notes)[-_EVENTS:]
        lines = [
            Text(f"{at:6.1f}  {text}", style="dim", no_wrap=True, overflow="ellipsis") for at, text in latest
        ]
        return lines + [Text("")] * (_EVENTS - len(lines))


def _stage(model: ModelTally) -> Text:
    text = Text("●" * (position(model.stage) + 1), style=_COLOURS[model.stage])
    text.append("○" * (len(Stage) - 1 - position(model.stage)), style="dim")
    text.append(f" {model.stage}", style=_COLOURS[model.stage])
    if model.requested is not model.stage:
        text.append(f"→{model.requested}", style="dim")
    return text


def _ms(times: Percentiles | None) -> str:
    return "–" if times is None else f"{times.p50 * 1000:.0f}/{times.p99 * 1000:.0f}"
