"""Record classes: what a row is in the application's hands, whichever side answered.

One class per model of `schema.prisma`, with the attributes of Prisma Client Python's `prisma.models`: enum fields hold
plain strings, `Json` fields the parsed document, and relations are None unless they were included.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BeforeValidator

from crossfade.fields import Base64
from crossfade.records import Record
from marketplace.models.enums import Carrier, Channel, ItemCondition, ListingStatus, OrderStatus, UserRole


def _empty_for_null(value: Any) -> Any:
    """A scalar list that was never given is NULL in the database and empty in Prisma's hands."""
    return [] if value is None else value


Strings = Annotated[list[str], BeforeValidator(_empty_for_null)]
Integers = Annotated[list[int], BeforeValidator(_empty_for_null)]
Channels = Annotated[list[Channel], BeforeValidator(_empty_for_null)]


class User(Record):
    """A person with an account."""

    id: str
    email: str
    handle: str | None = None
    name: str | None = None
    role: UserRole
    is_active: bool
    balance: Decimal
    reputation: float
    login_count: int
    storage_bytes: int
    notify_by: Channels
    tags: Strings
    preferences: Any
    avatar: Base64 | None = None
    last_login_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    items: list[Item] | None = None
    listings: list[Listing] | None = None
    orders: list[Order] | None = None
    research: list[MarketResearchData] | None = None
    snapshots: list[AnalyticsSnapshot] | None = None
    messages: list[Message] | None = None
    conversations: list[Conversation] | None = None


class Item(Record):
    """A thing in stock."""

    id: str
    sku: str
    owner_id: str
    parent_id: str | None = None
    title: str
    description: str | None = None
    condition: ItemCondition
    price: Decimal
    weight_kg: float | None = None
    stock: int
    views: int
    dimensions_mm: Integers
    attributes: Any
    metadata: Any | None = None
    photo: Base64 | None = None
    created_at: datetime
    updated_at: datetime
    owner: User | None = None
    parent: Item | None = None
    variants: list[Item] | None = None
    listings: list[Listing] | None = None
    research: list[MarketResearchData] | None = None


class Listing(Record):
    """An offer with a price."""

    id: str
    item_id: str
    seller_id: str
    slug: str
    headline: str
    status: ListingStatus
    price: Decimal
    discount: Decimal
    currency: str
    quantity: int
    views: int
    keywords: Strings
    is_featured: bool
    published_at: datetime | None = None
    expires_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    item: Item | None = None
    seller: User | None = None
    orders: list[Order] | None = None
    analytics: list[AnalyticsData] | None = None
    conversations: list[Conversation] | None = None


class MarketResearchData(Record):
    """One observation of a market."""

    id: str
    source: str
    reference: str
    region: str
    item_id: str | None = None
    analyst_id: str | None = None
    condition: ItemCondition | None = None
    average_price: Decimal | None = None
    median_price: Decimal
    sample_size: int
    confidence: float
    histogram: Integers
    competitors: Strings
    raw: Any
    notes: str | None = None
    observed_at: datetime
    created_at: datetime
    updated_at: datetime
    item: Item | None = None
    analyst: User | None = None


class Order(Record):
    """A purchase."""

    id: str
    number: str
    buyer_id: str
    listing_id: str
    status: OrderStatus
    quantity: int
    total: Decimal
    fee_rate: Decimal
    currency: str
    gift: bool
    note: str | None = None
    history: Any
    revision: int
    placed_at: datetime
    paid_at: datetime | None = None
    updated_at: datetime
    buyer: User | None = None
    listing: Listing | None = None
    shipment: Shipment | None = None
    conversations: list[Conversation] | None = None


class Shipment(Record):
    """The parcel of one order."""

    id: int
    order_id: str
    carrier: Carrier
    tracking_code: str | None = None
    cost: Decimal
    declared_value: int
    weight_grams: int | None = None
    scans: int
    events: Any
    customs: Any | None = None
    label: Base64 | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    order: Order | None = None


class AnalyticsData(Record):
    """One bucket of a metric."""

    id: str
    metric: str
    dimension: str
    bucket: datetime
    listing_id: str | None = None
    value: float
    amount: Decimal
    hits: int
    samples: int
    percentiles: Integers
    labels: Any | None = None
    created_at: datetime
    updated_at: datetime
    listing: Listing | None = None


class AnalyticsSnapshot(Record):
    """The totals of one scope for one day."""

    id: int
    scope: str
    day: datetime
    author_id: str | None = None
    gross: Decimal
    exact: Decimal | None = None
    reads: int
    sealed: bool
    totals: Any
    digest: Base64 | None = None
    created_at: datetime
    updated_at: datetime
    author: User | None = None


class Conversation(Record):
    """A thread of messages with its participants."""

    id: str
    subject: str | None = None
    order_id: str | None = None
    listing_id: str | None = None
    is_open: bool
    priority: int
    message_count: int
    labels: Strings
    last_message_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    order: Order | None = None
    listing: Listing | None = None
    participants: list[User] | None = None
    messages: list[Message] | None = None


class Message(Record):
    """One contribution to a conversation."""

    id: str
    conversation_id: str
    author_id: str
    reply_to_id: str | None = None
    body: str
    channel: Channel
    reads: int
    mentions: Strings
    attachments: Any | None = None
    is_edited: bool
    sent_at: datetime
    edited_at: datetime | None = None
    conversation: Conversation | None = None
    author: User | None = None
    reply_to: Message | None = None
    replies: list[Message] | None = None


RECORDS: Mapping[str, type[Record]] = MappingProxyType(
    {
        record.__name__: record
        for record in (
            User,
            Item,
            Listing,
            MarketResearchData,
            Order,
            Shipment,
            AnalyticsData,
            AnalyticsSnapshot,
            Conversation,
            Message,
        )
    }
)
"""The record classes by the name of their model."""
