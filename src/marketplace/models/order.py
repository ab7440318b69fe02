"""`Order`: what a buyer has bought."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from crossfade.types import UtcDateTime
from marketplace.models.declarative import Base, new_uuid, now
from marketplace.models.enums import OrderStatus

if TYPE_CHECKING:
    from marketplace.models.conversation import Conversation
    from marketplace.models.listing import Listing
    from marketplace.models.shipment import Shipment
    from marketplace.models.user import User


class Order(Base):
    """A purchase. Neither its buyer nor its listing can be deleted while it exists."""

    __tablename__ = "orders"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_uuid)
    number: Mapped[str]
    buyer_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT", onupdate="CASCADE"))
    listing_id: Mapped[str] = mapped_column(ForeignKey("Listing.id", ondelete="RESTRICT", onupdate="CASCADE"))
    status: Mapped[OrderStatus] = mapped_column(server_default="PENDING")
    quantity: Mapped[int] = mapped_column(server_default=text("1"))
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    fee_rate: Mapped[Decimal] = mapped_column(server_default=text("0.029"))
    currency: Mapped[str] = mapped_column(server_default="EUR")
    gift: Mapped[bool] = mapped_column(server_default=text("false"))
    note: Mapped[str | None]
    history: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    placed_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    paid_at: Mapped[datetime | None] = mapped_column(UtcDateTime(3, timezone=True))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    buyer: Mapped[User] = relationship(back_populates="orders", lazy="raise_on_sql")
    listing: Mapped[Listing] = relationship(back_populates="orders", lazy="raise_on_sql")
    shipment: Mapped[Shipment | None] = relationship(
        back_populates="order", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )
    conversations: Mapped[list[Conversation]] = relationship(
        back_populates="order", passive_deletes=True, lazy="raise_on_sql"
    )

    __table_args__ = (
        Index("orders_number_key", "number", unique=True),
        Index("orders_buyer_id_placed_at_idx", "buyer_id", placed_at.desc()),
        Index("orders_listing_id_idx", "listing_id"),
        Index("orders_status_idx", "status"),
    )
