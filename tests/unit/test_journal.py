"""The journal finds what a store has lost, and nothing where nothing is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from crossfade.errors import ConnectionLostError, UniqueViolationError
from crossfade.fields import Json
from marketplace.journal import (
    Assigned,
    Created,
    Deleted,
    Effect,
    Finding,
    Increased,
    Journal,
    Loss,
    RowKey,
)

USER, ITEM = RowKey("User", "u"), RowKey("Item", "i")


@pytest.fixture
def journal() -> Journal:
    """A journal that begins with one user."""
    return Journal({"User": {"u": {"count": 5, "name": "start"}}, "Item": {}})


def store(
    user: dict[str, Any] | None = None, item: dict[str, Any] | None = None
) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of a store: the user as it began unless told otherwise, and perhaps an item."""
    return {
        "User": {"u": {"count": 5, "name": "start"} | (user or {})},
        "Item": {} if item is None else {"i": item},
    }


def acknowledged(journal: Journal, *effects: Effect) -> None:
    """A write that ended well."""
    with journal.write(*effects):
        pass


@contextmanager
def broken(journal: Journal, *effects: Effect) -> Iterator[None]:
    """A write whose connection breaks."""
    with suppress(ConnectionLostError), journal.write(*effects):
        yield
        raise ConnectionLostError("gone")


def test_nothing_happened(journal: Journal) -> None:
    """A store that is as it was contradicts nothing."""
    assert [] == journal.verify(store())


def test_a_row_that_was_created_is_missing(journal: Journal) -> None:
    """An acknowledged creation must be there."""
    acknowledged(journal, Created(ITEM, {"count": 0}))

    assert [Finding("Item", "", Loss.MISSING_ROW, 1)] == journal.verify(store())
    assert [] == journal.verify(store(item={"count": 0}))


def test_a_row_that_was_there_before_is_missing(journal: Journal) -> None:
    """So must every row that was there before and that nobody deleted."""
    rows = store() | {"User": {}}

    assert [Finding("User", "", Loss.MISSING_ROW, 1)] == journal.verify(rows)


def test_a_deleted_row_is_there_again(journal: Journal) -> None:
    """An acknowledged deletion must have removed the row."""
    acknowledged(journal, Created(ITEM, {"count": 0}))
    acknowledged(journal, Deleted(ITEM))

    assert [Finding("Item", "", Loss.RETURNED_ROW, 1)] == journal.verify(store(item={"count": 0}))
    assert [] == journal.verify(store())


def test_a_deletion_takes_along_what_belongs_to_the_row(journal: Journal) -> None:
    """A child goes with its parent."""
    acknowledged(journal, Created(ITEM, {"count": 0}, parents=(USER,)))
    acknowledged(journal, Deleted(USER))
    both_there = store(item={"count": 0})

    assert {("User", Loss.RETURNED_ROW), ("Item", Loss.RETURNED_ROW)} == {
        (finding.model, finding.loss) for finding in journal.verify(both_there)
    }
    assert [] == journal.verify({"User": {}, "Item": {}})
    assert journal.is_doomed(ITEM)
    assert journal.goes_with_parents(ITEM)


def test_a_deletion_of_unknown_outcome(journal: Journal) -> None:
    """The row may be there or not."""
    with broken(journal, Deleted(USER)):
        pass

    assert [] == journal.verify(store())
    assert [] == journal.verify({"User": {}, "Item": {}})


def test_a_lost_increment(journal: Journal) -> None:
    """A counter holds its start and all that was acknowledged."""
    for by in (1, 3, 2):
        acknowledged(journal, Increased(USER, "count", by))

    assert [] == journal.verify(store({"count": 11}))
    assert [Finding("User", "count", Loss.LOST_INCREMENT, 1)] == journal.verify(store({"count": 10}))
    assert [Finding("User", "count", Loss.LOST_INCREMENT, 2)] == journal.verify(store({"count": 6}))


def test_an_increment_that_was_applied_twice(journal: Journal) -> None:
    """A counter holds no more than that either."""
    acknowledged(journal, Increased(USER, "count", 2))

    assert [Finding("User", "count", Loss.EXTRA_INCREMENT, 1)] == journal.verify(store({"count": 9}))


def test_an_increment_of_unknown_outcome(journal: Journal) -> None:
    """It may have been applied or not, and nothing else."""
    acknowledged(journal, Increased(USER, "count", 2))
    with broken(journal, Increased(USER, "count", 10)):
        pass

    assert [[], []] == [journal.verify(store({"count": count})) for count in (7, 17)]
    assert [Finding("User", "count", Loss.EXTRA_INCREMENT, 1)] == journal.verify(store({"count": 18}))


def test_a_refused_write_counts_for_nothing(journal: Journal) -> None:
    """What the store refused must not be there."""
    with pytest.raises(UniqueViolationError), journal.write(Increased(USER, "count", 1)):
        raise UniqueViolationError("taken")

    assert [] == journal.verify(store())
    assert 0 == journal.acknowledged


def test_a_cancelled_write_is_of_unknown_outcome(journal: Journal) -> None:
    """The caller gave up; the store may have gone on."""
    with pytest.raises(asyncio.CancelledError), journal.write(Increased(USER, "count", 1)):
        raise asyncio.CancelledError

    assert [[], []] == [journal.verify(store({"count": count})) for count in (5, 6)]


def test_a_write_that_found_no_row(journal: Journal) -> None:
    """An update that says there was no row has changed nothing."""
    with journal.write(Increased(USER, "count", 1)) as write:
        write.missed()

    assert [] == journal.verify(store())


def test_a_lost_update(journal: Journal) -> None:
    """A field holds the last acknowledged value, not an earlier one."""
    acknowledged(journal, Assigned(USER, "name", "one"))
    acknowledged(journal, Assigned(USER, "name", None))

    assert [] == journal.verify(store({"name": None}))
    for name in ("start", "one", "never written"):
        assert [Finding("User", "name", Loss.LOST_UPDATE, 1)] == journal.verify(store({"name": name}))


def test_writes_that_overlap(journal: Journal) -> None:
    """Of two writes under way at the same time either may be the last; what both overwrote may not."""
    with journal.write(Assigned(USER, "name", "one")):
        acknowledged(journal, Assigned(USER, "name", "two"))

    assert [[], []] == [journal.verify(store({"name": name})) for name in ("one", "two")]
    assert [Finding("User", "name", Loss.LOST_UPDATE, 1)] == journal.verify(store())


def test_an_update_of_unknown_outcome_may_come_late(journal: Journal) -> None:
    """A write whose end nobody saw may be applied after a later one."""
    with broken(journal, Assigned(USER, "name", "late")):
        pass
    acknowledged(journal, Assigned(USER, "name", "last"))

    assert [[], []] == [journal.verify(store({"name": name})) for name in ("late", "last")]


def test_a_field_of_a_new_row(journal: Journal) -> None:
    """What a row was created with counts as its first value."""
    acknowledged(journal, Created(ITEM, {"count": 2, "name": "new"}))
    acknowledged(journal, Increased(ITEM, "count", 1), Assigned(ITEM, "name", "newer"))

    assert [] == journal.verify(store(item={"count": 3, "name": "newer"}))
    assert [
        Finding("Item", "count", Loss.LOST_INCREMENT, 1),
        Finding("Item", "name", Loss.LOST_UPDATE, 1),
    ] == journal.verify(store(item={"count": 2, "name": "new"}))


def test_values_are_compared_as_a_store_gives_them_back(journal: Journal) -> None:
    """Times are cut to the millisecond, and documents are without their wrapper."""
    moment = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    acknowledged(journal, Assigned(USER, "name", moment), Assigned(USER, "count", Json({"a": [1]})))

    kept = {"name": moment.replace(microsecond=123_000), "count": {"a": [1]}}
    assert [] == journal.verify(store(kept))
