"""How fast captured keys are verified and repaired, and how far the follower lags behind a busy store.

Two databases of one PostgreSQL server, the marketplace's users (17 columns of nine kinds), bare SQL. Everything runs on
this machine: the server, the writers and the reconciler share its cores.

* equal: every key was touched in both stores and its rows are the same: two entries for each key;
* repaired: every key was changed in the authority's store alone; the time is until nothing is left, and so includes
  the second look that each repair is given;
* lag: 1,000 single-row updates a second, from the commit of each in one store to its arrival in the other, with the
  settings as they come: a key rests for 250 ms before it is looked at.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, arguments, report
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.parser import load_schema
from crossfade.events import NullObserver
from crossfade.reconcile import Reconciler
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

KEYS = 20_000
WRITES_PER_SECOND = 1_000
SECONDS = 10
FILL = f"""
INSERT INTO users (id, email, handle, name, balance, reputation, tags, preferences, avatar, created_at, updated_at)
SELECT 'user' || n, 'user' || n || '@example.org', 'handle' || n, 'Some Name ' || n, n / 100.0, n / 7.0,
       ARRAY['a', 'b'], '{{"theme": "dark", "page_size": 50}}', '\\x00ff', '2024-01-01', '2024-01-01'
FROM generate_series(1, {KEYS}) n
"""
ARRIVALS = """
CREATE TABLE arrivals (id text, n integer, at timestamptz);
CREATE FUNCTION arrived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO arrivals VALUES (NEW.id, NEW.login_count, clock_timestamp()); RETURN NULL; END $$;
CREATE TRIGGER arrived AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION arrived();
"""


class Bench:
    """Both stores, and a plain connection to each."""

    def __init__(self, url: str, stores: dict[Side, Store], plain: dict[Side, asyncpg.Connection]) -> None:
        self.url = url
        self.plain = plain
        self.reconciler = Reconciler(stores, lambda _model: Side.PRISMA, NullObserver())

    async def both(self, statement: str) -> None:
        await self.plain[Side.PRISMA].execute(statement)
        async with self.plain[Side.SQLALCHEMY].transaction():
            await self.plain[Side.SQLALCHEMY].execute("SET LOCAL crossfade.role = 'follower'")
            await self.plain[Side.SQLALCHEMY].execute(statement)

    async def drained(self) -> float:
        """Work off everything, and return how many seconds that took."""
        began = perf_counter()
        assert await self.reconciler.drain(["User"], 120)
        return perf_counter() - began

    async def tidy(self) -> None:
        """What autovacuum does now and then, between the rounds."""
        for connection in self.plain.values():
            await connection.execute("VACUUM ANALYZE users")
            await connection.execute("VACUUM ANALYZE crossfade.change")


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Two filled stores that are level."""
    schema = load_schema(SCHEMA_FILE)
    async with EmbeddedPostgres() as postgres:
        urls = {side: await postgres.create_database(side) for side in Side}
        dsns = {side: Dsn.parse(url) for side, url in urls.items()}
        await apply_legacy_schema(dsns[Side.PRISMA])
        await upgrade_target(dsns[Side.SQLALCHEMY])
        stores = {side: Store(side, dsn, schema) for side, dsn in dsns.items()}
        plain = {side: await asyncpg.connect(**dsn.asyncpg_kwargs()) for side, dsn in dsns.items()}
        async with stores[Side.PRISMA], stores[Side.SQLALCHEMY]:
            for store in stores.values():
                await install(store, by="bench")
            bench = Bench(urls[Side.PRISMA], stores, plain)
            await bench.both(FILL)
            await bench.drained()
            yield bench
            for connection in plain.values():
                connection.terminate()


async def equal(bench: Bench, number: int) -> float:
    await bench.both(f"UPDATE users SET login_count = {number}")
    await bench.tidy()
    return KEYS / await bench.drained()


async def repaired(bench: Bench, number: int) -> float:
    await bench.plain[Side.PRISMA].execute(f"UPDATE users SET login_count = {-number}")
    await bench.tidy()
    return KEYS / await bench.drained()


async def lags(bench: Bench) -> list[float]:
    """Seconds from commit to arrival, of every write."""
    target = bench.plain[Side.SQLALCHEMY]
    await target.execute(ARRIVALS)
    async with bench.reconciler:
        writer = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            env=os.environ | {"BENCH_WRITE_TO": bench.url},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await writer.communicate()
        assert writer.returncode == 0
        written = {}
        for line in output.decode().splitlines():
            key, number, at = line.split()
            written[key, int(number)] = float(at)
        async with asyncio.timeout(60):
            while await target.fetchval("SELECT count(*) FROM arrivals") < len(written):
                await asyncio.sleep(0.05)
    rows = await target.fetch("SELECT id, n, extract(epoch FROM at)::float8 AS at FROM arrivals")
    return [row["at"] - written[row["id"], row["n"]] for row in rows]


async def write(address: str) -> None:
    """Update one user after the other at a fixed rate, over a few connections; print what was committed when."""
    connections = [await asyncpg.connect(**Dsn.parse(address).asyncpg_kwargs()) for _ in range(4)]
    now = "extract(epoch FROM clock_timestamp())::float8"
    statement = f"UPDATE users SET login_count = $2 WHERE id = $1 RETURNING {now}"
    total = WRITES_PER_SECOND * SECONDS
    lines: list[str] = []
    began = perf_counter()

    async def work(first: int, connection: asyncpg.Connection) -> None:
        for number in range(first, total, len(connections)):
            await asyncio.sleep(max(0.0, began + number / WRITES_PER_SECOND - perf_counter()))
            key = f"user{number * 7919 % KEYS + 1}"
            lines.append(f"{key} {number + 100} {await connection.fetchval(statement, key, number + 100)}")

    await asyncio.gather(*(work(first, connection) for first, connection in enumerate(connections)))
    print(f"{total / (perf_counter() - began):.0f} writes/s", file=sys.stderr)
    print("\n".join(lines))


async def main() -> int:
    options = arguments(__doc__ or "")
    rounds = min(options.rounds, 7)
    async with opened() as bench:
        verified, copied = [], []
        for number in range(1, rounds + 1):
            verified.append(await equal(bench, number))
            copied.append(await repaired(bench, number))
        waits = sorted(await lags(bench))
    print(f"verified {statistics.median(verified):,.0f} keys/s, best {max(verified):,.0f}")
    print(f"repaired {statistics.median(copied):,.0f} keys/s, best {max(copied):,.0f}")
    figures = [
        Figure.at_most(
            "verified when equal: µs per key (50 = 20,000/s)", 1e6 / statistics.median(verified), 50
        ),
        Figure.at_most("repaired: µs per key (200 = 5,000/s)", 1e6 / statistics.median(copied), 200),
        Figure.at_most("lag p50 at 1,000 writes/s: ms", waits[len(waits) // 2] * 1e3, 500),
        Figure.at_most("lag p99 at 1,000 writes/s: ms", waits[len(waits) * 99 // 100] * 1e3, 750),
    ]
    return report("Captured keys verified and repaired", figures, options.json)


if __name__ == "__main__":
    if address := os.environ.get("BENCH_WRITE_TO"):
        asyncio.run(write(address))
    else:
        sys.exit(asyncio.run(main()))
