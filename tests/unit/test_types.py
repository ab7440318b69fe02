"""Column types: what is sent and what is read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Column, ColumnElement, Interval, MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from crossfade.types import UtcDate, UtcDateTime, as_utc

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
NEW_YORK = timezone(timedelta(hours=-5))


def test_naive_means_utc() -> None:
    """A datetime without a zone is taken as Prisma takes it."""
    assert datetime(2026, 1, 5, 9, tzinfo=UTC) == as_utc(datetime(2026, 1, 5, 9))  # noqa: DTZ001


@pytest.mark.parametrize(("precision", "microsecond"), [(6, 999_999), (3, 999_000), (1, 900_000), (0, 0)])
def test_times_are_cut_not_rounded(precision: int, microsecond: int) -> None:
    """Digits beyond the precision are dropped before PostgreSQL could round them up."""
    moment = datetime(2026, 1, 5, 9, 0, 0, 999_999, tzinfo=UTC)

    sent = UtcDateTime(precision).process_bind_param(moment, DIALECT)

    assert datetime(2026, 1, 5, 9, 0, 0, microsecond) == sent  # noqa: DTZ001


def test_plain_columns_get_naive_utc_and_give_aware_utc() -> None:
    """The zone of the value is converted away on the way in and is UTC on the way out."""
    kind = UtcDateTime(3)
    sent = kind.process_bind_param(datetime(2026, 1, 5, 20, tzinfo=NEW_YORK), DIALECT)

    assert datetime(2026, 1, 6, 1) == sent  # noqa: DTZ001
    assert datetime(2026, 1, 6, 1, tzinfo=UTC) == kind.process_result_value(sent, DIALECT)


@pytest.mark.parametrize("zoned", [True, False])
def test_the_first_moment_is_not_infinity(zoned: bool) -> None:
    """Asyncpg takes the first moment that Python knows for `-infinity`; one a microsecond later is cut to it."""
    first = datetime(1, 1, 1, tzinfo=UTC)
    sent = UtcDateTime(3, timezone=zoned).process_bind_param(first, DIALECT)

    assert sent is not None
    assert first + timedelta(microseconds=1) == as_utc(sent)


def test_zoned_columns_get_aware_utc() -> None:
    """A `TIMESTAMPTZ` column must be sent a zone, or the session's would be assumed."""
    sent = UtcDateTime(3, timezone=True).process_bind_param(
        datetime(2026, 1, 5, 20, tzinfo=NEW_YORK), DIALECT
    )

    assert sent is not None
    assert (datetime(2026, 1, 6, 1, tzinfo=UTC), timedelta(0)) == (sent, sent.utcoffset())


def test_dates_are_days_in_utc() -> None:
    """A date column keeps the day that a moment has in UTC, and gives its first moment."""
    kind = UtcDate()

    assert date(2026, 1, 6) == kind.process_bind_param(datetime(2026, 1, 5, 20, tzinfo=NEW_YORK), DIALECT)
    assert date(2026, 1, 6) == kind.process_bind_param(date(2026, 1, 6), DIALECT)
    assert datetime(2026, 1, 6, tzinfo=UTC) == kind.process_result_value(date(2026, 1, 6), DIALECT)


@pytest.mark.parametrize("kind", [UtcDateTime(), UtcDate()])
def test_null_stays_null(kind: UtcDateTime | UtcDate) -> None:
    """None goes in and comes out as None."""
    assert kind.process_bind_param(None, DIALECT) is None
    assert kind.process_result_value(None, DIALECT) is None


@pytest.mark.parametrize("kind", [UtcDateTime(), UtcDate()])
def test_intervals_may_be_added(kind: UtcDateTime | UtcDate) -> None:
    """`column + timedelta` sends an interval and gives a moment; the difference of two columns stays a difference."""
    later: ColumnElement[Any] = Column("at", kind) + timedelta(days=1)

    assert isinstance(later.compile(dialect=DIALECT).binds["at_1"].type, Interval)
    assert isinstance(later.type, UtcDateTime)
    assert not isinstance((Column("at", kind) - Column("since", kind)).type, UtcDateTime)


def test_columns_are_prismas() -> None:
    """The DDL is what Prisma writes for `DateTime`, `@db.Timestamptz(3)` and `@db.Date`."""
    table = Table(
        "t",
        MetaData(),
        Column("a", UtcDateTime(3)),
        Column("b", UtcDateTime(3, timezone=True)),
        Column("c", UtcDate),
    )

    ddl = " ".join(str(CreateTable(table).compile(dialect=DIALECT)).split())

    assert ddl == "CREATE TABLE t ( a TIMESTAMP(3) WITHOUT TIME ZONE, b TIMESTAMP(3) WITH TIME ZONE, c DATE )"
