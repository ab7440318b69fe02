"""Writes: what they return, what they leave behind, and what happens when the row is not there."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from crossfade.fields import Json
from sides import OpenSide

from .calls import Calls
from .shop import open_shop


async def make_user(db: Calls, **data: Any) -> Any:
    """Create a user with the one value that has no default."""
    return await db.user.create(data={"email": f"{data.get('id', 'someone')}@example.com", **data})


async def make_listing(db: Calls, **data: Any) -> Any:
    """Create a listing, with the user and the item it needs."""
    await make_user(db, id="seller")
    await db.item.create(
        data={"id": "thing", "sku": "thing", "owner_id": "seller", "title": "Thing", "price": Decimal(1)}
    )
    base = {"item_id": "thing", "seller_id": "seller", "slug": "thing", "price": Decimal("1.50")}
    return await db.listing.create(data={**base, **data})


# --- create ---------------------------------------------------------------------------------------------------


async def test_create_fills_in_defaults(empty: Calls) -> None:
    """Everything that has a default is there on the returned row, and in the store."""
    user = await empty.user.create(data={"email": "new@example.com"})

    assert user.id.startswith("c")
    assert 25 == len(user.id)
    assert "BUYER" == user.role
    assert (True, 0, 0, 0.0) == (user.is_active, user.login_count, user.storage_bytes, user.reputation)
    assert Decimal(0) == user.balance
    assert ["EMAIL", "IN_APP"] == user.notify_by
    assert [] == user.tags
    assert {"theme": "light", "page_size": 50} == user.preferences
    assert (None, None, None, None) == (user.name, user.handle, user.avatar, user.last_login_at)
    assert user.created_at == user.updated_at
    assert user.created_at.tzinfo is not None
    assert user == await empty.user.find_unique(where={"id": user.id})


async def test_create_fills_in_other_kinds_of_default(empty: Calls) -> None:
    """A uuid is a uuid, an autoincrement counts, and literals of every kind are kept."""
    listing = await make_listing(empty)
    item = await empty.item.find_unique(where={"id": "thing"})
    order = await empty.order.create(
        data={"number": "1", "buyer_id": "seller", "listing_id": listing.id, "total": Decimal(3)}
    )
    shipment = await empty.shipment.create(data={"order_id": order.id, "cost": Decimal("2.5")})

    assert ("Untitled", "DRAFT", "EUR", 1) == (
        listing.headline,
        listing.status,
        listing.currency,
        listing.quantity,
    )
    assert Decimal("0.05") == listing.discount
    assert [] == listing.keywords
    assert ({}, None, []) == (item.attributes, item.metadata, item.dimensions_mm)
    assert 36 == len(order.id)
    assert 4 == order.id.count("-")
    assert ([], 1, Decimal("0.029")) == (order.history, order.revision, order.fee_rate)
    assert (1, "POST", []) == (shipment.id, shipment.carrier, shipment.events)


async def test_create_keeps_given_values_over_defaults(empty: Calls) -> None:
    """What the caller gives wins, ids and times included."""
    moment = datetime(2020, 2, 29, 12, 30, tzinfo=UTC)
    user = await make_user(empty, id="mine", created_at=moment, updated_at=moment, login_count=7, tags=["x"])

    assert ("mine", moment, moment, 7, ["x"]) == (
        user.id,
        user.created_at,
        user.updated_at,
        user.login_count,
        user.tags,
    )


async def test_create_with_null(empty: Calls) -> None:
    """None is NULL for a nullable field."""
    user = await make_user(empty, id="u", name=None, avatar=None, last_login_at=None)

    assert (None, None, None) == (user.name, user.avatar, user.last_login_at)


async def test_create_takes_a_foreign_key(empty: Calls) -> None:
    """A relation may be given as its scalar."""
    await make_user(empty, id="owner")
    item = await empty.item.create(
        data={"sku": "s", "owner_id": "owner", "title": "t", "price": Decimal(1)}, include={"owner": True}
    )

    assert "owner" == item.owner.id


async def test_create_connects(empty: Calls) -> None:
    """A relation may be given as a `connect`, to one row or to many."""
    await make_user(empty, id="one")
    await make_user(empty, id="two")
    conversation = await empty.conversation.create(
        data={"participants": {"connect": [{"id": "one"}, {"email": "two@example.com"}]}},
        include={"participants": {"order_by": {"id": "asc"}}},
    )
    message = await empty.message.create(
        data={
            "body": "hi",
            "conversation": {"connect": {"id": conversation.id}},
            "author": {"connect": {"id": "one"}},
        }
    )

    assert ["one", "two"] == [user.id for user in conversation.participants]
    assert (conversation.id, "one") == (message.conversation_id, message.author_id)


async def test_create_many(empty: Calls) -> None:
    """Many rows are created at once; the answer is their number."""
    rows = [{"email": f"{number}@example.com", "login_count": number} for number in range(5)]

    assert 5 == await empty.user.create_many(data=rows)
    users = await empty.user.find_many(order={"login_count": "asc"})
    assert [0, 1, 2, 3, 4] == [user.login_count for user in users]
    assert ["EMAIL", "IN_APP"] == users[0].notify_by
    assert 5 == len({user.id for user in users})


async def test_create_many_with_rows_that_differ_in_shape(empty: Calls) -> None:
    """A row that leaves a field out gets its default, whatever the other rows give."""
    rows = [
        {"id": "a", "email": "a@example.com", "name": "A", "role": "ADMIN"},
        {"id": "b", "email": "b@example.com", "handle": "b"},
        {"id": "c", "email": "c@example.com", "preferences": Json([1])},
    ]

    assert 3 == await empty.user.create_many(data=rows)
    users = await empty.user.find_many(order={"id": "asc"})
    assert ["ADMIN", "BUYER", "BUYER"] == [user.role for user in users]
    assert ["A", None, None] == [user.name for user in users]
    assert [None, "b", None] == [user.handle for user in users]
    assert [1] == users[2].preferences


async def test_create_many_skips_duplicates(empty: Calls) -> None:
    """With `skip_duplicates` a row that is already there is passed over and not counted."""
    await make_user(empty, id="there")
    rows = [{"email": "there@example.com"}, {"email": "new@example.com"}, {"email": "new@example.com"}]

    assert 1 == await empty.user.create_many(data=rows, skip_duplicates=True)
    assert 2 == await empty.user.count()


async def test_create_many_of_nothing(empty: Calls) -> None:
    """No rows are no rows."""
    assert 0 == await empty.user.create_many(data=[])


# --- update ---------------------------------------------------------------------------------------------------


async def test_update(empty: Calls) -> None:
    """The changed row is returned and stored; the rest stays."""
    before = await make_user(empty, id="u", name="old", login_count=3)
    after = await empty.user.update(where={"id": "u"}, data={"name": "new", "role": "ADMIN"})

    assert ("new", "ADMIN", 3, before.created_at) == (
        after.name,
        after.role,
        after.login_count,
        after.created_at,
    )
    assert after.updated_at >= before.updated_at
    assert after == await empty.user.find_unique(where={"id": "u"})


async def test_update_of_a_missing_row(empty: Calls) -> None:
    """There is nothing to update, and so None."""
    assert await empty.user.update(where={"id": "nobody"}, data={"name": "x"}) is None


async def test_update_moves_the_time(empty: Calls) -> None:
    """`updated_at` moves with every change, unless the caller gives it."""
    old = datetime(2020, 1, 1, tzinfo=UTC)
    await make_user(empty, id="u", updated_at=old)

    assert old < (await empty.user.update(where={"id": "u"}, data={"name": "x"})).updated_at
    assert (
        old == (await empty.user.update(where={"id": "u"}, data={"name": "y", "updated_at": old})).updated_at
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"set": 5}, 5),
        ({"increment": 5}, 15),
        ({"decrement": 12}, -2),
        ({"multiply": 3}, 30),
        ({"divide": 4}, 2),
    ],
)
async def test_atomic_changes_of_an_int(empty: Calls, change: dict[str, int], expected: int) -> None:
    """The store computes; division of ints drops the rest."""
    await make_user(empty, id="u", login_count=10, storage_bytes=10)
    user = await empty.user.update(where={"id": "u"}, data={"login_count": change, "storage_bytes": change})

    assert (expected, expected) == (user.login_count, user.storage_bytes)


async def test_atomic_changes_of_floats_and_decimals(empty: Calls) -> None:
    """Floats and decimals are computed with as numbers of their kind."""
    await make_user(empty, id="u", reputation=1.5, balance=Decimal("10.10"))
    user = await empty.user.update(
        where={"id": "u"}, data={"reputation": {"divide": 2}, "balance": {"increment": Decimal("0.05")}}
    )

    assert 0.75 == user.reputation
    assert Decimal("10.15") == user.balance


async def test_update_sets_a_field_to_null(empty: Calls) -> None:
    """None is NULL; `set` says the same at length."""
    await make_user(empty, id="u", name="x", handle="h")
    user = await empty.user.update(where={"id": "u"}, data={"name": None, "handle": {"set": None}})

    assert (None, None) == (user.name, user.handle)


async def test_update_lists(empty: Calls) -> None:
    """A list is replaced, or pushed to; pushing to NULL makes a list."""
    await make_user(empty, id="u")

    user = await empty.user.update(where={"id": "u"}, data={"tags": {"push": ["a"]}})
    assert ["a"] == user.tags
    user = await empty.user.update(where={"id": "u"}, data={"tags": {"push": ["b", "c"]}})
    assert ["a", "b", "c"] == user.tags
    user = await empty.user.update(where={"id": "u"}, data={"tags": {"set": ["z"]}, "notify_by": ["SMS"]})
    assert (["z"], ["SMS"]) == (user.tags, user.notify_by)
    user = await empty.user.update(where={"id": "u"}, data={"tags": [], "notify_by": {"push": ["PUSH"]}})
    assert ([], ["SMS", "PUSH"]) == (user.tags, user.notify_by)


async def test_update_by_a_compound_key(empty: Calls) -> None:
    """A compound unique names the row to update and to delete."""
    await make_listing(empty)
    key = {"seller_slug": {"seller_id": "seller", "slug": "thing"}}

    assert 5 == (await empty.listing.update(where=key, data={"quantity": 5})).quantity
    assert 5 == (await empty.listing.delete(where=key)).quantity
    assert 0 == await empty.listing.count()


async def test_update_of_the_key_itself(empty: Calls) -> None:
    """An id may change; what points at it follows."""
    listing = await make_listing(empty)
    user = await empty.user.update(where={"id": "seller"}, data={"id": "renamed"})

    assert "renamed" == user.id
    assert "renamed" == (await empty.listing.find_unique(where={"id": listing.id})).seller_id


async def test_update_without_data(empty: Calls) -> None:
    """Nothing to change leaves the row, and its time, as they are."""
    before = await make_user(empty, id="u")

    assert before == await empty.user.update(where={"id": "u"}, data={})


async def test_update_connects_and_disconnects(empty: Calls) -> None:
    """To-one relations are set and cleared through the relation field."""
    await make_user(empty, id="owner")
    for name in ("parent", "child"):
        await empty.item.create(
            data={"id": name, "sku": name, "owner_id": "owner", "title": name, "price": Decimal(1)}
        )

    child = await empty.item.update(where={"id": "child"}, data={"parent": {"connect": {"id": "parent"}}})
    assert "parent" == child.parent_id
    child = await empty.item.update(where={"id": "child"}, data={"parent": {"disconnect": True}})
    assert child.parent_id is None


@pytest.mark.parametrize(
    "people",
    [
        {"connect": {"id": "nobody"}},
        {"connect": [{"id": "there"}, {"id": "nobody"}]},
        {"set": [{"id": "nobody"}]},
    ],
)
async def test_update_that_connects_to_nothing(empty: Calls, people: dict[str, Any]) -> None:
    """A row to connect that is not there makes the answer None, and nothing is written."""
    await make_user(empty, id="there")
    await make_user(empty, id="member")
    chat = await empty.conversation.create(
        data={"subject": "old", "participants": {"connect": {"id": "member"}}}
    )
    change = {"subject": "new", "participants": people}

    assert await empty.conversation.update(where={"id": chat.id}, data=change) is None
    found = await empty.conversation.find_unique(where={"id": chat.id}, include={"participants": True})
    assert ("old", ["member"]) == (found.subject, [user.id for user in found.participants])


async def test_update_many(empty: Calls) -> None:
    """Every row that fits is changed; the answer is their number."""
    for number in range(4):
        await make_user(empty, id=f"u{number}", login_count=number)

    changed = await empty.user.update_many(
        where={"login_count": {"gte": 2}}, data={"login_count": {"increment": 10}, "name": "many"}
    )
    assert 2 == changed
    users = await empty.user.find_many(order={"id": "asc"})
    assert [0, 1, 12, 13] == [user.login_count for user in users]
    assert [None, None, "many", "many"] == [user.name for user in users]
    assert 0 == await empty.user.update_many(where={"id": "nobody"}, data={"name": "x"})
    assert 4 == await empty.user.update_many(where={}, data={"name": "all"})


async def test_update_many_moves_the_time(empty: Calls) -> None:
    """`updated_at` moves for every changed row."""
    old = datetime(2020, 1, 1, tzinfo=UTC)
    await make_user(empty, id="u", updated_at=old)
    await empty.user.update_many(where={}, data={"name": "x"})

    assert old < (await empty.user.find_unique(where={"id": "u"})).updated_at


async def test_update_many_by_a_relation(empty: Calls) -> None:
    """Rows may be chosen by what they are related to."""
    await make_listing(empty)

    assert 1 == await empty.item.update_many(where={"owner": {"is": {"id": "seller"}}}, data={"views": 9})
    assert 9 == (await empty.item.find_unique(where={"id": "thing"})).views
    assert 0 == await empty.item.update_many(where={"owner": {"is": {"id": "other"}}}, data={"views": 1})


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"parent": {"is": {"title": "Mug"}}}, ["i2", "i3"]),
        ({"parent": {"is_not": {"title": "Mug"}}}, []),
        ({"parent": {"is_not": {"title": "No such"}}}, ["i1", "i2", "i3", "i4"]),
        ({"parent": None}, ["i1", "i4"]),
        ({"NOT": [{"parent": {"is": {"title": "Mug"}}}]}, []),
        ({"owner": {"is_not": {"name": "Ada"}}}, ["i4"]),
    ],
)
async def test_many_by_a_missing_relation(
    opened: OpenSide, empty: Calls, where: dict[str, Any], expected: list[str]
) -> None:
    """Bulk writes compare keys where reads join: a row without a relation is left out unless nothing is compared."""
    await open_shop(empty, opened.store)

    assert len(expected) == await empty.item.update_many(where=where, data={"views": 9})
    changed = await empty.item.find_many(where={"views": 9}, order={"id": "asc"})
    assert expected == [item.id for item in changed]


# --- upsert ---------------------------------------------------------------------------------------------------


async def test_upsert_creates(empty: Calls) -> None:
    """A missing row is created from `create`, with its defaults."""
    user = await empty.user.upsert(
        where={"email": "u@example.com"},
        data={"create": {"email": "u@example.com", "name": "new"}, "update": {"name": "old"}},
    )

    assert ("new", "BUYER") == (user.name, user.role)
    assert user == await empty.user.find_unique(where={"email": "u@example.com"})


async def test_upsert_updates(empty: Calls) -> None:
    """A row that is there is changed by `update`, atomically where asked."""
    await make_user(empty, id="u", login_count=1)
    user = await empty.user.upsert(
        where={"email": "u@example.com"},
        data={
            "create": {"email": "u@example.com", "name": "new"},
            "update": {"name": "old", "login_count": {"increment": 2}},
        },
    )

    assert ("u", "old", 3) == (user.id, user.name, user.login_count)


async def test_upsert_with_nothing_to_update(empty: Calls) -> None:
    """With an empty `update` the row that is there is returned as it is."""
    before = await make_user(empty, id="u")
    user = await empty.user.upsert(
        where={"id": "u"}, data={"create": {"id": "u", "email": "other@example.com"}, "update": {}}
    )

    assert before == user


async def test_upsert_whose_key_differs_from_what_it_creates(empty: Calls) -> None:
    """The key that is looked for need not be the one that is created."""
    user = await empty.user.upsert(
        where={"id": "looked-for"},
        data={"create": {"id": "made", "email": "made@example.com"}, "update": {"name": "x"}},
    )

    assert "made" == user.id
    assert user.name is None


async def test_upsert_by_a_compound_key(empty: Calls) -> None:
    """Both branches work by a compound unique, and with an include."""
    await make_listing(empty, id="first")
    data = {
        "create": {"item_id": "thing", "seller_id": "seller", "slug": "second", "price": Decimal(2)},
        "update": {"quantity": {"increment": 1}},
    }
    key = {"seller_slug": {"seller_id": "seller", "slug": "second"}}

    created = await empty.listing.upsert(where=key, data=data, include={"seller": True})
    assert (1, "seller") == (created.quantity, created.seller.id)
    updated = await empty.listing.upsert(where=key, data=data, include={"seller": True})
    assert (created.id, 2, "seller") == (updated.id, updated.quantity, updated.seller.id)


async def test_upsert_by_a_compound_key_without_a_name(empty: Calls) -> None:
    """A compound unique without a name is called by its fields."""
    data = {
        "create": {
            "source": "feed",
            "reference": "r1",
            "median_price": Decimal("1.25"),
            "raw": Json({"n": 1}),
            "observed_at": datetime(2026, 1, 1, tzinfo=UTC),
        },
        "update": {"sample_size": {"increment": 3}},
    }
    key = {"source_reference": {"source": "feed", "reference": "r1"}}

    assert 0 == (await empty.marketresearchdata.upsert(where=key, data=data)).sample_size
    assert 3 == (await empty.marketresearchdata.upsert(where=key, data=data)).sample_size


# --- delete ---------------------------------------------------------------------------------------------------


async def test_delete(empty: Calls) -> None:
    """The row that was deleted is returned, with its relations as they were."""
    await make_listing(empty)
    deleted = await empty.listing.delete(
        where={"seller_slug": {"seller_id": "seller", "slug": "thing"}}, include={"seller": True}
    )

    assert ("thing", "seller") == (deleted.slug, deleted.seller.id)
    assert 0 == await empty.listing.count()


async def test_delete_of_a_missing_row(empty: Calls) -> None:
    """There is nothing to delete, and so None."""
    assert await empty.user.delete(where={"id": "nobody"}) is None


async def test_delete_cascades(empty: Calls) -> None:
    """What belongs to the row goes with it; what only points at it is cleared."""
    listing = await make_listing(empty)
    await empty.analyticsdata.create(
        data={"metric": "m", "bucket": datetime(2026, 1, 1, tzinfo=UTC), "listing_id": listing.id}
    )
    await empty.user.delete(where={"id": "seller"})

    assert (0, 0) == (await empty.item.count(), await empty.listing.count())
    assert (await empty.analyticsdata.find_first()).listing_id is None


async def test_delete_many(empty: Calls) -> None:
    """Every row that fits is deleted; the answer is their number."""
    for number in range(4):
        await make_user(empty, id=f"u{number}", login_count=number)

    assert 2 == await empty.user.delete_many(where={"login_count": {"lt": 2}})
    assert 0 == await empty.user.delete_many(where={"id": "nobody"})
    assert 2 == await empty.user.delete_many()
    assert 0 == await empty.user.count()
