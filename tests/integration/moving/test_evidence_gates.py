"""The gates that go by what a fleet has seen, on real stores: what counts, since when, and what a step needs of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from places import COHORT, MODELS, SHELF, Places

from crossfade.covering import cover
from crossfade.errors import StoreUnavailableError
from crossfade.events import OperationFinished, ReadCompared, Role, Verdict, WriteCompared
from crossfade.flags import Flag
from crossfade.gates import AllGates, Gate, GateName
from crossfade.operation import Action
from crossfade.signals import Signals
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.tables import Connection

ENOUGH = 3500
"""Distinct keys that prove the usual bound, those included that share a bit."""
NEVER = 3600.0


def subject(key: int) -> int:
    """A digest, spread as a real one is."""
    return key * 0x9E3779B97F4A7C15 % 2**64


def compared(keys: Iterable[int], verdict: Verdict = Verdict.MATCHED) -> list[ReadCompared]:
    """Reads of books that have been judged."""
    return [ReadCompared("Book", Action.FIND_MANY, verdict, (), subject(key)) for key in keys]


def timed(calls: int, seconds: float, side: Side, error: str | None = None) -> list[OperationFinished]:
    """Calls that took so long."""
    role = Role.AUTHORITY if side is Side.PRISMA else Role.SHADOW
    return [OperationFinished("Book", Action.FIND_MANY, side, role, seconds, error)] * calls


WELL = [*timed(200, 0.01, Side.PRISMA), *timed(200, 0.01, Side.SQLALCHEMY)]


@asynccontextmanager
async def process(places: Places) -> AsyncIterator[Signals]:
    """A process that publishes what it sees when it is told to."""
    await places.view.refresh()
    async with Signals(places.stores[Side.PRISMA], SHELF, places.view, interval=NEVER) as signals:
        yield signals


async def see(places: Places, *events: Iterable[ReadCompared | WriteCompared | OperationFinished]) -> None:
    """One process sees all this, publishes it, and ends."""
    async with process(places) as signals:
        for event in [event for some in events for event in some]:
            signals.observe(event)
        await signals.flush()


def gates(places: Places, **flag: Mapping[str, float]) -> AllGates:
    """The gates, with thresholds of one's own."""
    return AllGates(places.stores, SHELF, lambda model: Flag(model, **flag))


async def unmet(
    places: Places, current: Stage, wanted: Stage, *models: str, **flag: Mapping[str, float]
) -> dict[GateName, Gate]:
    """What keeps a model (`Book`) from a step."""
    found = await gates(places, **flag).unmet(list(models) or ["Book"], current, wanted)
    return {gate.name: gate for gate in found}


async def run(places: Places, side: Side, statement: str) -> None:
    """Do something to a store."""
    async with places.stores[side].transaction() as connection:
        await connection.execute(statement)


@pytest.fixture
async def shadowed(places: Places) -> Places:
    """Everything copied, verified, and at `shadow`."""
    await cover(places.stores, by="test")
    await places.stand_at(Stage.SHADOW)
    return places


async def test_a_model_goes_live_when_the_fleet_has_seen_enough(shadowed: Places) -> None:
    """What two processes have compared counts together, and each key once."""
    before = await unmet(shadowed, Stage.SHADOW, Stage.LIVE)
    assert [GateName.COMPARISONS] == list(before)
    assert before[GateName.COMPARISONS].why.startswith(
        "its comparisons do not prove enough: nothing was compared yet; needs about 3,400 more distinct keys"
    )

    await see(shadowed, compared(range(ENOUGH // 2)), WELL)
    await see(shadowed, compared(range(ENOUGH // 2)))
    assert [GateName.COMPARISONS] == list(await unmet(shadowed, Stage.SHADOW, Stage.LIVE))

    await see(shadowed, compared(range(ENOUGH // 2, ENOUGH)))
    assert {} == await unmet(shadowed, Stage.SHADOW, Stage.LIVE)


async def test_a_mismatch_that_anybody_saw_is_not_forgotten(shadowed: Places) -> None:
    """Not even when the same key is compared again and matches."""
    await see(shadowed, compared(range(ENOUGH)), WELL)
    await see(shadowed, compared([7], Verdict.MISMATCHED), compared(range(ENOUGH)))

    gate = (await unmet(shadowed, Stage.SHADOW, Stage.LIVE))[GateName.COMPARISONS]

    assert "keys, 1 mismatched), which is more than 0.001" in gate.figure
    assert gate.remedy.startswith("see what was mismatched")
    assert gate.number is not None
    assert 0.002 < gate.number < 0.0025


async def test_what_is_in_flight_or_failed_proves_nothing(shadowed: Places) -> None:
    """It makes a kind of operation a frequent one all the same."""
    await see(
        shadowed,
        compared(range(ENOUGH), Verdict.IN_FLIGHT),
        compared(range(ENOUGH), Verdict.ERROR),
        WELL,
    )

    gate = (await unmet(shadowed, Stage.SHADOW, Stage.LIVE))[GateName.COMPARISONS]

    assert gate.figure.startswith("≤ 1 (find_many, 0 keys, 3,500 error, 3,500 in_flight)")


async def test_rare_writes_stay_unproven_and_say_so(shadowed: Places) -> None:
    """Kinds are judged apart: a write is not proven by reads."""
    writes = [WriteCompared("Book", Action.DELETE, Verdict.MATCHED, (), subject(key)) for key in range(3)]
    await see(shadowed, compared(range(ENOUGH)), writes, WELL)

    found = await gates(shadowed).step(["Book"], Stage.SHADOW, Stage.LIVE)
    gate = next(gate for gate in found["Book"] if gate.name is GateName.COMPARISONS)

    assert gate.holds
    assert gate.figure.endswith("keys); unproven: delete (3 keys)")


async def test_every_step_begins_anew(shadowed: Places) -> None:
    """What was seen at another stage, or before the guard walked a model back, proves nothing about now."""
    await see(shadowed, compared(range(ENOUGH)), WELL)
    assert {} == await unmet(shadowed, Stage.SHADOW, Stage.LIVE)

    await shadowed.bring(["Book"], Stage.LIVE)
    assert [GateName.COMPARISONS] == list(await unmet(shadowed, Stage.LIVE, Stage.RAMPDOWN))
    await see(shadowed, compared(range(ENOUGH)), WELL)
    assert {} == await unmet(shadowed, Stage.LIVE, Stage.RAMPDOWN)

    await shadowed.mover().move(["Book"], Stage.SHADOW, by="guard", pauses=True)
    assert [GateName.COMPARISONS] == list(await unmet(shadowed, Stage.SHADOW, Stage.LIVE))
    await see(shadowed, compared(range(ENOUGH)), WELL)
    assert {} == await unmet(shadowed, Stage.SHADOW, Stage.LIVE)

    assert ["Book"] == await shadowed.mover().resume(["Book"], by="test", reason="looked into")
    assert [GateName.COMPARISONS] == list(await unmet(shadowed, Stage.SHADOW, Stage.LIVE))


async def test_a_slow_or_failing_new_side_keeps_a_model(shadowed: Places) -> None:
    """Its own calls count, whoever made them; the thresholds are those of the flag."""
    await see(
        shadowed,
        compared(range(ENOUGH)),
        timed(500, 0.01, Side.PRISMA),
        timed(490, 0.05, Side.SQLALCHEMY),
        timed(10, 0.05, Side.SQLALCHEMY, "StoreUnavailableError"),
        timed(50, 0.01, Side.SQLALCHEMY, "UniqueViolationError"),
    )

    found = await unmet(shadowed, Stage.SHADOW, Stage.LIVE)

    assert {GateName.LATENCY, GateName.ERRORS} == found.keys()
    assert "4.76 times the old p99 (find_many: 51.2 ms against 10.8 ms)" in found[GateName.LATENCY].figure
    assert "10 of 550 calls to the new side failed, which is more than 0.001" in found[GateName.ERRORS].figure
    assert {} == await unmet(shadowed, Stage.SHADOW, Stage.LIVE, gates={"latency": 10, "errors": 0.05})


async def test_lag_is_that_of_both_stores_and_of_the_tables_that_a_model_owns(shadowed: Places) -> None:
    """By the stores' own clocks; what has been verified is no lag."""
    waits = (
        "INSERT INTO crossfade.change (model, key, op, at)"
        " VALUES ('{}', '{{1}}', 'U', clock_timestamp() - interval '{} seconds')"
    )
    owner = shadowed.stores[Side.PRISMA].tables["_BookToTag"].owner
    await run(shadowed, Side.PRISMA, waits.format("_BookToTag", 30))
    await run(shadowed, Side.SQLALCHEMY, waits.format("_BookToTag", 60))
    await run(shadowed, Side.SQLALCHEMY, waits.format("Author", 1))

    found = await gates(shadowed).read(MODELS)
    lags = {model: next(g for g in found[model] if g.name is GateName.LAG) for model in MODELS}

    assert [owner] == [model for model in MODELS if not lags[model].holds]
    assert lags[owner].figure.startswith("2 captured keys wait, the oldest for 60.")
    assert lags["Author"].figure.startswith("1 captured key waits, the oldest for 1.")
    assert GateName.LAG not in await unmet(shadowed, Stage.SHADOW, Stage.LIVE, owner, gates={"lag": 90})


@pytest.mark.parametrize(
    ("damage", "figure"),
    [
        (
            "ALTER TABLE books ALTER id DROP DEFAULT; ALTER SEQUENCE books_id_seq OWNED BY NONE",
            "Book.id is numbered by the old store and has no sequence in the new one",
        ),
        (
            "ALTER SEQUENCE books_id_seq MAXVALUE 900",
            "Book.id has come to 1,000, and the new store's sequence ends before that",
        ),
        (
            "ALTER SEQUENCE books_id_seq INCREMENT -1 MINVALUE -9000",
            "Book.id is numbered upwards by one store and downwards by the other",
        ),
    ],
)
async def test_what_a_hand_over_could_not_number_on_keeps_the_authority(
    shadowed: Places, damage: str, figure: str
) -> None:
    """A sequence is raised as the authority moves, if it is there and reaches far enough."""
    await run(shadowed, Side.PRISMA, "SELECT setval('books_id_seq', 1000)")
    found = await gates(shadowed).step(["Book"], Stage.SHADOW, Stage.LIVE)
    gate = next(gate for gate in found["Book"] if gate.name is GateName.SEQUENCES)
    assert "1 numbered column, raised as the authority moves" == gate.figure
    assert gate.holds

    await run(shadowed, Side.SQLALCHEMY, damage)

    assert figure == (await unmet(shadowed, Stage.SHADOW, Stage.LIVE))[GateName.SEQUENCES].figure


async def test_a_store_is_fed_until_a_lease_has_passed(places: Places) -> None:
    """Back to `off` as well: a process that was held up may believe the stage before. The store's clock counts."""
    await places.bring(["Author"], Stage.DUALWRITE)

    early = await unmet(places, Stage.DUALWRITE, Stage.OFF, "Author")
    assert [GateName.SETTLED] == list(early)
    assert early[GateName.SETTLED].figure.startswith("at dualwrite for ")
    assert early[GateName.SETTLED].figure.endswith(", and a lease is 5.0 s")

    await run(
        places,
        Side.PRISMA,
        "UPDATE crossfade.record SET since = since - interval '5 s' WHERE model = 'Author'",
    )
    assert {} == await unmet(places, Stage.DUALWRITE, Stage.OFF, "Author")


async def test_a_target_store_that_is_away_keeps_nobody_from_going_back(places: Places) -> None:
    """Forward, nobody can say; and the store that does not answer is named."""
    target = places.stores[Side.SQLALCHEMY]
    away = Store(Side.SQLALCHEMY, replace(target.dsn, port=1), SHELF)
    every = AllGates({**places.stores, Side.SQLALCHEMY: away}, SHELF, lambda _: None, lease=0.0)

    assert [] == await every.unmet(["Author"], Stage.LIVE, Stage.SHADOW)
    assert [] == await every.unmet(["Author"], Stage.DUALWRITE, Stage.OFF)
    with pytest.raises(StoreUnavailableError, match=":1/"):
        await every.unmet(["Author"], Stage.SHADOW, Stage.LIVE)


async def test_every_gate_of_every_next_step_is_told(shadowed: Places) -> None:
    """Those that hold as well, in one order; forward, unless a model is asked to go back."""
    await shadowed.bring(COHORT, Stage.LIVE)

    forward = await gates(shadowed).read(MODELS)
    back = await gates(shadowed).read(
        MODELS, {"Author": Stage.OFF, "Book": Stage.LIVE, "Tag": Stage.COMPLETE}
    )

    names = {model: " ".join(gate.name for gate in found) for model, found in forward.items()}
    covered = "captured indexed backfilled verified lag comparisons latency errors"
    assert {"Author": covered, "Book": covered, "Tag": f"{covered} sequences"} == names
    assert all(gate.figure for found in forward.values() for gate in found)
    assert ["", names["Book"], names["Tag"]] == [" ".join(g.name for g in back[model]) for model in MODELS]


async def test_at_the_end_of_the_way_there_is_no_gate(shadowed: Places) -> None:
    """Before it, a lease is waited out."""
    await shadowed.bring(MODELS, Stage.LIVE, Stage.RAMPDOWN)
    held = {gate.name for gate in (await gates(shadowed).read(["Tag"]))["Tag"] if not gate.holds}
    assert {GateName.SETTLED} == held

    await shadowed.bring(MODELS, Stage.COMPLETE)

    assert {"Tag": []} == await gates(shadowed).read(["Tag"])


async def test_in_a_shared_store_only_the_two_clients_are_judged(shadowed: Places) -> None:
    """There is nothing to copy, to follow or to number."""
    shared = AllGates({Side.PRISMA: shadowed.stores[Side.PRISMA]}, SHELF, lambda _: None)
    await see(shadowed, compared(range(10)), WELL)

    found = await shared.read(["Book"])

    assert ["comparisons", "latency", "errors"] == [gate.name for gate in found["Book"]]
    assert [GateName.COMPARISONS] == [
        gate.name for gate in await shared.unmet(["Book"], Stage.SHADOW, Stage.LIVE)
    ]
    assert [] == await shared.unmet(["Book"], Stage.DUALWRITE, Stage.OFF)


async def test_ten_models_ask_no_more_often_than_one(shadowed: Places) -> None:
    """The leader reads the gates of everything every few seconds."""
    asked: list[Side] = []

    class Counted(Store):
        """A store that counts its transactions."""

        @asynccontextmanager
        async def transaction(
            self, *, follower: bool = False, bulk: bool = False
        ) -> AsyncIterator[Connection]:
            asked.append(self.side)
            async with super().transaction(follower=follower, bulk=bulk) as connection:
                yield connection

    stores = {side: Counted(side, store.dsn, SHELF) for side, store in shadowed.stores.items()}
    every = AllGates(stores, SHELF, lambda _: None)
    try:
        await every.read(["Tag"])
        one, asked[:] = sorted(asked), []
        await every.read(MODELS)
    finally:
        for store in stores.values():
            await store.close()

    assert sorted(asked) == one
