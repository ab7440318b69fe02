"""`Item`: a thing that somebody owns and may list for sale."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.declarative import Base, new_uuid, now
from marketplace.models.enums import ItemCondition

if TYPE_CHECKING:
    from marketplace.models.listing import Listing
    from marketplace.models.market_research_data import MarketResearchData
    from marketplace.models.user import User


class Item(Base):
    """A thing in stock; variants point at their parent."""

    __tablename__ = "items"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_uuid)
    sku: Mapped[str]
    owner_id: Mapped[str] = mapped_column(
        "owner_user_id", ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    parent_id: Mapped[str | None] = mapped_column(
        ForeignKey("items.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    title: Mapped[str]
    description: Mapped[str | None]
    condition: Mapped[ItemCondition] = mapped_column(server_default="good")
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    weight_kg: Mapped[float | None]
    stock: Mapped[int] = mapped_column(server_default=text("0"))
    views: Mapped[int] = mapped_column(server_default=text("0"))
    dimensions_mm: Mapped[list[int] | None]
    attributes: Mapped[Any] = mapped_column(JSONB, server_default="{}")
    metadata_: Mapped[Any | None] = mapped_column("metadata", JSONB(none_as_null=True))
    photo: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    owner: Mapped[User] = relationship(back_populates="items", lazy="raise_on_sql")
    parent: Mapped[Item | None] = relationship(
        back_populates="variants", remote_side="Item.id", lazy="raise_on_sql"
    )
    variants: Mapped[list[Item]] = relationship(
        back_populates="parent", passive_deletes=True, lazy="raise_on_sql"
    )
    listings: Mapped[list[Listing]] = relationship(
        back_populates="item", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )
    research: Mapped[list[MarketResearchData]] = relationship(
        back_populates="item", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )

    __table_args__ = (
        Index("items_sku_key", "sku", unique=True),
        Index("items_owner_user_id_created_at_idx", "owner_user_id", created_at.desc()),
        Index("items_condition_price_idx", "condition", "price"),
    )
