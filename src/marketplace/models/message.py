"""`Message`: one contribution to a conversation."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.declarative import Base, new_cuid, now
from marketplace.models.enums import Channel

if TYPE_CHECKING:
    from marketplace.models.conversation import Conversation
    from marketplace.models.user import User


class Message(Base):
    """What somebody wrote, perhaps in reply to another message."""

    __tablename__ = "messages"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    conversation_id: Mapped[str] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    author_id: Mapped[str] = mapped_column(
        "sender_id", ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    reply_to_id: Mapped[str | None] = mapped_column(
        ForeignKey("messages.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    body: Mapped[str]
    channel: Mapped[Channel] = mapped_column(server_default="IN_APP")
    reads: Mapped[int] = mapped_column(server_default=text("0"))
    mentions: Mapped[list[str] | None]
    attachments: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    is_edited: Mapped[bool] = mapped_column(server_default=text("false"))
    sent_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    edited_at: Mapped[datetime | None]

    conversation: Mapped[Conversation] = relationship(back_populates="messages", lazy="raise_on_sql")
    author: Mapped[User] = relationship(back_populates="messages", lazy="raise_on_sql")
    reply_to: Mapped[Message | None] = relationship(
        back_populates="replies", remote_side="Message.id", lazy="raise_on_sql"
    )
    replies: Mapped[list[Message]] = relationship(
        back_populates="reply_to", passive_deletes=True, lazy="raise_on_sql"
    )

    __table_args__ = (Index("messages_conversation_id_sent_at_idx", "conversation_id", "sent_at"),)
