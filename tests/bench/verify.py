"""How fast verify compares two tables, against the least that can be done and against what most people do.

One million rows of twelve mixed columns in each of two databases of one server. In each round, in turn:

* ours, where nothing differs, and where ten rows do;
* the least: one aggregate over a hash of every row, in both databases at once, without finding anything;
* row by row: both tables are read in key order through Python, and the rows are compared there.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import asyncpg
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.bulk import FILL_ENTRIES, FILL_OWNERS, WIDE, WIDE_DDL, Scene, scene
from bench.figures import Figure, median_ratio, report
from crossfade.events import NullObserver
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.verify.verify import Verify

ROWS = 1_000_000
STEP = 100_000
LEAST_GOAL, PYTHON_GOAL = 3.0, 0.3
DIFFERENT = 10
HASH = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM entry t"
SPOIL = """
UPDATE entry SET updated_at = updated_at + interval '1 millisecond'
WHERE id IN (SELECT id FROM entry ORDER BY md5(id) LIMIT $1)
"""
MEND = """
UPDATE entry SET updated_at = updated_at - interval '1 millisecond'
WHERE id IN (SELECT id FROM entry ORDER BY md5(id) LIMIT $1)
"""


async def ours(stage: Scene, expected: int) -> None:
    """Verify the table as a whole."""
    reconciler = Reconciler(stage.stores, lambda _: Side.PRISMA, NullObserver())
    [found] = await Verify(stage.stores, reconciler, by="bench").run(["Entry"], fresh=True)
    assert (ROWS, expected, 0) == (found.rows, found.different, found.missing + found.extra)


async def least(stage: Scene) -> None:
    """One aggregate on each side."""
    one, other = await asyncio.gather(stage.legacy.fetchrow(HASH), stage.target.fetchrow(HASH))
    assert one == other


async def row_by_row(stage: Scene) -> None:
    """Read both tables in key order, and compare."""
    different = 0
    async with stage.legacy.transaction(readonly=True), stage.target.transaction(readonly=True):
        one, other = await asyncio.gather(*(_read(c) for c in (stage.legacy, stage.target)))
        while True:
            left, right = await asyncio.gather(one.fetch(5_000), other.fetch(5_000))
            different += sum(tuple(a) != tuple(b) for a, b in zip(left, right, strict=True))
            if not left:
                break
    assert different == 0


async def _read(connection: asyncpg.Connection[asyncpg.Record]) -> asyncpg.cursor.Cursor[asyncpg.Record]:
    return await connection.cursor("SELECT * FROM entry ORDER BY id")


async def timed(run: Callable[[], Awaitable[None]]) -> float:
    started = perf_counter()
    await run()
    return perf_counter() - started


async def spoil(stage: Scene, statement: str) -> None:
    """Change rows of the target behind capture's back."""
    await stage.target.execute("ALTER TABLE entry DISABLE TRIGGER USER")
    await stage.target.execute(statement, DIFFERENT)
    await stage.target.execute("ALTER TABLE entry ENABLE ALWAYS TRIGGER crossfade_capture_update")
    await stage.target.execute("VACUUM entry")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds after one that warms up")
    options = parser.parse_args()
    times: dict[str, list[float]] = {
        "ours, 0 differ": [],
        f"ours, {DIFFERENT} differ": [],
        "least": [],
        "row by row": [],
    }
    async with scene(WIDE, WIDE_DDL) as stage:
        for connection in (stage.legacy, stage.target):
            await connection.execute("SELECT set_config('crossfade.role', 'follower', false)")
            await connection.execute(
                "ALTER TABLE entry DISABLE TRIGGER USER; ALTER TABLE owner DISABLE TRIGGER USER"
            )
            await connection.execute(FILL_OWNERS)
            for start in range(1, ROWS + 1, STEP):
                await connection.execute(FILL_ENTRIES, start, start + STEP - 1)
            await connection.execute("VACUUM ANALYZE entry")
        for number in range(options.rounds + 1):
            taken = {}
            taken["least"] = await timed(lambda: least(stage))
            taken["ours, 0 differ"] = await timed(lambda: ours(stage, 0))
            taken["row by row"] = await timed(lambda: row_by_row(stage))
            await spoil(stage, SPOIL)
            taken[f"ours, {DIFFERENT} differ"] = await timed(lambda: ours(stage, DIFFERENT))
            await spoil(stage, MEND)
            for name, seconds in taken.items():
                Console(stderr=True).print(f"round {number} {name}: {seconds:.2f} s")
                if number:  # the first round warms up
                    times[name].append(seconds)
    table = Table(
        "", "seconds", "rows/s", title=f"{ROWS:,} rows × 12 columns, medians of {options.rounds} rounds"
    )
    for name, seconds in times.items():
        median = statistics.median(seconds)
        table.add_row(name, f"{median:.2f}", f"{ROWS / median:,.0f}")
    Console().print(table)
    figures = [
        Figure.at_most(f"{name}, × {other}", median_ratio(times[name], times[other]), goal)
        for name in times
        if name.startswith("ours")
        for other, goal in (("least", LEAST_GOAL), ("row by row", PYTHON_GOAL))
    ]
    return report("verify", figures, options.json)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
