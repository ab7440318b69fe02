"""Filters: every operator answers on both sides as the engine does, NULLs and wildcards included."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from crossfade.fields import Base64, Json

from .calls import Calls

pytestmark = pytest.mark.usefixtures("shop")

EVERYONE = ["u1", "u2", "u3", "u4"]

STRINGS = [
    ({}, EVERYONE),
    ({"name": "Ada"}, ["u1"]),
    ({"name": {"equals": "Ada"}}, ["u1"]),
    ({"name": None}, ["u2"]),
    ({"name": {"equals": None}}, ["u2"]),
    ({"name": {"not": None}}, ["u1", "u3", "u4"]),
    ({"name": {"not": "Ada"}}, ["u3", "u4"]),
    ({"name": {"not": {"equals": "Ada"}}}, ["u3", "u4"]),
    ({"name": {"not": {"contains": "da"}}}, ["u3"]),
    ({"name": {"in": ["Ada", "ada", "none of them"]}}, ["u1", "u4"]),
    ({"name": {"in": []}}, []),
    ({"name": {"not_in": ["Ada"]}}, ["u3", "u4"]),
    ({"name": {"not_in": []}}, EVERYONE),
    ({"name": {"contains": "da"}}, ["u1", "u4"]),
    ({"name": {"contains": ""}}, ["u1", "u3", "u4"]),
    ({"name": {"startswith": "A"}}, ["u1"]),
    ({"name": {"endswith": "yn"}}, ["u3"]),
    ({"name": {"contains": "%"}}, ["u1", "u3", "u4"]),
    ({"name": {"startswith": "_da"}}, ["u1", "u4"]),
    ({"name": {"contains": "0\\%"}}, ["u3"]),
    ({"name": {"equals": "ADA", "mode": "insensitive"}}, ["u1", "u4"]),
    ({"name": {"equals": "A_A", "mode": "insensitive"}}, ["u1", "u4"]),
    ({"name": {"contains": "DA", "mode": "insensitive"}}, ["u1", "u4"]),
    ({"name": {"startswith": "a", "mode": "insensitive"}}, ["u1", "u4"]),
    ({"name": {"endswith": "CYN", "mode": "insensitive"}}, ["u3"]),
    ({"name": {"in": ["ADA"], "mode": "insensitive"}}, ["u1", "u4"]),
    ({"name": {"not_in": ["ADA"], "mode": "insensitive"}}, ["u3"]),
    ({"name": {"not": "ADA", "mode": "insensitive"}}, ["u3"]),
    ({"name": {"not": {"equals": "ADA"}, "mode": "insensitive"}}, ["u3"]),
    ({"name": {"lt": "A"}}, ["u3"]),
    ({"name": {"gte": "Ada", "lt": "b"}}, ["u1", "u4"]),
    ({"name": {"gt": "Ada"}}, ["u4"]),
    ({"name": {"lte": "Ada"}}, ["u1", "u3"]),
    ({"name": "Ada", "role": "ADMIN"}, ["u1"]),
    ({"name": "Ada", "role": "BUYER"}, []),
    ({"id": {"in": ("u1", "u2")}}, ["u1", "u2"]),
]

NUMBERS = [
    ({"login_count": 10}, ["u1", "u4"]),
    ({"login_count": {"gt": 0}}, ["u1", "u4"]),
    ({"login_count": {"gte": 0}}, ["u1", "u2", "u4"]),
    ({"login_count": {"lt": 0}}, ["u3"]),
    ({"login_count": {"lte": 0}}, ["u2", "u3"]),
    ({"login_count": {"in": [10, -3]}}, ["u1", "u3", "u4"]),
    ({"login_count": {"not_in": [10]}}, ["u2", "u3"]),
    ({"login_count": {"not": 10}}, ["u2", "u3"]),
    ({"login_count": {"not": {"gt": 0}}}, ["u2", "u3"]),
    ({"storage_bytes": 2**40}, ["u1"]),
    ({"storage_bytes": {"gt": 2**31}}, ["u1"]),
    ({"storage_bytes": {"in": [0, 2**40]}}, EVERYONE),
    ({"reputation": 4.5}, ["u1", "u4"]),
    ({"reputation": {"lt": 0}}, ["u3"]),
    ({"reputation": {"gte": 0, "lt": 4.5}}, ["u2"]),
    ({"balance": Decimal("100.5")}, ["u1", "u4"]),
    ({"balance": {"gt": Decimal("9.99")}}, ["u1", "u4"]),
    ({"balance": {"in": [Decimal(0), Decimal("9.990")]}}, ["u2", "u3"]),
    ({"balance": {"not": Decimal("100.50")}}, ["u2", "u3"]),
    ({"is_active": True}, ["u1", "u3", "u4"]),
    ({"is_active": {"equals": False}}, ["u2"]),
    ({"is_active": {"not": True}}, ["u2"]),
]

ENUMS = [
    ({"role": "SELLER"}, ["u2", "u3"]),
    ({"role": {"equals": "ADMIN"}}, ["u1"]),
    ({"role": {"in": ["ADMIN", "BUYER"]}}, ["u1", "u4"]),
    ({"role": {"in": []}}, []),
    ({"role": {"not_in": ["SELLER"]}}, ["u1", "u4"]),
    ({"role": {"not": "SELLER"}}, ["u1", "u4"]),
    ({"role": {"not": {"in": ["SELLER", "ADMIN"]}}}, ["u4"]),
]

_LOGIN = datetime(2026, 1, 1, 10, 0, 0, 123000, tzinfo=UTC)

TIMES = [
    ({"last_login_at": _LOGIN}, ["u1"]),
    ({"last_login_at": _LOGIN + timedelta(microseconds=999)}, ["u1"]),
    ({"last_login_at": _LOGIN.replace(tzinfo=None)}, ["u1"]),
    ({"last_login_at": _LOGIN.astimezone(timezone(timedelta(hours=-5)))}, ["u1"]),
    ({"last_login_at": {"gt": _LOGIN}}, ["u3"]),
    ({"last_login_at": {"gte": _LOGIN, "lt": datetime(2026, 2, 1, tzinfo=UTC)}}, ["u1"]),
    ({"last_login_at": {"not": _LOGIN}}, ["u3"]),
    ({"last_login_at": {"in": [_LOGIN, datetime(2026, 3, 1, tzinfo=UTC)]}}, ["u1", "u3"]),
    ({"last_login_at": None}, ["u2", "u4"]),
    ({"created_at": {"lte": _LOGIN.replace(tzinfo=None)}}, ["u1"]),
    ({"created_at": {"not_in": [datetime(2026, 1, 2, tzinfo=UTC)]}}, ["u1", "u3", "u4"]),
]

LISTS = [
    ({"tags": {"has": "eu"}}, ["u1", "u4"]),
    ({"tags": {"has_every": ["eu", "vip"]}}, ["u1"]),
    ({"tags": {"has_every": []}}, ["u1", "u2", "u4"]),
    ({"tags": {"has_some": ["vip", "us"]}}, ["u1"]),
    ({"tags": {"has_some": []}}, []),
    ({"tags": {"is_empty": True}}, ["u2"]),
    ({"tags": {"is_empty": False}}, ["u1", "u4"]),
    ({"tags": {"equals": ["vip", "eu"]}}, ["u1"]),
    ({"tags": {"equals": ["eu", "vip"]}}, []),
    ({"tags": {"equals": []}}, ["u2"]),
    ({"tags": {"equals": None}}, ["u3"]),
    ({"NOT": [{"tags": {"has": "vip"}}]}, ["u2", "u4"]),
    ({"notify_by": {"has": "SMS"}}, ["u1"]),
    ({"notify_by": {"has_every": ["EMAIL", "SMS"]}}, ["u1"]),
    ({"notify_by": {"has_some": ["PUSH", "SMS"]}}, ["u1", "u3"]),
    ({"notify_by": {"equals": ["EMAIL", "IN_APP"]}}, ["u4"]),
    ({"notify_by": {"is_empty": True}}, ["u2"]),
]

DOCUMENTS = [
    ({"preferences": {"equals": Json({"theme": "dark", "size": 1})}}, ["u1"]),
    ({"preferences": {"equals": Json({"size": 1, "theme": "dark"})}}, ["u1"]),
    ({"preferences": {"equals": Json({"size": 1.0, "theme": "dark"})}}, ["u1"]),
    ({"preferences": {"equals": Json({"theme": "dark"})}}, []),
    ({"preferences": {"equals": Json([1, 2])}}, ["u3"]),
    ({"preferences": {"equals": Json([2, 1])}}, []),
    ({"preferences": {"equals": Json(None)}}, ["u4"]),
    ({"preferences": {"not": Json([1, 2])}}, ["u1", "u2", "u4"]),
    ({"avatar": {"equals": Base64.encode(b"\x00\xff")}}, ["u1"]),
    ({"avatar": Base64.encode(b"\x00\xff")}, ["u1"]),
    ({"avatar": {"in": [Base64.encode(b"\x00\xff"), Base64.encode(b"")]}}, ["u1", "u3"]),
    ({"avatar": {"not": Base64.encode(b"")}}, ["u1"]),
    ({"avatar": None}, ["u2", "u4"]),
]

COMBINED = [
    ({"AND": []}, EVERYONE),
    ({"OR": []}, []),
    ({"NOT": []}, EVERYONE),
    ({"AND": [{"role": "SELLER"}, {"is_active": True}]}, ["u3"]),
    ({"OR": [{"name": "Ada"}, {"name": None}]}, ["u1", "u2"]),
    ({"NOT": [{"name": "Ada"}]}, ["u3", "u4"]),
    ({"NOT": [{"role": "SELLER"}, {"role": "ADMIN"}]}, ["u4"]),
    ({"NOT": [{"role": "SELLER", "is_active": True}]}, ["u1", "u2", "u4"]),
    (
        {"OR": [{"role": "ADMIN"}, {"AND": [{"role": "SELLER"}, {"NOT": [{"is_active": True}]}]}]},
        ["u1", "u2"],
    ),
    ({"is_active": True, "OR": [{"role": "BUYER"}, {"role": "SELLER"}]}, ["u3", "u4"]),
    # A combination of nothing counts only at the top of a filter; deeper down, what says nothing is dropped.
    ({"AND": [{}]}, EVERYONE),
    ({"OR": [{}]}, []),
    ({"OR": [{}, {"name": "Ada"}]}, ["u1"]),
    ({"NOT": [{}]}, EVERYONE),
    ({"AND": [{"OR": []}]}, EVERYONE),
    ({"NOT": [{"OR": []}]}, EVERYONE),
    ({"OR": [{"AND": []}, {"name": "Ada"}]}, ["u1"]),
    ({"name": "Ada", "OR": []}, []),
    ({"AND": [{"name": "Ada", "OR": []}]}, ["u1"]),
    ({"items": {"some": {"OR": []}}}, []),
    ({"items": {"some": {"AND": [{"OR": []}]}}}, ["u1", "u2"]),
    ({"AND": {"name": "Ada"}}, ["u1"]),
    ({"NOT": {"name": "Ada", "role": "ADMIN"}}, ["u2", "u3", "u4"]),
    ({"name": {}}, EVERYONE),
    ({"OR": [{"name": {}}]}, []),
    ({"items": {}}, EVERYONE),
]

RELATED_USERS = [
    ({"items": {"some": {}}}, ["u1", "u2"]),
    ({"items": {"none": {}}}, ["u3", "u4"]),
    ({"items": {"every": {}}}, EVERYONE),
    ({"items": {"some": {"condition": "NEW"}}}, ["u1"]),
    ({"items": {"none": {"condition": "NEW"}}}, ["u2", "u3", "u4"]),
    ({"items": {"every": {"condition": "NEW"}}}, ["u3", "u4"]),
    ({"items": {"every": {"description": "plain"}}}, ["u1", "u3", "u4"]),
    ({"items": {"some": {"condition": "GOOD"}, "none": {"condition": "NEW"}}}, ["u2"]),
    ({"items": {"some": {"variants": {"some": {"title": "Red mug"}}}}}, ["u1"]),
    ({"items": {"some": {"owner": {"is": {"name": "Ada"}}}}}, ["u1"]),
    ({"conversations": {"some": {"is_open": True}}}, ["u1", "u2"]),
    ({"conversations": {"none": {"is_open": True}}}, ["u3", "u4"]),
    ({"conversations": {"every": {"is_open": True}}}, ["u2", "u4"]),
    ({"NOT": [{"items": {"some": {}}}]}, ["u3", "u4"]),
    ({"OR": [{"items": {"some": {"condition": "NEW"}}}, {"name": None}]}, ["u1", "u2"]),
]

RELATED_ITEMS = [
    ({"owner": {"is": {"name": "Ada"}}}, ["i1", "i2", "i3"]),
    ({"owner": {"name": "Ada"}}, ["i1", "i2", "i3"]),
    ({"owner": {"is_not": {"name": "Ada"}}}, []),
    ({"owner": {"is_not": {"email": "ada@example.com"}}}, ["i4"]),
    ({"owner": {"is": {"name": None}}}, ["i4"]),
    ({"parent": {"is": {"title": "Mug"}}}, ["i2", "i3"]),
    ({"parent": {"is_not": {"title": "Mug"}}}, ["i1", "i4"]),
    ({"parent": {"is": {}}}, ["i2", "i3"]),
    ({"parent": {"is": None}}, ["i1", "i4"]),
    ({"parent": {"is_not": None}}, ["i2", "i3"]),
    ({"parent": None}, ["i1", "i4"]),
    ({"parent": {"is": {"owner": {"is": {"role": "ADMIN"}}}}}, ["i2", "i3"]),
    ({"NOT": [{"parent": {"is": {"title": "Mug"}}}]}, ["i1", "i4"]),
    ({"NOT": [{"parent": {"is_not": {"title": "Mug"}}}]}, ["i2", "i3"]),
    ({"NOT": [{"owner": {"is": {"name": "Ada"}}}]}, []),
    ({"NOT": [{"owner": {"is_not": {"name": "Ada"}}}]}, ["i1", "i2", "i3"]),
    ({"parent": {"is_not": {"owner": {"is": {"name": None}}}}}, ["i1", "i2", "i3", "i4"]),
    ({"variants": {"some": {}}}, ["i1"]),
    ({"variants": {"every": {"title": {"contains": "mug"}}}}, ["i1", "i2", "i3", "i4"]),
    ({"variants": {"none": {"title": "Red mug"}}}, ["i2", "i3", "i4"]),
    ({"owner_id": "u2"}, ["i4"]),
    ({"listings": {"some": {"seller": {"is": {"tags": {"has": "vip"}}}}}}, ["i1", "i2"]),
]


@pytest.mark.parametrize(
    ("where", "expected"), STRINGS + NUMBERS + ENUMS + TIMES + LISTS + DOCUMENTS + COMBINED + RELATED_USERS
)
async def test_users_that_a_filter_keeps(db: Calls, where: dict[str, object], expected: list[str]) -> None:
    """`find_many` returns the rows that the filter keeps, and `count` as many."""
    users = await db.user.find_many(where=where, order={"id": "asc"})

    assert expected == [user.id for user in users]
    assert len(expected) == await db.user.count(where=where)


@pytest.mark.parametrize(("where", "expected"), RELATED_ITEMS)
async def test_items_that_a_relation_filter_keeps(
    db: Calls, where: dict[str, object], expected: list[str]
) -> None:
    """To-one filters keep or drop rows without a relation as the engine does."""
    items = await db.item.find_many(where=where, order={"id": "asc"})

    assert expected == [item.id for item in items]


async def test_a_long_in_list(db: Calls) -> None:
    """An `in` of more values than one statement may bind is answered all the same."""
    wanted = ["u1", *(f"nobody-{number}" for number in range(40_000)), "u4"]

    users = await db.user.find_many(where={"id": {"in": wanted}}, order={"id": "asc"})

    assert ["u1", "u4"] == [user.id for user in users]
