"""The declarative base: Prisma's column types and constraint names.

`type_annotation_map` says what Prisma's own DDL makes of each scalar, so that a model needs to name a type only where
`schema.prisma` does (`@db.Decimal(12, 2)`, `BigInt`, `Json`). Tables, columns, constraints and indexes carry the names
that Prisma gives them. Attributes carry the schema's field names, except where SQLAlchemy keeps a name for itself
(`metadata` is `metadata_`): look columns up by their column name, `Model.__table__.c[column]`.

Ids and times that Prisma's client mints have no default in the database; here the ORM mints them, by `default` and
`onupdate`, so that rows made in a session are complete as well.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import ARRAY, Double, Integer, LargeBinary, MetaData, Numeric, Text
from sqlalchemy.orm import DeclarativeBase

from crossfade.operation import CuidFactory, to_milliseconds, utc_now
from crossfade.types import UtcDateTime
from marketplace.models import enums

new_cuid = CuidFactory()
"""Mint an id as Prisma's `cuid()`; one factory per process, because its counter keeps ids apart."""


def new_uuid() -> str:
    """Mint an id as Prisma's `uuid()`."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The time of a row, in whole milliseconds."""
    return to_milliseconds(utc_now())


class Base(DeclarativeBase):
    """What every model of the marketplace shares."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: Integer(),
        float: Double(),
        bytes: LargeBinary(),
        datetime: UtcDateTime(3),
        Decimal: Numeric(65, 30),
        list[str]: ARRAY(Text()),
        list[int]: ARRAY(Integer()),
        enums.UserRole: enums.USER_ROLE,
        enums.Channel: enums.CHANNEL,
        list[enums.Channel]: ARRAY(enums.CHANNEL),
        enums.ItemCondition: enums.ITEM_CONDITION,
        enums.ListingStatus: enums.LISTING_STATUS,
        enums.OrderStatus: enums.ORDER_STATUS,
        enums.Carrier: enums.CARRIER,
    }
