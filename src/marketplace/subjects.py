"""What the workload writes, model by model: new rows, the counter that grows, the fields that are overwritten.

Every model has one counter and one or two `tracked` fields, which the journal follows; `others` are overwritten beside
them, to carry every kind of value through both sides. Values that are overwritten are different each time, so that a
value in the end names the write it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from crossfade.fields import Base64, Json
from marketplace.population import Population

Make: TypeAlias = Callable[[Population], Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is written to one model.

    `fields` makes the data of a new row; `new` does so where a row needs something that may have run out. `unique` is
    the key that an upsert finds a row by, and `unique_name` what Prisma calls it when it has several fields.
    """

    model: str
    counter: str
    tracked: Mapping[str, Make]
    others: Mapping[str, Make]
    fields: Callable[[Population], dict[str, Any]]
    unique: tuple[str, ...]
    unique_name: str | None = None
    new: Callable[[Population], dict[str, Any] | None] | None = None

    def draft(self, known: Population) -> dict[str, Any] | None:
        """Return the data of a new row, or None when there is nothing it could belong to."""
        return (self.new or self.fields)(known)

    @property
    def noted(self) -> tuple[str, ...]:
        """The fields whose values the journal follows."""
        return (self.counter, *self.tracked)

    def where(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The `where` that finds the row of `values` by its unique key."""
        key = {name: values[name] for name in self.unique}
        return {self.unique_name: key} if self.unique_name else key


# --- values ----------------------------------------------------------------------------------------------------

_WORDS = ("Vintage camera", "50% off", "snake_case lamp", "Größe XL", "O'Hara’s violin 🎻", "着物", "teapot")
_TAGS = ("new", "sale", "eco", "gift", "100%", "a_b", "it's", "日本", "🚲")


def _text(known: Population) -> str:
    return f"{known.rng.choice(_WORDS)} #{known.number()}"


def _text_or_null(known: Population) -> str | None:
    return None if known.rng.random() < 0.4 else _text(known)


def _money(known: Population) -> Decimal:
    """A new amount every time, with cents."""
    return Decimal(known.number() * 7 + 1).scaleb(-2)


def _amount(known: Population) -> Decimal:
    """More digits than a float can hold."""
    return Decimal(known.number()) + Decimal("0.123456789012345")


def _amount_or_null(known: Population) -> Decimal | None:
    return None if known.rng.random() < 0.25 else _amount(known)


def _moment(known: Population) -> datetime:
    """A new time every time, never on a whole second."""
    number = known.number()
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=number, milliseconds=1 + number % 999)


def _moment_or_null(known: Population) -> datetime | None:
    return None if known.rng.random() < 0.25 else _moment(known)


def _document(known: Population) -> Json:
    number = known.number()
    choices: tuple[Any, ...] = (
        {"n": number, "nested": {"list": [1, 2.5, None, True], "text": "50% of a_b"}},
        [number, {"emoji": "🧵", "empty": "", "big": 2**53}],
        {},
    )
    return Json(known.rng.choice(choices))


def _tags(known: Population) -> list[str]:
    return known.rng.sample(_TAGS, known.rng.randrange(4))


def _integers(known: Population) -> list[int]:
    return [known.rng.randrange(-5, 10_000) for _ in range(known.rng.randrange(4))]


def _bytes(known: Population) -> Base64 | None:
    return None if known.rng.random() < 0.3 else Base64.encode(known.rng.randbytes(12))


def _big(known: Population) -> int:
    return known.rng.choice((0, 2**53 + 1, 2**62 + known.number()))


def _float(known: Population) -> float:
    return known.rng.choice((0.1, -1.5, 1e-9, 1.0, 123456.789, known.rng.random()))


def _yes_or_no(known: Population) -> bool:
    return known.rng.random() < 0.5


def _one_of(*choices: Any) -> Make:
    return lambda known: known.rng.choice(choices)


# --- new rows --------------------------------------------------------------------------------------------------


def _user(known: Population) -> dict[str, Any]:
    number = known.number()
    return {
        "email": f"walker{number}@example.org",
        "handle": known.rng.choice((None, f"walker_{number}")),
        "name": _text(known),
        "balance": _money(known),
        "tags": _tags(known),
        "preferences": _document(known),
        "avatar": _bytes(known),
        "last_login_at": _moment(known),
    }


def _item(known: Population) -> dict[str, Any]:
    return {
        "sku": f"WALK-{known.number()}",
        "owner_id": known.pick("User"),
        "parent_id": known.rng.choice((None, known.seeded("Item"))),
        "title": _text(known),
        "description": _text_or_null(known),
        "condition": known.rng.choice(("NEW", "GOOD", "FOR_PARTS")),
        "price": _money(known),
        "weight_kg": _float(known),
        "dimensions_mm": _integers(known),
        "attributes": _document(known),
        "metadata": _document(known),
    }


def _listing(known: Population) -> dict[str, Any]:
    return {
        "item_id": known.pick("Item"),
        "seller_id": known.seeded("User"),
        "slug": f"walk-{known.number()}",
        "headline": _text(known),
        "status": known.rng.choice(("DRAFT", "ACTIVE", "PAUSED")),
        "price": _money(known),
        "keywords": _tags(known),
        "published_at": _moment_or_null(known),
        "expires_at": _moment_or_null(known),
    }


def _research(known: Population) -> dict[str, Any]:
    return {
        "source": known.rng.choice(("crawler", "survey 100%")),
        "reference": f"walk/{known.number()}",
        "item_id": known.pick("Item"),
        "analyst_id": known.rng.choice((None, known.pick("User"))),
        "condition": known.rng.choice((None, "LIKE_NEW")),
        "average_price": _amount_or_null(known),
        "median_price": _money(known),
        "histogram": _integers(known),
        "raw": _document(known),
        "notes": _text_or_null(known),
        "observed_at": _moment(known),
    }


def _order(known: Population) -> dict[str, Any]:
    # Orders keep their buyer and their listing from being deleted, so those are never rows that the workload deletes.
    return {
        "number": f"W-{known.number()}",
        "buyer_id": known.seeded("User"),
        "listing_id": known.seeded("Listing"),
        "total": _money(known),
        "note": _text_or_null(known),
        "history": Json([{"at": "2026-03-01", "to": "PENDING"}]),
        "paid_at": _moment_or_null(known),
    }


def _parcel(known: Population) -> dict[str, Any]:
    return {
        "carrier": known.rng.choice(("POST", "COURIER")),
        "tracking_code": f"WALK{known.number()}",
        "cost": _money(known),
        "declared_value": _big(known),
        "events": _document(known),
        "label": _bytes(known),
        "shipped_at": _moment_or_null(known),
    }


def _shipment(known: Population) -> dict[str, Any] | None:
    order = known.unshipped()
    return None if order is None else {"order_id": order} | _parcel(known)


def _analytics(known: Population) -> dict[str, Any]:
    return {
        "metric": "walk",
        "dimension": known.rng.choice(("all", "partner%")),
        "bucket": _moment(known),
        "listing_id": known.rng.choice((None, known.pick("Listing"))),
        "value": _float(known),
        "amount": _amount(known),
        "hits": _big(known),
        "percentiles": _integers(known),
        "labels": _document(known),
    }


def _snapshot(known: Population) -> dict[str, Any]:
    return {
        "scope": f"walk-{known.number()}",
        "day": datetime(2026, 3, 1, tzinfo=UTC),
        "author_id": known.rng.choice((None, known.pick("User"))),
        "gross": _money(known),
        "exact": _amount_or_null(known),
        "totals": _document(known),
        "digest": _bytes(known),
    }


def _conversation(known: Population) -> dict[str, Any]:
    return {
        "subject": _text_or_null(known),
        "listing_id": known.pick("Listing"),
        "order_id": known.rng.choice((None, known.pick("Order"))),
        "labels": _tags(known),
        "last_message_at": _moment_or_null(known),
    }


def _message(known: Population) -> dict[str, Any]:
    return {
        "conversation_id": known.pick("Conversation"),
        "author_id": known.pick("User"),
        "reply_to_id": known.rng.choice((None, known.pick("Message"))),
        "body": _text(known),
        "mentions": _tags(known),
        "attachments": _document(known),
        "sent_at": _moment(known),
        "edited_at": _moment_or_null(known),
    }


SUBJECTS: Mapping[str, Subject] = {
    subject.model: subject
    for subject in (
        Subject(
            "User",
            counter="login_count",
            tracked={"name": _text_or_null},
            others={
                "balance": _money,
                "last_login_at": _moment_or_null,
                "preferences": _document,
                "storage_bytes": _big,
                "notify_by": _one_of([], ["SMS"], ["EMAIL", "PUSH"]),
                "avatar": _bytes,
            },
            fields=_user,
            unique=("email",),
        ),
        Subject(
            "Item",
            counter="views",
            tracked={"description": _text_or_null, "price": _money},
            others={
                "condition": _one_of("NEW", "LIKE_NEW", "FAIR", "FOR_PARTS"),
                "weight_kg": _float,
                "dimensions_mm": _integers,
                "metadata": _document,
                "photo": _bytes,
            },
            fields=_item,
            unique=("sku",),
        ),
        Subject(
            "Listing",
            counter="views",
            tracked={"headline": _text},
            others={
                "status": _one_of("DRAFT", "ACTIVE", "PAUSED", "SOLD"),
                "price": _money,
                "discount": _amount,
                "keywords": _tags,
                "expires_at": _moment_or_null,
                "is_featured": _yes_or_no,
            },
            fields=_listing,
            unique=("seller_id", "slug"),
            unique_name="seller_slug",
        ),
        Subject(
            "MarketResearchData",
            counter="sample_size",
            tracked={"notes": _text_or_null},
            others={
                "average_price": _amount_or_null,
                "median_price": _money,
                "confidence": _float,
                "histogram": _integers,
                "raw": _document,
                "condition": _one_of(None, "NEW", "FAIR"),
            },
            fields=_research,
            unique=("source", "reference"),
            unique_name="source_reference",
        ),
        Subject(
            "Order",
            counter="revision",
            tracked={"note": _text_or_null},
            others={
                "status": _one_of("PENDING", "PAID", "SHIPPED", "DELIVERED"),
                "total": _money,
                "fee_rate": _amount,
                "history": _document,
                "paid_at": _moment_or_null,
                "gift": _yes_or_no,
            },
            fields=_order,
            unique=("number",),
        ),
        Subject(
            "Shipment",
            counter="scans",
            tracked={"shipped_at": _moment_or_null},
            others={
                "cost": _money,
                "declared_value": _big,
                "events": _document,
                "customs": _document,
                "label": _bytes,
            },
            fields=_parcel,
            new=_shipment,
            unique=("order_id",),
        ),
        Subject(
            "AnalyticsData",
            counter="samples",
            tracked={"amount": _amount},
            others={"value": _float, "hits": _big, "percentiles": _integers, "labels": _document},
            fields=_analytics,
            unique=("metric", "dimension", "bucket"),
            unique_name="metric_bucket",
        ),
        Subject(
            "AnalyticsSnapshot",
            counter="reads",
            tracked={"exact": _amount_or_null},
            others={
                "gross": _money,
                "sealed": _yes_or_no,
                "totals": _document,
                "digest": _bytes,
            },
            fields=_snapshot,
            unique=("scope", "day"),
            unique_name="scope_day",
        ),
        Subject(
            "Conversation",
            counter="message_count",
            tracked={"subject": _text_or_null},
            others={
                "is_open": _yes_or_no,
                "priority": _one_of(1, 2, 3, 4, 5),
                "labels": _tags,
                "last_message_at": _moment_or_null,
            },
            fields=_conversation,
            unique=("id",),
        ),
        Subject(
            "Message",
            counter="reads",
            tracked={"body": _text, "edited_at": _moment_or_null},
            others={
                "channel": _one_of("EMAIL", "SMS", "IN_APP"),
                "mentions": _tags,
                "attachments": _document,
                "is_edited": _yes_or_no,
            },
            fields=_message,
            unique=("id",),
        ),
    )
}
"""The ten models, parents before children."""
