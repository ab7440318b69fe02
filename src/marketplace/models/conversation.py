"""`Conversation`: users talking about an order or a listing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.associations import conversation_participants
from marketplace.models.declarative import Base, new_cuid, now

if TYPE_CHECKING:
    from marketplace.models.listing import Listing
    from marketplace.models.message import Message
    from marketplace.models.order import Order
    from marketplace.models.user import User


class Conversation(Base):
    """A thread of messages with its participants."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    subject: Mapped[str | None]
    order_id: Mapped[str | None] = mapped_column(
        ForeignKey("orders.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    listing_id: Mapped[str | None] = mapped_column(
        ForeignKey("Listing.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    is_open: Mapped[bool] = mapped_column(server_default=text("true"))
    priority: Mapped[int] = mapped_column(server_default=text("3"))
    message_count: Mapped[int] = mapped_column(server_default=text("0"))
    labels: Mapped[list[str] | None]
    last_message_at: Mapped[datetime | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    order: Mapped[Order | None] = relationship(back_populates="conversations", lazy="raise_on_sql")
    listing: Mapped[Listing | None] = relationship(back_populates="conversations", lazy="raise_on_sql")
    participants: Mapped[list[User]] = relationship(
        secondary=conversation_participants,
        back_populates="conversations",
        passive_deletes=True,
        lazy="raise_on_sql",
    )
    messages: Mapped[list[Message]] = relationship(
        back_populates="conversation", cascade="all", passive_deletes=True, lazy="raise_on_sql"
    )

    __table_args__ = (Index("conversations_is_open_last_message_at_idx", "is_open", last_message_at.desc()),)
