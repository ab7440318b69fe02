"""A run that was ended half-way."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from planting import SMALL_CHUNKS, fill, filling, one_key, thing_ddl, unseen, verify_one
from twins import MakeTwins, Twins

from crossfade.errors import VerifyError
from crossfade.events import ChunkVerified
from crossfade.stages import Side
from crossfade.store.crossing import read_crossings
from crossfade.verify import Mode, Verdict
from crossfade.verify.notes import turn

P, S = Side.PRISMA, Side.SQLALCHEMY
ROWS, CHUNKS = 1_000, 10


async def killed(twins: Twins, mode: Mode, chunks: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("victim.py")),
        *(store.dsn.libpq_url() for store in twins.stores.values()),
        mode,
        str(chunks),
    )
    assert -signal.SIGKILL == await process.wait()


async def things(make: MakeTwins) -> Twins:
    twins = await make(one_key("Int"), thing_ddl("id integer PRIMARY KEY"))
    await fill(twins, filling(ROWS, "n"))
    return twins


@pytest.mark.parametrize("mode", [Mode.WHOLE, Mode.DEEP])
async def test_the_next_run_goes_on(make: MakeTwins, mode: Mode) -> None:
    """Chunks that were done when the process was killed are not compared again; what they had shown is kept."""
    twins = await things(make)
    await unseen(twins, S, "Thing", 'DELETE FROM "Thing" WHERE id IN (5, 995)')
    await killed(twins, mode, 6)
    report = await verify_one(twins, SMALL_CHUNKS, mode=mode)
    assert (Verdict.DIFFERING, ROWS, CHUNKS, 2) == (report.state, report.rows, report.chunks, report.missing)
    assert CHUNKS - 6 == len(twins.observer.of(ChunkVerified))


async def test_what_was_repaired_meanwhile_is_no_difference(make: MakeTwins) -> None:
    """Suspects of a run that was killed are looked at by the one that goes on."""
    twins = await things(make)
    await unseen(twins, S, "Thing", 'UPDATE "Thing" SET count = 0 WHERE id = 5')
    await killed(twins, Mode.WHOLE, CHUNKS)
    await unseen(twins, S, "Thing", 'UPDATE "Thing" SET count = 5 WHERE id = 5')
    report = await verify_one(twins, SMALL_CHUNKS)
    assert (Verdict.CLEAN, ROWS) == (report.state, report.rows)
    assert [] == twins.observer.of(ChunkVerified)


async def test_when_a_run_begins_anew(make: MakeTwins) -> None:
    """It does if it is asked to, asks for something else, or the table has been backfilled since."""
    twins = await things(make)
    await killed(twins, Mode.WHOLE, 6)
    assert CHUNKS == (await verify_one(twins, SMALL_CHUNKS, fresh=True)).chunks
    assert CHUNKS == len(twins.observer.of(ChunkVerified))
    await killed(twins, Mode.WHOLE, 6)
    assert CHUNKS == (await verify_one(twins, SMALL_CHUNKS, mode=Mode.DEEP)).chunks
    assert 2 * CHUNKS == len(twins.observer.of(ChunkVerified))
    await killed(twins, Mode.WHOLE, 6)
    await twins.plain[S].execute(
        "INSERT INTO crossfade.backfill (model, owner, state, chunk_rows, since, finished)"
        " VALUES ('Thing', 'Thing', 'done', 1, now(), clock_timestamp())"
    )
    assert Verdict.CLEAN == (await verify_one(twins, SMALL_CHUNKS)).state
    assert 3 * CHUNKS == len(twins.observer.of(ChunkVerified))


async def test_two_at_once(make: MakeTwins) -> None:
    """A table is verified by one process at a time; another one is told so."""
    twins = await things(make)
    crossing = read_crossings(twins.stores)["Thing"]
    async with turn(twins.stores[S], [crossing]):
        with pytest.raises(VerifyError, match="verify Thing: another process is at it"):
            await verify_one(twins)
    assert Verdict.CLEAN == (await verify_one(twins)).state
