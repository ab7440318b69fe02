"""Comparison: what counts as the same, and how a difference is named."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from crossfade.compare import compare, value_difference
from crossfade.errors import RecordNotFoundError, UniqueViolationError
from crossfade.events import Difference, DifferenceKind
from crossfade.fields import Base64
from crossfade.operation import Action, Operation
from crossfade.records import Record
from crossfade.testing import record_classes
from small_schema import SMALL

RECORDS = record_classes(SMALL)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def author(number: int, **values: Any) -> Record:
    """An author with an id made of `number`."""
    spec = SMALL.models["Author"]
    row = dict.fromkeys((*spec.fields, *spec.relations)) | {"id": f"a{number}", "score": number} | values
    return RECORDS["Author"].build(row)


def book(number: int, **values: Any) -> Record:
    """A book with an id of `number`."""
    spec = SMALL.models["Book"]
    return RECORDS["Book"].build(dict.fromkeys((*spec.fields, *spec.relations)) | {"id": number} | values)


def many(**arguments: Any) -> Operation:
    """A find_many of authors."""
    return Operation("Author", Action.FIND_MANY, arguments)


UNIQUE = Operation("Author", Action.FIND_UNIQUE, {"where": {"id": "a1"}})


@pytest.mark.parametrize(
    ("expected", "actual", "kind"),
    [
        (1, 1, None),
        (1, 2, DifferenceKind.VALUE),
        (1, 1.0, None),  # JSON has one kind of number
        (True, 1, DifferenceKind.TYPE),
        (False, 0, DifferenceKind.TYPE),
        ("1", 1, DifferenceKind.TYPE),
        (None, "", DifferenceKind.NULL),
        ("", None, DifferenceKind.NULL),
        (Decimal("1.50"), Decimal("1.5"), None),
        (Decimal("1.50"), Decimal("1.51"), DifferenceKind.VALUE),
        (float("nan"), float("nan"), None),
        ("a ", "a", DifferenceKind.VALUE),
        (NOON, NOON.astimezone(timezone(timedelta(hours=5))), None),
        (NOON, NOON.replace(tzinfo=None), None),
        (NOON, NOON + timedelta(microseconds=999), None),
        (NOON, NOON + timedelta(milliseconds=1), DifferenceKind.VALUE),
        (NOON, NOON.isoformat(), DifferenceKind.TYPE),
        (Base64.encode(b"x"), Base64.encode(b"x"), None),
        (Base64.encode(b"x"), Base64.encode(b"y"), DifferenceKind.VALUE),
        (Base64.encode(b"x"), "eA==", DifferenceKind.TYPE),
        ([1, 2], [1, 2], None),
        ([1, 2], [2, 1], DifferenceKind.VALUE),
        ([1, 2], [1], DifferenceKind.MISSING),
        ([], [1], DifferenceKind.EXTRA),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, None),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": 0}]}, DifferenceKind.NULL),
        ({"a": True}, {"a": 1}, DifferenceKind.TYPE),
        ({"a": 1}, {}, DifferenceKind.MISSING),
        ({}, {"a": 1}, DifferenceKind.EXTRA),
    ],
)
def test_values_are_the_same_when_the_stores_would_say_so(
    expected: Any, actual: Any, kind: DifferenceKind | None
) -> None:
    """Exact where Python is lax, lax where SQL is."""
    assert kind == value_difference(expected, actual)


def test_equal_rows_match() -> None:
    """Two rows with the same values have no difference."""
    assert compare(SMALL, UNIQUE, author(1), author(1)).equal


def test_a_difference_names_its_field_and_kind_and_no_value() -> None:
    """The field and the kind are all that is said."""
    found = compare(SMALL, UNIQUE, author(1, name="secret"), author(1, name=None))

    assert (Difference("name", DifferenceKind.NULL),) == found.differences


@pytest.mark.parametrize(
    ("expected", "actual", "kind"),
    [(author(1), None, DifferenceKind.MISSING), (None, author(1), DifferenceKind.EXTRA)],
)
def test_a_row_on_one_side_only_is_missing_or_extra(expected: Any, actual: Any, kind: DifferenceKind) -> None:
    """Told apart by who has it."""
    assert (Difference("", kind),) == compare(SMALL, UNIQUE, expected, actual).differences


def test_rows_without_an_order_may_come_in_any_order() -> None:
    """SQL promises none."""
    assert compare(SMALL, many(), [author(1), author(2)], [author(2), author(1)]).equal


def test_rows_with_an_order_must_follow_it() -> None:
    """The same rows in another order differ."""
    found = compare(SMALL, many(order={"score": "asc"}), [author(1), author(2)], [author(2), author(1)])

    assert (Difference("", DifferenceKind.ORDER),) == found.differences


def test_rows_that_tie_may_swap() -> None:
    """An order says nothing about equal keys."""
    one, two = author(1, score=5), author(2, score=5)

    assert compare(SMALL, many(order={"score": "asc"}), [one, two], [two, one]).equal


def test_a_take_that_cuts_through_a_tie_is_undetermined() -> None:
    """Either of the tied rows is a right answer."""
    first, one, two = author(0, score=1), author(1, score=5), author(2, score=5)
    found = compare(SMALL, many(order={"score": "asc"}, take=2), [first, one], [first, two])

    assert found.equal
    assert found.undetermined


def test_a_take_does_not_excuse_a_row_with_another_key() -> None:
    """A row that sorts elsewhere is missing."""
    first, one, two = author(0, score=1), author(1, score=5), author(2, score=6)
    found = compare(SMALL, many(order={"score": "asc"}, take=2), [first, one], [first, two])

    assert {DifferenceKind.MISSING, DifferenceKind.EXTRA} == {d.kind for d in found.differences}


def test_a_tie_in_the_middle_is_not_excused() -> None:
    """Only a row at an edge can have been cut off."""
    rows = [author(n, score=n) for n in (1, 2, 2, 3)]
    mine = [rows[0], author(7, score=2), rows[3]]
    theirs = [rows[0], author(8, score=2), rows[3]]

    assert not compare(SMALL, many(order={"score": "asc"}, take=3), mine, theirs).equal


def test_a_find_first_without_order_is_undetermined_when_rows_differ() -> None:
    """Any row that matches may be the first."""
    found = compare(SMALL, Operation("Author", Action.FIND_FIRST, {}), author(1), author(2))

    assert found.equal
    assert found.undetermined


def test_a_find_first_with_a_deciding_order_is_not() -> None:
    """With an order that tells the rows apart there is one right answer."""
    operation = Operation("Author", Action.FIND_FIRST, {"order": {"score": "desc"}})

    assert not compare(SMALL, operation, author(1), author(2)).equal


def test_included_rows_are_compared_by_key() -> None:
    """A difference in an included row is named by its path."""
    operation = many(include={"books": True})
    mine = [author(1, books=[book(1, title="a"), book(2, title="b")])]
    theirs = [author(1, books=[book(2, title="B"), book(1, title="a")])]

    expected = (Difference("books[].title", DifferenceKind.VALUE),)
    assert expected == compare(SMALL, operation, mine, theirs).differences


def test_a_missing_included_row_is_named_by_its_relation() -> None:
    """Lists and single relations alike."""
    operation = many(include={"books": True})
    mine, theirs = [author(1, books=[book(1)])], [author(1, books=[])]

    assert (Difference("books[]", DifferenceKind.MISSING),) == compare(
        SMALL, operation, mine, theirs
    ).differences


def test_relations_that_were_not_included_are_not_compared() -> None:
    """Only what was asked for counts."""
    assert compare(SMALL, UNIQUE, author(1, books=[book(1)]), author(1)).equal


@pytest.mark.parametrize(
    ("expected", "actual", "fields"),
    [(3, 3, ()), (3, 4, ("",)), ({"_all": 3, "name": 2}, {"_all": 3, "name": 1}, ("name",))],
)
def test_counts_are_compared_as_numbers(expected: Any, actual: Any, fields: tuple[str, ...]) -> None:
    """A bare count and one by field."""
    found = compare(SMALL, Operation("Author", Action.COUNT, {}), expected, actual)

    assert fields == tuple(d.field for d in found.differences)


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        (RecordNotFoundError("x"), RecordNotFoundError("y"), True),
        (RecordNotFoundError("x"), UniqueViolationError("x"), False),
        (RecordNotFoundError("x"), author(1), False),
        (author(1), RecordNotFoundError("x"), False),
    ],
)
def test_failures_are_compared_by_class(expected: Any, actual: Any, equal: bool) -> None:
    """Both sides must refuse alike."""
    assert equal is compare(SMALL, UNIQUE, expected, actual).equal
