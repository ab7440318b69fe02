"""Column types that keep Prisma's meaning of time in SQLAlchemy.

Prisma's `DateTime` is `TIMESTAMP(3)` *without* time zone and means UTC; `@db.Timestamptz` and `@db.Date` are read and
written as moments in UTC, too. These types give Python the same: aware datetimes in UTC, whatever the column is, cut
(not rounded) to the column's precision before they are sent. The session's time zone never plays a part.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Date, DateTime, Dialect, Interval, TypeDecorator, type_coerce
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine


def as_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; a naive one is taken to be UTC already, as Prisma does."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def finite(moment: datetime) -> datetime:
    """Return `moment` so that asyncpg does not take it for infinity, as it does with the ends of Python's calendar.

    A microsecond more is cut by the column's precision, or by ours when it is read.
    """
    return moment if moment.year > 1 or moment.replace(tzinfo=None) != _FIRST else moment + _RESOLUTION


_FIRST = datetime.min  # noqa: DTZ901
_RESOLUTION = timedelta(microseconds=1)


class _Moments(TypeDecorator.Comparator[datetime], DateTime.Comparator[datetime]):
    """Arithmetic that stays in UTC: `column + timedelta(…)` compares with, and is read as, aware datetimes."""

    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        result: ColumnElement[Any] = super().operate(op, *other, **kwargs)
        if not isinstance(result.type, DateTime):
            return result
        return type_coerce(result, UtcDateTime(6, timezone=getattr(self.type, "timezone", False)))


class UtcDateTime(TypeDecorator[datetime]):
    """`TIMESTAMP(precision)` that holds UTC; Python sees aware datetimes. `timezone=True` makes it `TIMESTAMPTZ`."""

    impl = TIMESTAMP
    cache_ok = True
    comparator_factory = _Moments

    def __init__(self, precision: int = 3, *, timezone: bool = False) -> None:
        super().__init__(precision=precision, timezone=timezone)
        self.precision = precision
        self.timezone = timezone

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Cut to the column's precision; PostgreSQL would round."""
        if value is None:
            return None
        unit = 10 ** (6 - self.precision)
        moment = as_utc(value)
        moment = moment.replace(microsecond=moment.microsecond // unit * unit)
        return finite(moment if self.timezone else moment.replace(tzinfo=None))

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Make what the driver gives aware."""
        return None if value is None else as_utc(value)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Let `column + timedelta(…)` send an interval."""
        if isinstance(value, timedelta):
            return Interval()
        own: TypeEngine[Any] = super().coerce_compared_value(op, value)
        return own

    def __repr__(self) -> str:
        return f"UtcDateTime(precision={self.precision}, timezone={self.timezone})"


class UtcDate(TypeDecorator[datetime]):
    """`DATE` as Prisma's `@db.Date` shows it: midnight, in UTC, of that day."""

    impl = Date
    cache_ok = True
    comparator_factory = _Moments

    def process_bind_param(self, value: datetime | date | None, dialect: Dialect) -> date | None:  # noqa: ARG002
        """Keep the day that it is in UTC. A plain date is accepted."""
        if isinstance(value, datetime):
            return as_utc(value).date()
        return value

    def process_result_value(self, value: date | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the first moment of the day."""
        return None if value is None else datetime(value.year, value.month, value.day, tzinfo=UTC)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Let `column + timedelta(…)` send an interval."""
        if isinstance(value, timedelta):
            return Interval()
        own: TypeEngine[Any] = super().coerce_compared_value(op, value)
        return own
