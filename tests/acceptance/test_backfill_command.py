"""`crossfade backfill`, as a person runs it: plan, copy, kill, pause, several at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.metrics import scrape
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from databases import FreshDatabase
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target
from sides import marketplace_schema

ROWS = 2_000
SLOWLY = ("--max-rate", "500", "--chunk-seconds", "0.1", "--max-latency", "0")
"""Chunks of 500 rows, the smallest there are, and a second for each."""


@dataclass
class Shop:
    """Two stores, with crossfade's objects, and the command that works on them."""

    legacy: asyncpg.Connection
    target: asyncpg.Connection
    environment: dict[str, str]
    password: str

    def run(self, *arguments: str) -> tuple[int, str, str]:
        answer = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert self.password not in answer.stdout + answer.stderr
        return answer.returncode, answer.stdout, answer.stderr

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "crossfade", "backfill", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def copied(self) -> int:
        """How many rows the chunk table says have been read."""
        return await self.target.fetchval("SELECT coalesce(sum(rows_read), 0)::int FROM crossfade.chunk")

    async def until_copied(self, rows: int, *processes: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 60
        while await self.copied() < rows:
            for process in processes:
                assert process.poll() is None, process.communicate()
            assert time.monotonic() < until

    async def assert_level(self) -> None:
        """Every table has the same keys on both sides."""
        tables = await self.legacy.fetch(
            "SELECT relname, (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)"
            " FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a"
            " ON a.attrelid = c.oid AND a.attnum = k.attnum) AS key"
            " FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND (i.indisprimary OR NOT EXISTS"
            " (SELECT FROM pg_index p WHERE p.indrelid = c.oid AND p.indisprimary) AND i.indisunique)"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> '_prisma_migrations'"
        )
        assert 11 == len(tables)
        for name, key in tables:
            query = f'SELECT {key} FROM "{name}" ORDER BY {key}'
            assert await self.legacy.fetch(query) == await self.target.fetch(query), name


@pytest.fixture(scope="module")
def templates(postgres: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """A marketplace with rows in the legacy store, and an empty target store, both with crossfade's objects."""
    names = "backfill_legacy", "backfill_target"

    async def make() -> None:
        legacy, target = [Dsn.parse(await postgres.create_database(name)) for name in names]
        await apply_legacy_schema(legacy)
        await upgrade_target(target)
        await seed_legacy(legacy, ROWS)
        schema = marketplace_schema()
        for side, dsn in ((Side.PRISMA, legacy), (Side.SQLALCHEMY, target)):
            store = Store(side, dsn, schema)
            await install(store, by="a test")
            await store.close()

    asyncio.run(make())
    yield names
    for name in names:
        asyncio.run(postgres.drop_database(name))


@pytest.fixture
async def shop(templates: tuple[str, str], fresh_database: FreshDatabase) -> AsyncIterator[Shop]:
    """A copy of it for one test, and the environment in which the command finds it."""
    legacy, target = [await fresh_database(name) for name in templates]
    environment = {
        **os.environ,
        "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
        "CROSSFADE_LEGACY_DSN": _url(legacy),
        "CROSSFADE_TARGET_DSN": _url(target),
    }
    connections = [await asyncpg.connect(**dsn.asyncpg_kwargs()) for dsn in (legacy, target)]
    yield Shop(*connections, environment, str(legacy.password))
    for connection in connections:
        connection.terminate()


def _url(dsn: Dsn) -> str:
    return f"postgresql://{dsn.user}:{dsn.password}@{dsn.host}:{dsn.port}/{dsn.database}"


def end(process: subprocess.Popen[str]) -> None:
    """Leave no process behind that a failed test has started."""
    with suppress(ProcessLookupError):
        process.kill()
    process.communicate()


async def test_plan_copy_and_look(shop: Shop, tmp_path: Path) -> None:
    """A dry run changes nothing; a run copies all, takes indexes off and puts them back; a second has nothing to do."""
    before = await shop.target.fetch("SELECT indexdef FROM pg_indexes ORDER BY 1")
    file = tmp_path / "plan.json"

    code, out, err = shop.run("backfill", "--dry-run", "--defer-indexes", "--json", str(file))

    assert (0, "") == (code, err)
    assert re.search(r"11 of 11 tables to copy: about [\d,]+ rows", out)
    assert re.search(r"\d+ indexes and \d+ foreign keys would come off the target's tables", out)
    plan = json.loads(file.read_text())["tables"]
    order = [table["table"] for table in plan]
    assert order.index("User") < order.index("Item") < order.index("Listing") < order.index("Order")
    assert {"new"} == {table["state"] for table in plan}
    assert 0 == await shop.copied()
    assert before == await shop.target.fetch("SELECT indexdef FROM pg_indexes ORDER BY 1")

    code, out, err = shop.run("backfill", "--defer-indexes", "--by", "ada")

    assert 0 == code, err
    assert "everything is copied and level" in out
    assert re.search(r"\d+ indexes and \d+ foreign keys are back", out)
    events = [json.loads(line)["event"] for line in err.splitlines()]
    assert {"backfill.said", "backfill.progress", "chunk.copied"} <= set(events)
    await shop.assert_level()
    assert before == await shop.target.fetch("SELECT indexdef FROM pg_indexes ORDER BY 1")
    assert not await shop.target.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated")
    assert {"ada"} == {row[0] for row in await shop.target.fetch("SELECT by FROM crossfade.backfill")}

    copied = await shop.copied()
    assert 0 == shop.run("backfill")[0]
    assert copied == await shop.copied()
    code, out, _ = shop.run("backfill", "--status", "--json", "-")
    assert 0 == code
    tables = json.loads(out)["tables"]
    assert ({"done"}, copied) == (
        {table["state"] for table in tables},
        sum(table["written"] for table in tables),
    )


async def test_killed_and_started_again(shop: Shop, ended: Callable[..., bool]) -> None:
    """After kill -9 in the middle, what was copied stays copied, and the same command goes on from there."""
    process = shop.start("--defer-indexes", "--workers", "2", *SLOWLY)
    try:
        await shop.until_copied(600, process)
        process.kill()
        assert ended(process.pid)
    finally:
        end(process)
    copied = await shop.copied()
    chunks = await shop.target.fetch("SELECT model, id FROM crossfade.chunk WHERE state = 'done'")
    assert chunks

    code, out, _ = shop.run("backfill", "--status")
    assert 0 == code
    assert "copying" in out
    assert "are off the target's tables: --restore-indexes puts them back" in out
    code, out, err = shop.run("backfill")

    assert 0 == code, err
    assert re.search(r"\d+ indexes and \d+ foreign keys are back", out)
    await shop.assert_level()
    assert await shop.copied() > copied
    kept = await shop.target.fetch("SELECT model, id FROM crossfade.chunk WHERE state = 'done'")
    assert set(chunks) <= set(kept)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_stopped(shop: Shop, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM leave whole chunks, no connection, and say how to go on."""
    process = shop.start(*SLOWLY)
    try:
        await shop.until_copied(1, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        end(process)

    assert code == process.returncode, err
    assert "stopped; what is done stays done, and the same command goes on from there" == err.splitlines()[-1]
    assert "Traceback" not in out + err
    assert not await shop.target.fetchval("SELECT count(*) FROM crossfade.probe")


async def test_paused_and_resumed(shop: Shop) -> None:
    """Another process has it wait after its chunks and go on later."""
    assert "no table is being copied" in shop.run("backfill", "--pause")[1]
    process = shop.start(*SLOWLY, "--max-rate", "150", "--metrics-port", "0")
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        await shop.until_copied(1, process)
        code, out, _ = shop.run("backfill", "--pause")
        assert 0 == code
        assert out.startswith("paused: ")
        until = time.monotonic() + 30
        while not _throttled(address):
            assert time.monotonic() < until
        copied = await shop.copied()
        code, out, _ = shop.run("backfill", "--status", "--json", "-")
        assert "paused" in {table["state"] for table in json.loads(out)["tables"]}
        assert copied == await shop.copied()
        assert process.poll() is None

        assert shop.run("backfill", "--resume")[1].startswith("going on: ")

        await shop.until_copied(copied + 1, process)
    finally:
        end(process)


def _throttled(address: str) -> float:
    return sum(
        value
        for name, labels, value in scrape(address)
        if name == "crossfade_backfill_throttled_seconds_total" and labels["reason"] == "paused"
    )


async def test_two_at_once(shop: Shop) -> None:
    """Two processes share the work: both end well, and no row is copied twice."""
    processes = [shop.start("--workers", "2", "--chunk-seconds", "0.05") for _ in range(2)]
    try:
        answers = [process.communicate(timeout=90) for process in processes]
    finally:
        for process in processes:
            end(process)

    assert [0, 0] == [process.returncode for process in processes], answers
    await shop.assert_level()
    read, written = await shop.target.fetchrow(
        "SELECT sum(rows_read)::int, sum(rows_written)::int FROM crossfade.chunk"
    )
    assert read == written


async def test_rows_that_are_refused(shop: Shop, tmp_path: Path) -> None:
    """What the target refuses is shown with its key, in no log; everything else is copied; then it can be put right."""
    await shop.target.execute("ALTER TABLE users ADD CONSTRAINT sober CHECK (name <> 'Bacchus')")
    key = await shop.legacy.fetchval(
        "UPDATE users SET name = 'Bacchus' WHERE id = (SELECT id FROM users ORDER BY id OFFSET 7 LIMIT 1)"
        " RETURNING id"
    )
    file = tmp_path / "outcome.json"

    code, out, err = shop.run("backfill", "--json", str(file))

    assert 1 == code, err
    assert "refused by the target" in out
    assert "23514" in out
    assert "sober" in out
    assert str(key) in out
    assert str(key) not in err
    assert "crossfade preflight" in err.splitlines()[-1]
    document = json.loads(file.read_text())
    assert str(key) not in file.read_text()
    assert not document["ok"]
    assert 1 == next(table["refused"] for table in document["tables"] if table["table"] == "User")

    await shop.legacy.execute("UPDATE users SET name = 'Ariadne' WHERE name = 'Bacchus'")
    code, _, err = shop.run("backfill")
    assert 0 == code, err
    await shop.assert_level()


async def test_what_stands_in_the_way(shop: Shop) -> None:
    """Parents come first, and a model that has moved is left alone: said in one line, and nothing is copied."""
    code, out, _ = shop.run("backfill", "--dry-run", "Item")
    assert 1 == code
    assert "not backfilled" in out
    code, _, err = shop.run("backfill", "Item")
    assert 2 == code
    assert "crossfade: the backfill of Item: its rows refer to User" in err.splitlines()[-1]
    await shop.target.execute("UPDATE crossfade.record SET stage = 'dualwrite'")
    await shop.legacy.execute("UPDATE crossfade.record SET stage = 'dualwrite'")
    code, _, err = shop.run("backfill", "--defer-indexes")
    assert 2 == code
    assert "come off only at `off`" in err
    assert 0 == await shop.copied()
