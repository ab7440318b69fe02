"""`User`: everybody who buys, sells or works here."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from crossfade.types import UtcDateTime
from marketplace.models.associations import conversation_participants
from marketplace.models.declarative import Base, new_cuid, now
from marketplace.models.enums import Channel, UserRole

if TYPE_CHECKING:
    from marketplace.models.analytics_snapshot import AnalyticsSnapshot
    from marketplace.models.conversation import Conversation
    from marketplace.models.item import Item
    from marketplace.models.listing import Listing
    from marketplace.models.market_research_data import MarketResearchData
    from marketplace.models.message import Message
    from marketplace.models.order import Order


class User(Base):
    """A person with an account."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    email: Mapped[str]
    handle: Mapped[str | None]
    name: Mapped[str | None]
    role: Mapped[UserRole] = mapped_column(server_default="BUYER")
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    balance: Mapped[Decimal] = mapped_column(Numeric(12, 2), server_default=text("0"))
    reputation: Mapped[float] = mapped_column(server_default=text("0"))
    login_count: Mapped[int] = mapped_column(server_default=text("0"))
    storage_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    notify_by: Mapped[list[Channel] | None] = mapped_column(
        server_default=text("""ARRAY['EMAIL', 'IN_APP']::"Channel"[]""")
    )
    tags: Mapped[list[str] | None]
    preferences: Mapped[Any] = mapped_column(JSONB, server_default='{"theme": "light", "page_size": 50}')
    avatar: Mapped[bytes | None]
    last_login_at: Mapped[datetime | None] = mapped_column(UtcDateTime(3, timezone=True))
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    items: Mapped[list[Item]] = relationship(
        back_populates="owner", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )
    listings: Mapped[list[Listing]] = relationship(
        back_populates="seller", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )
    orders: Mapped[list[Order]] = relationship(
        back_populates="buyer", passive_deletes="all", lazy="raise_on_sql"
    )
    research: Mapped[list[MarketResearchData]] = relationship(
        back_populates="analyst", passive_deletes=True, lazy="raise_on_sql"
    )
    snapshots: Mapped[list[AnalyticsSnapshot]] = relationship(
        back_populates="author", passive_deletes=True, lazy="raise_on_sql"
    )
    messages: Mapped[list[Message]] = relationship(
        back_populates="author", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )
    conversations: Mapped[list[Conversation]] = relationship(
        secondary=conversation_participants,
        back_populates="participants",
        passive_deletes=True,
        lazy="raise_on_sql",
    )

    __table_args__ = (
        Index("users_email_key", "email", unique=True),
        Index("users_handle_key", "handle", unique=True),
        Index("users_role_created_at_idx", "role", created_at.desc()),
    )
