"""Arguments that cannot be used are refused before anything is sent, with the place in the message."""

from typing import Any

import pytest

from crossfade import errors
from crossfade.fields import Json
from crossfade.operation import Action, Operation
from crossfade.query import Compiler
from marketplace.records import RECORDS
from sides import TABLES, marketplace_schema

COMPILER = Compiler(marketplace_schema(), TABLES, RECORDS)

NOT_FOUND = [
    ("find_many", {"where": {"nonsense": 1}}, "findManyUser.where.nonsense"),
    ("find_many", {"where": {"name": {"nonsense": 1}}}, "findManyUser.where.name.nonsense"),
    ("find_many", {"where": {"name": 1}}, "findManyUser.where.name"),
    ("find_many", {"where": {"login_count": True}}, "findManyUser.where.login_count"),
    ("find_many", {"where": {"login_count": 2**63}}, "findManyUser.where.login_count"),
    ("find_many", {"where": {"role": {"gt": "ADMIN"}}}, "findManyUser.where.role.gt"),
    ("find_many", {"where": {"role": {"in": ["EMPEROR"]}}}, "findManyUser.where.role.in"),
    ("find_many", {"where": {"tags": ["a"]}}, "findManyUser.where.tags"),
    ("find_many", {"where": {"preferences": Json(1)}}, "findManyUser.where.preferences"),
    ("find_many", {"where": {"preferences": {"equals": {"a": 1}}}}, "findManyUser.where.preferences.equals"),
    ("find_many", {"where": {"login_count": {"gt": 1, "mode": "insensitive"}}}, "where.login_count.mode"),
    ("find_many", {"where": {"items": {"is": {}}}}, "findManyUser.where.items.is"),
    ("find_many", {"where": {"OR": {"name": "a"}}}, "findManyUser.where.OR"),
    ("find_many", {"order": {"nonsense": "asc"}}, "findManyUser.orderBy.nonsense"),
    ("find_many", {"order": {"name": "up"}}, "findManyUser.orderBy.name"),
    ("find_many", {"take": "2"}, "findManyUser.take"),
    ("find_many", {"include": {"items": {"order": {"id": "asc"}}}}, "include.items.order"),
    ("find_unique", {"where": {}}, "findUniqueUser.where"),
    ("find_unique", {"where": {"name": "a"}}, "findUniqueUser.where"),
    ("find_unique", {"where": {"id": {"equals": "a"}}}, "findUniqueUser.where.id"),
    ("create", {"data": {"email": "a", "nonsense": 1}}, "createOneUser.data.nonsense"),
    ("create", {"data": {"email": "a", "preferences": {"a": 1}}}, "createOneUser.data.preferences"),
    ("create", {"data": {"email": "a", "preferences": "not json"}}, "createOneUser.data.preferences"),
    ("update", {"where": {"id": "a"}, "data": {"name": {"increment": 1}}}, "data.name.increment"),
    ("update_many", {"where": {}, "data": {"items": {"connect": []}}}, "updateManyUser.data.items"),
    ("count", {"select": {"nonsense": True}}, "aggregateUser._count.nonsense"),
]


@pytest.mark.parametrize(("action", "arguments", "place"), NOT_FOUND)
def test_what_the_engine_does_not_find(action: str, arguments: dict[str, Any], place: str) -> None:
    """Unknown names and values of the wrong type are one class of error, as they are in Prisma."""
    with pytest.raises(errors.FieldNotFoundError) as caught:
        COMPILER.plan(Operation("User", Action(action), arguments))

    assert place in str(caught.value)
    assert "P2009" == caught.value.code


MISSING = [
    ("find_many", {"where": {"email": None}}, "where.email"),
    ("find_many", {"where": {"name": {"gt": None}}}, "where.name.gt"),
    ("find_many", {"where": {"items": None}}, "where.items"),
    ("find_many", {"where": {"AND": None}}, "where.AND"),
    ("find_unique", {"where": {"id": None}}, "where.id"),
    ("create", {"data": {"name": "x"}}, "data.email"),
    ("create", {"data": {"email": None}}, "data.email"),
    ("create", {"data": {"email": "a", "tags": None}}, "data.tags"),
    ("create", {"data": {"email": "a", "preferences": None}}, "data.preferences"),
    ("update", {"where": {"id": "a"}, "data": {"email": None}}, "data.email"),
    ("upsert", {"where": {"id": "a"}, "data": {"create": {"email": "a"}}}, "upsertOneUser.update"),
]


@pytest.mark.parametrize(("action", "arguments", "place"), MISSING)
def test_what_the_engine_misses(action: str, arguments: dict[str, Any], place: str) -> None:
    """None where null has no meaning is a missing value."""
    with pytest.raises(errors.MissingRequiredValueError) as caught:
        COMPILER.plan(Operation("User", Action(action), arguments))

    assert place in str(caught.value)
    assert "A value is required but not set" in str(caught.value)


UNUSABLE = [
    ("find_unique", {}, "where"),
    ("find_first", {"take": 1}, "take"),
    ("find_many", {"nonsense": 1}, "nonsense"),
    ("find_many", {"include": {"name": True}}, "include.name"),
    ("find_many", {"include": {"items": "yes"}}, "include.items"),
    ("update_many", {"data": {}}, "where"),
]


@pytest.mark.parametrize(("action", "arguments", "place"), UNUSABLE)
def test_what_the_client_refuses(action: str, arguments: dict[str, Any], place: str) -> None:
    """Arguments that the method does not take are the caller's mistake; the path says where."""
    with pytest.raises(errors.QueryError) as caught:
        COMPILER.plan(Operation("User", Action(action), arguments))

    assert ("User", place) == (caught.value.model, caught.value.path)


UNSUPPORTED = [
    ("find_many", {"where": {"preferences": {"path": ["a"], "equals": Json(1)}}}, "where.preferences.path"),
    ("find_many", {"where": {"name": {"search": "a & b"}}}, "where.name.search"),
    ("find_many", {"include": {"items": {"cursor": {"id": "a"}}}}, "include.items.cursor"),
    ("create", {"data": {"email": "a", "items": {"create": {}}}}, "data.items"),
]


@pytest.mark.parametrize(("action", "arguments", "place"), UNSUPPORTED)
def test_what_prisma_can_do_and_this_side_cannot(action: str, arguments: dict[str, Any], place: str) -> None:
    """A gap is named as such, with its place, and never answered wrongly."""
    with pytest.raises(errors.UnsupportedQueryError) as caught:
        COMPILER.plan(Operation("User", Action(action), arguments))

    assert place == caught.value.path


def test_two_operations_on_one_field() -> None:
    """A field takes one operation at a time."""
    change = {"login_count": {"increment": 1, "set": 2}}
    with pytest.raises(errors.DataError, match="Expected exactly one field to be present, got 2"):
        COMPILER.plan(Operation("User", Action.UPDATE, {"where": {"id": "a"}, "data": change}))


def test_a_negative_skip() -> None:
    """`skip` counts forwards only."""
    with pytest.raises(errors.DataError, match="can only be positive, found: -1"):
        COMPILER.plan(Operation("User", Action.FIND_MANY, {"skip": -1}))


def test_an_unknown_model() -> None:
    """A model that the schema does not have is named, with those that it has."""
    with pytest.raises(errors.UnknownModelError, match="Ghost"):
        COMPILER.plan(Operation("Ghost", Action.COUNT, {}))


def test_tables_that_do_not_fit_the_schema() -> None:
    """A model without a table, or a table without a column, is found at the start."""
    tables = {**TABLES, "User": TABLES["Item"]}
    with pytest.raises(errors.ConfigurationError, match="table items of model User lacks email"):
        Compiler(marketplace_schema(), tables, RECORDS)
    with pytest.raises(errors.ConfigurationError, match="model User has no table"):
        Compiler(marketplace_schema(), {k: v for k, v in TABLES.items() if k != "User"}, RECORDS)
