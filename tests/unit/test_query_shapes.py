"""Statements are compiled once per shape of the arguments; values never show in them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from crossfade.fields import Base64, Json
from crossfade.operation import Action, Operation
from crossfade.query import Compiler
from crossfade.query.compiled import UpsertPlan, WriteRowPlan
from marketplace.records import RECORDS
from sides import TABLES, marketplace_schema

Plan = Callable[..., tuple[Any, list[Any]]]


@pytest.fixture
def compiler() -> Compiler:
    """A compiler that has seen nothing yet."""
    return Compiler(marketplace_schema(), TABLES, RECORDS)


@pytest.fixture
def plan(compiler: Compiler) -> Plan:
    """`plan(model, action, **arguments)` returns the plan and the values of a call."""

    def compile_call(model: str, action: str, **arguments: Any) -> tuple[Any, list[Any]]:
        return compiler.plan(Operation(model, Action(action), arguments))

    return compile_call


SAME_SHAPE = [
    ("find_unique", {"where": {"email": "a"}}, {"where": {"email": "b"}}),
    ("find_many", {"where": {"id": {"in": ["a"]}}}, {"where": {"id": {"in": ["a", "b", "c"]}}}),
    ("find_many", {"where": {"name": {"contains": "x"}}}, {"where": {"name": {"contains": "yz"}}}),
    ("find_many", {"take": 1, "skip": 2}, {"take": 30, "skip": 40}),
    ("find_many", {"take": -1}, {"take": -2}),
    ("find_many", {"include": {"items": {"take": 1}}}, {"include": {"items": {"take": 2}}}),
    ("count", {"where": {"tags": {"has_some": []}}}, {"where": {"tags": {"has_some": ["a", "b"]}}}),
    ("create", {"data": {"email": "a", "name": "x"}}, {"data": {"name": None, "email": "b"}}),
    ("create_many", {"data": [{"email": "a"}]}, {"data": [{"email": "b"}, {"email": "c"}]}),
    (
        "update",
        {"where": {"id": "a"}, "data": {"login_count": {"increment": 1}}},
        {"where": {"id": "b"}, "data": {"login_count": {"increment": 5}}},
    ),
]


@pytest.mark.parametrize(("action", "one", "other"), SAME_SHAPE)
def test_calls_that_differ_in_values_share_a_plan(
    compiler: Compiler, plan: Plan, action: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Other values, and other lengths of lists, need no other statement."""
    first, first_values = plan("User", action, **one)
    second, second_values = plan("User", action, **other)

    assert first is second
    assert 1 == len(compiler)
    assert first_values != second_values


OTHER_SHAPE = [
    ("find_many", {"where": {"name": "a"}}, {"where": {"name": None}}),
    ("find_many", {"where": {"name": "a"}}, {"where": {"handle": "a"}}),
    ("find_many", {"where": {"name": {"gt": "a"}}}, {"where": {"name": {"gte": "a"}}}),
    (
        "find_many",
        {"where": {"name": {"equals": "a"}}},
        {"where": {"name": {"equals": "a", "mode": "insensitive"}}},
    ),
    ("find_many", {"order": {"name": "asc"}}, {"order": {"name": "desc"}}),
    ("find_many", {"take": 1}, {"take": -1}),
    ("find_many", {"where": {"OR": [{"name": "a"}]}}, {"where": {"AND": [{"name": "a"}]}}),
    ("find_many", {"include": {"items": True}}, {"include": {"items": {"take": 1}}}),
    ("find_unique", {"where": {"id": "a"}}, {"where": {"id": "a"}, "include": {"items": True}}),
]


@pytest.mark.parametrize(("action", "one", "other"), OTHER_SHAPE)
def test_calls_that_ask_for_something_else_do_not(
    plan: Plan, action: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Whatever changes the statement is part of the shape."""
    assert plan("User", action, **one)[0] is not plan("User", action, **other)[0]


def test_no_value_is_written_into_a_statement(plan: Plan) -> None:
    """Values travel beside the text, also those of patterns, limits and lists."""
    found, values = plan(
        "User",
        "find_many",
        where={"name": {"contains": "secret"}, "tags": {"has": "hidden"}},
        take=77,
        skip=88,
    )

    assert all(text not in found.statement.sql for text in ("secret", "hidden", "77", "88"))
    assert {"%secret%", "hidden", 77, 88} == set(values)


def test_the_oldest_plan_makes_room() -> None:
    """The number of plans is bounded, however many shapes a program makes."""
    compiler = Compiler(marketplace_schema(), TABLES, RECORDS, capacity=3)
    for count in range(6):
        where = {"OR": [{"name": str(number)} for number in range(count)]}
        compiler.plan(Operation("User", Action.FIND_MANY, {"where": where}))

    assert 3 == len(compiler)


def test_columns_are_found_by_their_names_in_the_database(plan: Plan) -> None:
    """A mapped field is asked for by its column, a mapped model by its table."""
    found, _ = plan("Item", "find_many", where={"owner_id": "u", "metadata": {"equals": Json(1)}})

    assert "FROM items" in found.statement.sql
    assert "items.owner_user_id = $1" in found.statement.sql
    assert "items.metadata" in found.statement.sql


NATIVE_UPSERTS = [
    ({"email": "a"}, {"email": "a"}, {"name": "x"}, True),
    ({"email": "a"}, {"email": "b"}, {"name": "x"}, False),
    ({"id": "a"}, {"email": "a"}, {"name": "x"}, False),
    ({"email": "a"}, {"email": "a"}, {}, False),
    ({"email": "a", "is_active": True}, {"email": "a"}, {"name": "x"}, False),
]


@pytest.mark.parametrize(("where", "create", "update", "is_native"), NATIVE_UPSERTS)
def test_an_upsert_is_left_to_the_database_when_its_key_agrees(
    plan: Plan, where: dict[str, Any], create: dict[str, Any], update: dict[str, Any], is_native: bool
) -> None:
    """ON CONFLICT finds the same row as `where` only if both name the same value of one key."""
    found, _ = plan("User", "upsert", where=where, data={"create": create, "update": update})

    assert (WriteRowPlan if is_native else UpsertPlan) is type(found)


NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
SENT = NOON.replace(microsecond=123000, tzinfo=None)

ENCODED = [
    ("User", "created_at", NOON, SENT),
    (
        "User",
        "created_at",
        NOON.astimezone(timezone(timedelta(hours=-5))),
        SENT,
    ),
    ("User", "created_at", NOON.replace(tzinfo=None), SENT),
    ("User", "last_login_at", NOON, NOON.replace(microsecond=123000)),
    ("AnalyticsSnapshot", "day", NOON, f"{NOON:%Y-%m-%d}"),
    ("User", "balance", 1.5, Decimal("1.5")),
    ("User", "balance", "2.50", Decimal("2.50")),
    ("User", "reputation", 3, 3.0),
    ("User", "reputation", 0.1 + 0.2, 0.3),
    ("User", "avatar", Base64.encode(b"\x00\xff"), b"\x00\xff"),
    ("User", "avatar", b"\x00\xff", b"\x00\xff"),
    ("Item", "condition", "LIKE_NEW", "like-new"),
]


@pytest.mark.parametrize(("model", "field", "given", "sent"), ENCODED)
def test_values_are_encoded_for_their_columns(
    plan: Plan, model: str, field: str, given: Any, sent: Any
) -> None:
    """Each field's value is what the driver needs for that column's type."""
    _, values = plan(model, "find_many", where={field: given})

    assert [(sent, type(sent))] == [(value, type(value)) for value in values]


DOCUMENTS = [
    (Json({"a": 1}), '{"a": 1}'),
    ('{"a": 1}', '{"a": 1}'),
    ('"text"', '"text"'),
    (Json("text"), '"text"'),
    (Json(None), "null"),
    (Json({None: True, 2: "é"}), '{"null": true, "2": "é"}'),
]


@pytest.mark.parametrize(("given", "sent"), DOCUMENTS)
def test_a_document_is_encoded_once(plan: Plan, given: Any, sent: str) -> None:
    """Text given for a document is JSON already, as Prisma reads it; it is not encoded again."""
    _, values = plan("User", "update", where={"id": "u"}, data={"preferences": given})

    assert sent == values[-1]
