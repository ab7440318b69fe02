"""The enums of `schema.prisma`, and the native PostgreSQL types that store them.

Members have the schema's names as values, as Prisma Client Python has them. Where the schema maps a value
(`NEW @map("new")`), only the database's type knows the other spelling.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum


class UserRole(StrEnum):
    """What a user may do."""

    BUYER = "BUYER"
    SELLER = "SELLER"
    SUPPORT = "SUPPORT"
    ADMIN = "ADMIN"


class Channel(StrEnum):
    """A way to reach a user."""

    EMAIL = "EMAIL"
    SMS = "SMS"
    PUSH = "PUSH"
    IN_APP = "IN_APP"


class ItemCondition(StrEnum):
    """How worn an item is."""

    NEW = "NEW"
    LIKE_NEW = "LIKE_NEW"
    GOOD = "GOOD"
    FAIR = "FAIR"
    FOR_PARTS = "FOR_PARTS"


class ListingStatus(StrEnum):
    """Where a listing stands."""

    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    SOLD = "SOLD"
    ARCHIVED = "ARCHIVED"


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING = "PENDING"
    PAID = "PAID"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


class Carrier(StrEnum):
    """Who carries a shipment."""

    POST = "POST"
    COURIER = "COURIER"
    FREIGHT = "FREIGHT"
    PICKUP = "PICKUP"


USER_ROLE = Enum(UserRole, name="UserRole")
CHANNEL = Enum(Channel, name="Channel")
ITEM_CONDITION = Enum(
    ItemCondition,
    name="item_condition",
    values_callable=lambda _: ["new", "like-new", "good", "fair", "for parts"],
)
LISTING_STATUS = Enum(ListingStatus, name="ListingStatus")
ORDER_STATUS = Enum(OrderStatus, name="OrderStatus")
CARRIER = Enum(Carrier, name="Carrier")
