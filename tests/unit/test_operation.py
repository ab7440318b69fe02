"""Operations: what they touch, and what pinning fills in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from types import SimpleNamespace

import pytest

from crossfade.operation import (
    Action,
    CuidFactory,
    Operation,
    Pinner,
    for_follower,
    models_touched,
    nested_writes,
    to_milliseconds,
)
from small_schema import SMALL

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_999, tzinfo=UTC)
NOON_MS = NOON.replace(microsecond=123_000)


@pytest.fixture
def pinner() -> Pinner:
    """A pinner with a clock that stands still and ids that count."""
    ids = count(1)
    return Pinner(SMALL, clock=lambda: NOON, cuid=lambda: f"c{next(ids)}", uuid=lambda: f"u{next(ids)}")


def test_a_create_gets_id_times_and_literal_defaults(pinner: Pinner) -> None:
    """Whatever a client would mint is given, with one time for the whole row; optional fields stay out."""
    pinned = pinner.pin(Operation("Author", Action.CREATE, {"data": {"email": "a@b.c"}}))

    expected = {"email": "a@b.c", "id": "c1", "score": 0, "created_at": NOON_MS, "updated_at": NOON_MS}
    assert expected == pinned.arguments["data"]


def test_pinning_keeps_what_the_caller_gave(pinner: Pinner) -> None:
    """Given values win over defaults, null included."""
    data = {"id": "mine", "email": "a@b.c", "score": None, "created_at": NOON, "updated_at": NOON}

    assert data == pinner.pin(Operation("Author", Action.CREATE, {"data": data})).arguments["data"]


def test_pinning_leaves_the_callers_arguments_alone(pinner: Pinner) -> None:
    """The caller's own dictionaries are never changed."""
    data = {"email": "a@b.c"}
    pinner.pin(Operation("Author", Action.CREATE, {"data": data}))

    assert {"email": "a@b.c"} == data


def test_what_the_database_mints_is_left_out(pinner: Pinner) -> None:
    """An autoincrement id is the authority's to give."""
    pinned = pinner.pin(Operation("Book", Action.CREATE, {"data": {"title": "T", "author_id": "a"}}))

    assert {"title": "T", "author_id": "a"} == pinned.arguments["data"]


def test_rows_of_a_create_many_get_an_id_each_and_one_time(pinner: Pinner) -> None:
    """Ids differ, the time does not."""
    data = [{"email": "a"}, {"email": "b"}]
    rows = pinner.pin(Operation("Author", Action.CREATE_MANY, {"data": data})).arguments["data"]

    assert ["c1", "c2"] == [row["id"] for row in rows]
    assert {NOON_MS} == {row["updated_at"] for row in rows}


@pytest.mark.parametrize("action", [Action.UPDATE, Action.UPDATE_MANY])
def test_an_update_stamps_the_row(pinner: Pinner, action: Action) -> None:
    """updated_at is set, nothing else."""
    pinned = pinner.pin(Operation("Author", action, {"where": {"id": "1"}, "data": {"name": "N"}}))

    assert {"name": "N", "updated_at": NOON_MS} == pinned.arguments["data"]


def test_an_update_that_changes_no_field_is_not_stamped(pinner: Pinner) -> None:
    """Prisma's engine leaves updated_at alone when only other rows change."""
    operation = Operation("Author", Action.UPDATE, {"where": {"id": "1"}, "data": {"books": {"create": {}}}})

    assert {"books": {"create": {}}} == pinner.pin(operation).arguments["data"]


def test_an_upsert_pins_both_branches(pinner: Pinner) -> None:
    """Whichever branch a side takes, the values are the same."""
    data = {"create": {"email": "a"}, "update": {"name": "N"}}
    pinned = pinner.pin(
        Operation("Author", Action.UPSERT, {"where": {"email": "a"}, "data": data})
    ).arguments["data"]

    assert "c1" == pinned["create"]["id"]
    assert {"name": "N", "updated_at": NOON_MS} == pinned["update"]


def test_a_read_is_not_changed(pinner: Pinner) -> None:
    """There is nothing to pin in a question."""
    operation = Operation("Author", Action.FIND_MANY, {"where": {"name": "x"}})

    assert pinner.pin(operation) is operation


def test_the_follower_gets_the_ids_that_the_authority_minted() -> None:
    """An autoincrement id travels in the follower's data."""
    operation = Operation("Book", Action.CREATE, {"data": {"title": "T"}})
    row = SimpleNamespace(id=7)

    assert {"title": "T", "id": 7} == for_follower(SMALL.models["Book"], operation, row).arguments["data"]


@pytest.mark.parametrize(
    ("arguments", "touched"),
    [
        ({}, ("Author",)),
        ({"where": {"id": "1"}}, ("Author",)),
        ({"include": {"books": True}}, ("Author", "Book")),
        ({"include": {"books": False}}, ("Author",)),
        ({"include": {"books": {"include": {"author": True}}}}, ("Author", "Book")),
        ({"where": {"books": {"some": {"title": "T"}}}}, ("Author", "Book")),
        ({"where": {"AND": [{"name": "x"}, {"NOT": {"books": {"none": {}}}}]}}, ("Author", "Book")),
    ],
)
def test_models_touched_are_found_wherever_they_are_named(
    arguments: dict[str, object], touched: tuple[str, ...]
) -> None:
    """Include and relation filters count, at any depth."""
    assert touched == models_touched(SMALL, Operation("Author", Action.FIND_MANY, arguments))


def test_a_connect_reaches_the_follower_as_a_foreign_key() -> None:
    """Which row was meant is the authority's answer; the follower need not find it again."""
    data = {"title": "T", "author": {"connect": {"email": "e"}}}
    operation = Operation("Book", Action.CREATE, {"data": data})
    row = SimpleNamespace(id=7, author_id="a1")

    expected = {"title": "T", "author_id": "a1", "id": 7}
    assert expected == for_follower(SMALL.models["Book"], operation, row).arguments["data"]
    assert () == nested_writes(SMALL.models["Book"], operation)


def test_a_link_from_the_other_end_or_with_more_to_do_is_a_nested_write() -> None:
    """It changes rows that this operation does not name."""
    other_end = Operation("Author", Action.UPDATE, {"data": {"books": {"connect": [{"id": 1}]}}})
    with_more = Operation("Book", Action.CREATE, {"data": {"author": {"connect": {"id": "a"}, "create": {}}}})

    assert ("books",) == nested_writes(SMALL.models["Author"], other_end)
    assert ("author",) == nested_writes(SMALL.models["Book"], with_more)


def test_a_link_stamps_the_row_that_holds_the_key(pinner: Pinner) -> None:
    """The row itself changes, although no scalar is named."""
    data = {"author": {"connect": {"id": "a"}}}
    pinned = pinner.pin(Operation("Book", Action.UPDATE, {"where": {"id": 1}, "data": data}))

    assert (
        data == pinned.arguments["data"]
    )  # a book has no @updatedAt; there is nothing to add and nothing is lost


def test_nested_writes_are_found_in_every_shape_of_data() -> None:
    """create, upsert and create_many keep their data in different places."""
    spec = SMALL.models["Author"]
    nested = {"books": {"create": {"title": "T"}}}
    shapes = [
        Operation("Author", Action.CREATE, {"data": nested}),
        Operation("Author", Action.UPSERT, {"data": {"create": {}, "update": nested}}),
        Operation("Author", Action.CREATE_MANY, {"data": [{}, nested]}),
    ]

    assert [("books",)] * 3 == [nested_writes(spec, shape) for shape in shapes]


def test_cuids_are_unique_and_sort_by_time() -> None:
    """A later id sorts after an earlier one, also within one millisecond, as applications rely on."""
    moments = iter([NOON, NOON, NOON + timedelta(milliseconds=1)])
    make = CuidFactory(clock=lambda: next(moments))
    made = [make() for _ in range(3)]

    assert sorted(made) == made
    assert all(len(one) == 25 and one.startswith("c") and one.isalnum() for one in made)


def test_times_are_cut_not_rounded_and_naive_means_utc() -> None:
    """As Prisma Client Python sends them."""
    other = NOON.astimezone(timezone(timedelta(hours=2)))

    assert NOON_MS == to_milliseconds(NOON)
    assert NOON_MS == to_milliseconds(NOON.replace(tzinfo=None))
    assert NOON_MS == to_milliseconds(other)


def test_a_pinner_can_be_given_other_makers(pinner: Pinner) -> None:
    """Clock and ids are dependencies."""
    fixed = replace(pinner, cuid=lambda: "fixed")

    assert (
        "fixed"
        == fixed.pin(Operation("Author", Action.CREATE, {"data": {"email": "e"}})).arguments["data"]["id"]
    )
