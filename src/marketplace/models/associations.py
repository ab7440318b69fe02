"""Tables behind Prisma's implicit many-to-many relations: `A` is the model that comes first by name."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, PrimaryKeyConstraint, Table, Text

from marketplace.models.declarative import Base

conversation_participants = Table(
    "_ConversationParticipants",
    Base.metadata,
    Column("A", Text, ForeignKey("conversations.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    Column("B", Text, ForeignKey("users.id", ondelete="CASCADE", onupdate="CASCADE"), nullable=False),
    PrimaryKeyConstraint("A", "B", name="_ConversationParticipants_AB_pkey"),
    Index("_ConversationParticipants_B_index", "B"),
)
