"""The parts of the demo that decide something: who is killed, what is counted as harm, what the flags ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossfade.events import GuardTripped
from crossfade.flags.files import read_flags
from crossfade.gates.bounds import passes
from crossfade.operation import Action, Operation
from crossfade.schema import Schema
from crossfade.stages import Side, Stage
from crossfade.store.record import Record
from crossfade.thresholds import GateThresholds, GuardThresholds
from marketplace.demo.breaks import BREAKS
from marketplace.demo.broken import BrokenPath, Fault
from marketplace.demo.fleet import KILLS, Freeze, Kill, Start, frozen_for, parts
from marketplace.demo.harm import GUARD, Harm
from marketplace.demo.options import MOST_PROCESSES
from marketplace.demo.thresholds import gates, write_flags
from small_schema import SMALL

FLAGS = Path(__file__).parents[2] / "flags"


@pytest.mark.parametrize("workers", range(1, MOST_PROCESSES))
def test_every_fleet_has_its_accidents(workers: int) -> None:
    """Two kills, one process that is frozen and one that starts in the middle, however few they are."""
    played = parts(workers, is_fleet=True)
    episodes = [episode for part in played for episode in part]

    assert workers == len(played)
    assert KILLS == sum(isinstance(episode, Kill) for episode in episodes)
    assert 1 == sum(isinstance(episode, Freeze) for episode in episodes)
    assert any(isinstance(episode, Start) for episode in episodes) or workers == 1


def test_a_frozen_process_misses_a_fifth_of_a_short_run() -> None:
    """And half a minute of a long one."""
    assert (4.0, 30.0, 30.0) == (frozen_for(20.0), frozen_for(90.0), frozen_for(600.0))


class _Answers:
    """A path that answers whatever it is asked with a list of rows, or with the data of a write."""

    side = Side.SQLALCHEMY

    def __init__(self, *rows: Any) -> None:
        self.asked: list[Operation] = []
        self._rows = list(rows)

    async def execute(self, operation: Operation) -> Any:
        self.asked.append(operation)
        return self._rows


class _Row:
    def __init__(self, key: int) -> None:
        self.id = key


def broken(path: Any, name: str, since: Path | None = None) -> tuple[BrokenPath, list[str]]:
    """`path` with a defect in front of it, and the models of what that has spoilt."""
    spoilt: list[str] = []
    return BrokenPath(path, Fault(name, since), spoilt.append), spoilt


async def test_only_answers_that_are_wrong_count() -> None:
    """A list that was in the order of its keys anyway is as good as ever."""
    ask = Operation("Shipment", Action.FIND_MANY, {"order": {"shipped_at": "asc"}})
    path, spoilt = broken(_Answers(_Row(1), _Row(2)), "wrong-order")
    await path.execute(ask)
    assert [] == spoilt

    path, spoilt = broken(_Answers(_Row(2), _Row(1)), "wrong-order")
    rows = await path.execute(ask)
    assert ([1, 2], ["Shipment"]) == ([row.id for row in rows], spoilt)


async def test_other_models_are_left_alone() -> None:
    """A defect is of one model."""
    path, spoilt = broken(_Answers(_Row(2), _Row(1)), "wrong-order")
    rows = await path.execute(Operation("Order", Action.FIND_MANY, {"order": {"placed_at": "asc"}}))

    assert ([2, 1], []) == ([row.id for row in rows], spoilt)


async def test_a_late_fault_begins_with_its_file(tmp_path: Path) -> None:
    """In every process at the same moment; until then there is nothing wrong."""
    since = tmp_path / "fault"
    path, spoilt = broken(_Answers(), "failing-store", since)
    ask = Operation("User", Action.FIND_MANY, {})
    await path.execute(ask)
    assert [] == spoilt

    since.touch()
    with pytest.raises(Exception, match="broken on purpose"):
        await path.execute(ask)
    assert ["User"] == spoilt


def test_harm_is_counted_until_the_guard_acts() -> None:
    """From the first bad answer on, whoever got it; a resumed model may be walked back again."""
    now = [10.0]
    harm = Harm("wrong-order", clock=lambda: now[0])
    live = Record("Shipment", Stage.LIVE, epoch=4)
    harm.place(live)
    harm.note("Shipment", served=True, at=11.0)
    harm.note("Shipment", served=False, at=12.0)
    now[0] = 15.0
    back = replace(live, stage=Stage.SHADOW, paused=True, by=GUARD, reason="mismatches: 2 of 2")
    harm.place(back)
    harm.place(back)

    (trip,) = harm.trips
    assert harm.walked_back("Shipment")
    assert (Stage.LIVE, Stage.SHADOW, 4.0, 2, 1) == (
        trip.before,
        trip.after,
        trip.seconds,
        trip.spoilt,
        trip.served,
    )
    harm.place(replace(back, paused=False))
    assert not harm.walked_back("Shipment")


def test_what_the_guard_notices_is_timed() -> None:
    """From the first bad answer, and from the first sign of it; only the first time counts."""
    now = [10.0]
    harm = Harm("lost-null", clock=lambda: now[0])
    harm.note("Item", served=False)
    now[0] = 13.0
    for _ in range(2):
        harm.observe(GuardTripped("Item", Stage.DUALWRITE, "mismatches", "mismatches: 2 of 2", 1.5))
        now[0] = 20.0

    found = harm.detected["Item"]
    assert (3.0, 1.5, Stage.DUALWRITE) == (found.seconds, found.signal_seconds, found.stage)


def test_a_model_that_a_person_pauses_was_not_walked_back() -> None:
    """Only the guard's doing is the guard's."""
    harm = Harm(None)
    harm.place(Record("User", Stage.LIVE, epoch=4, paused=True, by="somebody"))

    assert ([], False) == (harm.trips, harm.walked_back("User"))


def test_late_faults_are_those_of_the_store() -> None:
    """What is wrong in the code is there from the start, unless it comes with a late release."""
    assert {"slow-store", "failing-store"} == {name for name in BREAKS if Harm(name).is_late}
    assert Harm("wrong-order", late=True).is_late


def test_the_gates_ask_for_what_a_run_can_show() -> None:
    """A few clean keys are enough in a short run, more in a long one; one is never enough."""

    def enough(seconds: float) -> int:
        bounds = GateThresholds.of(gates(seconds))
        return next(keys for keys in range(1, 100) if passes(keys, 0, bounds.comparisons))

    asked = [enough(seconds) for seconds in (5.0, 20.0, 60.0, 600.0)]
    assert [2, 2] == asked[:2]
    assert asked[1] < asked[2] < asked[3] <= 20


def test_the_flags_of_a_demo(tmp_path: Path) -> None:
    """Every model has one, at `off`, which reads like any flag file; owners stay who they are."""
    directory = tmp_path / "flags"
    written = write_flags(FLAGS, directory, _models(), 20.0)
    read = read_flags(directory, set(written))

    assert read == written
    assert {Stage.OFF} == {flag.stage for flag in read.values()}
    assert "accounts" == read["User"].owner
    assert all(GuardThresholds.of(flag.guard).least < GuardThresholds().least for flag in read.values())


def test_the_flags_of_an_installed_package(tmp_path: Path) -> None:
    """Where there are no flags to copy, they are made."""
    written = write_flags(tmp_path / "nothing", tmp_path / "flags", SMALL, 20.0)

    assert set(SMALL.models) == set(written) == set(read_flags(tmp_path / "flags", set(SMALL.models)))


def _models() -> Schema:
    from crossfade.engine.parser import load_schema
    from marketplace.setup import SCHEMA_FILE

    return load_schema(SCHEMA_FILE)
