"""What the legacy store's columns are, where the declarative models describe target tables that differ on purpose.

Only a mapping knows both. A column has the type that it says, else the one that Prisma gives to such a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import CITEXT, JSON, JSONB, TIME, TIMESTAMP

from crossfade.errors import ConfigurationError
from crossfade.mapping import Converted, Dropped, Mappings, Renamed
from crossfade.query.values import AnyType
from crossfade.schema import EnumSpec, FieldSpec, ModelSpec, Scalar, Schema

_OWN: Mapping[Scalar, AnyType] = {
    Scalar.STRING: sa.Text(),
    Scalar.INT: sa.Integer(),
    Scalar.BIGINT: sa.BigInteger(),
    Scalar.FLOAT: sa.Double(),
    Scalar.DECIMAL: sa.Numeric(),
    Scalar.BOOLEAN: sa.Boolean(),
    Scalar.DATETIME: TIMESTAMP(precision=3),
    Scalar.JSON: JSONB(),
    Scalar.BYTES: sa.LargeBinary(),
    Scalar.ENUM: sa.Text(),  # a type of the legacy store's own: elsewhere it is text
}
_NAMED: Mapping[str, AnyType] = {
    "text": sa.Text(), "citext": CITEXT(), "uuid": sa.Uuid(as_uuid=False), "smallint": sa.SmallInteger(),
    "integer": sa.Integer(), "int": sa.Integer(), "bigint": sa.BigInteger(), "real": sa.REAL(),
    "double precision": sa.Double(), "boolean": sa.Boolean(), "bytea": sa.LargeBinary(), "json": JSON(),
    "jsonb": JSONB(), "date": sa.Date(), "numeric": sa.Numeric(), "decimal": sa.Numeric(), "varchar": sa.String(),
    "character varying": sa.String(),
}  # fmt: skip
_TIMED: Mapping[str, tuple[type[TIMESTAMP | TIME], bool]] = {
    "timestamp": (TIMESTAMP, False), "timestamp without time zone": (TIMESTAMP, False),
    "timestamptz": (TIMESTAMP, True), "timestamp with time zone": (TIMESTAMP, True),
    "time": (TIME, False), "timetz": (TIME, True),
}  # fmt: skip


def legacy_kind(spec: FieldSpec, legacy_type: str | None) -> AnyType:
    """The type of a field's legacy column, or of one element of it for a list.

    Raises:
        ConfigurationError: a type of that name is not known.
    """
    if legacy_type is None:
        return _OWN[spec.scalar]
    named = legacy_type.strip().lower().removesuffix("[]")
    arguments = tuple(int(number) for number in re.findall(r"-?\d+", "".join(re.findall(r"\(.*?\)", named))))
    name = " ".join(re.sub(r"\(.*?\)", " ", named).split())
    if name in _TIMED:
        make, zoned = _TIMED[name]
        kind: AnyType = make(timezone=zoned, precision=arguments[0] if arguments else None)
        return kind
    if name in ("numeric", "decimal") and arguments:
        return sa.Numeric(arguments[0], arguments[1] if len(arguments) > 1 else 0)
    if name in ("varchar", "character varying", "char", "character") and arguments:
        return sa.String(arguments[0])
    if name in _NAMED:
        return _NAMED[name]
    known = ", ".join(sorted((*_NAMED, *_TIMED)))
    raise ConfigurationError(f"legacy_type {legacy_type!r} of field {spec.name} is not one of {known}")


def legacy_tables(
    schema: Schema, tables: Mapping[str, sa.Table], mappings: Mappings
) -> Mapping[str, sa.Table]:
    """The tables of the legacy store, from those of the target; a model without a mapping keeps its own.

    Raises:
        ConfigurationError: a column that the mapping names is not in the target's table.
    """
    mapped = {mapping.model for mapping in mappings}
    metadata = sa.MetaData()
    return {
        spec.name: _legacy_table(schema, spec, tables[spec.name], mappings, metadata)
        if spec.name in mapped
        else tables[spec.name]
        for spec in schema
        if spec.name in tables
    }


def _legacy_table(
    schema: Schema, spec: ModelSpec, table: sa.Table, mappings: Mappings, metadata: sa.MetaData
) -> sa.Table:
    mapping = mappings.of(spec.name)
    columns = []
    for field in spec.fields.values():
        said = mapping.column_of(field.column)
        own = None if field.enum is None else _native_enum(schema.enums[field.enum])
        match said:
            case Converted() | Dropped() | Renamed(legacy_type=str()):
                kind = own or legacy_kind(field, said.legacy_type)
            case _:
                name = mapping.target_of(field.column) or field.column
                if name not in table.c:
                    raise ConfigurationError(f"table {table.name} of model {spec.name} lacks {name}")
                kind = own or table.c[name].type
        if field.is_list and not isinstance(kind, sa.ARRAY):
            kind = sa.ARRAY(kind)
        columns.append(sa.Column(field.column, kind))
    return sa.Table(spec.table, metadata, *columns)


def _native_enum(enum: EnumSpec) -> sa.Enum:
    return sa.Enum(*enum.values.values(), name=enum.db_name)
