"""Made-up rows for the marketplace: the same for the same seed, and as untidy as real ones.

Names in many scripts, LIKE wildcards and quotes in text, lists that are NULL and lists that are empty, decimals that
no float can hold, integers beyond 2^53, nested documents, times to the millisecond. Nothing here knows a database: rows
are dictionaries from field names to plain Python values (enum fields hold the schema's names).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar

from crossfade.operation import base36
from marketplace.words import (
    ADJECTIVES,
    CURRENCIES,
    DIMENSIONS,
    FAMILY,
    GIVEN,
    METRICS,
    ODD_DECIMALS,
    PHRASES,
    REGIONS,
    SCOPES,
    SOURCES,
    TAGS,
    THINGS,
)

Row = dict[str, Any]
Rows = dict[str, list[Row]]
T = TypeVar("T")

SHARES: Final[Mapping[str, float]] = {
    "User": 0.08,
    "Item": 0.15,
    "Listing": 0.15,
    "MarketResearchData": 0.08,
    "Order": 0.15,
    "Shipment": 0.09,
    "AnalyticsData": 0.12,
    "AnalyticsSnapshot": 0.02,
    "Conversation": 0.05,
    "Message": 0.11,
}
"""What part of all rows each model gets; every model gets at least one."""

PARTICIPANTS: Final = "ConversationParticipants"
"""The rows of the many-to-many relation are listed under its name, beside the models."""

_EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

# Prisma's engine keeps 16 significant digits of a Float, so none here has 17.
_ODD_FLOATS = (0.0, 0.3, 1.0, 1e-7, 2.5, 12345678.875, 1 / 3)


def row_counts(total: int) -> dict[str, int]:
    """Divide `total` rows over the ten models.

    Raises:
        ValueError: there are fewer rows than models.
    """
    if total < len(SHARES):
        raise ValueError(f"at least {len(SHARES)} rows are needed, one for each model, not {total}")
    spare = total - len(SHARES)
    counts = {model: 1 + int(spare * share) for model, share in SHARES.items()}
    counts["Message"] += total - sum(counts.values())
    return counts


def generate_rows(total: int = 20_000, seed: int = 7) -> Rows:
    """Make `total` rows over the ten models, parents before children, and the pairs of `PARTICIPANTS`."""
    return _Sample(random.Random(seed), row_counts(total)).rows()  # noqa: S311  # made-up data, not secrets


class _Sample:
    def __init__(self, rng: random.Random, counts: Mapping[str, int]) -> None:
        self._rng = rng
        self._counts = counts
        self._minted = 0

    def rows(self) -> Rows:
        users = [self._user(n) for n in range(self._counts["User"])]
        items: list[Row] = []
        for n in range(self._counts["Item"]):
            items.append(self._item(n, users, items))
        listings = [self._listing(n, items) for n in range(self._counts["Listing"])]
        research = [self._research(n, items, users) for n in range(self._counts["MarketResearchData"])]
        orders = [self._order(n, users, listings) for n in range(self._counts["Order"])]
        shipped = self._rng.sample(orders, self._counts["Shipment"])
        shipments = [self._shipment(n, order) for n, order in enumerate(shipped, start=1)]
        analytics = [self._analytics(n, listings) for n in range(self._counts["AnalyticsData"])]
        snapshots = [self._snapshot(n, users) for n in range(self._counts["AnalyticsSnapshot"])]
        conversations = [self._conversation(orders, listings) for _ in range(self._counts["Conversation"])]
        participants = [self._participants(users) for _ in conversations]
        messages = self._messages(conversations, participants)
        return {
            "User": users,
            "Item": items,
            "Listing": listings,
            "MarketResearchData": research,
            "Order": orders,
            "Shipment": shipments,
            "AnalyticsData": analytics,
            "AnalyticsSnapshot": snapshots,
            "Conversation": conversations,
            "Message": messages,
            PARTICIPANTS: [
                {"A": conversation["id"], "B": user}
                for conversation, members in zip(conversations, participants, strict=True)
                for user in members
            ],
        }

    # --- one row of each model ---

    def _user(self, n: int) -> Row:
        given, family = self._one(GIVEN), self._one(FAMILY)
        created, updated = self._times()
        return {
            "id": self._cuid(created),
            "email": f"user{n}.{self._rng.randrange(1000)}@example.com",
            "handle": self._maybe(f"{given.lower()}_{n}", 0.7),
            "name": self._maybe(f"{given} {family}", 0.9),
            "role": self._one(("BUYER", "BUYER", "BUYER", "SELLER", "SELLER", "SUPPORT", "ADMIN")),
            "is_active": self._rng.random() < 0.93,
            "balance": self._money(500_000) - 1000,
            "reputation": self._one(_ODD_FLOATS),
            "login_count": self._rng.randrange(500),
            "storage_bytes": self._rng.choice((0, self._rng.randrange(10**9), 2**53 + 1, 2**62 + n)),
            "notify_by": self._list(("EMAIL", "SMS", "PUSH", "IN_APP"), 3),
            "tags": self._list(TAGS, 4),
            "preferences": {"theme": self._one(("light", "dark")), "page_size": 50, "beta": self._document()},
            "avatar": self._blob(0.2),
            "last_login_at": self._maybe(self._later(created), 0.8),
            "created_at": created,
            "updated_at": updated,
        }

    def _item(self, n: int, users: Sequence[Row], items: Sequence[Row]) -> Row:
        created, updated = self._times()
        return {
            "id": self._uuid(),
            "sku": f"SKU-{n:06d}",
            "owner_id": self._popular(users)["id"],
            "parent_id": self._one(items)["id"] if items and self._rng.random() < 0.15 else None,
            "title": self._title(),
            "description": self._maybe(f"{self._one(PHRASES)} {self._title()}", 0.75),
            "condition": self._one(("NEW", "LIKE_NEW", "GOOD", "GOOD", "FAIR", "FOR_PARTS")),
            "price": self._money(),
            "weight_kg": self._maybe(self._one(_ODD_FLOATS), 0.8),
            "stock": self._rng.randrange(200),
            "views": self._rng.randrange(10_000),
            "dimensions_mm": self._list((10, 25, 300, 0, -1, 2_147_483_647), 3),
            "attributes": self._document(),
            "metadata": self._maybe(self._document(), 0.6),
            "photo": self._blob(0.1),
            "created_at": created,
            "updated_at": updated,
        }

    def _listing(self, n: int, items: Sequence[Row]) -> Row:
        item = self._one(items)
        created, updated = self._times()
        return {
            "id": self._cuid(created),
            "item_id": item["id"],
            "seller_id": item["owner_id"],
            "slug": f"{self._one(THINGS)[:5].strip().lower()}-{n}",
            "headline": self._title(),
            "status": self._one(("DRAFT", "ACTIVE", "ACTIVE", "ACTIVE", "PAUSED", "SOLD", "ARCHIVED")),
            "price": self._money(),
            "discount": self._one(ODD_DECIMALS),
            "currency": self._one(CURRENCIES),
            "quantity": self._rng.randrange(1, 20),
            "views": self._rng.randrange(50_000),
            "keywords": self._list(TAGS, 5),
            "is_featured": self._rng.random() < 0.1,
            "published_at": self._maybe(self._later(created), 0.8),
            "expires_at": self._maybe(self._later(updated), 0.5),
            "created_at": created,
            "updated_at": updated,
        }

    def _research(self, n: int, items: Sequence[Row], users: Sequence[Row]) -> Row:
        created, updated = self._times()
        return {
            "id": self._cuid(created),
            "source": self._one(SOURCES),
            "reference": f"ref/{n}",
            "region": self._one(REGIONS),
            "item_id": self._maybe(self._one(items)["id"], 0.85),
            "analyst_id": self._maybe(self._one(users)["id"], 0.6),
            "condition": self._maybe(self._one(("NEW", "LIKE_NEW", "GOOD", "FAIR", "FOR_PARTS")), 0.7),
            "average_price": self._maybe(self._one(ODD_DECIMALS), 0.8),
            "median_price": self._money(),
            "sample_size": self._rng.randrange(5000),
            "confidence": round(self._rng.random(), 9),
            "histogram": self._list((0, 1, 1, 2, 3, 5, 8, 13, 21), 9),
            "competitors": self._list(("none", "n/a", "Kauf & Co.", "shop_24", "100% Deals"), 3),
            "raw": {"version": 1.0, "rows": [self._document(), None, True], "note": self._one(PHRASES)},
            "notes": self._maybe(self._one(PHRASES), 0.4),
            "observed_at": created - timedelta(hours=self._rng.randrange(48)),
            "created_at": created,
            "updated_at": updated,
        }

    def _order(self, n: int, users: Sequence[Row], listings: Sequence[Row]) -> Row:
        listing = self._popular(listings)
        placed, updated = self._times()
        quantity = self._rng.randrange(1, 4)
        status = self._one(("PENDING", "PAID", "SHIPPED", "DELIVERED", "DELIVERED", "CANCELLED", "REFUNDED"))
        stamp = placed.isoformat(timespec="milliseconds")
        return {
            "id": self._uuid(),
            "number": f"{placed:%Y%m%d}-{n:06d}",
            "buyer_id": self._popular(users)["id"],
            "listing_id": listing["id"],
            "status": status,
            "quantity": quantity,
            "total": min(listing["price"] * quantity, Decimal("9999999999.99")),
            "fee_rate": self._one((Decimal("0.029"), Decimal("0.0295"), Decimal("0.1"), Decimal(0))),
            "currency": listing["currency"],
            "gift": self._rng.random() < 0.15,
            "note": self._maybe(self._one(PHRASES), 0.3),
            "history": [{"at": stamp, "to": "PENDING"}, {"at": stamp, "to": status}][
                : self._rng.randrange(3)
            ],
            "revision": self._rng.randrange(1, 9),
            "placed_at": placed,
            "paid_at": None if status in {"PENDING", "CANCELLED"} else self._later(placed),
            "updated_at": updated,
        }

    def _shipment(self, n: int, order: Row) -> Row:
        created, updated = self._times()
        shipped = self._maybe(self._later(created), 0.8)
        return {
            "id": n,
            "order_id": order["id"],
            "carrier": self._one(("POST", "COURIER", "FREIGHT", "PICKUP")),
            "tracking_code": self._maybe(f"TRK{n:08d}", 0.85),
            "cost": self._money(9_000),
            "declared_value": self._one((0, 1999, 2**53 + 1, 9_000_000_000_000_000_000)),
            "weight_grams": self._maybe(self._rng.randrange(50, 30_000), 0.7),
            "scans": self._rng.randrange(12),
            "events": [{"code": "scan", "hub": self._one(REGIONS), "kg": 1.0}] * self._rng.randrange(3),
            "customs": self._maybe(self._document(), 0.3),
            "label": self._blob(0.3),
            "shipped_at": shipped,
            "delivered_at": None if shipped is None else self._maybe(self._later(shipped), 0.7),
            "created_at": created,
            "updated_at": updated,
        }

    def _analytics(self, n: int, listings: Sequence[Row]) -> Row:
        series = len(METRICS) * len(DIMENSIONS)
        bucket = _EPOCH + timedelta(hours=n // series)
        return {
            "id": self._cuid(bucket),
            "metric": METRICS[n % len(METRICS)],
            "dimension": DIMENSIONS[n % series // len(METRICS)],
            "bucket": bucket,
            "listing_id": self._maybe(self._popular(listings)["id"], 0.5),
            "value": self._rng.choice(_ODD_FLOATS),
            "amount": self._one(ODD_DECIMALS),
            "hits": self._one((0, 17, 2**53 + 1, 2**40 + n)),
            "samples": self._rng.randrange(1000),
            "percentiles": self._list((50, 90, 95, 99), 4),
            "labels": self._maybe(self._document(), 0.5),
            "created_at": bucket,
            "updated_at": self._later(bucket),
        }

    def _snapshot(self, n: int, users: Sequence[Row]) -> Row:
        day = datetime(2026, 1, 5, tzinfo=UTC) - timedelta(days=n // len(SCOPES))
        created = day + timedelta(days=1, milliseconds=self._rng.randrange(1000))
        return {
            "id": n + 1,
            "scope": SCOPES[n % len(SCOPES)],
            "day": day,
            "author_id": self._maybe(self._one(users)["id"], 0.5),
            "gross": self._money(),
            "exact": self._maybe(self._one(ODD_DECIMALS), 0.7),
            "reads": self._rng.randrange(100),
            "sealed": self._rng.random() < 0.6,
            "totals": {"orders": self._rng.randrange(900), "rate": 1.0, "by_region": self._document()},
            "digest": self._blob(0.8),
            "created_at": created,
            "updated_at": self._later(created),
        }

    def _conversation(self, orders: Sequence[Row], listings: Sequence[Row]) -> Row:
        created, updated = self._times()
        return {
            "id": self._cuid(created),
            "subject": self._maybe(self._title(), 0.8),
            "order_id": self._maybe(self._one(orders)["id"], 0.5),
            "listing_id": self._maybe(self._popular(listings)["id"], 0.5),
            "is_open": self._rng.random() < 0.7,
            "priority": self._rng.randrange(1, 6),
            "message_count": 0,
            "labels": self._list(TAGS, 3),
            "last_message_at": None,
            "created_at": created,
            "updated_at": updated,
        }

    def _participants(self, users: Sequence[Row]) -> list[str]:
        size = min(len(users), self._rng.choice((1, 2, 2, 2, 3, 4)))
        return [user["id"] for user in self._rng.sample(users, size)]

    def _messages(self, conversations: Sequence[Row], participants: Sequence[list[str]]) -> list[Row]:
        rows: list[Row] = []
        latest: dict[str, str] = {}
        for _ in range(self._counts["Message"]):
            n = self._rng.randrange(len(conversations))
            conversation = conversations[n]
            previous = latest.get(conversation["id"])
            sent = self._later(conversation["last_message_at"] or conversation["created_at"])
            row = {
                "id": self._cuid(sent),
                "conversation_id": conversation["id"],
                "author_id": self._one(participants[n]),
                "reply_to_id": self._maybe(previous, 0.5),
                "body": self._one(PHRASES),
                "channel": self._one(("IN_APP", "IN_APP", "EMAIL", "SMS", "PUSH")),
                "reads": self._rng.randrange(20),
                "mentions": self._list(("ada_1", "o'hara", "美咲"), 2),
                "attachments": self._maybe([{"name": "scan_%d.pdf", "size": 1.5e3}, self._document()], 0.2),
                "is_edited": self._rng.random() < 0.1,
                "sent_at": sent,
                "edited_at": self._maybe(self._later(sent), 0.1),
            }
            rows.append(row)
            latest[conversation["id"]] = row["id"]
            conversation["message_count"] += 1
            conversation["last_message_at"] = sent
        return rows

    # --- values ---

    def _one(self, choices: Sequence[T]) -> T:
        return self._rng.choice(choices)

    def _popular(self, choices: Sequence[T]) -> T:
        return choices[int(len(choices) * self._rng.random() ** 3)]

    def _maybe(self, value: T, share: float) -> T | None:
        return value if self._rng.random() < share else None

    def _list(self, choices: Sequence[T], most: int) -> list[T] | None:
        if self._rng.random() < 0.1:
            return None
        return self._rng.choices(choices, k=self._rng.randrange(most + 1))

    def _times(self) -> tuple[datetime, datetime]:
        created = _EPOCH - timedelta(milliseconds=self._rng.randrange(400 * 86_400_000))
        return created, self._later(created)

    def _later(self, moment: datetime) -> datetime:
        return moment + timedelta(milliseconds=self._rng.randrange(3 * 86_400_000))

    def _money(self, most: int = 2_000_000) -> Decimal:
        return Decimal(self._rng.randrange(1, most)).scaleb(-2)

    def _blob(self, share: float) -> bytes | None:
        return self._maybe(self._rng.randbytes(self._rng.choice((0, 1, 16, 48))), share)

    def _title(self) -> str:
        return f"{self._one(ADJECTIVES)} {self._one(THINGS)}"

    def _document(self) -> dict[str, Any]:
        return self._rng.choice(
            (
                {},
                {"color": "grün", "sizes": [38, 39.5, 40.0], "in stock": True},
                {"nested": {"deep": {"deeper": [1, [2, [3.0]], {"x": None}]}}, "ratio": 0.1},
                {"a_b": "50%", "quote": 'say "hi"', "emoji": "🧵", "empty": "", "list": []},
                {"count": self._rng.randrange(10**6), "big": 2**53, "small": 1e-3},
            )
        )

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _cuid(self, moment: datetime) -> str:
        self._minted += 1
        stamp, noise = int(moment.timestamp() * 1000), self._rng.randrange(36**12)
        return f"c{base36(stamp, 8)}{base36(self._minted, 4)}{base36(noise, 12)}"
