"""Where each model's rows are: its table, the columns behind its fields and the keys behind its relations.

Made once per path from the schema and the declarative models' tables. Statements are built over plain copies of those
tables, because defaults and `onupdate` of a mapped table belong to the ORM: here every value is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ColumnElement, FromClause, TableClause
from sqlalchemy.types import ARRAY

from crossfade.errors import ConfigurationError
from crossfade.query.values import (
    AnyType,
    Codec,
    Decode,
    Encode,
    codec_for,
    enum_of,
    list_decoder,
    native_type,
)
from crossfade.records import Record
from crossfade.schema import FieldSpec, ModelSpec, RelationSpec, Scalar, Schema

Column = ColumnElement[Any]


@dataclass(frozen=True, slots=True)
class StoredField:
    """A field and its column."""

    spec: FieldSpec
    codec: Codec
    encode: Encode
    """`codec.encode`, one attribute nearer: it runs for every value of every call."""
    decode: Decode | None
    """The decoder of the whole column; that of a list also takes NULL."""
    kind: AnyType
    """The column's native type."""

    @property
    def name(self) -> str:
        """The field's name in the schema."""
        return self.spec.name

    def of(self, source: FromClause) -> Column:
        """The column in `source`, the table or an alias of it."""
        return source.c[self.spec.column]

    def selected(self, source: FromClause) -> Column:
        """The column as it is to be selected."""
        if not self.codec.as_text:
            return self.of(source)
        text = ARRAY(sa.Text()) if self.spec.is_list else sa.Text()
        return sa.cast(self.of(source), text)

    def parameter(self, slot: int) -> Column:
        """One value (one element, for a list field)."""
        if slot < 0 and self.codec.as_read is not None:
            return _slot(slot, self.codec.as_read)
        return self._cast(_slot(slot, self.codec.bind), self.codec.cast)

    def array(self, slot: int) -> Column:
        """Several values in one parameter; also the whole value of a list field."""
        if slot < 0 and self.codec.as_read is not None:
            return _slot(slot, ARRAY(self.codec.as_read))
        cast = None if self.codec.cast is None else ARRAY(self.codec.cast)
        return self._cast(_slot(slot, ARRAY(self.codec.bind)), cast)

    def whole(self, slot: int) -> Column:
        """The value of the whole column."""
        return self.array(slot) if self.spec.is_list else self.parameter(slot)

    @staticmethod
    def _cast(value: Column, kind: AnyType | None) -> Column:
        return value if kind is None else sa.cast(value, kind)


def _slot(slot: int, kind: AnyType) -> Column:
    return sa.bindparam(slot_name(slot), type_=kind)


def slot_name(slot: int) -> str:
    """The name of a statement's parameter for a slot; negative slots are filled by the executor."""
    return f"slot_{slot}" if slot >= 0 else f"key_{~slot}"


def slot_of(name: str) -> int:
    """The slot of a parameter's name."""
    kind, _, number = name.rpartition("_")
    return int(number) if kind == "slot" else ~int(number)


def integer_slot(slot: int) -> Column:
    """A plain number: LIMIT and OFFSET."""
    return _slot(slot, sa.BigInteger())


@dataclass(slots=True)
class StoredModel:
    """A model, its table and its record class."""

    spec: ModelSpec
    table: TableClause
    origin: sa.Table
    record: type[Record]
    fields: Mapping[str, StoredField]
    unique_fields: frozenset[str]
    """Fields that are a unique key by themselves."""
    required: frozenset[str]
    """Fields that a caller must give on create."""
    links: dict[str, Link] = field(default_factory=dict)
    """How relation fields lead to other models."""

    @property
    def name(self) -> str:
        """The model's name in the schema."""
        return self.spec.name

    def alias(self) -> FromClause:
        """The table under another name, for a subquery."""
        return self.table.alias()

    def columns(self, source: FromClause) -> list[Column]:
        """What to select for a record: every field, in the schema's order."""
        return [stored.selected(source) for stored in self.fields.values()]

    def builder(self, *, more: bool = False) -> Callable[[Any], Record]:
        """Return the function that makes a record from a row of `columns`, with `more` behind them or not."""
        return _row_builder(self, more=more)


def _row_builder(model: StoredModel, *, more: bool) -> Callable[[Any], Record]:
    """Write the function out, as `dataclasses` does: a loop over the fields costs twice as much for every row."""
    names = [f"v{position}" for position in range(len(model.fields))]
    scope: dict[str, Any] = {"build": model.record.build}
    items: list[str] = []
    for name, (field_name, stored) in zip(names, model.fields.items(), strict=True):
        value = name
        if stored.spec.is_list and stored.codec.decode is None:
            value = f"[] if {name} is None else {name}"
        elif stored.decode is not None:
            scope[f"decode_{name}"] = stored.decode
            value = f"decode_{name}({name})"
            if not stored.spec.is_list:  # the decoder of a list takes NULL itself
                value = f"None if {name} is None else {value}"
        items.append(f"{field_name!r}: {value}")
    items += [f"{relation!r}: None" for relation in model.spec.relations]
    names.append("*_" if more else "")
    source = f"def build_record(row):\n    {', '.join(names)} = row\n    return build({{{', '.join(items)}}})"
    exec(source, scope)  # noqa: S102  # made from field names, which Prisma's parser has checked
    built: Callable[[Any], Record] = scope["build_record"]
    return built


@dataclass(frozen=True, slots=True)
class Link:
    """How the rows of two models belong together.

    `here` are columns of the model, `there` those of the related model. Between the two of an implicit many-to-many
    relation stands `through`, whose column `near` holds the model's key and `far` the other's.
    """

    model: StoredModel
    other: StoredModel
    spec: RelationSpec
    here: tuple[StoredField, ...]
    there: tuple[StoredField, ...]
    through: TableClause | None = None
    near: str = ""
    far: str = ""

    @property
    def holds_key(self) -> bool:
        """Whether the foreign key is on this side."""
        return bool(self.spec.from_fields)

    def joined(self, source: FromClause, related: FromClause) -> Column:
        """The condition that a row of `related` belongs to the row of `source`."""
        if self.through is not None:
            through = self.through.alias()
            mine, theirs = self.here[0].of(source), self.there[0].of(related)
            subquery: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
                through.c[self.near] == mine, through.c[self.far] == theirs
            )
            return sa.exists(subquery.correlate(source, related))
        pairs = zip(self.here, self.there, strict=True)
        return sa.and_(*(there.of(related) == here.of(source) for here, there in pairs))


class Storage:
    """Every model of a schema with its table."""

    def __init__(
        self,
        schema: Schema,
        tables: Mapping[str, sa.Table],
        records: Mapping[str, type[Record]],
        dialect: Dialect,
    ) -> None:
        self.schema = schema
        self.dialect = dialect
        missing = [
            f"model {spec.name} has no {what}"
            for spec in schema
            for what, known in (("table", tables), ("record class", records))
            if spec.name not in known
        ]
        if missing:
            raise ConfigurationError(*missing)
        self.models = {
            spec.name: self._stored_model(spec, tables[spec.name], records[spec.name]) for spec in schema
        }
        for model in self.models.values():
            for relation in model.spec.relations.values():
                model.links[relation.name] = self._make_link(model, relation)

    def _stored_model(self, spec: ModelSpec, table: sa.Table, record: type[Record]) -> StoredModel:
        absent = [f.column for f in spec.fields.values() if f.column not in table.c]
        if absent:
            raise ConfigurationError(f"table {table.name} of model {spec.name} lacks {', '.join(absent)}")
        fields = {f.name: self._stored_field(f, table.c[f.column].type) for f in spec.fields.values()}
        columns: list[sa.ColumnClause[Any]] = [sa.column(f.spec.column, f.kind) for f in fields.values()]
        return StoredModel(
            spec=spec,
            table=sa.table(table.name, *columns, schema=table.schema),
            origin=table,
            record=record,
            fields=fields,
            unique_fields=frozenset(
                names[0] for key, names in spec.uniques.items() if len(names) == 1 and key == names[0]
            ),
            required=frozenset(
                f.name
                for f in spec.fields.values()
                if f.is_required and not f.is_list and f.default is None and not f.is_updated_at
            ),
        )

    def _stored_field(self, spec: FieldSpec, kind: AnyType) -> StoredField:
        native = native_type(kind, self.dialect)
        element = native
        if spec.is_list and isinstance(native, ARRAY):
            element = native_type(native.item_type, self.dialect)
            native = ARRAY(element)
        codec = codec_for(spec, enum_of(spec, self.schema.enums), element)
        decode = list_decoder(codec.decode) if spec.is_list else codec.decode
        return StoredField(spec, codec, codec.encode, decode, native)

    def _make_link(self, model: StoredModel, relation: RelationSpec) -> Link:
        other = self.models[relation.model]
        back = self.schema.opposite(model.name, relation)
        if relation.from_fields:
            here = tuple(model.fields[name] for name in relation.from_fields)
            there = tuple(other.fields[name] for name in relation.to_fields)
            return Link(model, other, relation, here, there)
        if back.from_fields:
            here = tuple(model.fields[name] for name in back.to_fields)
            there = tuple(other.fields[name] for name in back.from_fields)
            return Link(model, other, relation, here, there)
        # Prisma's own rule: A is the model that comes first by name, or the field, when both are one model.
        mine, theirs = (model.name, relation.name), (other.name, back.name)
        near, far = ("A", "B") if mine < theirs else ("B", "A")
        keys = model.fields[model.spec.primary_key[0]], other.fields[other.spec.primary_key[0]]
        kinds = {near: keys[0].kind, far: keys[1].kind}
        through = sa.table(
            f"_{relation.relation}", *(sa.column(n, kinds[n]) for n in ("A", "B")), schema=model.origin.schema
        )
        return Link(model, other, relation, (keys[0],), (keys[1],), through, near, far)


def is_number(stored: StoredField) -> bool:
    """Whether arithmetic is possible on a field."""
    return stored.spec.scalar in (Scalar.INT, Scalar.BIGINT, Scalar.FLOAT, Scalar.DECIMAL)
