"""Where each model's rows are: its table, the columns behind its fields and the keys behind its relations.

Made once per path from the schema and the declarative models' tables. Statements are built over plain copies of those
tables, because defaults and `onupdate` of a mapped table belong to the ORM: here every value is the caller's.

Where the target's tables differ on purpose, a field has the value that the legacy column would have: it is read through
the mapping's `backward` and written through `forward`, and conditions and orders see what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement, FromClause, TableClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import ARRAY

from crossfade.errors import ConfigurationError
from crossfade.mapping import NO_MAPPINGS, Converted, Dropped, Mappings, filled
from crossfade.mapping import Mapping as ModelMapping
from crossfade.query.legacy import legacy_kind
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


class Filled(FunctionElement[Any]):
    """An expression of a mapping, over a value."""

    inherit_cache = False

    def __init__(self, template: str, value: Column) -> None:
        self.template = template
        super().__init__(value)


@compiles(Filled)
def _fill(element: Filled, compiler: Any, **options: Any) -> str:
    return f"({filled(element.template, compiler.process(element.clauses, **options))})"


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
    """The native type in which the field is read: the column's own, or the legacy one's where a mapping converts."""
    column: str
    """The name of the column in the table."""
    said: Converted | Dropped | None = None
    """What the mapping says of the column's values."""
    landing: AnyType | None = None
    """The type that a converted value is cast to, which lets the column judge whether it fits."""
    labels: tuple[str, ...] = ()
    """The labels of an enum, in the order in which the legacy store sorts them."""

    @property
    def name(self) -> str:
        """The field's name in the schema."""
        return self.spec.name

    @property
    def is_kept(self) -> bool:
        """Whether the table has a column for the field."""
        return not isinstance(self.said, Dropped)

    def of(self, source: FromClause) -> Column:
        """The column in `source`, the table or an alias of it, as the field's value."""
        match self.said:
            case None:
                return source.c[self.column]
            case Converted(backward=str(backward)):
                return sa.cast(Filled(backward, source.c[self.column]), self.kind)
            case Dropped(reads=str(reads)):
                return sa.cast(sa.literal_column(f"({reads})"), self.kind)
            case _:
                return sa.cast(sa.null(), self.kind)

    def written(self, value: Column) -> Column:
        """A value of the field, as the column is to have it."""
        if not isinstance(self.said, Converted):
            return value
        assert self.landing is not None
        return sa.cast(Filled(self.said.forward, sa.cast(value, self.kind)), self.landing)

    def ordered(self, source: FromClause) -> Column:
        """The column as rows are sorted by it: labels of an enum sort as they were declared, which text does not."""
        if self.said is None or not self.labels or self.spec.is_list:
            return self.of(source)
        texts = ", ".join("'" + label.replace("'", "''") + "'" for label in self.labels)
        return sa.func.array_position(sa.literal_column(f"ARRAY[{texts}]::text[]"), self.of(source))

    def selected(self, source: FromClause) -> Column:
        """The column as it is to be selected."""
        if self.codec.as_text:
            text = ARRAY(sa.Text()) if self.spec.is_list else sa.Text()
            return sa.cast(self.of(source), text)
        return self.of(source) if self.said is None else self.of(source).label(self.name)

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
        mappings: Mappings = NO_MAPPINGS,
    ) -> None:
        self.schema = schema
        self.dialect = dialect
        self.mappings = mappings
        missing = [
            f"model {spec.name} has no {what}"
            for spec in schema
            for what, known in (("table", tables), ("record class", records))
            if spec.name not in known
        ]
        missing += (
            f"there is a mapping of {mapping.model}, and no such model or many-to-many table"
            for mapping in mappings
            if mapping.model not in schema.models and not mapping.model.startswith("_")
        )
        if missing:
            raise ConfigurationError(*missing)
        misfits = [
            problem
            for spec in schema
            for problem in _misfits(spec, tables[spec.name], mappings.of(spec.name))
        ]
        if misfits:
            raise ConfigurationError(*misfits)
        unmoved = [tables[spec.name] for spec in schema if mappings.of(spec.name).schema is None]
        self._home = unmoved[0].schema if unmoved else None
        self.models = {
            spec.name: self._stored_model(spec, tables[spec.name], records[spec.name]) for spec in schema
        }
        for model in self.models.values():
            for relation in model.spec.relations.values():
                model.links[relation.name] = self._make_link(model, relation)

    def _stored_model(self, spec: ModelSpec, table: sa.Table, record: type[Record]) -> StoredModel:
        mapping = self.mappings.of(spec.name)
        fields = {f.name: self._stored_field(f, table, mapping) for f in spec.fields.values()}
        columns: list[sa.ColumnClause[Any]] = [
            sa.column(f.column, native_type(table.c[f.column].type, self.dialect))
            for f in fields.values()
            if f.is_kept
        ]
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

    def _stored_field(self, spec: FieldSpec, table: sa.Table, mapping: ModelMapping) -> StoredField:
        said = mapping.column_of(spec.column)
        column = mapping.target_of(spec.column) or spec.column
        own = None if isinstance(said, Dropped) else self._native(table.c[column].type, is_list=spec.is_list)
        if own is not None and not isinstance(said, Converted):
            kind, said = own, None
        else:
            assert isinstance(said, Converted | Dropped)
            kind = legacy_kind(spec, said.legacy_type)
            kind = self._native(ARRAY(kind) if spec.is_list else kind, is_list=spec.is_list)
        element = kind.item_type if spec.is_list and isinstance(kind, ARRAY) else kind
        enum = enum_of(spec, self.schema.enums)
        codec = codec_for(spec, enum, element)
        if said is not None and enum is not None:  # arrays of varchar and of text have no operators in common
            codec = replace(codec, cast=sa.Text())
        decode = list_decoder(codec.decode) if spec.is_list else codec.decode
        return StoredField(
            spec,
            codec,
            codec.encode,
            decode,
            kind,
            column,
            said,
            None if own is None else _landing(own),
            () if enum is None else tuple(enum.values.values()),
        )

    def _native(self, kind: AnyType, *, is_list: bool) -> AnyType:
        native = native_type(kind, self.dialect)
        if is_list and isinstance(native, ARRAY):
            native = ARRAY(native_type(native.item_type, self.dialect))
        return native

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
        mapping = self.mappings.of(f"_{relation.relation}")
        near, far = mapping.target_of(near) or near, mapping.target_of(far) or far
        keys = model.fields[model.spec.primary_key[0]], other.fields[other.spec.primary_key[0]]
        kinds = {near: keys[0].kind, far: keys[1].kind}
        through = sa.table(
            mapping.table or f"_{relation.relation}",
            *(sa.column(name, kind) for name, kind in sorted(kinds.items())),
            schema=mapping.schema or self._home,
        )
        return Link(model, other, relation, (keys[0],), (keys[1],), through, near, far)


def _misfits(spec: ModelSpec, table: sa.Table, mapping: ModelMapping) -> list[str]:
    """Where a model's table is not what its mapping says."""
    wanted = {f.column: mapping.target_of(f.column) for f in spec.fields.values()}
    absent = [name for name in wanted.values() if name is not None and name not in table.c]
    problems = [f"table {table.name} of model {spec.name} lacks {', '.join(absent)}"] if absent else []
    for what, own, said in (("table", table.name, mapping.table), ("schema", table.schema, mapping.schema)):
        if said is not None and own != said:
            problems.append(f"the {what} of model {spec.name} is {own}, and its mapping says {said}")
    unread = [
        f.name
        for f in spec.fields.values()
        if f.is_required and not f.is_list and _reads_nothing(mapping.column_of(f.column))
    ]
    if unread:
        problems.append(
            f"{', '.join(unread)} of model {spec.name} cannot be read from the target store, and callers never get"
            " None for it: give its mapping `backward`, or `reads` where it is dropped"
        )
    return problems


def _reads_nothing(said: object) -> bool:
    return (isinstance(said, Converted) and said.backward is None) or (
        isinstance(said, Dropped) and said.reads is None
    )


def _landing(kind: AnyType) -> AnyType:
    """The type without the length to which a cast, unlike an assignment, would cut."""
    if isinstance(kind, ARRAY):
        return ARRAY(_landing(kind.item_type))
    if isinstance(kind, sa.String) and not isinstance(kind, sa.Enum):
        return sa.Text()
    return sa.Numeric() if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float) else kind


def is_number(stored: StoredField) -> bool:
    """Whether arithmetic is possible on a field."""
    return stored.spec.scalar in (Scalar.INT, Scalar.BIGINT, Scalar.FLOAT, Scalar.DECIMAL)
