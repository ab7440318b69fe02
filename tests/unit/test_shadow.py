"""Shadow reads: verdicts, bounds, and that they never touch the caller."""

import asyncio
from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.errors import ConnectionLostError, RecordNotFoundError, UnsupportedQueryError
from crossfade.events import Difference, DifferenceKind, ReadCompared, ShadowDropped, Verdict
from crossfade.operation import READS, Operation
from crossfade.shadow import ShadowSettings
from crossfade.stages import Side, Stage


def verdicts(sides: TwoSides) -> list[Verdict]:
    """Every verdict on a read, in order."""
    return [event.verdict for event in sides.observer.of(ReadCompared)]


def spoil(sides: TwoSides, side: Side, **values: Any) -> None:
    """Change the only author on one side, behind everyone's back."""
    rows = sides.path(side).rows["Author"]
    for key, row in rows.items():
        rows[key] = row.model_copy(update=values)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
async def test_equal_answers_match(stage: Stage) -> None:
    """In both stages that have a shadow."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        await sides.author.find_unique(where={"id": "a1"})
        await sides.author.find_many(where={"email": "a@b.c"})
        await sides.rest()

    assert [Verdict.MATCHED] * 2 == verdicts(sides)


@pytest.mark.parametrize("stage", [Stage.OFF, Stage.DUALWRITE, Stage.RAMPDOWN, Stage.COMPLETE])
async def test_other_stages_do_not_ask_the_other_side(stage: Stage) -> None:
    """No shadow, no question, no verdict."""
    async with TwoSides(stage) as sides:
        await sides.author.find_many()
        await sides.rest()

    assert [] == verdicts(sides)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.LIVE])
async def test_a_lasting_difference_is_a_mismatch_and_names_the_field(stage: Stage) -> None:
    """The caller gets the authority's row."""
    async with TwoSides(stage) as sides:
        await sides.author.create(data={**AUTHOR, "name": "N"})
        await sides.rest()
        spoil(sides, sides.repository.plan("Author").follower, name=None)
        found = await sides.author.find_unique(where={"id": "a1"})
        await sides.rest()

    assert "N" == found.name
    event = sides.observer.of(ReadCompared)[0]
    assert (Verdict.MISMATCHED, (Difference("name", DifferenceKind.NULL),)) == (
        event.verdict,
        event.differences,
    )


async def test_a_difference_that_passes_is_in_flight() -> None:
    """The follower was behind when it was asked, and level when it was asked again."""
    async with TwoSides(Stage.SHADOW) as sides:
        held = asyncio.Event()

        async def hold_writes(operation: Operation) -> None:
            if operation.action not in READS:
                await held.wait()

        sides.sqlalchemy.before = hold_writes
        sides.settler.pending = {("Author", ("a1",))}
        await sides.author.create(data=AUTHOR)
        await sides.author.find_unique(where={"id": "a1"})
        asyncio.get_running_loop().call_later(0.05, held.set)
        await sides.rest()

    assert [Verdict.IN_FLIGHT] == verdicts(sides)


OURS, ANOTHER = ("Author", ("a1",)), ("Author", ("a2",))
ONE = {"find_unique": {"where": {"id": "a1"}}, "find_many": {"where": {"email": "a@b.c"}}}


@pytest.mark.parametrize("call", ONE)
@pytest.mark.parametrize(
    ("pending", "verdict"),
    [
        ({OURS}, Verdict.IN_FLIGHT),
        (None, Verdict.IN_FLIGHT),
        ({ANOTHER}, Verdict.MISMATCHED),
        (set(), Verdict.MISMATCHED),
    ],
)
async def test_a_difference_in_rows_that_wait_to_be_verified_proves_nothing(
    call: str, pending: Any, verdict: Verdict
) -> None:
    """What has been touched and not verified may differ; what has not may not."""
    async with TwoSides(Stage.SHADOW) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        spoil(sides, Side.SQLALCHEMY, name="other")
        sides.settler.pending = pending
        await getattr(sides.author, call)(**ONE[call])
        await sides.repository.shadow.drain()

    assert [verdict] == verdicts(sides)


@pytest.mark.parametrize(
    ("pending", "verdict"), [({ANOTHER}, Verdict.IN_FLIGHT), (set(), Verdict.MISMATCHED)]
)
async def test_a_count_is_judged_when_nothing_waits(pending: Any, verdict: Verdict) -> None:
    """Any row may explain a count, so that all of them must be level."""
    async with TwoSides(Stage.SHADOW) as sides:
        await sides.author.create(data={**AUTHOR, "name": "N"})
        await sides.rest()
        spoil(sides, Side.SQLALCHEMY, name="other")
        sides.settler.pending = pending
        await sides.author.count(where={"name": "N"})
        await sides.repository.shadow.drain()

    assert [verdict] == verdicts(sides)


async def test_a_failing_shadow_is_an_error_and_not_the_callers() -> None:
    """The answer is the authority's; the outage is counted."""
    async with TwoSides(Stage.SHADOW) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()

        async def fail(_: Operation) -> None:
            raise ConnectionLostError("gone")

        sides.sqlalchemy.before = fail
        found = await sides.author.find_unique(where={"id": "a1"})
        await sides.repository.shadow.drain()

    assert "a1" == found.id
    assert [Verdict.ERROR] == verdicts(sides)


async def test_a_shadow_that_raises_anything_at_all_is_an_error() -> None:
    """A bug in the second path is not the caller's either, and the worker lives on."""
    async with TwoSides(Stage.SHADOW, shadow=ShadowSettings(workers=1)) as sides:

        async def fail(_: Operation) -> None:
            raise ZeroDivisionError

        sides.sqlalchemy.before = fail
        for _ in range(3):
            await sides.author.find_many()
        await sides.repository.shadow.drain()

    assert [Verdict.ERROR] * 3 == verdicts(sides)


async def test_what_the_other_side_cannot_do_is_skipped() -> None:
    """Counted on its own: it is neither a match nor a mismatch."""
    async with TwoSides(Stage.SHADOW) as sides:

        async def refuse(_: Operation) -> None:
            raise UnsupportedQueryError("Author", "where.x", "not yet")

        sides.sqlalchemy.before = refuse
        await sides.author.find_many()
        await sides.rest()

    assert [Verdict.SKIPPED] == verdicts(sides)


@pytest.mark.parametrize("alike", [True, False])
async def test_errors_are_compared_like_answers(alike: bool) -> None:
    """Two sides that refuse alike match; one that answers where the other refuses does not."""
    async with TwoSides(Stage.SHADOW) as sides:

        async def refuse(_: Operation) -> None:
            raise RecordNotFoundError("none")

        sides.prisma.before = refuse
        sides.sqlalchemy.before = refuse if alike else None
        with pytest.raises(RecordNotFoundError):
            await sides.author.find_unique_or_raise(where={"id": "a1"})
        await sides.rest()

    assert [Verdict.MATCHED if alike else Verdict.MISMATCHED] == verdicts(sides)


async def test_a_stalled_shadow_does_not_hold_the_caller_and_the_queue_is_bounded() -> None:
    """Beyond the limit questions are dropped, and counted."""
    settings = ShadowSettings(workers=1, limit=2, deadline=5.0)
    async with TwoSides(Stage.SHADOW, shadow=settings) as sides:
        stalled = asyncio.Event()

        async def stall(_: Operation) -> None:
            await stalled.wait()

        sides.sqlalchemy.before = stall
        async with asyncio.timeout(1):
            for _ in range(10):
                await sides.author.find_many()
                await asyncio.sleep(0)
        dropped = sides.observer.of(ShadowDropped)
        stalled.set()
        await sides.rest()

    assert 7 == len(dropped)  # one is being asked and two wait
    assert {"queue_full"} == {event.reason for event in dropped}


async def test_a_sample_of_reads_is_compared() -> None:
    """As large as it was asked to be."""
    async with TwoSides(Stage.SHADOW) as sides:
        chances = iter([0.1, 0.6, 0.4, 0.9])
        sides.repository._reader._chance = lambda: next(chances)
        sides.repository.sample("Author", 0.5)
        for _ in range(4):
            await sides.author.find_many()
        await sides.rest()

    assert 2 == len(verdicts(sides))


async def test_a_read_of_two_models_is_answered_by_sqlalchemy_only_when_both_are_there() -> None:
    """One model behind keeps the whole read at Prisma."""
    for book, asked in ((Stage.SHADOW, Side.PRISMA), (Stage.LIVE, Side.SQLALCHEMY)):
        async with TwoSides(author=Stage.LIVE, book=book) as sides:
            await sides.author.find_many(include={"books": True})

            assert 1 == len(sides.path(asked).executed)
            await sides.rest()


async def test_a_read_that_spans_a_model_that_is_not_fed_is_not_compared() -> None:
    """The other side cannot be expected to have its rows."""
    async with TwoSides(author=Stage.SHADOW, book=Stage.OFF) as sides:
        await sides.author.find_many(include={"books": True})
        await sides.rest()

    assert [] == verdicts(sides)


async def test_a_second_look_that_has_to_wait_holds_no_worker() -> None:
    """New questions are judged while an old one waits for a moment of rest; too many that wait are dropped."""
    settings = ShadowSettings(workers=1, rechecks=100, recheck_limit=1, pause=0.01)
    async with TwoSides(Stage.SHADOW, shadow=settings) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.rest()
        spoil(sides, Side.SQLALCHEMY, name="other")
        sides.settler.pending = None
        for _ in range(2):
            await sides.author.find_unique(where={"id": "a1"})
        await sides.author.count(where={"email": "a@b.c"})
        async with asyncio.timeout(5):
            while not verdicts(sides):
                await asyncio.sleep(0)
        assert [Verdict.MATCHED] == verdicts(sides)
        assert ["recheck_full"] == [event.reason for event in sides.observer.of(ShadowDropped)]

        sides.settler.pending = set()
        await sides.repository.shadow.drain()
    assert [Verdict.MATCHED, Verdict.MISMATCHED] == verdicts(sides)
