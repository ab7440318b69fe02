"""A journal that another process reads: everything comes across, and a process that dies leaves its last write open."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from crossfade.errors import ConnectionLostError, UniqueViolationError
from crossfade.events import (
    Difference,
    DifferenceKind,
    Event,
    OperationFinished,
    ReadCompared,
    Role,
    RowReconciled,
    StageMoved,
    StageRequested,
    Verdict,
)
from crossfade.fields import Json
from crossfade.operation import Action
from crossfade.stages import Side, Stage
from marketplace.demo.facts import FACT, FactTeller, fact_from_json
from marketplace.journal import Assigned, Created, Deleted, Finding, Increased, Journal, Loss, RowKey
from marketplace.journal_file import JournalFile, JournalReader, rows_from_json, rows_to_json

USER, ITEM, PARCEL = RowKey("User", "u"), RowKey("Item", "i"), RowKey("Shipment", 7)
MOMENT = datetime(2026, 3, 1, 12, 30, 0, 123_000, tzinfo=UTC)
START = {
    "User": {"u": {"count": 5, "name": None, "balance": Decimal("1.50"), "seen": MOMENT}},
    "Item": {},
    "Shipment": {7: {"scans": 2}},
}


def test_rows_come_back_as_they_were() -> None:
    """Decimals, times, nulls and numeric keys included."""
    assert rows_from_json(json.loads(json.dumps(rows_to_json(START)))) == START


def test_writes_come_across(tmp_path: Path) -> None:
    """Every kind of effect, what an answer told later, and every outcome; the times are the writer's."""
    path = tmp_path / "journal"
    with JournalFile(path) as file:
        there = Journal(START, file)
        with there.write(Increased(USER, "count", 2), Assigned(USER, "balance", Decimal("2.25"))):
            pass
        with there.write() as write:
            write.add(Created(ITEM, {"count": 0, "seen": MOMENT, "doc": Json({"a": 1})}, (USER,)))
        with suppress(UniqueViolationError), there.write(Increased(USER, "count", 100)):
            raise UniqueViolationError("taken")
        with suppress(ConnectionLostError), there.write(Assigned(USER, "name", "perhaps")):
            raise ConnectionLostError("gone")
        with there.write(Deleted(PARCEL)):
            pass
    here = Journal(START)
    reader = JournalReader(path, here)

    assert [] == reader.read()
    assert (3, 1, 0) == (here.acknowledged, here.unknown, reader.in_flight)
    rows = {
        "User": {"u": {"count": 7, "name": "perhaps", "balance": Decimal("2.25"), "seen": MOMENT}},
        "Item": {"i": {"count": 0}},
        "Shipment": {},
    }
    assert [] == here.verify(rows) == there.verify(rows)
    rows["User"]["u"]["count"], rows["Shipment"] = 5, {7: {"scans": 2}}
    lost = [
        Finding("Shipment", "", Loss.RETURNED_ROW, 1),
        Finding("User", "count", Loss.LOST_INCREMENT, 1),
    ]
    assert lost == here.verify(rows)


def test_a_write_that_was_under_way_when_its_process_was_killed(tmp_path: Path) -> None:
    """It may have taken place or not; a line that was cut short is not read."""
    path = tmp_path / "journal"
    with JournalFile(path) as file:
        there = Journal(START, file)
        with there.write(Increased(USER, "count", 1)):
            pass
        there.write(Increased(USER, "count", 10)).__enter__()
    with path.open("ab") as torn:
        torn.write(b'["end",1,')
    here = Journal(START)
    reader = JournalReader(path, here)
    reader.read()

    def held(count: int) -> dict[str, dict[object, dict[str, object]]]:
        return {**START, "User": {"u": {**START["User"]["u"], "count": count}}}

    assert (1, 1, 1) == (here.acknowledged, here.unknown, reader.in_flight)
    assert [] == here.verify(held(6)) == here.verify(held(16))
    assert [Loss.LOST_INCREMENT] == [finding.loss for finding in here.verify(held(5))]
    assert [Loss.EXTRA_INCREMENT] == [finding.loss for finding in here.verify(held(17))]


def test_the_order_of_two_processes_writes(tmp_path: Path) -> None:
    """A value that was overwritten later, by the other process, must not stand in a store."""
    paths = [tmp_path / "one", tmp_path / "two"]
    here = Journal(START)
    with JournalFile(paths[0]) as one, JournalFile(paths[1]) as two:
        with Journal(START, one).write(Assigned(USER, "name", "first")):
            pass
        with Journal(START, two).write(Assigned(USER, "name", "second")):
            pass
    for path in reversed(paths):
        JournalReader(path, here).read()

    assert [] == here.verify({**START, "User": {"u": {"name": "second"}}})
    assert [Loss.LOST_UPDATE] == [
        finding.loss for finding in here.verify({**START, "User": {"u": {"name": "first"}}})
    ]


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    """A file that is not there yet has nothing to say; nothing is read twice; other news is handed on."""
    path = tmp_path / "journal"
    here = Journal(START)
    reader = JournalReader(path, here)
    assert [] == reader.read()
    with JournalFile(path) as file:
        file.say("ready")
        assert [["ready"]] == reader.read()
        assert [] == reader.read()
        with Journal(START, file).write(Increased(USER, "count", 1)):
            reader.read()
            assert 1 == reader.in_flight
        file.say("done", 3)
        assert [["done", 3]] == reader.read()

    assert (0, 1) == (reader.in_flight, here.acknowledged)


@pytest.mark.parametrize(
    "fact",
    [
        OperationFinished("User", Action.CREATE, Side.PRISMA, Role.AUTHORITY, 0.25, None),
        ReadCompared(
            "User",
            Action.FIND_MANY,
            Verdict.MISMATCHED,
            (Difference("email", DifferenceKind.VALUE), Difference("", DifferenceKind.MISSING)),
        ),
        RowReconciled("User", "copied", 3),
        StageMoved("User", Stage.SHADOW, Stage.LIVE, 0.5, "me", "requested"),
    ],
)
def test_facts_come_across(tmp_path: Path, fact: Event) -> None:
    """With the classes that their fields have."""
    path = tmp_path / "journal"
    with JournalFile(path) as file:
        FactTeller(file).observe(fact)
        FactTeller(file).observe(StageRequested("User", Stage.LIVE, "flag"))  # everybody hears of it himself
    [(word, name, values)] = JournalReader(path, Journal(START)).read()
    told = fact_from_json(name, values)

    assert FACT == word
    assert (type(fact), fact) == (type(told), told)
    assert [type(value) for value in fact] == [type(value) for value in told]
