"""`Listing`: an item offered for sale."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from crossfade.types import UtcDateTime
from marketplace.models.declarative import Base, new_cuid, now
from marketplace.models.enums import ListingStatus

if TYPE_CHECKING:
    from marketplace.models.analytics_data import AnalyticsData
    from marketplace.models.conversation import Conversation
    from marketplace.models.item import Item
    from marketplace.models.order import Order
    from marketplace.models.user import User


class Listing(Base):
    """An offer with a price; its slug is unique for its seller."""

    __tablename__ = "Listing"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    item_id: Mapped[str] = mapped_column(ForeignKey("items.id", ondelete="CASCADE", onupdate="CASCADE"))
    seller_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"))
    slug: Mapped[str]
    headline: Mapped[str] = mapped_column(server_default="Untitled")
    status: Mapped[ListingStatus] = mapped_column(server_default="DRAFT")
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    discount: Mapped[Decimal] = mapped_column(server_default=text("0.05"))
    currency: Mapped[str] = mapped_column(server_default="EUR")
    quantity: Mapped[int] = mapped_column(server_default=text("1"))
    views: Mapped[int] = mapped_column(server_default=text("0"))
    keywords: Mapped[list[str] | None] = mapped_column(server_default=text("ARRAY[]::TEXT[]"))
    is_featured: Mapped[bool] = mapped_column(server_default=text("false"))
    published_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime(3, timezone=True))
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    item: Mapped[Item] = relationship(back_populates="listings", lazy="raise_on_sql")
    seller: Mapped[User] = relationship(back_populates="listings", lazy="raise_on_sql")
    orders: Mapped[list[Order]] = relationship(
        back_populates="listing", passive_deletes="all", lazy="raise_on_sql"
    )
    analytics: Mapped[list[AnalyticsData]] = relationship(
        back_populates="listing", passive_deletes=True, lazy="raise_on_sql"
    )
    conversations: Mapped[list[Conversation]] = relationship(
        back_populates="listing", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )

    __table_args__ = (
        Index("Listing_item_id_idx", "item_id"),
        Index("Listing_status_price_idx", "status", price.desc()),
        Index("Listing_seller_id_slug_key", "seller_id", "slug", unique=True),
    )
