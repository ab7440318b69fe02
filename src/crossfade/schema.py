"""The shape of the data: models, fields and relations, read from the DMMF of Prisma's own parser.

This module turns the DMMF (a JSON document) into frozen records and answers questions about them. It does not parse
`schema.prisma`; `crossfade.engine.parser` asks Prisma's parser to do that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from crossfade.errors import UnknownModelError


class Scalar(StrEnum):
    """Prisma's scalar types, and `ENUM` for a field of an enum type."""

    STRING = "String"
    INT = "Int"
    BIGINT = "BigInt"
    FLOAT = "Float"
    DECIMAL = "Decimal"
    BOOLEAN = "Boolean"
    DATETIME = "DateTime"
    JSON = "Json"
    BYTES = "Bytes"
    ENUM = "Enum"


class Mint(StrEnum):
    """Where the value of a field comes from when the caller gives none."""

    LITERAL = "literal"
    CUID = "cuid"
    UUID = "uuid"
    NOW = "now"
    AUTOINCREMENT = "autoincrement"
    DBGENERATED = "dbgenerated"

    @property
    def by_database(self) -> bool:
        """Whether only the database can mint this value."""
        return self in (Mint.AUTOINCREMENT, Mint.DBGENERATED)


@dataclass(frozen=True, slots=True)
class Default:
    """A field's `@default`; `value` is the literal, in Prisma's JSON form, when `mint` is `LITERAL`."""

    mint: Mint
    value: Any = None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One scalar or enum field. `column` is its name in the database; `enum` the enum's name in the schema."""

    name: str
    column: str
    scalar: Scalar
    enum: str | None
    is_list: bool
    is_required: bool
    is_unique: bool
    is_updated_at: bool
    default: Default | None


@dataclass(frozen=True, slots=True)
class RelationSpec:
    """One relation field.

    `from_fields` and `to_fields` are set on the side that holds the foreign key and empty on the other; both are
    empty on both sides of an implicit many-to-many relation, where `is_list` is true twice.
    """

    name: str
    relation: str
    model: str
    is_list: bool
    is_required: bool
    from_fields: tuple[str, ...]
    to_fields: tuple[str, ...]
    on_delete: str | None

    @property
    def delete_action(self) -> str:
        """What happens to this row when the one that it refers to is deleted; Prisma's default where none is given."""
        return self.on_delete or ("Restrict" if self.is_required else "SetNull")


@dataclass(frozen=True, slots=True)
class EnumSpec:
    """An enum; `values` maps the schema's names to the database's."""

    name: str
    db_name: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model. `uniques` maps the name a compound key has in `where` to its fields, the primary key included."""

    name: str
    table: str
    fields: Mapping[str, FieldSpec]
    relations: Mapping[str, RelationSpec]
    primary_key: tuple[str, ...]
    uniques: Mapping[str, tuple[str, ...]]

    @property
    def attribute(self) -> str:
        """The name of this model on a client: `MarketResearchData` is `client.marketresearchdata`."""
        return self.name.lower()

    @property
    def minted_by_database(self) -> tuple[FieldSpec, ...]:
        """The fields whose default only the database can produce."""
        return tuple(f for f in self.fields.values() if f.default is not None and f.default.mint.by_database)


@dataclass(frozen=True, slots=True)
class Schema:
    """All models and enums of one `schema.prisma`."""

    models: Mapping[str, ModelSpec]
    enums: Mapping[str, EnumSpec]

    @classmethod
    def from_dmmf(cls, dmmf: Mapping[str, Any]) -> Schema:
        """Read the `datamodel` part of a DMMF document."""
        datamodel = dmmf["datamodel"]
        enums = {entry["name"]: _read_enum(entry) for entry in datamodel["enums"]}
        models = {entry["name"]: _read_model(entry) for entry in datamodel["models"]}
        return cls(MappingProxyType(models), MappingProxyType(enums))

    def model(self, name: str) -> ModelSpec:
        """Return a model.

        Raises:
            UnknownModelError: the schema has no model `name`.
        """
        try:
            return self.models[name]
        except KeyError:
            raise UnknownModelError(name, list(self.models)) from None

    def without(self, columns: Mapping[str, Collection[str]]) -> Schema:
        """The same schema without the fields behind some columns of some models."""
        models = {
            spec.name: replace(
                spec,
                fields=MappingProxyType(
                    {name: f for name, f in spec.fields.items() if f.column not in columns.get(spec.name, ())}
                ),
            )
            if columns.get(spec.name)
            else spec
            for spec in self
        }
        return Schema(MappingProxyType(models), self.enums)

    def opposite(self, model: str, relation: RelationSpec) -> RelationSpec:
        """Return the relation field at the other end of `relation`, which belongs to `model`."""
        for candidate in self.models[relation.model].relations.values():
            same = candidate.relation == relation.relation and candidate.model == model
            if same and (relation.model != model or candidate.name != relation.name):
                return candidate
        msg = f"relation {relation.relation} of {model} has no other end"
        raise LookupError(msg)

    def neighbours(self, model: str) -> frozenset[str]:
        """The other models that a relation joins to `model`."""
        return frozenset(r.model for r in self.models[model].relations.values()) - {model}

    def touched_by_delete(self, model: str) -> frozenset[str]:
        """The other models whose rows a store removes or changes by itself when a row of `model` is deleted."""
        deleted, changed, waiting = {model}, set(), [model]
        while waiting:
            parent = waiting.pop()
            for child in self:
                actions = {
                    r.delete_action for r in child.relations.values() if r.from_fields and r.model == parent
                }
                if "Cascade" in actions and child.name not in deleted:
                    deleted.add(child.name)
                    waiting.append(child.name)
                elif actions & {"SetNull", "SetDefault"}:
                    changed.add(child.name)
        return frozenset(deleted | changed) - {model}

    def restricting(self, model: str) -> frozenset[str]:
        """The other models whose rows forbid, by a foreign key, that a row of `model` is deleted."""
        reached = {model} | {
            child for child in self.touched_by_delete(model) if self._goes_with(child, model)
        }
        return frozenset(
            child.name
            for child in self
            for relation in child.relations.values()
            if relation.from_fields
            and relation.model in reached
            and relation.delete_action in ("Restrict", "NoAction")
        ) - {model}

    def _goes_with(self, child: str, parent: str) -> bool:
        """Whether rows of `child` may be deleted with one of `parent`, directly or through others."""
        waiting, seen = [parent], {parent}
        while waiting:
            current = waiting.pop()
            for spec in self:
                cascades = any(
                    r.from_fields and r.model == current and r.delete_action == "Cascade"
                    for r in spec.relations.values()
                )
                if cascades and spec.name not in seen:
                    seen.add(spec.name)
                    waiting.append(spec.name)
        return child in seen

    def parents(self, model: str) -> frozenset[str]:
        """The other models that a foreign key of `model` points at."""
        return frozenset(r.model for r in self.models[model].relations.values() if r.from_fields) - {model}

    def in_foreign_key_order(self) -> list[ModelSpec]:
        """Models with parents before children; a cycle is broken at the model that comes first by name."""
        placed: dict[str, ModelSpec] = {}
        waiting = sorted(self.models)
        while waiting:
            ready = [name for name in waiting if self.parents(name) <= placed.keys()] or waiting[:1]
            placed.update((name, self.models[name]) for name in ready)
            waiting = [name for name in waiting if name not in placed]
        return list(placed.values())

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self.models.values())


def _read_enum(entry: Mapping[str, Any]) -> EnumSpec:
    values = {value["name"]: value.get("dbName") or value["name"] for value in entry["values"]}
    return EnumSpec(entry["name"], entry.get("dbName") or entry["name"], MappingProxyType(values))


def _read_model(entry: Mapping[str, Any]) -> ModelSpec:
    fields: dict[str, FieldSpec] = {}
    relations: dict[str, RelationSpec] = {}
    primary_key: tuple[str, ...] = ()
    uniques: dict[str, tuple[str, ...]] = {}
    for raw in entry["fields"]:
        if raw["kind"] == "object":
            relations[raw["name"]] = _read_relation(raw)
            continue
        spec = _read_field(raw)
        fields[spec.name] = spec
        if raw["isId"]:
            primary_key = (spec.name,)
        if raw["isId"] or raw["isUnique"]:
            uniques[spec.name] = (spec.name,)
    if entry.get("primaryKey"):
        primary_key = tuple(entry["primaryKey"]["fields"])
        uniques[entry["primaryKey"].get("name") or "_".join(primary_key)] = primary_key
    for index in entry.get("uniqueIndexes", ()):
        columns = tuple(index["fields"])
        uniques[index.get("name") or "_".join(columns)] = columns
    return ModelSpec(
        name=entry["name"],
        table=entry.get("dbName") or entry["name"],
        fields=MappingProxyType(fields),
        relations=MappingProxyType(relations),
        primary_key=primary_key,
        uniques=MappingProxyType(uniques),
    )


def _read_field(raw: Mapping[str, Any]) -> FieldSpec:
    is_enum = raw["kind"] == "enum"
    return FieldSpec(
        name=raw["name"],
        column=raw.get("dbName") or raw["name"],
        scalar=Scalar.ENUM if is_enum else Scalar(raw["type"]),
        enum=raw["type"] if is_enum else None,
        is_list=raw["isList"],
        is_required=raw["isRequired"],
        is_unique=raw["isUnique"],
        is_updated_at=raw.get("isUpdatedAt", False),
        default=_read_default(raw),
    )


def _read_default(raw: Mapping[str, Any]) -> Default | None:
    if not raw.get("hasDefaultValue"):
        return None
    value = raw["default"]
    if isinstance(value, Mapping) and "name" in value:
        # `uuid(7)` and the like keep their arguments in the DMMF; the kind of value is all that is needed here.
        return Default(Mint(value["name"].split("(")[0]))
    if raw["type"] == Scalar.INT:
        # The DMMF writes every number as a float.
        value = [int(item) for item in value] if isinstance(value, list) else int(value)
    return Default(Mint.LITERAL, value)


def _read_relation(raw: Mapping[str, Any]) -> RelationSpec:
    return RelationSpec(
        name=raw["name"],
        relation=raw["relationName"],
        model=raw["type"],
        is_list=raw["isList"],
        is_required=raw["isRequired"],
        from_fields=tuple(raw.get("relationFromFields") or ()),
        to_fields=tuple(raw.get("relationToFields") or ()),
        on_delete=raw.get("relationOnDelete"),
    )
