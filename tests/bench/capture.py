"""What capture and fence cost a write on the legacy store.

The same table with crossfade's triggers and without them, in turn, on one server; medians of the ratios round by round:

* through Prisma: the time of one `update` by key and of one `create`, one after the other, over Prisma's own engine;
* bare SQL: pgbench with four clients and prepared statements, single-row UPDATEs by key and INSERTs, three to one, each
  a transaction of its own. Nothing else is in such a transaction, so this is the dearest that capture can be.

The server of the goals is set up as PostgreSQL comes, with every commit on disk. A second one without any durability,
where there is nothing but CPU to wait for, is shown for information.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, arguments, median_ratio, report
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.parser import load_schema
from crossfade.operation import Action, Operation
from crossfade.paths import Path as SidePath
from crossfade.stages import Side
from crossfade.store import Fence, Store
from crossfade.store.install import install
from crossfade.store.objects import set_fence, toggle
from crossfade.store.triggers import capture_triggers, fence_triggers
from marketplace.setup import SCHEMA_FILE
from sides import open_side

CALLS = 150
ROWS = 20_000
CLIENTS = 4
SECONDS = 2
LATENCY_GOAL, THROUGHPUT_GOAL = 1.05, 0.35
MINTED = count()
NOW = datetime.now(UTC).replace(microsecond=0)
TABLE = "users"

UPDATE = rf"""\set n random(1, {ROWS})
UPDATE {TABLE} SET login_count = login_count + 1, updated_at = now() WHERE id = 'user-' || :n;
"""
INSERT = rf"""INSERT INTO {TABLE} (id, email, name, balance, updated_at)
VALUES (gen_random_uuid()::text, gen_random_uuid()::text, 'Somebody', 12.5, now());
"""
FILL = f"""INSERT INTO {TABLE} (id, email, name, balance, updated_at)
SELECT 'user-' || n, 'user-' || n || '@example.com', 'User ' || n, n, now() FROM generate_series(1, {ROWS}) AS n"""


class Triggers:
    """Crossfade's triggers on one table: put there and taken away again between rounds."""

    def __init__(self, store: Store, session: asyncpg.Connection[asyncpg.Record]) -> None:
        self._session = session
        self._home = store.home
        self._table = store.tables["User"]

    async def present(self) -> None:
        table = self._table
        for trigger in capture_triggers(table):
            await self._session.execute(trigger.create(self._home, table.quoted))
            await self._session.execute(toggle(table.quoted, trigger.name, enabled=True))
        for trigger in fence_triggers(table):
            await self._session.execute(trigger.create(self._home, table.quoted))
        for statement in set_fence(table, Fence.AUTHORITY):
            await self._session.execute(statement)

    async def absent(self) -> None:
        for trigger in (*capture_triggers(self._table), *fence_triggers(self._table)):
            await self._session.execute(f"DROP TRIGGER IF EXISTS {trigger.name} ON {self._table.quoted}")
        # Nobody reconciles here; what would be deleted all the time is deleted between rounds.
        await self._session.execute(f"TRUNCATE {self._home}.change")


async def in_turn(
    triggers: Triggers, measure: Callable[[], Awaitable[float]], rounds: int
) -> tuple[list[float], list[float]]:
    """Measure without and with the triggers in every round; the first one warms up."""
    without: list[float] = []
    within: list[float] = []
    for number in range(rounds + 1):
        # Who comes first changes, so that what grows over time falls on both alike.
        order = (without, within) if number % 2 else (within, without)
        for results in order:
            await triggers.absent()
            if results is within:
                await triggers.present()
            results.append(await measure())
    await triggers.absent()
    return without[1:], within[1:]


async def latency(path: SidePath, operation: Callable[[], Operation]) -> float:
    """The median time of one call, in milliseconds."""
    times = []
    for _ in range(CALLS):
        started = perf_counter()
        await path.execute(operation())
        times.append((perf_counter() - started) * 1e3)
    return statistics.median(times)


def update() -> Operation:
    data = {"login_count": {"increment": 1}, "updated_at": NOW}
    where = {"id": f"user-{next(MINTED) % ROWS + 1}"}
    return Operation("User", Action.UPDATE, {"where": where, "data": data})


def create() -> Operation:
    name = f"new-{next(MINTED)}"
    data: dict[str, Any] = {"id": name, "email": name, "name": "Somebody", "updated_at": NOW}
    return Operation("User", Action.CREATE, {"data": data})


async def throughput(server: EmbeddedPostgres, dsn: Dsn, scripts: Path) -> float:
    """Transactions per second of pgbench."""
    process = await asyncio.create_subprocess_exec(
        str(server.bin_dir / "pgbench"),
        *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS)),
        *("-f", f"{scripts}/update.sql@3", "-f", f"{scripts}/insert.sql@1"),
        *("-h", dsn.host, "-p", str(dsn.port), "-U", dsn.user or "", dsn.database),
        env={**os.environ, "PGPASSWORD": dsn.password or ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    found = re.search(rb"tps = ([\d.]+)", out)
    if found is None or b"number of failed transactions: 0 " not in out:
        raise RuntimeError(f"pgbench failed: {err.decode()}")
    return float(found[1])


def write_scripts(directory: Path) -> Path:
    """Write what pgbench is to run; the server's own user must be able to enter the directory for its cluster."""
    directory.chmod(0o755)
    (directory / "update.sql").write_text(UPDATE)
    (directory / "insert.sql").write_text(INSERT)
    return directory


@asynccontextmanager
async def prepared(server: EmbeddedPostgres) -> Any:
    """A filled legacy store, Prisma's path on it, and its triggers."""
    dsn = Dsn.parse(await server.create_database("legacy"))
    async with (
        open_side(Side.PRISMA, dsn) as side,
        Store(Side.PRISMA, dsn, load_schema(SCHEMA_FILE)) as store,
    ):
        await side.store.execute(FILL)
        await install(store, by="the benchmark")
        yield dsn, side.path, Triggers(store, side.store)


async def main() -> int:
    options = arguments(__doc__ or "")
    figures: list[Figure] = []
    shown = Table("write", "without", "with", "", title="medians over the rounds")
    with tempfile.TemporaryDirectory() as directory:
        scripts = write_scripts(Path(directory))
        async with EmbeddedPostgres(scripts / "cluster") as server, prepared(server) as (dsn, path, triggers):
            for operation in (update, create):
                name = f"Prisma, {operation.__name__}"
                without, within = await in_turn(triggers, lambda: latency(path, operation), options.rounds)  # noqa: B023
                ratio = median_ratio(within, without)
                figures.append(Figure.at_most(f"{name}: latency, of that without", ratio, LATENCY_GOAL))
                more = statistics.median(w - n for w, n in zip(within, without, strict=True)) * 1e3
                row(shown, name, without, within, "ms", f"+{more:.0f} µs")
            lost = await bare(shown, "bare SQL, on disk", server, dsn, triggers, scripts, options.rounds)
            figures.append(Figure.at_most("bare SQL: throughput lost", lost, THROUGHPUT_GOAL))
        async with EmbeddedPostgres() as server, prepared(server) as (dsn, _, triggers):
            await bare(shown, "bare SQL, nothing on disk", server, dsn, triggers, scripts, options.rounds)
    Console().print(shown)
    return report("the cost of capture", figures, options.json)


async def bare(
    shown: Table,
    name: str,
    server: EmbeddedPostgres,
    dsn: Dsn,
    triggers: Triggers,
    scripts: Path,
    rounds: int,
) -> float:
    without, within = await in_turn(triggers, lambda: throughput(server, dsn, scripts), rounds)
    lost = 1 - median_ratio(within, without)
    row(shown, name, without, within, "/s", f"−{lost:.1%}")
    return lost


def row(shown: Table, name: str, without: list[float], within: list[float], unit: str, change: str) -> None:
    medians = [statistics.median(values) for values in (without, within)]
    shown.add_row(
        name,
        *(f"{value:,.2f} {unit}" if value < 100 else f"{value:,.0f} {unit}" for value in medians),
        change,
    )


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
