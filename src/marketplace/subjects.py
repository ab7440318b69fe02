"""What the workload writes, model by model: new rows, the counter that grows, the fields that are overwritten.

Every model has one counter and one or two `tracked` fields, which the journal follows; `others` are overwritten beside
them, to carry every kind of value through both sides. Values that are overwritten are different each time, so that a
value in the end names the write it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marketplace import drafts, values
from marketplace.population import Population
from marketplace.values import Make


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


SUBJECTS: Mapping[str, Subject] = {
    subject.model: subject
    for subject in (
        Subject(
            "User",
            counter="login_count",
            tracked={"name": values.text_or_null},
            others={
                "balance": values.money,
                "last_login_at": values.moment_or_null,
                "preferences": values.document,
                "storage_bytes": values.big,
                "notify_by": values.one_of([], ["SMS"], ["EMAIL", "PUSH"]),
                "avatar": values.some_bytes,
            },
            fields=drafts.user,
            unique=("email",),
        ),
        Subject(
            "Item",
            counter="views",
            tracked={"description": values.text_or_null, "price": values.money},
            others={
                "condition": values.one_of("NEW", "LIKE_NEW", "FAIR", "FOR_PARTS"),
                "weight_kg": values.fraction,
                "dimensions_mm": values.integers,
                "metadata": values.document,
                "photo": values.some_bytes,
            },
            fields=drafts.item,
            unique=("sku",),
        ),
        Subject(
            "Listing",
            counter="views",
            tracked={"headline": values.text},
            others={
                "status": values.one_of("DRAFT", "ACTIVE", "PAUSED", "SOLD"),
                "price": values.money,
                "discount": values.amount,
                "keywords": values.tags,
                "expires_at": values.moment_or_null,
                "is_featured": values.yes_or_no,
            },
            fields=drafts.listing,
            unique=("seller_id", "slug"),
            unique_name="seller_slug",
        ),
        Subject(
            "MarketResearchData",
            counter="sample_size",
            tracked={"notes": values.text_or_null},
            others={
                "average_price": values.amount_or_null,
                "median_price": values.money,
                "confidence": values.fraction,
                "histogram": values.integers,
                "raw": values.document,
                "condition": values.one_of(None, "NEW", "FAIR"),
            },
            fields=drafts.research,
            unique=("source", "reference"),
            unique_name="source_reference",
        ),
        Subject(
            "Order",
            counter="revision",
            tracked={"note": values.text_or_null},
            others={
                "status": values.one_of("PENDING", "PAID", "SHIPPED", "DELIVERED"),
                "total": values.money,
                "fee_rate": values.amount,
                "history": values.document,
                "paid_at": values.moment_or_null,
                "gift": values.yes_or_no,
            },
            fields=drafts.order,
            unique=("number",),
        ),
        Subject(
            "Shipment",
            counter="scans",
            tracked={"shipped_at": values.moment_or_null},
            others={
                "cost": values.money,
                "declared_value": values.big,
                "events": values.document,
                "customs": values.document,
                "label": values.some_bytes,
            },
            fields=drafts.parcel,
            new=drafts.shipment,
            unique=("order_id",),
        ),
        Subject(
            "AnalyticsData",
            counter="samples",
            tracked={"amount": values.amount},
            others={
                "value": values.fraction,
                "hits": values.big,
                "percentiles": values.integers,
                "labels": values.document,
            },
            fields=drafts.analytics,
            unique=("metric", "dimension", "bucket"),
            unique_name="metric_bucket",
        ),
        Subject(
            "AnalyticsSnapshot",
            counter="reads",
            tracked={"exact": values.amount_or_null},
            others={
                "gross": values.money,
                "sealed": values.yes_or_no,
                "totals": values.document,
                "digest": values.some_bytes,
            },
            fields=drafts.snapshot,
            unique=("scope", "day"),
            unique_name="scope_day",
        ),
        Subject(
            "Conversation",
            counter="message_count",
            tracked={"subject": values.text_or_null},
            others={
                "is_open": values.yes_or_no,
                "priority": values.one_of(1, 2, 3, 4, 5),
                "labels": values.tags,
                "last_message_at": values.moment_or_null,
            },
            fields=drafts.conversation,
            unique=("id",),
        ),
        Subject(
            "Message",
            counter="reads",
            tracked={"body": values.text, "edited_at": values.moment_or_null},
            others={
                "channel": values.one_of("EMAIL", "SMS", "IN_APP"),
                "mentions": values.tags,
                "attachments": values.document,
                "is_edited": values.yes_or_no,
            },
            fields=drafts.message,
            unique=("id",),
        ),
    )
}
"""The ten models, parents before children."""
