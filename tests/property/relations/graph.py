"""Random relation graphs: what a schema of a few models with foreign keys looks like to Prisma and to PostgreSQL.

Beside what its relations need, every model has the same few columns: `tag`, which names a row for as long as it lives
(its key may change), `label`, which takes any text, `count`, which is only incremented, and `code`, which is unique and
may be referred to.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.schema import AddConstraint, CreateTable

from crossfade.schema import Schema
from crossfade.testing import record_classes
from small_schema import relation, scalar

NAMES = ("Ash", "Birch", "Cedar", "Dogwood", "Elm")
KEYS = ("serial", "cuid", "uuid", "pair", "part")
"""What a primary key is: numbered by the store, minted, minted with a type of its own, two columns, or a foreign key
and a name."""
DELETES = {"Cascade": "CASCADE", "SetNull": "SET NULL", "Restrict": "RESTRICT", "NoAction": "NO ACTION"}

_OWN_KEY: Mapping[str, Mapping[str, str]] = {
    "serial": {"id": "serial"},
    "cuid": {"id": "cuid"},
    "uuid": {"id": "uuid"},
    "pair": {"left": "int", "right": "text"},
    "part": {"name": "text"},
}
_REFERRING = {"serial": "int", "cuid": "text", "uuid": "plain uuid"}


@dataclass(frozen=True)
class Reference:
    """A foreign key. `to` are the fields that it points at: the parent's key, or its `code`."""

    name: str
    child: str
    parent: str
    to: tuple[str, ...]
    is_optional: bool
    on_delete: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that hold it."""
        return tuple(f"{self.name}_{field}" for field in self.to)


@dataclass(frozen=True)
class Model:
    """One model. `references` are its own foreign keys, the one that its key is made of first."""

    name: str
    kind: str
    key: tuple[str, ...]
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Link:
    """An implicit many-to-many relation; `one` comes first by name."""

    one: str
    other: str

    @property
    def name(self) -> str:
        """The relation's name."""
        return f"{self.one}To{self.other}"


@dataclass(frozen=True)
class Graph:
    """A schema, told by its models in an order in which they can be created."""

    models: Mapping[str, Model]
    links: tuple[Link, ...] = ()

    def children(self, parent: str) -> list[Reference]:
        """The foreign keys that point at a model."""
        return [each for model in self.models.values() for each in model.references if each.parent == parent]

    def types(self, model: str) -> dict[str, tuple[str, bool]]:
        """Type and optionality of each field of a model, in the order of its columns."""
        spec = self.models[model]
        own = {name: (kind, False) for name, kind in _OWN_KEY[spec.kind].items()}
        foreign = {
            field: (self.type_of(reference.parent, to), reference.is_optional)
            for reference in spec.references
            for field, to in zip(reference.fields, reference.to, strict=True)
        }
        rest = {
            "tag": ("text", False),
            "label": ("text", True),
            "count": ("count", False),
            "code": ("text", True),
        }
        return own | foreign | rest

    def type_of(self, model: str, field: str) -> str:
        """The type of a column that refers to a field of a model: one of its key, or `code`."""
        spec = self.models[model]
        if field == "code":
            return "text"
        kind = _OWN_KEY[spec.kind].get(field)
        if kind is None:
            first = spec.references[0]
            return self.type_of(first.parent, first.to[first.fields.index(field)])
        return _REFERRING.get(kind, kind)

    def __str__(self) -> str:
        lines = []
        for model in self.models.values():
            references = "".join(
                f"\n    {each.name} -> {each.parent}({', '.join(each.to)})"
                f" {'optional' if each.is_optional else 'required'} {each.on_delete}"
                for each in model.references
            )
            lines.append(f"  {model.name} {model.kind} ({', '.join(model.key)}){references}")
        return "\n".join([*lines, *(f"  {link.name} many-to-many" for link in self.links)])


def random_graph(chance: random.Random) -> Graph:
    """A graph of two to five models: chains, diamonds, relations to itself, and now and then a circle."""
    # The order by name is not always the right one.
    names = chance.sample(NAMES, chance.randint(2, 5))
    models: dict[str, Model] = {}
    for name in names:
        parents = chance.sample(list(models), min(len(models), chance.choice((0, 1, 1, 1, 2, 2, 3))))
        if models and not parents and chance.random() < 0.7:
            parents = [list(models)[-1]]
        kind = chance.choice(KEYS if parents else KEYS[:-1])
        references = [
            _reference(chance, models[parent], name, number, is_part=kind == "part" and number == 0)
            for number, parent in enumerate(parents)
        ]
        key = {
            "pair": ("left", "right"),
            "part": (*references[0].fields, "name") if references else (),
        }.get(kind, ("id",))
        if kind != "part" and chance.random() < 0.25:
            action = chance.choice(("Cascade", "SetNull", "Restrict", "NoAction"))
            references.append(Reference("self", name, name, key, is_optional=True, on_delete=action))
        models[name] = Model(name, kind, key, tuple(references))
    if len(models) > 1 and chance.random() < 0.15:
        _close_circle(chance, models)
    links: tuple[Link, ...] = ()
    if chance.random() < 0.3:
        single = [model.name for model in models.values() if len(model.key) == 1]
        if len(single) > 1:
            links = (Link(*sorted(chance.sample(single, 2))),)
    return Graph(models, links)


def _reference(chance: random.Random, parent: Model, child: str, number: int, *, is_part: bool) -> Reference:
    is_optional = not is_part and chance.random() < 0.45
    actions = ["Cascade", "Cascade", "Restrict", "NoAction"] + ["SetNull"] * (3 if is_optional else 0)
    to = parent.key if is_part or chance.random() < 0.85 else ("code",)
    return Reference(f"r{number}", child, parent.name, to, is_optional, chance.choice(actions))


def _close_circle(chance: random.Random, models: dict[str, Model]) -> None:
    """Have an earlier model refer to a later one as well."""
    first, last = models[next(iter(models))], list(models.values())[-1]
    if last.kind == "part":
        return
    action = chance.choice(("SetNull", "Cascade", "Restrict"))
    back = Reference("back", first.name, last.name, last.key, is_optional=True, on_delete=action)
    models[first.name] = Model(first.name, first.kind, first.key, (*first.references, back))


# --- to Prisma ---------------------------------------------------------------------------------------------------


def schema_of(graph: Graph) -> Schema:
    """The graph as Prisma's parser would tell it."""
    return Schema.from_dmmf(
        {"datamodel": {"enums": [], "models": [_dmmf(graph, name) for name in graph.models]}}
    )


def _dmmf(graph: Graph, name: str) -> dict[str, Any]:
    model = graph.models[name]
    fields = [_field(model, field, *kind) for field, kind in graph.types(name).items()]
    fields += [
        relation(
            reference.name,
            reference.parent,
            f"{name}_{reference.name}",
            isRequired=not reference.is_optional,
            relationFromFields=list(reference.fields),
            relationToFields=list(reference.to),
            relationOnDelete=reference.on_delete,
        )
        for reference in model.references
    ]
    for reference in graph.children(name):
        many = f"{reference.child.lower()}_{reference.name}_of"
        fields.append(relation(many, reference.child, f"{reference.child}_{reference.name}", isList=True))
    for link in graph.links:
        if name in (link.one, link.other):
            other = link.other if name == link.one else link.one
            fields.append(relation("linked", other, link.name, isList=True))
    primary = {"name": None, "fields": list(model.key)} if len(model.key) > 1 else None
    return {"name": name, "dbName": None, "fields": fields, "primaryKey": primary, "uniqueIndexes": []}


def _field(model: Model, name: str, kind: str, is_optional: bool) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "serial": {"name": "autoincrement", "args": []},
        "cuid": {"name": "cuid", "args": []},
        "uuid": {"name": "uuid", "args": []},
        "count": 0,
    }
    extra: dict[str, Any] = {
        "isRequired": not is_optional,
        "isId": model.key == (name,),
        "isUnique": name == "code",
    }
    if kind in defaults:
        extra |= {"hasDefaultValue": True, "default": defaults[kind]}
    return scalar(name, "Int" if kind in ("serial", "int", "count") else "String", **extra)


# --- to PostgreSQL -----------------------------------------------------------------------------------------------


def tables_of(graph: Graph) -> dict[str, sa.Table]:
    """The graph's tables, as declarative models would have them; the same in both stores."""
    metadata = sa.MetaData()
    tables = {}
    for name, model in graph.models.items():
        columns = [
            sa.Column(
                field,
                _type(kind),
                nullable=is_optional,
                autoincrement=kind == "serial",
                server_default="0" if kind == "count" else None,
            )
            for field, (kind, is_optional) in graph.types(name).items()
        ]
        foreign = [
            sa.ForeignKeyConstraint(
                each.fields,
                [f"{each.parent}.{to}" for to in each.to],
                name=f"{name}_{each.name}_fkey",
                ondelete=DELETES[each.on_delete],
                onupdate="CASCADE",
            )
            for each in model.references
        ]
        unique = sa.Index(f"{name}_code_key", "code", unique=True)
        tables[name] = sa.Table(
            name,
            metadata,
            *columns,
            sa.PrimaryKeyConstraint(*model.key, name=f"{name}_pkey"),
            *foreign,
            unique,
        )
    return tables


def _type(kind: str) -> Any:
    if kind in ("serial", "int", "count"):
        return sa.Integer()
    return sa.Uuid(as_uuid=False) if kind.endswith("uuid") else sa.Text()


def statements(graph: Graph, tables: Mapping[str, sa.Table]) -> list[str]:
    """The DDL of the tables, links included."""
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

    def text(element: Any) -> str:
        return str(element.compile(dialect=dialect))

    made = [text(CreateTable(table, include_foreign_key_constraints=[])) for table in tables.values()]
    made += [
        f'CREATE UNIQUE INDEX "{index.name}" ON "{table.name}" ("code")'
        for table in tables.values()
        for index in table.indexes
    ]
    made += [
        text(AddConstraint(key))
        for table in tables.values()
        for key in sorted(table.foreign_key_constraints, key=lambda key: str(key.name))
    ]
    made += [_link_table(graph, link) for link in graph.links]
    return made


def _link_table(graph: Graph, link: Link) -> str:
    columns = ", ".join(
        f'"{column}" {_sql_type(graph, model)} NOT NULL REFERENCES "{model}" ({_quoted(graph.models[model].key)})'
        " ON DELETE CASCADE ON UPDATE CASCADE"
        for column, model in (("A", link.one), ("B", link.other))
    )
    return f'CREATE TABLE "_{link.name}" ({columns}, PRIMARY KEY ("A", "B"))'


def _sql_type(graph: Graph, model: str) -> str:
    kind = graph.type_of(model, graph.models[model].key[0])
    return {"int": "integer", "plain uuid": "uuid"}.get(kind, "text")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def records_of(schema: Schema) -> dict[str, Any]:
    """Plain record classes."""
    return record_classes(schema)


def orphans_sql(graph: Graph) -> list[str]:
    """Questions that count rows which refer to nothing; one for each foreign key."""
    return [
        f'SELECT count(*) FROM "{each.child}" c WHERE {_all_given(each.fields)} AND NOT EXISTS'
        f' (SELECT FROM "{each.parent}" p WHERE {_joined(each.fields, each.to)})'
        for model in graph.models.values()
        for each in model.references
    ]


def _all_given(fields: Sequence[str]) -> str:
    return " AND ".join(f'c."{field}" IS NOT NULL' for field in fields)


def _joined(fields: Sequence[str], to: Sequence[str]) -> str:
    return " AND ".join(f'c."{field}" = p."{name}"' for field, name in zip(fields, to, strict=True))
