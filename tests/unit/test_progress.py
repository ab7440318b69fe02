"""How far long work is, for people and for log files."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from rich.console import Console

from crossfade.cli.progress import BarProgress, LogProgress, Progress, showing, span
from crossfade.logs import configure_logging


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as JSON lines."""
    stream = io.StringIO()
    configure_logging(json=True, stream=stream)
    yield stream
    structlog.reset_defaults()


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """The log lines, without the times."""
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [{key: value for key, value in line.items() if key != "timestamp"} for line in found]


def test_rate_and_time_left_are_of_what_is_done_now(clock: Clock) -> None:
    """Rows of an earlier run count as done, but not as speed."""
    progress = Progress(clock=clock)
    progress.start({"User": 1_000, "Item": 9_000}, {"User": 1_000, "Item": 4_000})
    assert (5_000, 10_000, None, None) == (
        progress.rows,
        progress.total,
        progress.rate,
        progress.seconds_left,
    )

    for _ in range(4):
        clock.now += 1
        progress.advance("Item", 500)

    assert (7_000, 500, 6) == (progress.rows, progress.rate, progress.seconds_left)


def test_a_rate_forgets(clock: Clock) -> None:
    """After a while nothing is left of how fast it was before."""
    progress = Progress(clock=clock)
    progress.start({"User": 1_000_000})
    for _ in range(20):
        clock.now += 1
        progress.advance("User", 10_000)
    for _ in range(11):
        clock.now += 1
        progress.advance("User", 10)

    assert 10 == progress.rate

    clock.now += 1_000
    progress.note("paused")
    assert progress.rate is not None
    assert progress.rate < 1


def test_totals_are_estimates(clock: Clock) -> None:
    """A table that is larger than expected grows; one that is smaller is finished all the same."""
    progress = Progress(clock=clock)
    progress.start({"User": 100, "Item": 1_000})

    progress.reach("User", 150)
    assert (150, 1_150) == (progress.rows, progress.total)
    progress.reach("Item", 20)
    progress.finish("Item")
    assert (170, 170) == (progress.rows, progress.total)
    progress.advance("Tag", 5)
    assert 175 == progress.total


def test_log_lines(clock: Clock, log: io.StringIO) -> None:
    """A line at the start, one every few seconds, one for each table that is finished, and what was said."""
    progress = LogProgress("backfill", interval=5, clock=clock)
    progress.start({"User": 1_000, "Item": 200})
    progress.note("2 workers")
    for _ in range(6):
        clock.now += 1
        progress.advance("User", 100)
    progress.finish("User")
    progress.finish("User")
    progress.say("indexes are put back")

    assert [
        {
            "event": "backfill.progress",
            "level": "info",
            "rows": 0,
            "total": 1_200,
            "rate": None,
            "seconds_left": None,
            "tables": {},
            "note": "",
        },
        {
            "event": "backfill.progress",
            "level": "info",
            "rows": 500,
            "total": 1_200,
            "rate": 100,
            "seconds_left": 7,
            "tables": {"User": 500},
            "note": "2 workers",
        },
        {"event": "backfill.finished", "level": "info", "table": "User", "rows": 600},
        {"event": "backfill.said", "level": "info", "text": "indexes are put back"},
    ] == lines(log)


def test_bars(clock: Clock) -> None:
    """On a terminal: a bar for a table that is under way, one for all, and a line for one that is finished."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160, color_system=None)
    with BarProgress("backfill", "rows", console, clock=clock) as progress:
        progress.start({"User": 1_000, "_A[x]": 4_000, "Tag": 7})
        progress.note("2 workers, [held] to 5 rows/s")
        clock.now += 60
        progress.reach("User", 0)
        clock.now += 2
        progress.advance("User", 500)
        progress.advance("_A[x]", 500)
        progress._bars.refresh()
        under_way = stream.getvalue()
        progress.finish("_A[x]")
        progress.say("a [line]")

    assert "1,000 of 5,007 rows  16/s  4 min 08 s left  2 workers, [held] to 5 rows/s" in under_way
    assert "500 of 4,000 rows     " in under_way
    assert "500 of 1,000 rows  250/s  2 s left" in under_way
    assert "Tag" not in under_way
    shown = stream.getvalue()
    assert "✓ _A[x]  500 rows" in shown
    assert "a [line]" in shown


def test_the_console_decides(log: io.StringIO) -> None:
    """Bars for a terminal, lines for anything else."""
    with showing("verify", "rows", Console(file=io.StringIO())) as progress:
        assert isinstance(progress, LogProgress)
    with showing("verify", "rows", Console(file=io.StringIO(), force_terminal=True)) as progress:
        assert isinstance(progress, BarProgress)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3599.9, "1 h 00 min"), (7_950_000, "2,208 h 20 min")],
)
def test_span(seconds: float, text: str) -> None:
    """Times are in the two units that matter."""
    assert text == span(seconds)
