"""`Shipment`: how an order travels."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ForeignKey, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.declarative import Base, now
from marketplace.models.enums import Carrier

if TYPE_CHECKING:
    from marketplace.models.order import Order


class Shipment(Base):
    """The parcel of one order; its number is minted by the database."""

    __tablename__ = "Shipment"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE", onupdate="CASCADE"))
    carrier: Mapped[Carrier] = mapped_column(server_default="POST")
    tracking_code: Mapped[str | None]
    cost: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    declared_value: Mapped[int] = mapped_column("declared_value_minor", BigInteger, server_default=text("0"))
    weight_grams: Mapped[int | None]
    scans: Mapped[int] = mapped_column(server_default=text("0"))
    events: Mapped[Any] = mapped_column(JSONB, server_default="[]")
    customs: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    label: Mapped[bytes | None]
    shipped_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    order: Mapped[Order] = relationship(back_populates="shipment", lazy="raise_on_sql")

    __table_args__ = (
        Index("Shipment_order_id_key", "order_id", unique=True),
        Index("Shipment_carrier_tracking_code_key", "carrier", "tracking_code", unique=True),
    )
