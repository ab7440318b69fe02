"""Faults: both sides raise the same class with the same code, and nothing is left behind."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from crossfade import errors
from crossfade.fields import Json
from sides import OpenSide

from .calls import Calls

_USER = {"email": "u@example.com"}


async def fails(kind: type[errors.CrossfadeError], code: str | None, call: Any) -> Any:
    """Await `call`, which must raise exactly this class with this code; return the error."""
    with pytest.raises((errors.DataError, kind)) as caught:
        await call
    assert (kind, code) == (type(caught.value), getattr(caught.value, "code", None))
    return caught.value


async def make_item(db: Calls) -> Any:
    """Create an item with its owner."""
    await db.user.create(data={"id": "o", "email": "o@example.com"})
    return await db.item.create(
        data={"id": "i", "sku": "i", "owner_id": "o", "title": "t", "price": Decimal(1)}
    )


async def make_order(db: Calls) -> Any:
    """Create an order with all that it needs."""
    await make_item(db)
    await db.listing.create(
        data={"id": "l", "item_id": "i", "seller_id": "o", "slug": "l", "price": Decimal(1)}
    )
    return await db.order.create(
        data={"id": "r", "number": "1", "buyer_id": "o", "listing_id": "l", "total": Decimal(1)}
    )


async def test_a_duplicate_in_create(empty: Calls) -> None:
    """A second row with a unique value is refused, and names the field."""
    await empty.user.create(data=_USER)
    error = await fails(errors.UniqueViolationError, "P2002", empty.user.create(data=_USER))

    assert ["email"] == error.meta["target"]
    assert "Unique constraint failed on the fields: (`email`)" in str(error)
    assert 1 == await empty.user.count()


async def test_a_duplicate_primary_key(empty: Calls) -> None:
    """The primary key is a unique field like any other."""
    await empty.user.create(data={"id": "u", **_USER})
    error = await fails(
        errors.UniqueViolationError, "P2002", empty.user.create(data={"id": "u", "email": "v@example.com"})
    )

    assert ["id"] == error.meta["target"]


async def test_a_duplicate_compound_key(empty: Calls) -> None:
    """A compound unique names all of its fields."""
    await make_item(empty)
    listing = {"item_id": "i", "seller_id": "o", "slug": "s", "price": Decimal(1)}
    await empty.listing.create(data=listing)
    error = await fails(errors.UniqueViolationError, "P2002", empty.listing.create(data=listing))

    assert ["seller_id", "slug"] == error.meta["target"]


async def test_a_duplicate_under_a_mapped_constraint_name(empty: Calls) -> None:
    """A constraint with a name of its own still names the fields."""
    snapshot = {
        "scope": "s",
        "day": datetime(2026, 1, 1, tzinfo=UTC),
        "gross": Decimal(1),
        "totals": Json({}),
    }
    await empty.analyticssnapshot.create(data=snapshot)
    error = await fails(errors.UniqueViolationError, "P2002", empty.analyticssnapshot.create(data=snapshot))

    assert ["scope", "day"] == error.meta["target"]


async def test_a_duplicate_in_other_writes(empty: Calls) -> None:
    """Updates and bulk writes are refused alike, as a whole."""
    await empty.user.create_many(data=[{"id": one, "email": f"{one}@example.com"} for one in "ab"])

    await fails(
        errors.UniqueViolationError,
        "P2002",
        empty.user.update(where={"id": "a"}, data={"email": "b@example.com"}),
    )
    await fails(
        errors.UniqueViolationError,
        "P2002",
        empty.user.update_many(where={}, data={"email": "same@example.com"}),
    )
    await fails(
        errors.UniqueViolationError,
        "P2002",
        empty.user.create_many(data=[{"email": "c@example.com"}, {"email": "a@example.com"}]),
    )
    assert 2 == await empty.user.count()


async def test_a_foreign_key_to_nothing(empty: Calls) -> None:
    """A row cannot point at a row that does not exist."""
    item = {"sku": "i", "owner_id": "nobody", "title": "t", "price": Decimal(1)}
    await fails(errors.ForeignKeyViolationError, "P2003", empty.item.create(data=item))
    await fails(errors.ForeignKeyViolationError, "P2003", empty.item.create_many(data=[item]))
    await make_item(empty)
    await fails(
        errors.ForeignKeyViolationError,
        "P2003",
        empty.item.update(where={"id": "i"}, data={"owner_id": "nobody"}),
    )


async def test_a_row_that_is_still_needed(empty: Calls) -> None:
    """A row that another one restricts cannot be deleted."""
    await make_order(empty)

    await fails(errors.ForeignKeyViolationError, "P2003", empty.listing.delete(where={"id": "l"}))
    await fails(errors.ForeignKeyViolationError, "P2003", empty.listing.delete_many(where={"id": "l"}))
    assert 1 == await empty.listing.count()


async def test_connecting_to_nothing(empty: Calls) -> None:
    """A `connect` in a create needs its row, and nothing is created without it."""
    await fails(
        errors.RecordNotFoundError,
        "P2025",
        empty.item.create(
            data={"sku": "i", "title": "t", "price": Decimal(1), "owner": {"connect": {"id": "nobody"}}}
        ),
    )
    assert 0 == await empty.item.count()


MISSING = [
    lambda db: db.user.create(data={"name": "x"}),
    lambda db: db.item.create(data={"sku": "i", "title": "t", "price": Decimal(1)}),
    lambda db: db.user.create(data={"email": None}),
    lambda db: db.user.update(where={"id": "u"}, data={"email": None}),
    lambda db: db.user.create_many(data=[{"email": "a@example.com"}, {"name": "x"}]),
    lambda db: db.user.create(data={**_USER, "preferences": None}),
    lambda db: db.user.find_many(where={"email": None}),
]


@pytest.mark.parametrize("call", MISSING)
async def test_a_required_value_that_is_missing(empty: Calls, call: Any) -> None:
    """A field without a default must be given, and must not be None."""
    await fails(errors.MissingRequiredValueError, "P2012", call(empty))


UNKNOWN = [
    lambda db: db.user.create(data={**_USER, "nonsense": 1}),
    lambda db: db.user.update(where={"id": "u"}, data={"nonsense": 1}),
    lambda db: db.user.update_many(where={}, data={"nonsense": 1}),
    lambda db: db.user.create_many(data=[{**_USER, "nonsense": 1}]),
    lambda db: db.user.find_many(where={"nonsense": 1}),
    lambda db: db.user.find_many(where={"name": {"nonsense": 1}}),
    lambda db: db.user.find_many(where={"items": {"some": {"nonsense": 1}}}),
    lambda db: db.user.find_many(where={"items": {"nonsense": {}}}),
    lambda db: db.user.find_many(order={"nonsense": "asc"}),
    lambda db: db.user.count(where={"nonsense": 1}),
    lambda db: db.user.delete_many(where={"nonsense": 1}),
]


@pytest.mark.parametrize("call", UNKNOWN)
async def test_a_field_that_is_unknown(empty: Calls, call: Any) -> None:
    """A name that the schema does not have is refused."""
    await fails(errors.FieldNotFoundError, "P2009", call(empty))


WRONG = [
    lambda db: db.user.create(data={"email": 1}),
    lambda db: db.user.create(data={**_USER, "login_count": "many"}),
    lambda db: db.user.create(data={**_USER, "is_active": "yes"}),
    lambda db: db.user.create(data={**_USER, "role": "EMPEROR"}),
    lambda db: db.user.create(data={**_USER, "tags": [1]}),
    lambda db: db.user.create(data={**_USER, "created_at": "yesterday"}),
    lambda db: db.user.create(data={**_USER, "notify_by": ["PIGEON"]}),
    lambda db: db.user.find_many(where={"login_count": "many"}),
    lambda db: db.user.find_many(where={"role": "EMPEROR"}),
    lambda db: db.user.find_many(where={"name": {"contains": 1}}),
    lambda db: db.user.find_many(where={"is_active": {"gt": True}}),
    lambda db: db.user.find_many(order={"name": "upwards"}),
    lambda db: db.user.find_many(where={"role": {"in": ["EMPEROR"]}}),
    lambda db: db.user.find_many(where={"preferences": Json([1, 2])}),
    lambda db: db.user.find_many(take="two"),
    lambda db: db.user.create(data={**_USER, "storage_bytes": 2**63}),
    lambda db: db.user.create(data={**_USER, "login_count": True}),
    lambda db: db.user.create(data={**_USER, "reputation": float("nan")}),
    lambda db: db.user.create(data={**_USER, "balance": Decimal("NaN")}),
    lambda db: db.user.create(data={**_USER, "balance": Decimal("Infinity")}),
    lambda db: db.user.create(data={**_USER, "preferences": Json([float("inf")])}),
    lambda db: db.user.create(data={**_USER, "last_login_at": date(2026, 1, 1)}),
    lambda db: db.user.create(data={**_USER, "name": object()}),
    lambda db: db.user.find_many(where={"tags": ["vip"]}),
    lambda db: db.user.create(data={**_USER, "login_count": float("nan")}),
    lambda db: db.user.create(data={**_USER, "login_count": float("inf")}),
    lambda db: db.user.find_many(where={"login_count": {"in": [float("nan")]}}),
    lambda db: db.user.create(data={**_USER, "name": "half of a pair: \ud800"}),
    lambda db: db.user.create(data={**_USER, "preferences": Json("\ud800")}),
    lambda db: db.user.find_many(take=2**63),
    lambda db: db.user.find_many(skip=2**63),
    lambda db: db.user.create(data={**_USER, "preferences": "NaN"}),
    lambda db: db.user.create(data={**_USER, "preferences": "1e400"}),
    lambda db: db.user.create(data={**_USER, "preferences": Json([10**400])}),
    lambda db: db.user.create(data={**_USER, "preferences": r'{"\udc00": 1}'}),
    lambda db: db.user.create(data={**_USER, "preferences": "[" * 128 + "]" * 128}),
    lambda db: db.user.find_many(order={"name": "asc", "email": "asc"}),
    lambda db: db.user.update(where={"id": "u"}, data={"login_count": {"increment": 1, "decrement": 1}}),
    lambda db: db.user.update(where={"id": "u"}, data={"login_count": {}}),
    lambda db: db.user.create(data={**_USER, "created_at": "2026-01-01 00:00:00Z"}),
    lambda db: db.user.create(data={**_USER, "created_at": "2026-01-01T00:00:00"}),
    lambda db: db.user.create(data={**_USER, "last_login_at": "20260101T000000Z"}),
]


@pytest.mark.parametrize("call", WRONG)
async def test_a_value_of_the_wrong_type(empty: Calls, call: Any) -> None:
    """A value that the field cannot hold is refused before the store is asked."""
    await fails(errors.FieldNotFoundError, "P2009", call(empty))


OUT_OF_RANGE = [
    {"login_count": 2**31},
    {"login_count": {"increment": 2**31 - 1}},
    {"login_count": {"divide": 0}},
    {"balance": Decimal("12345678901.5")},
    {"name": "a\x00b"},
    {"preferences": Json({"a": "\x00"})},
]


@pytest.mark.parametrize("change", OUT_OF_RANGE)
async def test_a_value_that_only_the_store_refuses(empty: Calls, change: dict[str, Any]) -> None:
    """A value of the right type that its column cannot hold is refused by the store, without a code of Prisma's."""
    before = await empty.user.create(data={"id": "u", "login_count": 1, **_USER})

    await fails(errors.DataError, "", empty.user.update(where={"id": "u"}, data=change))
    assert before == await empty.user.find_unique(where={"id": "u"})


async def test_a_relation_that_is_unknown(empty: Calls) -> None:
    """An include of something that is no relation is refused without asking the store."""
    await fails(errors.QueryError, None, empty.user.find_many(include={"nonsense": True}))


async def test_an_argument_that_is_unknown(empty: Calls) -> None:
    """An argument that the call does not have is refused without asking the store."""
    await fails(errors.QueryError, None, empty.user.find_many(nonsense=1))


async def test_a_key_that_is_not_unique(empty: Calls) -> None:
    """Rows that must be unique are asked for by a unique key."""
    await fails(errors.FieldNotFoundError, "P2009", empty.user.find_unique(where={"name": "Ada"}))


async def test_a_time_that_python_cannot_express(empty: Calls, opened: OpenSide) -> None:
    """A row from beyond the calendar is an error of the data, and no other call is harmed."""
    await empty.user.create(data={"id": "u", **_USER})
    await opened.store.execute("UPDATE users SET created_at = '20000-01-01'")

    await fails(errors.DataError, "P2023", empty.user.find_unique(where={"id": "u"}))
    assert 1 == await empty.user.count()


@pytest.mark.parametrize("number", [10**400, -(10**400)])
async def test_a_number_beyond_a_double(empty: Calls, number: int) -> None:
    """An int that no double can hold is refused for a float field."""
    with pytest.raises(errors.DataError):
        await empty.user.create(data={**_USER, "reputation": number})


async def test_a_store_that_goes_on_after_a_fault(empty: Calls) -> None:
    """A refused call leaves nothing behind that disturbs the next one."""
    await empty.user.create(data=_USER)
    for _ in range(12):
        await fails(errors.UniqueViolationError, "P2002", empty.user.create(data=_USER))

    assert 1 == await empty.user.count()


@pytest.mark.parametrize("state", ["25006", "42501", "53100", "57014", "58030", "XX000"])
async def test_a_store_that_cannot(empty: Calls, opened: OpenSide, state: str) -> None:
    """What a store cannot do for reasons of its own is told apart from what it refuses about the data."""
    await opened.store.execute(
        f"CREATE OR REPLACE FUNCTION no_can_do() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$;"
        " CREATE TRIGGER no_can_do BEFORE INSERT ON users EXECUTE FUNCTION no_can_do()"
    )
    try:
        with pytest.raises(errors.StoreFaultError):
            await empty.user.create(data=_USER)
    finally:
        await opened.store.execute("DROP FUNCTION no_can_do() CASCADE")
    await empty.user.create(data=_USER)
