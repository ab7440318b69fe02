"""A mover dies at any named point; the next one puts it right, and no write is lost or doubled."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from places import COHORT, Killed, Places, killed_at

from crossfade.dsn import Dsn
from crossfade.handover import CRASH_POINTS, CrashPoint
from crossfade.stages import Side, Stage

DIRECTIONS = {"forward": (Stage.SHADOW, Stage.LIVE), "back": (Stage.LIVE, Stage.SHADOW)}
VICTIM = Path(__file__).with_name("victim.py")
DECIDED = CRASH_POINTS[CRASH_POINTS.index(CrashPoint.OPEN) :]


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_the_next_mover_completes_or_undoes_the_move(
    places: Places, direction: str, point: CrashPoint
) -> None:
    """One side takes authors in the end, both records agree, and what was written before and after is on both sides."""
    before, after = DIRECTIONS[direction]
    old = Side.PRISMA if before is Stage.SHADOW else Side.SQLALCHEMY
    await places.stand_at(before)
    await places.write(old, "INSERT INTO \"Author\" VALUES ('a', 'Ann')")
    await places.write(old, "INSERT INTO books (title, author_id) VALUES ('one', 'a')")

    with pytest.raises(Killed):
        await places.mover(at=killed_at(point)).move(COHORT, after, by="test")
    recovered = await places.mover().recover()

    expected = after if point in DECIDED else before
    authority = old.other if point in DECIDED else old
    for model in COHORT:
        assert expected is (await places.agree(model)).stage
        assert [authority] == await places.authors(model)
        assert [authority.other] == await places.followers(model)
    assert [authority] == await places.authors("_BookToTag")
    assert ([] if point is CrashPoint.CLOSE else COHORT) == recovered
    number = await places.write(
        authority, "INSERT INTO books (title, author_id) VALUES ('two', 'a') RETURNING id"
    )
    assert 2 == number
    assert await places.level()
    assert [(1, "one", "a"), (2, "two", "a")] == await places.rows(Side.PRISMA, "Book")
    assert [] == await places.mover().recover()
    # It moves on from there as if nothing had been.
    if expected is before:
        await places.mover().move(COHORT, after, by="test")
    await places.mover().move(COHORT, before, by="test")
    assert [old] == await places.authors("Book")
    assert await places.level()


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.FREEZE_BEGUN,
        CrashPoint.FREEZE,
        CrashPoint.OPEN_BEGUN,
        CrashPoint.OPEN,
        CrashPoint.CLOSE_BEGUN,
    ],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_process_killed_at_a_crash_point_leaves_nothing_that_is_not_put_right(
    places: Places, dsns: dict[Side, Dsn], direction: str, point: CrashPoint
) -> None:
    """With kill -9 and a real process: nothing of it tidies up."""
    before, after = DIRECTIONS[direction]
    old = Side.PRISMA if before is Stage.SHADOW else Side.SQLALCHEMY
    await places.stand_at(before)
    await places.write(old, "INSERT INTO \"Author\" VALUES ('a', 'Ann')")

    urls = [dsns[side].libpq_url() for side in Side]
    victim = await asyncio.create_subprocess_exec(sys.executable, VICTIM, *urls, point, after)
    assert -signal.SIGKILL == await victim.wait()
    assert COHORT == await places.mover().recover()

    authority = old.other if point in DECIDED else old
    for model in COHORT:
        assert (after if point in DECIDED else before) is (await places.agree(model)).stage
        assert [authority] == await places.authors(model)
    await places.write(authority, "INSERT INTO books (title, author_id) VALUES ('one', 'a')")
    assert await places.level()
