"""What the workload reads: the questions that the back office's pages ask, for each model.

Together they use every reading method, the usual filters on every kind of field, orders with and without ties, limits,
and includes of one level. `QUESTIONS` gives each question's method and a function that makes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from crossfade.fields import Json
from crossfade.operation import Action
from marketplace.population import Population

Arguments: TypeAlias = dict[str, Any]


class Question(NamedTuple):
    """One read: the method, and what makes its arguments from the rows that are known."""

    action: Action
    arguments: Callable[[Population], Arguments]


def _by_key(model: str, include: Mapping[str, Any] | None = None) -> Question:
    extra: Arguments = {"include": include} if include else {}
    return Question(Action.FIND_UNIQUE, lambda known: {"where": {"id": known.pick(model)}, **extra})


def _by_seeded_key(model: str, include: Mapping[str, Any]) -> Question:
    return Question(
        Action.FIND_UNIQUE_OR_RAISE,
        lambda known: {"where": {"id": known.seeded(model)}, "include": include},
    )


def _unique(model: str, *fields: str, name: str | None = None) -> Question:
    def arguments(known: Population) -> Arguments:
        row = known.values(model, known.seeded(model))
        key = {field: row[field] for field in fields}
        return {"where": {name: key} if name else key}

    return Question(Action.FIND_UNIQUE, arguments)


def _many(where: Callable[[Population], Any], **arguments: Any) -> Question:
    return Question(Action.FIND_MANY, lambda known: {"where": where(known), **arguments})


def _first(where: Callable[[Population], Any], **arguments: Any) -> Question:
    return Question(Action.FIND_FIRST, lambda known: {"where": where(known), **arguments})


def _count(where: Callable[[Population], Any]) -> Question:
    return Question(Action.COUNT, lambda known: {"where": where(known)})


def _fixed(where: Mapping[str, Any]) -> Callable[[Population], Any]:
    return lambda _known: where


def _day(known: Population, span: int = 400) -> datetime:
    return datetime(2026, 1, 5, tzinfo=UTC) - timedelta(days=known.rng.randrange(span))


def _word(known: Population) -> str:
    return known.rng.choice(("CAMERA", "lamp", "größe", "50%", "e_c", "o'HARA", "Boxed", "rare t"))


def _money(known: Population) -> Decimal:
    return Decimal(known.rng.randrange(100, 1_900_000)).scaleb(-2)


_NEWEST = [{"created_at": "desc"}, {"id": "asc"}]

QUESTIONS: Mapping[str, Sequence[Question]] = {
    "User": (
        _by_key("User"),
        _unique("User", "email"),
        _by_seeded_key("User", {"items": {"take": 5, "order_by": {"sku": "asc"}}}),
        _many(lambda k: {"name": {"contains": _word(k), "mode": "insensitive"}}, order=_NEWEST, take=10),
        _many(
            _fixed({"role": {"in": ["SELLER", "ADMIN"]}, "is_active": True}),
            order=[{"reputation": "desc"}, {"id": "asc"}],
            take=10,
            skip=3,
        ),
        _many(_fixed({"tags": {"has": "eco"}, "handle": None}), order={"email": "asc"}, take=10),
        _first(lambda k: {"balance": {"gte": _money(k)}}, order=[{"balance": "asc"}, {"id": "asc"}]),
        _count(lambda k: {"last_login_at": {"gte": _day(k)}}),
    ),
    "Item": (
        _by_key("Item"),
        _unique("Item", "sku"),
        _by_key("Item", {"owner": True}),
        _by_seeded_key("Item", {"listings": True}),
        _many(lambda k: {"title": {"contains": _word(k), "mode": "insensitive"}}, order=_NEWEST, take=10),
        _many(
            lambda k: {"condition": {"not_in": ["FAIR"]}, "price": {"lt": _money(k)}},
            order=[{"price": "desc"}, {"id": "asc"}],
            take=10,
        ),
        _many(lambda k: {"owner_id": k.seeded("User")}, order=_NEWEST, take=10),
        _many(_fixed({"metadata": {"equals": Json({})}}), order={"sku": "asc"}, take=5),
        _count(_fixed({"description": None, "dimensions_mm": {"has": 300}})),
    ),
    "Listing": (
        _by_key("Listing"),
        _unique("Listing", "seller_id", "slug", name="seller_slug"),
        _by_key("Listing", {"item": True}),
        _many(
            lambda k: {"headline": {"contains": _word(k), "mode": "insensitive"}, "status": "ACTIVE"},
            order=[{"price": "desc"}, {"id": "asc"}],
            take=10,
        ),
        _many(_fixed({"headline": {"startswith": "vint", "mode": "insensitive"}}), order=_NEWEST, take=10),
        _many(lambda k: {"item_id": {"in": k.some_seeded("Item", 3)}}),
        _first(_fixed({"keywords": {"has_some": ["sale", "100%"]}, "is_featured": True}), order=_NEWEST),
        _count(lambda k: {"OR": [{"expires_at": None}, {"expires_at": {"gte": _day(k)}}]}),
    ),
    "MarketResearchData": (
        _by_key("MarketResearchData"),
        _unique("MarketResearchData", "source", "reference", name="source_reference"),
        _by_key("MarketResearchData", {"item": True}),
        _many(
            lambda k: {"region": "EU", "observed_at": {"gte": _day(k)}},
            order=[{"observed_at": "desc"}, {"id": "asc"}],
            take=10,
        ),
        _many(lambda k: {"item_id": k.seeded("Item")}),
        _many(
            _fixed({"condition": None, "average_price": {"not": None}}), order={"reference": "asc"}, take=10
        ),
        _first(lambda k: {"median_price": {"gt": _money(k)}}, order={"reference": "asc"}),
        _count(_fixed({"competitors": {"has": "shop_24"}, "notes": {"not": None}})),
    ),
    "Order": (
        _by_key("Order"),
        _unique("Order", "number"),
        _by_key("Order", {"shipment": True}),
        _many(
            lambda k: {"buyer_id": k.seeded("User")}, order=[{"placed_at": "desc"}, {"id": "asc"}], take=10
        ),
        _many(
            lambda k: {"status": {"in": ["PENDING", "PAID"]}, "placed_at": {"lt": _day(k)}},
            order={"number": "asc"},
            take=10,
        ),
        _many(_fixed({"fee_rate": Decimal("0.0295"), "gift": True}), order={"number": "desc"}, take=10),
        _first(lambda k: {"note": {"contains": _word(k), "mode": "insensitive"}}, order={"number": "asc"}),
        _count(lambda k: {"total": {"gte": _money(k)}, "paid_at": None}),
    ),
    "Shipment": (
        _by_key("Shipment"),
        _unique("Shipment", "order_id"),
        _by_key("Shipment", {"order": True}),
        _many(_fixed({"carrier": "COURIER", "delivered_at": None}), order={"id": "desc"}, take=10),
        _many(_fixed({"declared_value": {"gt": 2**53}}), order={"id": "asc"}, take=10, skip=5),
        _first(lambda k: {"shipped_at": {"gte": _day(k)}}, order=[{"shipped_at": "asc"}, {"id": "asc"}]),
        _count(_fixed({"tracking_code": {"startswith": "TRK0000"}, "weight_grams": {"not": None}})),
    ),
    "AnalyticsData": (
        _by_key("AnalyticsData"),
        _unique("AnalyticsData", "metric", "dimension", "bucket", name="metric_bucket"),
        _by_key("AnalyticsData", {"listing": True}),
        _many(
            _fixed({"metric": "page_views", "bucket": {"gte": datetime(2026, 1, 5, 12, tzinfo=UTC)}}),
            order=[{"bucket": "asc"}, {"id": "asc"}],
            take=10,
        ),
        _many(
            _fixed({"amount": {"lt": Decimal("0.1")}, "value": {"gte": 0.1}}), order={"id": "asc"}, take=10
        ),
        _many(lambda k: {"listing_id": k.seeded("Listing")}),
        _count(_fixed({"hits": {"in": [17, 2**53 + 1]}, "percentiles": {"has": 99}})),
    ),
    "AnalyticsSnapshot": (
        _by_key("AnalyticsSnapshot"),
        _unique("AnalyticsSnapshot", "scope", "day", name="scope_day"),
        _by_key("AnalyticsSnapshot", {"author": True}),
        _many(lambda k: {"day": {"gte": _day(k, 90)}}, order=[{"day": "desc"}, {"id": "asc"}], take=10),
        _many(_fixed({"exact": None}), order={"id": "asc"}, take=10),
        _first(_fixed({"sealed": False, "scope": {"not": "company"}}), order={"id": "desc"}),
        _count(lambda k: {"gross": {"lte": _money(k)}, "author_id": {"not": None}}),
    ),
    "Conversation": (
        _by_key("Conversation"),
        _by_seeded_key("Conversation", {"participants": {"order_by": {"email": "asc"}}}),
        _by_key("Conversation", {"messages": {"take": 5, "order_by": [{"sent_at": "desc"}, {"id": "asc"}]}}),
        _many(
            _fixed({"is_open": True}),
            order=[{"last_message_at": "desc"}, {"id": "asc"}],
            take=10,
        ),
        _many(_fixed({"labels": {"is_empty": True}, "priority": {"lte": 2}}), order={"id": "asc"}, take=10),
        _first(lambda k: {"subject": {"contains": _word(k), "mode": "insensitive"}}, order=_NEWEST),
        _count(lambda k: {"listing_id": k.seeded("Listing")}),
    ),
    "Message": (
        _by_key("Message"),
        _by_key("Message", {"author": True}),
        _many(
            lambda k: {"conversation_id": k.pick("Conversation")},
            order=[{"sent_at": "desc"}, {"id": "asc"}],
            take=10,
        ),
        _many(
            _fixed({"body": {"contains": "AVAILABLE", "mode": "insensitive"}}), order={"id": "asc"}, take=10
        ),
        _many(
            lambda k: {"edited_at": {"gte": _day(k)}}, order=[{"edited_at": "asc"}, {"id": "asc"}], take=10
        ),
        _first(_fixed({"channel": {"not": "IN_APP"}, "is_edited": True}), order={"id": "desc"}),
        _count(lambda k: {"author_id": k.seeded("User"), "attachments": {"not": Json(None)}}),
    ),
}
"""The questions of every model; each is asked as often as the others."""
