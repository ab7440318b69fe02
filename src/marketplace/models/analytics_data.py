"""`AnalyticsData`: counters and sums of one metric over one stretch of time."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from marketplace.models.declarative import Base, new_cuid, now

if TYPE_CHECKING:
    from marketplace.models.listing import Listing


class AnalyticsData(Base):
    """One bucket of a metric."""

    __tablename__ = "analytics_data"

    id: Mapped[str] = mapped_column(primary_key=True, default=new_cuid)
    metric: Mapped[str]
    dimension: Mapped[str] = mapped_column(server_default="all")
    bucket: Mapped[datetime]
    listing_id: Mapped[str | None] = mapped_column(
        ForeignKey("Listing.id", ondelete="SET NULL", onupdate="CASCADE")
    )
    value: Mapped[float] = mapped_column(server_default=text("0"))
    amount: Mapped[Decimal] = mapped_column(server_default=text("0"))
    hits: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    samples: Mapped[int] = mapped_column(server_default=text("0"))
    percentiles: Mapped[list[int] | None] = mapped_column(server_default=text("ARRAY[50, 95, 99]::INTEGER[]"))
    labels: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=now, server_default=text("CURRENT_TIMESTAMP"))
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    listing: Mapped[Listing | None] = relationship(back_populates="analytics", lazy="raise_on_sql")

    __table_args__ = (
        Index("analytics_data_listing_id_idx", "listing_id"),
        Index("analytics_data_metric_dimension_bucket_key", "metric", "dimension", "bucket", unique=True),
    )
