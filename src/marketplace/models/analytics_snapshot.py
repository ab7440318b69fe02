"""`AnalyticsSnapshot`: the figures of one day, frozen."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import ForeignKey, Index, Numeric, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from crossfade.types import UtcDate
from marketplace.models.declarative import Base, now

if TYPE_CHECKING:
    from marketplace.models.user import User


class AnalyticsSnapshot(Base):
    """The totals of one scope for one day; its id is minted by the database."""

    __tablename__ = "AnalyticsSnapshot"

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[str]
    day: Mapped[datetime] = mapped_column(UtcDate)
    author_id: Mapped[str | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    gross: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    exact: Mapped[Decimal | None]
    reads: Mapped[int] = mapped_column(server_default=text("0"))
    sealed: Mapped[bool] = mapped_column(server_default=text("false"))
    totals: Mapped[Any] = mapped_column(JSONB)
    digest: Mapped[bytes | None]
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    author: Mapped[User | None] = relationship(back_populates="snapshots", lazy="raise_on_sql")

    __table_args__ = (
        Index("AnalyticsSnapshot_day_idx", day.desc()),
        Index("analytics_snapshot_scope_day", "scope", "day", unique=True),
    )
