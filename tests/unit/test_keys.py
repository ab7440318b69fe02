"""Keys: which rows an operation names and which it touched."""

from typing import Any

import pytest

from crossfade.keys import (
    Key,
    is_primary,
    key_from_where,
    keys_named,
    keys_written,
    parent_keys,
    primary_key_named,
    read_by_key,
    unique_keys,
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


def test_only_the_primary_key_is_primary() -> None:
    """Any other unique key is vague about which row it will be."""
    assert [True, False] == [is_primary(AUTHOR, BY_ID), is_primary(AUTHOR, BY_EMAIL)]


def test_values_name_the_primary_key_or_else_every_other_unique_one() -> None:
    """An id settles it; without one, whatever else is unique and given."""
    assert [BY_ID] == unique_keys(AUTHOR, {"id": "a1", "email": "e"})
    assert [BY_EMAIL] == unique_keys(AUTHOR, {"email": "e", "name": "N"})
    assert [BY_TITLE] == unique_keys(BOOK, {"title": "T", "author_id": "a1"})
    assert [] == unique_keys(AUTHOR, {"email": None})


def test_a_child_names_its_parents() -> None:
    """By its foreign keys, when they are given."""
    assert [BY_ID] == parent_keys(BOOK, {"author_id": "a1"})
    assert [] == parent_keys(BOOK, {"title": "T"})


@pytest.mark.parametrize(
    ("operation", "keys", "primary"),
    [
        (Operation("Author", Action.CREATE, {"data": {"id": "a1"}}), [BY_ID], BY_ID),
        (Operation("Author", Action.CREATE, {"data": {"email": "e"}}), [BY_EMAIL], None),
        (Operation("Author", Action.DELETE, {"where": {"email": "e"}}), [BY_EMAIL], None),
        (
            Operation("Author", Action.UPDATE, {"where": {"id": "a1"}, "data": {"email": "e"}}),
            [BY_ID, BY_EMAIL],
            BY_ID,
        ),
        (
            Operation(
                "Author",
                Action.UPSERT,
                {"where": {"email": "e"}, "data": {"create": {"id": "a1"}, "update": {}}},
            ),
            [BY_EMAIL, BY_ID],
            None,
        ),
        (Operation("Author", Action.UPDATE_MANY, {"where": {}, "data": {}}), [], None),
    ],
)
def test_a_write_of_unknown_outcome_names_every_row_it_may_have_touched(
    operation: Operation, keys: list[Key], primary: Key | None
) -> None:
    """The row it looked for, and the row it would have made."""
    assert keys == keys_named(AUTHOR, operation)
    assert primary == primary_key_named(AUTHOR, operation)


def test_a_row_that_changed_its_key_was_touched_under_both() -> None:
    """The old one must be gone on the other side as well."""
    row = record_classes(SMALL)["Author"].build({"id": "a2"})
    operation = Operation("Author", Action.UPDATE, {"where": {"id": "a1"}, "data": {"id": "a2"}})

    assert (Key("Author", (("id", "a2"),)), BY_ID) == keys_written(AUTHOR, operation, row)
    assert () == keys_written(AUTHOR, operation, None)
