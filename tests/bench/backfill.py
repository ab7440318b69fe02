"""How fast a backfill copies, against what PostgreSQL itself can do.

One million rows of twelve mixed columns go from one database to another on one server with every commit on disk. The
target's table has its primary key, a unique index, two more indexes and a foreign key. In each round, in turn:

* ours: `Backfill` in a process of its own, two workers, capture and fence installed on both sides;
* psql: `COPY … TO STDOUT (FORMAT binary)` piped into `COPY … FROM STDIN (FORMAT binary)`, into a table that is the
  same but for crossfade's triggers. It can neither be resumed nor run while the application writes.

Compared are the server's CPU time and the clock. `pgloader` and `pgcopydb` run once each where they are installed; both
copy into empty tables and make the indexes afterwards. The memory is the highest of ours over all rounds.

With `--narrow N` it copies N rows of three narrow columns once instead, and shows rate and memory on the way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from urllib.parse import quote

import asyncpg
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.bulk import (
    FILL_ENTRIES,
    FILL_NARROW,
    FILL_OWNERS,
    NARROW,
    NARROW_DDL,
    WIDE,
    WIDE_DDL,
    Meter,
    Scene,
    scene,
)
from bench.figures import Figure, median_ratio, report
from crossfade.backfill.backfill import Backfill
from crossfade.backfill.settings import BackfillSettings
from crossfade.dsn import Dsn
from crossfade.events import ChunkCopied, Event, NullObserver
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store

ROWS = 1_000_000
CPU_GOAL, CLOCK_GOAL, MEMORY_GOAL = 1.6, 1.7, 200.0
MARKS = (1_000_000, 5_000_000, 10_000_000, 20_000_000)
STEP = 100_000


class Marks:
    """Notes when so many rows were copied, how long that took and how much memory it needed."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._rows = 0
        self.seen: list[dict[str, float]] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, ChunkCopied):
            before, self._rows = self._rows, self._rows + event.rows_read
            for mark in MARKS:
                if before < mark <= self._rows:
                    self.seen.append(
                        {"rows": mark, "seconds": perf_counter() - self._began, "memory": peak_memory()}
                    )


def peak_memory() -> float:
    """The most memory this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def work(model: str) -> None:
    """Be the worker: copy one model, and say on stdout what it took."""
    dsns = json.loads(os.environ["CROSSFADE_BENCH_DSNS"])
    schema = NARROW if model == "Narrow" else WIDE
    stores = {Side(side): Store(Side(side), Dsn.parse(url), schema) for side, url in dsns.items()}
    marks = Marks()
    try:
        reconciler = Reconciler(stores, lambda _: Side.PRISMA, NullObserver())
        await Backfill(stores, reconciler, marks, BackfillSettings(workers=2), by="bench").run([model])
    finally:
        for store in stores.values():
            await store.close()
    print(json.dumps({"memory": peak_memory(), "marks": marks.seen}))


async def ours(stage: Scene, model: str) -> dict[str, object]:
    """Run a backfill in a process of its own; return what it says."""
    urls = {str(side): stage.server.dsn(f"bench_{side}") for side in Side}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--work",
        model,
        env={**os.environ, "CROSSFADE_BENCH_DSNS": json.dumps(urls)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, "the backfill has failed"
    told: dict[str, object] = json.loads(out)
    return told


async def psql(stage: Scene, source: str, into: str) -> None:
    """Pipe one table into another."""
    reader, writer = os.pipe()
    environment = {**os.environ, "PGPASSWORD": stage.dsn(Side.PRISMA).password or ""}

    def arguments(side: Side, command: str) -> list[str]:
        dsn = stage.dsn(side)
        place = ["-h", dsn.host, "-p", str(dsn.port), "-U", dsn.user or "", "-d", dsn.database]
        return [str(stage.server.psql), "-X", "-q", "-v", "ON_ERROR_STOP=1", *place, "-c", command]

    out = await asyncio.create_subprocess_exec(
        *arguments(Side.PRISMA, f"COPY {source} TO STDOUT (FORMAT binary)"), stdout=writer, env=environment
    )
    into_process = await asyncio.create_subprocess_exec(
        *arguments(Side.SQLALCHEMY, f"COPY {into} FROM STDIN (FORMAT binary)"), stdin=reader, env=environment
    )
    os.close(reader)
    os.close(writer)
    assert (0, 0) == (await out.wait(), await into_process.wait()), "psql has failed"


async def empty(stage: Scene) -> None:
    """Make the target as it was, and have the server write down what it still holds back."""
    await stage.target.execute("SELECT set_config('crossfade.role', 'follower', false)")
    await stage.target.execute("TRUNCATE entry; TRUNCATE plain_entry")
    await stage.target.execute("DELETE FROM crossfade.backfill WHERE model = 'Entry'")
    await stage.target.execute("DELETE FROM crossfade.chunk WHERE model = 'Entry'; TRUNCATE crossfade.change")
    await stage.target.execute("CHECKPOINT")


async def measured(stage: Scene, run: Callable[[], Awaitable[object]]) -> tuple[float, float, object]:
    """CPU and clock of one run on empty tables, and what it returned."""
    await empty(stage)
    meter = Meter(stage.server.pid)
    result = await run()
    return *meter.read(), result


async def prepare(stage: Scene, rows: int) -> None:
    for statement in WIDE_DDL.format(owner="plain_owner", entry="plain_entry").split(";"):
        if statement.strip():
            await stage.target.execute(statement)
    await stage.legacy.execute(FILL_OWNERS)
    for start in range(1, rows + 1, STEP):
        await stage.legacy.execute(FILL_ENTRIES, start, min(start + STEP - 1, rows))
    # What a bench writes here would be captured, and is history for whoever comes to a store.
    await stage.legacy.execute("TRUNCATE crossfade.change")
    await stage.legacy.execute("VACUUM ANALYZE entry")
    await ours(stage, "Owner")
    await psql(stage, "owner", "plain_owner")


async def wide(rows: int, rounds: int, file: Path | None) -> int:
    """Ours and psql in turn."""
    results: dict[str, list[tuple[float, float]]] = {"ours": [], "psql": []}
    memory = 0.0
    async with scene(WIDE, WIDE_DDL) as stage:
        await prepare(stage, rows)
        for number in range(rounds + 1):
            for name in ("ours", "psql") if number % 2 else ("psql", "ours"):
                if name == "ours":
                    cpu, clock, told = await measured(stage, lambda: ours(stage, "Entry"))
                    memory = max(memory, float(told["memory"]))  # type: ignore[index]
                    assert rows == await stage.target.fetchval("SELECT count(*) FROM entry")
                else:
                    cpu, clock, _ = await measured(stage, lambda: psql(stage, "entry", "plain_entry"))
                if number:  # the first round warms up
                    results[name].append((cpu, clock))
                Console(stderr=True).print(f"round {number} {name}: {cpu:.1f} s of CPU, {clock:.1f} s")
        others = await tools(stage)
    table = Table(
        "", "CPU s", "clock s", "rows/s", title=f"{rows:,} rows × 12 columns, medians of {rounds} rounds"
    )
    for name, taken in (*results.items(), *((name, [result]) for name, result in others.items())):
        cpu, clock = (statistics.median(values) for values in zip(*taken, strict=True))
        table.add_row(name, f"{cpu:.1f}", f"{clock:.1f}", f"{rows / clock:,.0f}")
    Console().print(table)
    cpus, clocks = (
        median_ratio([one[part] for one in results["ours"]], [one[part] for one in results["psql"]])
        for part in (0, 1)
    )
    figures = [
        Figure.at_most("server CPU, × psql", cpus, CPU_GOAL),
        Figure.at_most("clock, × psql", clocks, CLOCK_GOAL),
        Figure.at_most("memory of the worker, MB", memory, MEMORY_GOAL),
    ]
    return report("backfill", figures, file)


async def tools(stage: Scene) -> dict[str, tuple[float, float]]:
    """What other copiers take, into databases of their own with the same tables, where they are installed."""
    found = {}
    folder = tempfile.mkdtemp(prefix="crossfade-bench-")
    password = quote(stage.dsn(Side.PRISMA).password or "", safe="")
    for name, command in (
        ("pgcopydb", ["pgcopydb", "clone", "--no-owner", "--no-acl", "--skip-extensions", "--table-jobs", "2",
                      "--index-jobs", "2", "--dir", "{folder}", "--source", "{legacy}", "--target", "{other}"]),
        ("pgloader", ["pgloader", "--with", "include no drop", "--with", "create tables", "{legacy}", "{other}"]),
    ):  # fmt: skip
        if shutil.which(name) is None:
            continue
        await stage.server.create_database(f"bench_{name}")
        dsn = stage.dsn(Side.PRISMA)
        urls = {
            "{legacy}": f"postgresql://{dsn.user}:{password}@{dsn.host}:{dsn.port}/{dsn.database}",
            "{folder}": folder,
            "{other}": f"postgresql://{dsn.user}:{password}@{dsn.host}:{dsn.port}/bench_{name}",
        }
        await stage.target.execute("CHECKPOINT")
        meter = Meter(stage.server.pid)
        process = await asyncio.create_subprocess_exec(
            *[urls.get(part, part) for part in command],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # pgcopydb calls pg_dump, which must be as new as the server
            env={**os.environ, "PATH": f"{stage.server.bin_dir}:{os.environ['PATH']}"},
            start_new_session=True,  # pgcopydb ends its whole process group
        )
        out, _ = await process.communicate()
        taken = meter.read()
        if process.returncode == 0 and await _copied(urls["{other}"]):  # pgloader says 0 when it has failed
            found[name] = taken
        else:
            errors = [
                line
                for line in out.decode(errors="replace").splitlines()
                if "ERROR" in line or "FATAL" in line
            ]
            Console(stderr=True).print(f"{name} has failed: {errors[:1]}", markup=False)
        await stage.server.drop_database(f"bench_{name}")
    shutil.rmtree(folder, ignore_errors=True)
    return found


async def _copied(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval("SELECT to_regclass('entry') IS NOT NULL")) and bool(
            await connection.fetchval("SELECT count(*) > 0 FROM entry")
        )
    finally:
        await connection.close()


async def narrow(rows: int, file: Path | None) -> int:
    """One big copy, with rate and memory on the way."""
    async with scene(NARROW, NARROW_DDL) as stage:
        for start in range(1, rows + 1, 10 * STEP):
            await stage.legacy.execute(FILL_NARROW, start, min(start + 10 * STEP - 1, rows))
        await stage.legacy.execute("TRUNCATE crossfade.change")
        await stage.legacy.execute("VACUUM ANALYZE narrow")
        told = await ours(stage, "Narrow")
        assert rows == await stage.target.fetchval("SELECT count(*) FROM narrow")
    marks = [dict(mark) for mark in told["marks"]]  # type: ignore[attr-defined]
    table = Table(
        "rows", "seconds", "rows/s since the last mark", "memory, MB", title="one table of narrow rows"
    )
    before = {"rows": 0.0, "seconds": 0.0}
    rates = []
    for mark in marks:
        rates.append((mark["rows"] - before["rows"]) / (mark["seconds"] - before["seconds"]))
        table.add_row(
            f"{mark['rows']:,.0f}", f"{mark['seconds']:.0f}", f"{rates[-1]:,.0f}", f"{mark['memory']:.0f}"
        )
        before = mark
    Console().print(table)
    figures = [Figure.at_most("memory of the worker, MB", float(told["memory"]), MEMORY_GOAL)]  # type: ignore[arg-type]
    if len(rates) > 1:
        figures.append(Figure.at_most("first rate, × the last", rates[0] / rates[-1], 1.25))
    return report("backfill of narrow rows", figures, file)


def main() -> int:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds after one that warms up")
    parser.add_argument("--rows", type=int, default=ROWS, help="how many rows the wide table has")
    parser.add_argument("--narrow", type=int, metavar="N", help="copy N narrow rows once instead")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(options.work))
        return 0
    if options.narrow:
        return asyncio.run(narrow(options.narrow, options.json))
    return asyncio.run(wide(options.rows, options.rounds, options.json))


if __name__ == "__main__":
    sys.exit(main())
