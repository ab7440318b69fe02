"""The small shop that the reading tests look at; ids are chosen, so that expectations are short."""

from datetime import UTC, datetime
from decimal import Decimal

import asyncpg

from crossfade.fields import Base64, Json

from .calls import Calls


def day(number: int) -> datetime:
    """A day of January 2026."""
    return datetime(2026, 1, number, tzinfo=UTC)


async def open_shop(db: Calls, store: asyncpg.Connection) -> None:
    """Fill the empty store: four users, four items, listings, orders, conversations, messages."""
    await _users(db)
    await _items(db)
    await _orders(db)
    await _conversations(db)
    await store.executemany(
        'INSERT INTO "_ConversationParticipants" ("A", "B") VALUES ($1, $2)',
        [("c1", "u1"), ("c1", "u2"), ("c2", "u1"), ("c2", "u3")],
    )


async def _users(db: Calls) -> None:
    await db.user.create(
        data={
            "id": "u1",
            "email": "ada@example.com",
            "handle": "ada",
            "name": "Ada",
            "role": "ADMIN",
            "balance": Decimal("100.50"),
            "reputation": 4.5,
            "login_count": 10,
            "storage_bytes": 2**40,
            "notify_by": ["EMAIL", "SMS"],
            "tags": ["vip", "eu"],
            "preferences": Json({"theme": "dark", "size": 1}),
            "avatar": Base64.encode(b"\x00\xff"),
            "last_login_at": datetime(2026, 1, 1, 10, 0, 0, 123000, tzinfo=UTC),
            "created_at": day(1),
        }
    )
    await db.user.create(
        data={
            "id": "u2",
            "email": "bob@example.com",
            "role": "SELLER",
            "is_active": False,
            "notify_by": [],
            "tags": [],
            "preferences": Json({"theme": "light"}),
            "created_at": day(2),
        }
    )
    await db.user.create(
        data={
            "id": "u3",
            "email": "CYN@Example.com",
            "handle": "cyn_1",
            "name": "100% Cyn",
            "role": "SELLER",
            "balance": Decimal("9.99"),
            "reputation": -1.5,
            "login_count": -3,
            "notify_by": ["PUSH"],
            "preferences": Json([1, 2]),
            "avatar": Base64.encode(b""),
            "last_login_at": datetime(2026, 3, 1, tzinfo=UTC),
            "created_at": day(3),
        }
    )
    await db.user.create(
        data={
            "id": "u4",
            "email": "dan@example.com",
            "handle": "100x",
            "name": "ada",
            "balance": Decimal("100.5"),
            "reputation": 4.5,
            "login_count": 10,
            "tags": ["eu"],
            "preferences": Json(None),
            "created_at": day(4),
        }
    )


async def _items(db: Calls) -> None:
    for number, (owner, title, condition, description, price, parent) in enumerate(
        [
            ("u1", "Mug", "NEW", "plain", "12.50", None),
            ("u1", "Red mug", "GOOD", "plain", "9.99", "i1"),
            ("u1", "Blue mug", "LIKE_NEW", None, "9.99", "i1"),
            ("u2", "Lamp", "GOOD", "bright", "100", None),
        ],
        start=1,
    ):
        await db.item.create(
            data={
                "id": f"i{number}",
                "sku": f"SKU-{number}",
                "owner_id": owner,
                "title": title,
                "condition": condition,
                "description": description,
                "price": Decimal(price),
                "parent_id": parent,
                "dimensions_mm": [number, 10 * number],
                "created_at": day(number),
            }
        )
    for number, (item, seller, slug, status, price, quantity) in enumerate(
        [
            ("i1", "u1", "mug", "ACTIVE", "12.50", 3),
            ("i2", "u1", "red-mug", "DRAFT", "9.99", 1),
            ("i4", "u2", "lamp", "ACTIVE", "100", 2),
        ],
        start=1,
    ):
        await db.listing.create(
            data={
                "id": f"l{number}",
                "item_id": item,
                "seller_id": seller,
                "slug": slug,
                "status": status,
                "price": Decimal(price),
                "quantity": quantity,
                "created_at": day(number),
            }
        )


async def _orders(db: Calls) -> None:
    for number, (buyer, listing, total) in enumerate(
        [("u4", "l1", "12.50"), ("u4", "l3", "100"), ("u3", "l1", "25")], start=1
    ):
        await db.order.create(
            data={
                "id": f"o{number}",
                "number": f"2026-{number}",
                "buyer_id": buyer,
                "listing_id": listing,
                "total": Decimal(total),
                "placed_at": day(number),
            }
        )
    await db.shipment.create(data={"order_id": "o1", "cost": Decimal("3.90"), "tracking_code": "T1"})


async def _conversations(db: Calls) -> None:
    for number, is_open in enumerate([True, False], start=1):
        await db.conversation.create(
            data={
                "id": f"c{number}",
                "subject": f"Subject {number}",
                "is_open": is_open,
                "created_at": day(number),
            }
        )
    for number, (author, body, reply_to) in enumerate(
        [("u1", "hello", None), ("u2", "hi", "m1"), ("u1", "bye", "m1")], start=1
    ):
        await db.message.create(
            data={
                "id": f"m{number}",
                "conversation_id": "c1",
                "author_id": author,
                "body": body,
                "reply_to_id": reply_to,
                "sent_at": day(number),
            }
        )
