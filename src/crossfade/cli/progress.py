"""What a person sees of long work over tables, and what a log file gets of it.

    with showing("backfill", "rows") as progress:
        progress.start({"User": 20_000, "Item": 100_000}, done={"User": 5_000})
        progress.advance("User", 1_000)    # so many more rows of a table are done
        progress.reach("Item", 40_000)     # or: so many in all, which others may have done as well
        progress.note("2 workers")         # beside the total, until the next note; "" takes it away
        progress.finish("User")            # all of it, however many rows had been expected
        progress.say("…")                  # a line that stays

Totals are estimates: a table that turns out larger grows, one that is finished counts as what it had. On a terminal
there is a bar for each table that is under way and one for all of them; elsewhere there are structured log lines, a few
seconds apart, named `<work>.progress`, `<work>.finished` for each table and `<work>.said`. Rate and time left are of
the last `WINDOW` seconds, so that work that was done before, and long waits of long ago, do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Self

import structlog
from rich import progress as bars
from rich.console import Console
from rich.text import Text

WINDOW = 10.0
"""Seconds over which a rate is taken."""

LINE_SECONDS = 5.0
"""Seconds between two log lines."""

_SAMPLE_SECONDS = 0.25


class Rate:
    """Rows per second over the last `WINDOW` seconds."""

    def __init__(self, now: float, rows: int) -> None:
        self._samples = deque([(now, rows)])

    def move(self, now: float, rows: int) -> None:
        """Say how many rows are done at the time `now`."""
        if len(self._samples) > 1 and self._samples[-1][0] - self._samples[-2][0] < _SAMPLE_SECONDS:
            self._samples[-1] = (now, rows)
        else:
            self._samples.append((now, rows))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW:
            self._samples.popleft()

    def at(self, now: float) -> float | None:
        """The rate at the time `now`, or None while there is nothing to go by."""
        began, rows = self._samples[0]
        if now - began < _SAMPLE_SECONDS:
            return None
        return max(0.0, (self._samples[-1][1] - rows) / (now - began))


class Amount:
    """How far one table is. Its rate counts from when its rows begin to move, not from when others' did."""

    def __init__(self, total: int, rows: int, now: float) -> None:
        self.total = max(total, rows)
        self.rows = rows
        self.is_finished = False
        self.rate = Rate(now, rows)
        self._has_moved = False
        self._is_told = False

    def reach(self, rows: int, now: float) -> None:
        """Say how many rows are done in all."""
        has_moved = self._has_moved or rows != self.rows
        self.rows = max(0, rows)
        self.total = max(self.total, self.rows)
        if has_moved and (self._has_moved or self._is_told):
            self.rate.move(now, self.rows)
        else:
            self.rate = Rate(now, self.rows)
        self._has_moved, self._is_told = has_moved, True


class Progress:
    """Counts, and shows nothing; the two variants below show it. Use it where nobody looks."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._amounts: dict[str, Amount] = {}
        self._all = Amount(0, 0, clock())
        self._note = ""

    def start(self, totals: Mapping[str, int], done: Mapping[str, int] | None = None) -> None:
        """Say how many rows each table has, as far as is known, and how many of them are done already."""
        now = self._clock()
        self._amounts = {
            table: Amount(total, (done or {}).get(table, 0), now) for table, total in totals.items()
        }
        self._all = Amount(self.total, self.rows, now)
        self._changed()

    def advance(self, table: str, rows: int) -> None:
        """Say that so many more rows of a table are done."""
        self.reach(table, self._amount(table).rows + rows)

    def reach(self, table: str, rows: int) -> None:
        """Say how many rows of a table are done in all."""
        self._amount(table).reach(rows, self._clock())
        self._changed()

    def finish(self, table: str) -> None:
        """Say that nothing of a table is left to be done."""
        amount = self._amount(table)
        if not amount.is_finished:
            amount.is_finished = True
            amount.total = amount.rows
            self._ended(table, amount)
        self._changed()

    def note(self, text: str) -> None:
        """Say something beside the total, in place of what was said there before."""
        self._note = text
        self._changed()

    def say(self, text: str) -> None:
        """Say something that stays."""

    @property
    def rows(self) -> int:
        """The rows that are done, of all tables."""
        return sum(amount.rows for amount in self._amounts.values())

    @property
    def total(self) -> int:
        """The rows of all tables, as far as is known."""
        return sum(amount.total for amount in self._amounts.values())

    @property
    def rate(self) -> float | None:
        """Rows per second at the moment; None while there is nothing to go by."""
        return self._all.rate.at(self._clock())

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the present rate; None if nothing moves."""
        return _left(self.total - self.rows, self.rate)

    def _amount(self, table: str) -> Amount:
        return self._amounts.setdefault(table, Amount(0, 0, self._clock()))

    def _changed(self) -> None:
        self._all.rate.move(self._clock(), self.rows)

    def _ended(self, table: str, amount: Amount) -> None:
        pass


class LogProgress(Progress):
    """Writes a log line at the start, every `interval` seconds while something is told, and for each finished table."""

    def __init__(
        self,
        work: str,
        *,
        interval: float = LINE_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._log = structlog.get_logger(work)
        self._work = work
        self._interval = interval
        self._due = clock()

    def say(self, text: str) -> None:
        """Write a line of its own."""
        self._log.info(f"{self._work}.said", text=text)

    def _changed(self) -> None:
        super()._changed()
        if self._clock() < self._due or not self._amounts:
            return
        self._due = self._clock() + self._interval
        rate, left = self.rate, self.seconds_left
        self._log.info(
            f"{self._work}.progress",
            rows=self.rows,
            total=self.total,
            rate=None if rate is None else round(rate),
            seconds_left=None if left is None else round(left),
            tables={
                table: amount.rows
                for table, amount in self._amounts.items()
                if amount.rows and not amount.is_finished
            },
            note=self._note,
        )

    def _ended(self, table: str, amount: Amount) -> None:
        self._log.info(f"{self._work}.finished", table=table, rows=amount.rows)


class BarProgress(Progress):
    """Shows bars on a terminal: one for each table that is under way, and one for all. Open it with `with`."""

    def __init__(
        self, work: str, unit: str, console: Console, *, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__(clock=clock)
        self._unit = unit
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TextColumn("{task.fields[figures]}"),
            console=console,
            refresh_per_second=4,
            transient=True,
        )
        self._whole = self._bars.add_task(f"[bold]{work}[/]", total=None, figures="")
        self._tasks: dict[str, bars.TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(Text(text))

    def _changed(self) -> None:
        super()._changed()
        now = self._clock()
        for table, amount in self._amounts.items():
            if amount.is_finished or not amount.rows:
                continue
            if table not in self._tasks:
                self._tasks[table] = self._bars.add_task(Text(table).markup, figures="")
            self._draw(self._tasks[table], amount.rows, amount.total, amount.rate.at(now))
        self._draw(self._whole, self.rows, self.total, self.rate, self._note)

    def _draw(self, task: bars.TaskID, rows: int, total: int, rate: float | None, note: str = "") -> None:
        figures = f"{rows:,} of {total:,} {self._unit}"
        if rate is not None:
            figures += f"  {rate:,.0f}/s"
        left = _left(total - rows, rate)
        if left is not None:
            figures += f"  {span(left)} left"
        if note:
            figures += f"  [dim]{Text(note).markup}[/]"
        self._bars.update(task, completed=rows, total=max(total, 1), figures=figures)

    def _ended(self, table: str, amount: Amount) -> None:
        task = self._tasks.pop(table, None)
        if task is not None:
            self._bars.remove_task(task)
        self._bars.console.print(
            f"[green]✓[/] {Text(table).markup}  {amount.rows:,} {self._unit}", highlight=False
        )


@contextmanager
def showing(work: str, unit: str = "rows", console: Console | None = None) -> Iterator[Progress]:
    """Show the progress of `work` on `console` (stderr by default) if that is a terminal, and log it otherwise.

    A command whose output is no terminal calls `configure_logging` first.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        with BarProgress(work, unit, console) as progress:
            yield progress
    else:
        yield LogProgress(work)


def span(seconds: float) -> str:
    """A time in words: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02} min"


def _left(rows: int, rate: float | None) -> float | None:
    return None if not rate else max(0, rows) / rate
