"""SQLAlchemy models of the marketplace, one file each, equal to `schema.prisma` down to the constraint names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from marketplace.models.analytics_data import AnalyticsData
from marketplace.models.analytics_snapshot import AnalyticsSnapshot
from marketplace.models.associations import conversation_participants
from marketplace.models.conversation import Conversation
from marketplace.models.declarative import Base
from marketplace.models.enums import Carrier, Channel, ItemCondition, ListingStatus, OrderStatus, UserRole
from marketplace.models.item import Item
from marketplace.models.listing import Listing
from marketplace.models.market_research_data import MarketResearchData
from marketplace.models.message import Message
from marketplace.models.order import Order
from marketplace.models.shipment import Shipment
from marketplace.models.user import User

metadata = Base.metadata

MODELS: Mapping[str, type[Base]] = MappingProxyType(
    {
        model.__name__: model
        for model in (
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
"""The models by their name in the schema, in the schema's order."""

__all__ = [
    "MODELS",
    "AnalyticsData",
    "AnalyticsSnapshot",
    "Base",
    "Carrier",
    "Channel",
    "Conversation",
    "Item",
    "ItemCondition",
    "Listing",
    "ListingStatus",
    "MarketResearchData",
    "Message",
    "Order",
    "OrderStatus",
    "Shipment",
    "User",
    "UserRole",
    "conversation_participants",
    "metadata",
]
