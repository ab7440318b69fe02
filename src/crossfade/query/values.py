"""How one field's values travel: from a caller's arguments to asyncpg, and from asyncpg to a record.

A `Codec` belongs to a field *and* the type of its column, because the same `DateTime` is an aware value for a
`timestamptz` column, a naive one for `timestamp` and a date for `date`. Enums and JSON travel as text and are cast in
the statement, so that a connection needs neither to look up types nor to carry codecs of its own.

Encoding checks the value as Prisma's engine does before it asks the database; what it refuses is `RejectedError`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT, JSONB, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from crossfade.errors import DataError
from crossfade.fields import Base64
from crossfade.schema import EnumSpec, FieldSpec, Scalar
from crossfade.types import finite

Encode = Callable[[Any], Any]
Decode = Callable[[Any], Any]
AnyType = TypeEngine[Any]


class RejectedError(Exception):
    """A value that the engine would not accept for this field."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How values of one field travel. All of it concerns one element; `decode` is None where nothing is to do."""

    bind: AnyType
    """The type of the parameter."""
    cast: AnyType | None
    """What the parameter must be cast to in the statement."""
    as_text: bool
    """Whether the column is selected as text."""
    encode: Encode
    decode: Decode | None
    as_read: AnyType | None = None
    """The type of a parameter that gets a value as the driver reads it, if that is another one."""


def native_type(kind: AnyType, dialect: Dialect) -> AnyType:
    """Return the database's own type below any `TypeDecorator`."""
    while isinstance(kind, TypeDecorator):
        kind = kind.load_dialect_impl(dialect)
    return kind


def codec_for(spec: FieldSpec, enum: EnumSpec | None, kind: AnyType) -> Codec:
    """Return the codec of a field whose column (or whose elements, for a list) is of the native type `kind`."""
    match spec.scalar:
        case Scalar.STRING if isinstance(kind, sa.Uuid):
            return Codec(sa.String(), kind, as_text=True, encode=_encode_uuid, decode=None)
        case Scalar.STRING:
            own = kind if isinstance(kind, CITEXT) else None
            text = sa.Text() if isinstance(kind, sa.Text) else sa.String()
            return Codec(text, own, as_text=False, encode=_encode_string, decode=None)
        case Scalar.ENUM:
            assert enum is not None
            return _enum_codec(enum, kind)
        case Scalar.JSON:
            binary = kind if isinstance(kind, JSONB) else JSONB()
            return Codec(sa.String(), binary, as_text=True, encode=_encode_json, decode=_decode_json)
        case Scalar.INT:
            number = kind if isinstance(kind, sa.Integer) else sa.Integer()
            return Codec(number, None, as_text=False, encode=_encode_int, decode=None)
        case Scalar.BIGINT:
            return Codec(sa.BigInteger(), None, as_text=False, encode=_encode_bigint, decode=None)
        case Scalar.FLOAT:
            return Codec(sa.Double(), None, as_text=False, encode=_encode_float, decode=None)
        case Scalar.DECIMAL:
            # Without precision and scale: a cast to those of the column would round the caller's value.
            return Codec(sa.Numeric(), None, as_text=False, encode=_encode_decimal, decode=_decode_decimal)
        case Scalar.BOOLEAN:
            return Codec(sa.Boolean(), None, as_text=False, encode=_encode_boolean, decode=None)
        case Scalar.BYTES:
            return Codec(sa.LargeBinary(), None, as_text=False, encode=_encode_bytes, decode=Base64.encode)
        case Scalar.DATETIME:
            return _datetime_codec(kind)


# --- text, numbers, truth ------------------------------------------------------------------------------------


def _encode_string(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, str):
        return value.value if isinstance(value, Enum) else str(value)
    raise RejectedError


def _encode_uuid(value: Any) -> Any:
    try:
        return str(uuid.UUID(_encode_string(value)))
    except ValueError:
        raise RejectedError from None


def _encode_int(value: Any) -> Any:
    if type(value) is float and math.isfinite(value):
        value = int(value)  # the engine cuts off the fraction without a word
    if type(value) is int:
        if -0x8000_0000 <= value <= 0x7FFF_FFFF:
            return value
        if -(2**63) <= value < 2**63:  # the engine leaves this one to the database
            raise DataError(f'value "{value}" is out of range for type integer')
    raise RejectedError


def _encode_bigint(value: Any) -> Any:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise RejectedError


def _encode_float(value: Any) -> Any:
    # The engine carries 16 significant digits on the way in, one less than a double may have.
    if type(value) is float and math.isfinite(value):
        return float(f"{value:.15e}") + 0.0  # nor does it carry the sign of a zero, which this sum takes off
    if type(value) is int and abs(value) < 2**1024:
        return float(value)
    raise RejectedError


def _encode_decimal(value: Any) -> Any:
    if type(value) is Decimal:
        number = value
    elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise RejectedError from None
    else:
        raise RejectedError
    if not number.is_finite():
        raise RejectedError
    return number


# Decimal(65, 30) holds more digits than Python's default context, which would round.
_EXACT = Context(prec=200_000, Emax=999_999, Emin=-999_999)
_normalize, _add, _ZERO = _EXACT.normalize, _EXACT.add, Decimal(0)


def _decode_decimal(value: Decimal) -> Decimal:
    # Adding zero turns 1E+2 into 100, the form in which Prisma prints it.
    return _add(_normalize(value), _ZERO)


def _encode_boolean(value: Any) -> Any:
    if value is True or value is False:
        return value
    raise RejectedError


def _encode_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
        if type(value).__name__ == "Base64":
            return value.decode()
    except (binascii.Error, ValueError):
        raise RejectedError from None
    raise RejectedError


# --- enums ---------------------------------------------------------------------------------------------------


def _enum_codec(enum: EnumSpec, kind: AnyType) -> Codec:
    to_database = dict(enum.values)
    renamed = {stored: name for name, stored in to_database.items() if stored != name}

    def encode(value: Any) -> Any:
        name = value.value if isinstance(value, Enum) else value
        try:
            return to_database[name]
        except (KeyError, TypeError):
            raise RejectedError from None

    def decode(stored: str) -> str:
        return renamed.get(stored, stored)

    native = kind if isinstance(kind, sa.Enum) and kind.native_enum else None
    return Codec(
        sa.String(), native, as_text=native is not None, encode=encode, decode=decode if renamed else None
    )


# --- JSON ----------------------------------------------------------------------------------------------------


def _encode_json(value: Any) -> Any:
    """Return JSON text. A plain string *is* JSON text to Prisma; encoding it again would store a string."""
    if isinstance(value, str):
        try:
            json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise RejectedError from None
        return _readable(value)
    if not any(base.__name__ == "Json" for base in type(value).__mro__):
        raise RejectedError
    try:
        text = json.dumps(value.data, default=_json_default, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise RejectedError from None
    return _readable(text)


_DEEPEST = 127
_SUSPICIOUS = re.compile(r"[0-9]{300}|[eE]\+?[0-9]{3}|\\u[dD][89a-fA-F]")


def _readable(text: str) -> str:
    """Refuse a document that PostgreSQL would keep and the engine could not read: the other side can never have it."""
    if text.count("[") + text.count("{") > _DEEPEST or _SUSPICIOUS.search(text):
        try:
            _walk(json.loads(text), 1)
        except (ValueError, OverflowError, RecursionError):
            raise RejectedError from None
    return text


def _walk(value: Any, depth: int) -> None:
    match value:
        case str():
            value.encode()  # halves of surrogate pairs have no UTF-8 form
        case int() | float():
            if not math.isfinite(float(value)):
                raise RejectedError
        case dict() | list():
            if depth > _DEEPEST:
                raise RejectedError
            for item in (*value, *value.values()) if isinstance(value, dict) else value:
                _walk(item, depth + 1)


def _refuse_constant(_: str) -> Any:
    raise RejectedError  # NaN and Infinity are Python's own extension of JSON


_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _decode_json(text: str) -> Any:
    return _scan(text, 0)[0]  # the server writes no blanks around a document, so there are none to skip


def _json_default(value: Any) -> Any:
    if isinstance(value, datetime):
        return _to_utc(value).isoformat()
    if isinstance(value, Decimal) or type(value).__name__ == "Base64":
        return str(value)
    if type(value).__name__ == "Json":
        return json.dumps(value.data, default=_json_default, ensure_ascii=False, allow_nan=False)
    raise RejectedError


# --- times ---------------------------------------------------------------------------------------------------


def _to_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elif moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    microsecond = moment.microsecond
    return moment.replace(microsecond=microsecond - microsecond % 1000) if microsecond % 1000 else moment


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return _to_utc(value)
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            # Text passes by Prisma's client, which cuts, so that the database rounds it to the column's precision.
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise RejectedError from None
    raise RejectedError


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""The text that the engine takes for a moment; Python takes much more."""


def _encode_timestamp(value: Any) -> Any:
    return finite(_moment(value).replace(tzinfo=None))


def _encode_zoned(value: Any) -> Any:
    return finite(_moment(value))


def _encode_date(value: Any) -> Any:
    return _moment(value).date().isoformat()


def _encode_time(value: Any) -> Any:
    return _moment(value).time()


def _decode_timestamp(value: datetime) -> datetime:
    return _combine(value, value.time(), UTC)  # a fifth of what `replace` costs


_combine = datetime.combine


def _decode_zoned(value: datetime) -> datetime:
    return value if value.tzinfo is UTC else _to_utc(value)  # asyncpg's infinity has no zone


def _decode_fine_timestamp(value: datetime) -> datetime:
    return _to_utc(value)


def _decode_date(value: date) -> datetime:
    return datetime(value.year, value.month, value.day, tzinfo=UTC)


def _decode_time(value: time) -> datetime:
    # Prisma hangs a time of day on the first day it can think of.
    return datetime(1970, 1, 1, value.hour, value.minute, value.second, value.microsecond // 1000 * 1000, UTC)


def _datetime_codec(kind: AnyType) -> Codec:
    if isinstance(kind, sa.Date):
        # As text, because asyncpg sends the first and the last day of Python's calendar as infinity.
        day = sa.Date()
        return Codec(sa.String(), day, as_text=False, encode=_encode_date, decode=_decode_date, as_read=day)
    if isinstance(kind, sa.Time):
        return Codec(sa.Time(), None, as_text=False, encode=_encode_time, decode=_decode_time)
    precision = getattr(kind, "precision", None)
    coarse = precision is not None and precision <= 3
    is_zoned = isinstance(kind, sa.DateTime) and kind.timezone
    # The cast takes off what `finite` adds, so that a moment is found again.
    cast = TIMESTAMP(timezone=is_zoned, precision=precision) if coarse else None
    if is_zoned:
        decode = _decode_zoned if coarse else _decode_fine_timestamp
        return Codec(sa.DateTime(timezone=True), cast, as_text=False, encode=_encode_zoned, decode=decode)
    decode = _decode_timestamp if coarse else _decode_fine_timestamp
    return Codec(sa.DateTime(), cast, as_text=False, encode=_encode_timestamp, decode=decode)


# --- lists ---------------------------------------------------------------------------------------------------


def list_decoder(decode: Decode | None) -> Decode:
    """Return the decoder of a list whose elements have `decode`; a NULL column reads as an empty list."""
    if decode is None:
        return lambda values: values if values is not None else []
    return lambda values: [] if values is None else [None if v is None else decode(v) for v in values]


def array_literal(values: list[Any]) -> str:
    """Write encoded elements in PostgreSQL's own text form, for an array that travels inside another."""
    return "{" + ",".join(map(_element_literal, values)) + "}"


def _element_literal(value: Any) -> str:
    if value is None:
        return "NULL"
    match value:
        case bool():
            text = "true" if value else "false"
        case bytes():
            text = "\\x" + value.hex()
        case datetime() | date() | time():
            text = value.isoformat()
        case _:
            text = str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def enum_of(spec: FieldSpec, enums: Mapping[str, EnumSpec]) -> EnumSpec | None:
    """Return the enum of a field, or None for any other scalar."""
    return None if spec.enum is None else enums[spec.enum]
