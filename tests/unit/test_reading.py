"""Reads: the lease, the recall and the canary, and which side answers when."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import pytest
from two_sides import AUTHOR, TwoSides

from crossfade.canary import in_share
from crossfade.errors import (
    ConnectionLostError,
    InputError,
    QueryError,
    RecordNotFoundError,
    UnsupportedQueryError,
)
from crossfade.events import CanaryFellBack, ReadCompared, StaleRead, Verdict
from crossfade.keys import Key
from crossfade.operation import Action, Operation
from crossfade.stages import PLANS, Side, Stage, Topology, has_begun

SEPARATE = PLANS[Topology.SEPARATE]
BOTH = pytest.mark.parametrize("topology", Topology)


def mark(sides: TwoSides, *ids: str) -> None:
    """Put rows on both sides that tell where they were read: their name is the side's."""
    spec = sides.repository.schema.models["Author"]
    for path in (sides.prisma, sides.sqlalchemy):
        for each in ids:
            path._insert(spec, {"id": each, "email": f"{each}@b.c", "name": str(path.side)})


async def answering(sides: TwoSides, each: str = "a1") -> str:
    """Which side answers for a row."""
    return str((await sides.author.find_unique(where={"id": each})).name)


def expired(sides: TwoSides) -> None:
    """Let the lease have run out."""
    sides.records.fresh_until = monotonic() - 1.0


# --- the lease ---------------------------------------------------------------------------------------------------


async def test_within_the_lease_nothing_is_looked_up() -> None:
    """Reads and writes cost nothing more."""
    async with TwoSides(Stage.OFF) as sides:
        await sides.author.create(data=AUTHOR)
        await sides.author.find_unique(where={"id": "a1"})

        assert 0 == sides.records.renewals


@pytest.mark.parametrize("stage", Stage)
async def test_an_answer_by_an_old_view_is_confirmed_by_the_record(stage: Stage) -> None:
    """Looked up once; the answer holds, as nothing has moved."""
    async with TwoSides(stage) as sides:
        mark(sides, "a1")
        expired(sides)

        assert str(SEPARATE[stage].reads) == await answering(sides)
        assert 1 == sides.records.renewals


@pytest.mark.parametrize(
    ("believed", "actual"),
    [(Stage.SHADOW, Stage.LIVE), (Stage.SHADOW, Stage.COMPLETE), (Stage.LIVE, Stage.OFF)],
)
async def test_a_side_that_has_lost_the_reads_meanwhile_is_not_believed(
    believed: Stage, actual: Stage
) -> None:
    """However long the process was frozen between the question and the answer."""
    async with TwoSides(believed) as sides:
        mark(sides, "a1")
        sides.records.news = lambda: sides.repository.place("Author", actual, 7)

        async def freeze(_: Operation) -> None:
            expired(sides)

        sides.path(SEPARATE[believed].reads).after = freeze

        assert str(SEPARATE[actual].reads) == await answering(sides)


async def test_an_error_of_a_side_that_has_lost_the_reads_is_not_believed_either() -> None:
    """The question is put to the other side."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, "a1")
        sides.records.news = lambda: sides.repository.place("Author", Stage.COMPLETE, 7)

        async def fail(_: Operation) -> None:
            expired(sides)
            raise ConnectionLostError("gone")

        sides.prisma.before = fail

        assert "sqlalchemy" == await answering(sides)


async def test_a_record_that_moves_during_a_read_is_followed_without_a_look() -> None:
    """The process has heard of it already."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, "a1")

        async def move(_: Operation) -> None:
            sides.repository.place("Author", Stage.LIVE, 2)

        sides.prisma.after = move

        assert "sqlalchemy" == await answering(sides)
        assert 0 == sides.records.renewals


async def test_a_list_over_several_models_is_asked_again_as_well() -> None:
    """When one of them has moved under it."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, "a1")

        def both() -> None:
            sides.repository.place("Author", Stage.LIVE, 7)
            sides.repository.place("Book", Stage.LIVE, 7)

        async def freeze(_: Operation) -> None:
            expired(sides)

        sides.records.news, sides.prisma.after = both, freeze
        found = await sides.author.find_many(include={"books": True})

    assert ["sqlalchemy"] == [row.name for row in found]


async def test_a_write_by_an_old_view_looks_first() -> None:
    """So it reaches the right side at once, without a refusal."""
    async with TwoSides(Stage.OFF) as sides:
        expired(sides)
        sides.records.news = lambda: sides.repository.place("Author", Stage.LIVE, 7)
        await sides.author.create(data=AUTHOR)

        assert 1 == sides.records.renewals
        assert Action.CREATE is sides.sqlalchemy.executed[0].action


async def test_transactions_and_batches_look_first_too() -> None:
    """Before they choose their side."""
    async with TwoSides(Stage.OFF) as sides:
        sides.records.news = lambda: sides.repository.place("Author", Stage.LIVE, 7)
        expired(sides)
        async with sides.client.tx() as tx:
            await tx.author.create(data=AUTHOR)
        expired(sides)
        async with sides.client.batch_() as batch:
            batch.author.create(data=AUTHOR | {"id": "a2", "email": "2"})

        assert 2 == sides.records.renewals
        assert 2 == len(sides.rows(Side.SQLALCHEMY))


# --- the recall --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("stage", [stage for stage in Stage if has_begun(stage)])
async def test_a_recall_turns_reads_at_once_where_prisma_is_fed(stage: Stage, topology: Topology) -> None:
    """Before the record has moved, and only the reads of that model; back again just as quickly."""
    async with TwoSides(stage, topology=topology) as sides:
        mark(sides, "a1")
        sides.repository.recall("Author", wanted=True)
        assert str(SEPARATE[stage].recalled) == await answering(sides)
        assert stage is sides.repository.stages()["Author"]

        sides.repository.recall("Author", wanted=False)
        assert str(SEPARATE[stage].reads) == await answering(sides)


async def test_a_flag_that_was_off_before_the_model_began_recalls_nothing() -> None:
    """The record is the truth; the flag's news may only be late."""
    async with TwoSides(Stage.OFF) as sides:
        mark(sides, "a1")
        sides.repository.recall("Author", wanted=True)
        for epoch, stage in enumerate((Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE), 1):
            sides.repository.place("Author", stage, epoch)

        assert "sqlalchemy" == await answering(sides)


async def test_a_recall_ends_where_the_model_began() -> None:
    """The next way forward owes it nothing."""
    async with TwoSides(Stage.LIVE) as sides:
        mark(sides, "a1")
        sides.repository.recall("Author", wanted=True)
        for epoch, stage in enumerate((Stage.SHADOW, Stage.DUALWRITE, Stage.OFF, *list(Stage)[1:4]), 1):
            sides.repository.place("Author", stage, epoch)

        assert Stage.LIVE is sides.repository.stages()["Author"]
        assert "sqlalchemy" == await answering(sides)


async def test_writes_of_a_recalled_model_are_on_prisma_when_they_return() -> None:
    """A caller reads its own writes, whichever side has the authority over them."""
    async with TwoSides(Stage.RAMPDOWN) as sides:
        sides.repository.recall("Author", wanted=True)
        await sides.author.create(data=AUTHOR)

        found = await sides.author.find_unique(where={"id": "a1"})
        assert "a1" == found.id
        assert Action.FIND_UNIQUE is sides.prisma.executed[-1].action


async def test_writes_that_were_acknowledged_before_are_let_through_first() -> None:
    """Until then the reads stay where they were; nothing is missing at any time."""
    async with TwoSides(Stage.LIVE) as sides:
        stalled = asyncio.Event()

        async def stall(operation: Operation) -> None:
            if operation.action is Action.CREATE:
                await stalled.wait()

        sides.prisma.before = stall
        await sides.author.create(data=AUTHOR)
        sides.repository.recall("Author", wanted=True)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (await sides.author.find_unique(where={"id": "a1"})) is not None
        assert Action.FIND_UNIQUE is sides.sqlalchemy.executed[-1].action

        stalled.set()
        await until(lambda: sides.repository.standings.models["Author"].reads is Side.PRISMA)
        assert (await sides.author.find_unique(where={"id": "a1"})) is not None
        assert Action.FIND_UNIQUE is sides.prisma.executed[-1].action


async def test_a_store_that_has_only_begun_to_be_fed_is_left_alone_for_one_lease() -> None:
    """Other processes may not feed it yet: so it is on the way back from the end."""
    async with TwoSides(Stage.COMPLETE, lease=0.05) as sides:
        mark(sides, "a1")
        sides.repository.recall("Author", wanted=True)
        assert "sqlalchemy" == await answering(sides)

        began = monotonic()
        sides.repository.place("Author", Stage.RAMPDOWN, 2)
        assert "sqlalchemy" == await answering(sides)
        sides.repository.place("Author", Stage.LIVE, 3)
        assert "sqlalchemy" == await answering(sides)
        await until(lambda: sides.repository.standings.models["Author"].reads is Side.PRISMA)

        assert monotonic() - began >= 0.05
        assert "prisma" == await answering(sides)


async def test_prisma_is_not_waited_for_where_it_has_been_fed_all_along() -> None:
    """However quickly the model came to where it is."""
    async with TwoSides(Stage.OFF, lease=60.0) as sides:
        mark(sides, "a1")
        for epoch, stage in enumerate((Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE), 1):
            sides.repository.place("Author", stage, epoch)
        sides.repository.recall("Author", wanted=True)

        assert "prisma" == await answering(sides)


async def test_what_is_read_together_with_a_recalled_model_comes_from_prisma_if_that_is_fed() -> None:
    """One answer is never put together from two sides."""
    async with TwoSides(Stage.LIVE) as sides:
        mark(sides, "a1")
        sides.repository.recall("Book", wanted=True)
        assert ["prisma"] == [row.name for row in await sides.author.find_many(include={"books": True})]
        assert "sqlalchemy" == await answering(sides)
        assert sides.repository.standings.awaits(["Author"])

        sides.repository.place("Author", Stage.RAMPDOWN, 2)
        sides.repository.place("Author", Stage.COMPLETE, 3)
        assert ["sqlalchemy"] == [row.name for row in await sides.author.find_many(include={"books": True})]


async def test_a_recalled_read_falls_back_when_prisma_does_not_answer() -> None:
    """The authority has the answer still."""
    async with TwoSides(Stage.RAMPDOWN) as sides:
        mark(sides, "a1")
        sides.prisma.before = failing(ConnectionLostError("gone"))
        sides.repository.recall("Author", wanted=True)

        assert "sqlalchemy" == await answering(sides)


async def test_a_recalled_read_beside_keys_that_wait_is_counted() -> None:
    """Prisma may lack what the authority has acknowledged to other processes."""
    async with TwoSides(Stage.LIVE) as sides:
        mark(sides, "a1")
        sides.repository.note_lagging({"Author": 0.1}, monotonic())
        await answering(sides)
        assert [] == sides.observer.of(StaleRead)
        sides.repository.recall("Author", wanted=True)
        await answering(sides)

        assert 1 == len(sides.observer.of(StaleRead))


async def test_writes_are_awaited_for_one_lease_after_a_recall() -> None:
    """Other processes may go on reading there until they have heard."""
    async with TwoSides(Stage.LIVE, lease=0.05) as sides:
        sides.repository.recall("Author", wanted=True)
        sides.repository.recall("Author", wanted=False)
        assert sides.repository.standings.awaits(["Author"])

        await until(lambda: not sides.repository.standings.awaits(["Author"]))


# --- the canary --------------------------------------------------------------------------------------------------

IN, OUT = (
    next(f"a{n}" for n in range(100) if in_share(Key("Author", (("id", f"a{n}"),)), 0.3) is wanted)
    for wanted in (True, False)
)


async def with_canary(sides: TwoSides, share: float = 0.3) -> None:
    """Turn the canary on, and wait until it answers."""
    sides.repository.canary("Author", share)
    await until(lambda: sides.repository.standings.models["Author"].candidate is not None)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that nothing announces."""
    async with asyncio.timeout(5.0):
        while not holds():
            await asyncio.sleep(0.001)


def failing(error: Exception, *actions: Action) -> Callable[[Operation], Awaitable[None]]:
    """A path's `before` that fails."""

    async def fail(operation: Operation) -> None:
        if not actions or operation.action in actions:
            raise error

    return fail


@BOTH
async def test_rows_in_the_share_are_answered_by_the_candidate(topology: Topology) -> None:
    """And no others."""
    async with TwoSides(Stage.SHADOW, topology=topology) as sides:
        mark(sides, IN, OUT)
        await with_canary(sides)

        assert ["sqlalchemy", "prisma"] == [await answering(sides, IN), await answering(sides, OUT)]


async def test_a_row_is_answered_by_the_same_side_by_whatever_key_it_is_asked_for() -> None:
    """The primary key decides; it is looked up from the authority first."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN, OUT)
        await with_canary(sides)
        for each, side in ((IN, "sqlalchemy"), (OUT, "prisma")):
            by_id = await sides.author.find_unique_or_raise(where={"id": each})
            by_email = await sides.author.find_unique(where={"email": f"{each}@b.c"})

            assert [side, side] == [by_id.name, by_email.name]
        await sides.rest()
        compared = [event.action for event in sides.observer.of(ReadCompared)]

    assert 4 == len(compared)


async def test_lists_counts_and_includes_are_the_authoritys() -> None:
    """No answer mixes rows of two sides."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides, 1.0)
        found = [
            await sides.author.find_first(where={"id": IN}),
            await sides.author.find_unique(where={"id": IN}, include={"books": True}),
            *await sides.author.find_many(),
        ]

    assert ["prisma"] * 3 == [row.name for row in found]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.SHADOW])
async def test_at_other_stages_there_is_no_canary(stage: Stage) -> None:
    """The stage's side answers everything."""
    async with TwoSides(stage) as sides:
        mark(sides, IN)
        sides.repository.canary("Author", 1.0)

        assert str(SEPARATE[stage].reads) == await answering(sides, IN)
        assert not sides.repository.standings.awaits(["Author"])


async def test_a_canarys_answer_is_compared_with_the_authoritys() -> None:
    """As every shadow read is; the caller has the candidate's."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides)
        await answering(sides, IN)
        await sides.rest()

    assert [Verdict.MISMATCHED] == [event.verdict for event in sides.observer.of(ReadCompared)]


async def test_sampling_applies_to_canaries() -> None:
    """At 0 nothing is compared."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        sides.repository.sample("Author", 0.0)
        await with_canary(sides)
        assert "sqlalchemy" == await answering(sides, IN)
        await sides.rest()

    assert [] == sides.observer.of(ReadCompared)


@BOTH
@pytest.mark.parametrize(
    "error",
    [
        ConnectionLostError("gone"),
        TimeoutError(),
        UnsupportedQueryError("Author", "where", "no"),
        InputError("no"),
        QueryError("Author", "where", "no"),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", [{"id": IN}, {"email": f"{IN}@b.c"}], ids=["id", "email"])
async def test_a_candidate_that_fails_costs_no_answer(
    error: Exception, where: dict[str, Any], topology: Topology
) -> None:
    """The authority is asked, and it is counted."""
    async with TwoSides(Stage.SHADOW, topology=topology) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.repository.sample("Author", 0.0)
        sides.sqlalchemy.before = failing(error)

        assert "prisma" == (await sides.author.find_unique(where=where)).name
    fact = CanaryFellBack("Author", Action.FIND_UNIQUE, type(error).__name__)
    assert [fact] == sides.observer.of(CanaryFellBack)


async def test_a_candidate_that_stalls_costs_its_deadline() -> None:
    """And when it does so often, it is not asked any more."""
    async with TwoSides(Stage.SHADOW, canary_deadline=0.01) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.repository.sample("Author", 0.0)

        async def stall(_: Operation) -> None:
            await asyncio.Event().wait()

        sides.sqlalchemy.before = stall
        for _ in range(8):
            assert "prisma" == await answering(sides, IN)

    assert ["TimeoutError"] * 5 == [event.error for event in sides.observer.of(CanaryFellBack)]


async def test_that_there_is_no_such_row_is_an_answer() -> None:
    """The candidate's, for the caller; the comparison tells that it is wrong."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        sides.sqlalchemy.rows["Author"].clear()
        await with_canary(sides)
        missing = RecordNotFoundError("no such row")
        sides.sqlalchemy.before = failing(missing, Action.FIND_UNIQUE_OR_RAISE)
        with pytest.raises(RecordNotFoundError):
            await sides.author.find_unique_or_raise(where={"id": IN})
        assert (await sides.author.find_unique(where={"id": IN})) is None
        await sides.repository.shadow.drain()

    assert [Verdict.MISMATCHED] * 2 == [event.verdict for event in sides.observer.of(ReadCompared)]


async def test_a_caller_reads_its_own_writes_from_the_candidate() -> None:
    """They are awaited there while a canary is on."""
    async with TwoSides(Stage.SHADOW) as sides:
        await with_canary(sides, 1.0)
        for number in range(20):
            await sides.author.create(data={"id": f"b{number}", "email": f"{number}"})
            found = await sides.author.find_unique(where={"id": f"b{number}"})
            assert f"b{number}" == found.id
            await sides.author.update(where={"id": f"b{number}"}, data={"name": "new"})
            assert "new" == (await sides.author.find_unique(where={"id": f"b{number}"})).name
        reads = [each for each in sides.sqlalchemy.executed if each.action is Action.FIND_UNIQUE]

        assert len(reads) >= 40


async def test_a_candidate_that_missed_a_write_is_not_asked_until_all_is_verified() -> None:
    """Its rows may be old, although it answers."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.sqlalchemy.before = failing(ConnectionLostError("gone"), Action.UPDATE)
        await sides.author.update(where={"id": IN}, data={"score": 3})
        assert "prisma" == await answering(sides, IN)

        sides.repository.note_lagging({"Author": 10.0}, monotonic())
        assert "prisma" == await answering(sides, IN)

        sides.repository.note_lagging({}, monotonic())
        assert "prisma" == await answering(sides, IN), "nobody has looked"

        sides.repository.note_lagging({"Author": None}, monotonic())
        assert "sqlalchemy" == await answering(sides, IN)


async def test_a_candidate_is_not_asked_while_captured_keys_wait_for_long() -> None:
    """Some process does not feed it."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.repository.note_lagging({"Author": 5.0}, monotonic())
        assert "prisma" == await answering(sides, IN)

        sides.repository.note_lagging({"Author": 0.001}, monotonic() + 0.01)
        assert "sqlalchemy" == await answering(sides, IN)


async def test_rows_of_nested_writes_are_brought_before_the_caller_goes_on() -> None:
    """The follower cannot repeat them, so what was captured is verified at once."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides, 1.0)
        sides.settler.pending = {("Author", (IN,))}
        row = sides.prisma.rows["Author"][Key("Author", (("id", IN),))]

        async def nested(_: Operation) -> Any:
            object.__setattr__(row, "name", "nested")
            return row

        sides.prisma.execute = nested  # type: ignore[method-assign]
        await sides.author.update(where={"id": IN}, data={"books": {"create": [{"title": "T"}]}})

        sides.settler.pending = set()
        assert [("Author", (IN,))] == sides.settler.settled
        assert "nested" == await answering(sides, IN)


async def test_the_others_get_one_lease_to_hear_of_a_canary() -> None:
    """Before its first answer, and after its last, writes are awaited."""
    async with TwoSides(Stage.SHADOW, lease=0.05) as sides:
        mark(sides, IN)
        began = monotonic()
        sides.repository.canary("Author", 1.0)
        assert sides.repository.standings.awaits(["Author"])
        assert "prisma" == await answering(sides, IN)
        await with_canary(sides)
        assert monotonic() - began >= 0.05

        sides.repository.canary("Author", 0.0)
        assert "prisma" == await answering(sides, IN)
        assert sides.repository.standings.awaits(["Author"])
        await until(lambda: not sides.repository.standings.awaits(["Author"]))


async def test_a_share_that_changes_is_in_force_at_once() -> None:
    """The candidate is fed already."""
    async with TwoSides(Stage.SHADOW, lease=0.05) as sides:
        mark(sides, OUT)
        await with_canary(sides)
        assert "prisma" == await answering(sides, OUT)
        sides.repository.canary("Author", 1.0)

        assert "sqlalchemy" == await answering(sides, OUT)


async def test_a_recall_ends_a_canary_at_once() -> None:
    """Everything is read from Prisma, and the share stays noted."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.repository.recall("Author", wanted=True)
        assert "prisma" == await answering(sides, IN)

        sides.repository.recall("Author", wanted=False)
        await with_canary(sides)
        assert "sqlalchemy" == await answering(sides, IN)


async def test_a_canarys_answer_that_comes_after_it_has_ended_is_not_handed_out() -> None:
    """The process was frozen, and the model has walked back meanwhile."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        await with_canary(sides)
        sides.records.news = lambda: sides.repository.place("Author", Stage.OFF, 7)

        async def freeze(_: Operation) -> None:
            expired(sides)

        sides.sqlalchemy.after = freeze

        assert "prisma" == await answering(sides, IN)


async def test_a_model_without_a_canary_is_not_touched_by_anothers() -> None:
    """The share belongs to one model."""
    async with TwoSides(Stage.SHADOW) as sides:
        mark(sides, IN)
        sides.repository.canary("Book", 1.0)
        await until(lambda: sides.repository.standings.models["Book"].candidate is not None)

        assert "prisma" == await answering(sides, IN)
        assert not sides.repository.standings.awaits(["Author"])
