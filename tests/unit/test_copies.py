"""What is written to make the follower's row equal to the authority's."""

from __future__ import annotations

from typing import Any

from crossfade.fields import Json
from crossfade.keys import Key
from crossfade.operation import Action, Operation
from crossfade.reconcile import copy_of
from crossfade.records import Record
from crossfade.schema import Schema
from crossfade.testing import record_classes
from small_schema import cuid_id, scalar

SCHEMA = Schema.from_dmmf(
    {
        "datamodel": {
            "enums": [],
            "models": [
                {
                    "name": "Shelf",
                    "dbName": None,
                    "fields": [
                        cuid_id(),
                        scalar("label", isRequired=False),
                        scalar("tags", isList=True),
                        scalar("form", "Json"),
                        scalar("extra", "Json", isRequired=False),
                        scalar("updated_at", "DateTime", isUpdatedAt=True),
                    ],
                    "primaryKey": None,
                    "uniqueIndexes": [],
                }
            ],
        }
    }
)
SPEC = SCHEMA.models["Shelf"]
KEY = Key("Shelf", (("id", "s1"),))


def row(**values: Any) -> Record:
    """A shelf."""
    base = {"id": "s1", "label": "x", "tags": ["a"], "form": {}, "extra": {"b": 1}, "updated_at": 1}
    return record_classes(SCHEMA)["Shelf"].build(base | values)


def data(operation: Operation, part: str) -> dict[str, Any]:
    """What is created or updated."""
    written: dict[str, Any] = operation.arguments["data"][part]
    return written


def test_a_row_that_is_gone_is_deleted() -> None:
    """By its key."""
    assert Operation("Shelf", Action.DELETE, {"where": {"id": "s1"}}) == copy_of(SPEC, KEY, None, row())


def test_a_missing_row_is_created_with_every_value() -> None:
    """Documents are wrapped, and a plain null is given, because a default might stand in for it."""
    operation = copy_of(SPEC, KEY, row(label=None), None)

    assert Action.UPSERT is operation.action
    expected = {
        "id": "s1",
        "label": None,
        "tags": ["a"],
        "form": Json({}),
        "extra": Json({"b": 1}),
        "updated_at": 1,
    }
    assert expected == data(operation, "create")


def test_a_missing_row_is_created_without_what_is_null_and_cannot_be_given() -> None:
    """No call can give a list the value NULL; it has it by not being given one. Likewise an optional document."""
    created = data(copy_of(SPEC, KEY, row(tags=None, extra=None), None), "create")

    assert {"tags", "extra"}.isdisjoint(created)


def test_a_required_document_may_be_a_json_null() -> None:
    """It is not the same as none at all."""
    assert Json(None) == data(copy_of(SPEC, KEY, row(form=None), None), "create")["form"]


def test_only_what_differs_is_updated() -> None:
    """And the time of the update, which would be renewed if it were not given."""
    updated = data(copy_of(SPEC, KEY, row(label="y"), row()), "update")

    assert {"label": "y", "updated_at": 1} == updated


def test_an_empty_list_is_written_over_null() -> None:
    """They are not the same to a filter."""
    updated = data(copy_of(SPEC, KEY, row(tags=[]), row(tags=None)), "update")

    assert [] == updated["tags"]
