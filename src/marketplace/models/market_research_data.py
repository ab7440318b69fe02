"""`MarketResearchData`: what others ask and pay for such an item."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.declarative import Base, new_cuid, now
from marketplace.models.enums import ItemCondition

if TYPE_CHECKING:
    from marketplace.models.item import Item
    from marketplace.models.user import User


class MarketResearchData(Base):
    """One observation of a market, as its source reported it."""

    __tablename__ = "market_research_data"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    source: Mapped[str]
    reference: Mapped[str]
    region: Mapped[str] = mapped_column(server_default="EU")
    item_id: Mapped[str | None] = mapped_column(
        ForeignKey("items.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    analyst_id: Mapped[str | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    condition: Mapped[ItemCondition | None]
    average_price: Mapped[Decimal | None]
    median_price: Mapped[Decimal] = mapped_column("median", Numeric(12, 2))
    sample_size: Mapped[int] = mapped_column(server_default=text("0"))
    confidence: Mapped[float] = mapped_column(server_default=text("0.5"))
    histogram: Mapped[list[int] | None]
    competitors: Mapped[list[str] | None] = mapped_column(server_default=text("ARRAY['none', 'n/a']::TEXT[]"))
    raw: Mapped[Any] = mapped_column(JSONB)
    notes: Mapped[str | None]
    observed_at: Mapped[datetime] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    item: Mapped[Item | None] = relationship(back_populates="research", lazy="raise_on_sql")
    analyst: Mapped[User | None] = relationship(back_populates="research", lazy="raise_on_sql")

    __table_args__ = (
        Index("market_research_data_item_id_idx", "item_id"),
        Index("market_research_data_region_observed_at_idx", "region", observed_at.desc()),
        Index("market_research_data_source_reference_key", "source", "reference", unique=True),
    )
