"""The data of new rows, model by model, as the workload makes them.

What a row refers to is seeded, or the workload's own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from crossfade.fields import Json
from marketplace import values
from marketplace.population import Population


def user(known: Population) -> dict[str, Any]:
    """A user."""
    number = known.number()
    return {
        "email": f"walker{number}@example.org",
        "handle": known.rng.choice((None, f"walker_{number}")),
        "name": values.text(known),
        "balance": values.money(known),
        "tags": values.tags(known),
        "preferences": values.document(known),
        "avatar": values.some_bytes(known),
        "last_login_at": values.moment(known),
    }


def item(known: Population) -> dict[str, Any]:
    """An item, perhaps a variant of a seeded one."""
    return {
        "sku": f"WALK-{known.number()}",
        "owner_id": known.pick("User"),
        "parent_id": known.rng.choice((None, known.seeded("Item"))),
        "title": values.text(known),
        "description": values.text_or_null(known),
        "condition": known.rng.choice(("NEW", "GOOD", "FOR_PARTS")),
        "price": values.money(known),
        "weight_kg": values.fraction(known),
        "dimensions_mm": values.integers(known),
        "attributes": values.document(known),
        "metadata": values.document(known),
    }


def listing(known: Population) -> dict[str, Any]:
    """A listing."""
    return {
        "item_id": known.pick("Item"),
        "seller_id": known.seeded("User"),
        "slug": f"walk-{known.number()}",
        "headline": values.text(known),
        "status": known.rng.choice(("DRAFT", "ACTIVE", "PAUSED")),
        "price": values.money(known),
        "keywords": values.tags(known),
        "published_at": values.moment_or_null(known),
        "expires_at": values.moment_or_null(known),
    }


def research(known: Population) -> dict[str, Any]:
    """Market research."""
    return {
        "source": known.rng.choice(("crawler", "survey 100%")),
        "reference": f"walk/{known.number()}",
        "item_id": known.pick("Item"),
        "analyst_id": known.rng.choice((None, known.pick("User"))),
        "condition": known.rng.choice((None, "LIKE_NEW")),
        "average_price": values.amount_or_null(known),
        "median_price": values.money(known),
        "histogram": values.integers(known),
        "raw": values.document(known),
        "notes": values.text_or_null(known),
        "observed_at": values.moment(known),
    }


def order(known: Population) -> dict[str, Any]:
    """An order."""
    # Orders keep their buyer and their listing from being deleted, so those are never rows that the workload deletes.
    return {
        "number": f"W-{known.number()}",
        "buyer_id": known.seeded("User"),
        "listing_id": known.seeded("Listing"),
        "total": values.money(known),
        "note": values.text_or_null(known),
        "history": Json([{"at": "2026-03-01", "to": "PENDING"}]),
        "paid_at": values.moment_or_null(known),
    }


def parcel(known: Population) -> dict[str, Any]:
    """A shipment without its order."""
    return {
        "carrier": known.rng.choice(("POST", "COURIER")),
        "tracking_code": f"WALK{known.number()}",
        "cost": values.money(known),
        "declared_value": values.big(known),
        "events": values.document(known),
        "label": values.some_bytes(known),
        "shipped_at": values.moment_or_null(known),
    }


def shipment(known: Population) -> dict[str, Any] | None:
    """The shipment of an order that has none; None when every order has one."""
    order = known.unshipped()
    return None if order is None else {"order_id": order} | parcel(known)


def analytics(known: Population) -> dict[str, Any]:
    """A figure of analytics."""
    return {
        "metric": "walk",
        "dimension": known.rng.choice(("all", "partner%")),
        "bucket": values.moment(known),
        "listing_id": known.rng.choice((None, known.pick("Listing"))),
        "value": values.fraction(known),
        "amount": values.amount(known),
        "hits": values.big(known),
        "percentiles": values.integers(known),
        "labels": values.document(known),
    }


def snapshot(known: Population) -> dict[str, Any]:
    """A snapshot of analytics."""
    return {
        "scope": f"walk-{known.number()}",
        "day": datetime(2026, 3, 1, tzinfo=UTC),
        "author_id": known.rng.choice((None, known.pick("User"))),
        "gross": values.money(known),
        "exact": values.amount_or_null(known),
        "totals": values.document(known),
        "digest": values.some_bytes(known),
    }


def conversation(known: Population) -> dict[str, Any]:
    """A conversation."""
    return {
        "subject": values.text_or_null(known),
        "listing_id": known.pick("Listing"),
        "order_id": known.rng.choice((None, known.pick("Order"))),
        "labels": values.tags(known),
        "last_message_at": values.moment_or_null(known),
    }


def message(known: Population) -> dict[str, Any]:
    """A message, perhaps a reply."""
    return {
        "conversation_id": known.pick("Conversation"),
        "author_id": known.pick("User"),
        "reply_to_id": known.rng.choice((None, known.pick("Message"))),
        "body": values.text(known),
        "mentions": values.tags(known),
        "attachments": values.document(known),
        "sent_at": values.moment(known),
        "edited_at": values.moment_or_null(known),
    }
