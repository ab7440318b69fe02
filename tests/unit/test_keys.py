"""Keys: which rows an operation names and which it touched."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from crossfade.keys import (
    Key,
    key_from_where,
    keys_written,
    parent_keys,
    read_by_key,
    rows_referred,
    text_of,
    text_of_key,
    where_of,
)
from crossfade.operation import Action, Operation
from crossfade.testing import record_classes
from small_schema import SMALL

AUTHOR, BOOK = SMALL.models["Author"], SMALL.models["Book"]
BY_ID = Key("Author", (("id", "a1"),))
BY_EMAIL = Key("Author", (("email", "e"),))
BY_TITLE = Key("Book", (("author_id", "a1"), ("title", "T")))


@pytest.mark.parametrize(
    ("spec", "where", "key"),
    [
        (AUTHOR, {"id": "a1"}, BY_ID),
        (AUTHOR, {"email": "e"}, BY_EMAIL),
        (BOOK, {"author_id_title": {"author_id": "a1", "title": "T"}}, BY_TITLE),
        (AUTHOR, {"name": "N"}, None),
        (AUTHOR, {"id": {"in": ["a1"]}}, None),
        (BOOK, {"author_id_title": {"author_id": "a1"}}, None),
        (AUTHOR, None, None),
    ],
)
def test_a_unique_where_names_one_key(spec: Any, where: Any, key: Key | None) -> None:
    """Single and compound keys, and nothing else."""
    assert key == key_from_where(spec, where)


@pytest.mark.parametrize(("spec", "key"), [(AUTHOR, BY_ID), (AUTHOR, BY_EMAIL), (BOOK, BY_TITLE)])
def test_a_key_finds_its_own_row(spec: Any, key: Key) -> None:
    """The `where` that a key makes names the key again."""
    assert key == key_from_where(spec, where_of(spec, key))
    assert read_by_key(spec, key).arguments["where"] == where_of(spec, key)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", ("a",)), (7, ("7",)), (UUID(int=5), ("00000000-0000-0000-0000-000000000005",))],
)
def test_a_key_has_the_text_that_the_stores_note(value: Any, text: tuple[str, ...]) -> None:
    """Of texts, numbers and UUIDs, whatever the session's settings."""
    row = record_classes(SMALL)["Author"].build({"id": value})

    assert text == text_of_key(AUTHOR, row)
    assert text == text_of(Key("Author", (("id", value),)))


@pytest.mark.parametrize("value", [datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.0"), True, None])
def test_a_key_whose_text_depends_on_its_column_has_none(value: Any) -> None:
    """Python cannot tell a timestamp's zone or a number's scale."""
    assert text_of(Key("Author", (("id", value),))) is None


@pytest.mark.parametrize(
    ("action", "data", "keys"),
    [
        (Action.CREATE, {"title": "T", "author_id": "a1"}, [BY_ID]),
        (Action.CREATE_MANY, [{"author_id": "a1"}, {"title": "T"}], [BY_ID]),
        (Action.UPSERT, {"create": {"author_id": "a1"}, "update": {}}, [BY_ID]),
        (Action.CREATE, {"author": {"connect": {"email": "e"}}}, [BY_EMAIL]),
        (Action.CREATE, {"author": {"connect": {"a_b": {"a": 1, "b": 2}}}}, [None]),
        (Action.UPDATE, {"title": "T"}, []),
        (Action.DELETE, None, []),
    ],
)
def test_a_write_names_the_rows_it_refers_to(action: Action, data: Any, keys: list[Key | None]) -> None:
    """By foreign keys and by `connect`; a compound key is left to be found otherwise."""
    found = rows_referred(BOOK, Operation("Book", action, {"data": data}))

    assert [("Author", key) for key in keys] == found


def test_a_child_names_its_parents() -> None:
    """By its foreign keys, when they are given."""
    assert [BY_ID] == parent_keys(BOOK, {"author_id": "a1"})
    assert [] == parent_keys(BOOK, {"title": "T"})


def test_a_row_that_changed_its_key_was_touched_under_both() -> None:
    """The old one must be gone on the other side as well."""
    row = record_classes(SMALL)["Author"].build({"id": "a2"})
    operation = Operation("Author", Action.UPDATE, {"where": {"id": "a1"}, "data": {"id": "a2"}})

    assert (Key("Author", (("id", "a2"),)), BY_ID) == keys_written(AUTHOR, operation, row)
    assert () == keys_written(AUTHOR, operation, None)
