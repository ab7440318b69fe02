"""Order and limits: NULLs, several fields, negative `take`, cursors and distinct rows."""

from decimal import Decimal
from typing import Any

import pytest

from crossfade.errors import DataError

from .calls import Calls

pytestmark = pytest.mark.usefixtures("shop")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"id": "asc"}, ["u1", "u2", "u3", "u4"]),
        ({"id": "desc"}, ["u4", "u3", "u2", "u1"]),
        ({"name": "asc"}, ["u3", "u1", "u4", "u2"]),
        ({"name": "desc"}, ["u2", "u4", "u1", "u3"]),
        ([{"role": "asc"}, {"id": "desc"}], ["u4", "u3", "u2", "u1"]),
        ([{"balance": "desc"}, {"id": "asc"}], ["u1", "u4", "u3", "u2"]),
        ([{"reputation": "asc"}, {"login_count": "asc"}, {"id": "asc"}], ["u3", "u2", "u1", "u4"]),
        ([{"last_login_at": "desc"}, {"id": "asc"}], ["u2", "u4", "u3", "u1"]),
        ({"name": {"sort": "asc", "nulls": "first"}}, ["u2", "u3", "u1", "u4"]),
        ({"name": {"sort": "desc", "nulls": "last"}}, ["u4", "u1", "u3", "u2"]),
        ([{"is_active": "asc"}, {"created_at": "desc"}], ["u2", "u4", "u3", "u1"]),
    ],
)
async def test_order(db: Calls, order: Any, expected: list[str]) -> None:
    """Rows come in the order asked for; NULLs last when ascending, first when descending."""
    assert expected == [user.id for user in await db.user.find_many(order=order)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"take": 2}, ["u1", "u2"]),
        ({"take": 10}, ["u1", "u2", "u3", "u4"]),
        ({"take": 0}, []),
        ({"skip": 1}, ["u2", "u3", "u4"]),
        ({"skip": 4}, []),
        ({"skip": 1, "take": 2}, ["u2", "u3"]),
        ({"take": -2}, ["u3", "u4"]),
        ({"take": -2, "skip": 1}, ["u2", "u3"]),
        ({"take": 2, "order": {"id": "desc"}}, ["u4", "u3"]),
        ({"take": -2, "order": {"id": "desc"}}, ["u2", "u1"]),
        ({"take": 2, "order": {"name": "asc"}}, ["u3", "u1"]),
        ({"take": -1, "order": {"name": "asc"}}, ["u2"]),
        ({"take": -2, "order": {"name": "desc"}}, ["u1", "u3"]),
        ({"take": 1, "where": {"role": "SELLER"}}, ["u2"]),
        ({"take": -1, "where": {"role": "SELLER"}}, ["u3"]),
    ],
)
async def test_limits(db: Calls, arguments: dict[str, Any], expected: list[str]) -> None:
    """A limit without an order counts by primary key; a negative one counts from the end and keeps the order."""
    assert expected == [user.id for user in await db.user.find_many(**arguments)]


async def test_a_negative_skip_is_refused(db: Calls) -> None:
    """There is nothing before the first row."""
    with pytest.raises(DataError):
        await db.user.find_many(skip=-1)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"cursor": {"id": "u2"}}, ["u2", "u3", "u4"]),
        ({"cursor": {"id": "u2"}, "take": 2}, ["u2", "u3"]),
        ({"cursor": {"id": "u2"}, "take": 2, "skip": 1}, ["u3", "u4"]),
        ({"cursor": {"id": "u3"}, "take": -2}, ["u2", "u3"]),
        ({"cursor": {"id": "nobody"}, "take": 2}, []),
        ({"cursor": {"email": "bob@example.com"}, "take": 2}, ["u2", "u3"]),
        ({"cursor": {"id": "u3"}, "order": {"id": "desc"}}, ["u3", "u2", "u1"]),
        ({"cursor": {"id": "u1"}, "order": [{"balance": "desc"}, {"id": "asc"}]}, ["u1", "u4", "u3", "u2"]),
    ],
)
async def test_cursor(db: Calls, arguments: dict[str, Any], expected: list[str]) -> None:
    """Rows begin at the cursor's row, which is one of them; without it there are none."""
    assert expected == [user.id for user in await db.user.find_many(**arguments)]


async def test_distinct(db: Calls) -> None:
    """Of rows that share the fields, the first in the order is kept, and limits count what is left."""
    by_balance = await db.user.find_many(distinct=["balance"], order={"id": "asc"})
    assert ["u1", "u2", "u3"] == [user.id for user in by_balance]

    second = await db.user.find_many(distinct=["balance"], order={"id": "asc"}, skip=1, take=1)
    assert ["u2"] == [user.id for user in second]


@pytest.mark.gap
async def test_order_by_a_relation(db: Calls) -> None:
    """Rows may be ordered by a field of the row they belong to."""
    items = await db.item.find_many(order=[{"owner": {"email": "desc"}}, {"id": "asc"}])

    assert ["i4", "i1", "i2", "i3"] == [item.id for item in items]


@pytest.mark.gap
async def test_order_by_the_number_of_related_rows(db: Calls) -> None:
    """Rows may be ordered by how many rows belong to them."""
    users = await db.user.find_many(order=[{"items": {"_count": "desc"}}, {"id": "asc"}])

    assert ["u1", "u2", "u3", "u4"] == [user.id for user in users]


async def test_order_of_enums(db: Calls) -> None:
    """Enum values order as they are declared, not by their letters."""
    items = await db.item.find_many(order=[{"condition": "asc"}, {"id": "asc"}])

    assert ["NEW", "LIKE_NEW", "GOOD", "GOOD"] == [item.condition for item in items]


async def test_order_of_decimals(db: Calls) -> None:
    """Decimals order as numbers."""
    items = await db.item.find_many(order=[{"price": "asc"}, {"id": "asc"}])

    assert [Decimal("9.99"), Decimal("9.99"), Decimal("12.5"), Decimal(100)] == [item.price for item in items]
