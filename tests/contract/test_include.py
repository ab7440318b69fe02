"""Relations that are loaded beside a row: shape, filters, order and limits per parent."""

import pytest

from .calls import Calls

pytestmark = pytest.mark.usefixtures("shop")


async def test_a_relation_that_was_not_asked_for(db: Calls) -> None:
    """Without `include` every relation is None."""
    user = await db.user.find_unique(where={"id": "u1"})
    item = await db.item.find_unique(where={"id": "i1"})

    assert user.items is None
    assert item.owner is None


async def test_a_relation_that_is_declined(db: Calls) -> None:
    """`False` is the same as not asking."""
    user = await db.user.find_unique(where={"id": "u1"}, include={"items": False, "listings": True})

    assert user.items is None
    assert {"l1", "l2"} == {listing.id for listing in user.listings}


async def test_to_one(db: Calls) -> None:
    """The row that this one belongs to is loaded; a missing one is None."""
    items = await db.item.find_many(include={"owner": True, "parent": True}, order={"id": "asc"})

    assert ["u1", "u1", "u1", "u2"] == [item.owner.id for item in items]
    assert [None, "i1", "i1", None] == [item.parent and item.parent.id for item in items]


async def test_the_other_end_of_a_one_to_one(db: Calls) -> None:
    """The side without the foreign key has the row, or None."""
    orders = await db.order.find_many(include={"shipment": True}, order={"id": "asc"})

    assert ["T1", None, None] == [order.shipment and order.shipment.tracking_code for order in orders]


async def test_to_many(db: Calls) -> None:
    """Every parent has its own rows, and an empty list when it has none."""
    users = await db.user.find_many(include={"items": {"order_by": {"id": "asc"}}}, order={"id": "asc"})

    assert [["i1", "i2", "i3"], ["i4"], [], []] == [[item.id for item in user.items] for user in users]


async def test_to_many_with_where_order_take_and_skip(db: Calls) -> None:
    """Filter, order and limits work per parent."""
    users = await db.user.find_many(
        include={"items": {"where": {"title": {"contains": "ug"}}, "order_by": {"id": "desc"}, "take": 2}},
        order={"id": "asc"},
    )
    assert [["i3", "i2"], [], [], []] == [[item.id for item in user.items] for user in users]

    users = await db.user.find_many(
        include={"items": {"order_by": [{"price": "asc"}, {"id": "asc"}], "skip": 1}}, order={"id": "asc"}
    )
    assert [["i3", "i1"], [], [], []] == [[item.id for item in user.items] for user in users]


@pytest.mark.parametrize(("take", "expected"), [(1, ["i1"]), (-1, ["i3"]), (0, []), (-2, ["i2", "i3"])])
async def test_to_many_with_a_limit(db: Calls, take: int, expected: list[str]) -> None:
    """A limit without an order counts by primary key, from the end when negative."""
    user = await db.user.find_unique(where={"id": "u1"}, include={"items": {"take": take}})

    assert expected == [item.id for item in user.items]


async def test_many_to_many(db: Calls) -> None:
    """An implicit many-to-many relation loads from both of its ends."""
    conversations = await db.conversation.find_many(
        include={"participants": {"order_by": {"id": "asc"}}}, order={"id": "asc"}
    )
    assert [["u1", "u2"], ["u1", "u3"]] == [[user.id for user in one.participants] for one in conversations]

    users = await db.user.find_many(
        include={"conversations": {"order_by": {"id": "desc"}}}, order={"id": "asc"}
    )
    assert [["c2", "c1"], ["c1"], ["c2"], []] == [[one.id for one in user.conversations] for user in users]


async def test_many_to_many_with_where_and_take(db: Calls) -> None:
    """Filter and limit work per parent across a many-to-many relation."""
    users = await db.user.find_many(
        include={"conversations": {"where": {"is_open": True}, "take": 1}}, order={"id": "asc"}
    )

    assert [["c1"], ["c1"], [], []] == [[one.id for one in user.conversations] for user in users]


async def test_self_relation(db: Calls) -> None:
    """A row may be loaded with rows of its own model."""
    item = await db.item.find_unique(where={"id": "i1"}, include={"variants": {"order_by": {"id": "asc"}}})

    assert ["i2", "i3"] == [variant.id for variant in item.variants]


async def test_depth(db: Calls) -> None:
    """Includes nest."""
    listing = await db.listing.find_unique(
        where={"id": "l1"},
        include={
            "item": {"include": {"owner": True}},
            "orders": {"include": {"buyer": True, "shipment": True}, "order_by": {"id": "asc"}},
        },
    )

    assert "u1" == listing.item.owner.id
    assert ["u4", "u3"] == [order.buyer.id for order in listing.orders]
    assert ["T1", None] == [order.shipment and order.shipment.tracking_code for order in listing.orders]
    assert listing.item.owner.items is None


async def test_include_in_a_write(db: Calls) -> None:
    """A write returns its row with the relations asked for."""
    updated = await db.item.update(
        where={"id": "i4"}, data={"views": 1}, include={"owner": True, "listings": True}
    )

    assert "u2" == updated.owner.id
    assert ["l3"] == [listing.id for listing in updated.listings]


async def test_included_values_are_canonical(db: Calls) -> None:
    """Values of an included row have the same types as those of a row that was asked for by itself."""
    item = await db.item.find_unique(where={"id": "i1"}, include={"owner": True})

    assert await db.user.find_unique(where={"id": "u1"}) == item.owner
