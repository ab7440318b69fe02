"""Where the target schema differs from the legacy one on purpose, and how a row crosses, both ways.

A model whose two tables have the same columns needs no mapping. A `Mapping` names what is different about one model:
its table's name or schema in the target store, and those columns that have another name, another form, or no
counterpart. Everything that carries rows goes by it alike: the follower, the reconciler, backfill and verify.

Rules:

* A column crosses both ways or the mapping says that it does not (`one_way`). What crosses one way is written to the
  target store and never written back: the legacy column keeps the value that it has, and a new row's gets its default.
* An expression is SQL over `{}`, the value. It is run by either store, so it may use nothing but PostgreSQL's own
  immutable functions. `forward` takes the legacy column's type to the target column's, `backward` the other way round,
  and a value that has gone both ways is the value that it was. A type that only one store knows, such as an enum,
  is `text` in the other.
* A key column may have another name or type, if its text stays the same: `text` that holds a UUID may become `uuid`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from crossfade.errors import MappingError


@dataclass(frozen=True, slots=True)
class Renamed:
    """A column that has another name in the target store; its type may differ where nothing is lost by that.

    `legacy_type` is its type in the legacy store, where that is neither the target's nor Prisma's own for the field;
    only `legacy_tables` asks for it.
    """

    legacy: str
    target: str
    legacy_type: str | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """A column whose values are written differently in the target store.

    `backward` may be missing only where `one_way` says that nothing has to come back. Where it is given nevertheless it
    is what callers read on the target side; without it they read None. `legacy_type` is the column's type in the legacy
    store, where it is not Prisma's own for the field: `"timestamptz"` for `@db.Timestamptz`.
    """

    legacy: str
    target: str
    forward: str
    backward: str | None = None
    one_way: bool = False
    legacy_type: str | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A legacy column that the target store does not have. That loses what it holds, so `one_way` has to say so.

    `reads` is the SQL for what callers read in its place on the target side: `"0"`, `"'unknown'"`; NULL by default.
    """

    legacy: str
    one_way: bool = False
    reads: str | None = None
    legacy_type: str | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A column that only the target store has; it is left to its default there and is never compared."""

    target: str


ColumnMapping: TypeAlias = Renamed | Converted | Dropped | Added


@dataclass(frozen=True, slots=True)
class Mapping:
    """What is different about one model in the target store.

    Args:
        model: the model's name, or the name of an implicit many-to-many table.
        table: its table there; the same name by default.
        schema: that table's PostgreSQL schema; the store's by default.
        columns: the columns that differ; all others keep their names.

    Raises:
        MappingError: it contradicts itself, or loses what it does not declare as `one_way`.
    """

    model: str
    table: str | None = None
    schema: str | None = None
    columns: tuple[ColumnMapping, ...] = ()

    def __post_init__(self) -> None:
        problems = [*_losses(self.columns), *_doubles(self.columns), *_templates(self.columns)]
        if problems:
            raise MappingError(self.model, *problems)

    @property
    def is_one_way(self) -> bool:
        """Whether something that it maps never comes back."""
        return any(isinstance(column, Converted | Dropped) and column.one_way for column in self.columns)

    def target_of(self, legacy: str) -> str | None:
        """The target column that a legacy column has become; None where it has been dropped."""
        match self.column_of(legacy):
            case Dropped():
                return None
            case Renamed(target=target) | Converted(target=target):
                return target
            case _:
                return legacy

    def column_of(self, legacy: str) -> Renamed | Converted | Dropped | None:
        """What is said about a legacy column, if anything."""
        for column in self.columns:
            if not isinstance(column, Added) and column.legacy == legacy:
                return column
        return None

    @property
    def legacy_names(self) -> dict[str, str]:
        """The legacy names of the target's columns that have another name there."""
        pairs = [column for column in self.columns if isinstance(column, Renamed | Converted)]
        return {column.target: column.legacy for column in pairs if column.target != column.legacy}

    def conversion_of(self, legacy: str) -> Converted | None:
        """How a legacy column's values are converted, if they are."""
        column = self.column_of(legacy)
        return column if isinstance(column, Converted) else None


@dataclass(frozen=True, slots=True)
class Mappings:
    """The mappings of every model that has one."""

    mappings: tuple[Mapping, ...] = ()

    def __post_init__(self) -> None:
        names = [mapping.model for mapping in self.mappings]
        for name in names:
            if names.count(name) > 1:
                raise MappingError(name, "it has more than one mapping; put them into one")

    def of(self, model: str) -> Mapping:
        """The mapping of `model`; one that changes nothing where it has none."""
        for mapping in self.mappings:
            if mapping.model == model:
                return mapping
        return Mapping(model)

    @property
    def one_way_columns(self) -> dict[str, frozenset[str]]:
        """The legacy columns of each model whose values the two sides need not agree on."""
        return {
            mapping.model: frozenset(
                column.legacy
                for column in mapping.columns
                if isinstance(column, Converted | Dropped) and column.one_way
            )
            for mapping in self.mappings
            if mapping.is_one_way
        }

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self.mappings)


NO_MAPPINGS = Mappings()


def filled(template: str, value: str) -> str:
    """An expression of a mapping, with an SQL expression for its value."""
    return template.replace("{}", value)


def _losses(columns: Iterable[ColumnMapping]) -> Iterator[str]:
    for column in columns:
        if isinstance(column, Dropped) and not column.one_way:
            yield (
                f"column {column.legacy} would be lost; add it to the target store, or say"
                f' Dropped("{column.legacy}", one_way=True) if it may be'
            )
        if isinstance(column, Converted) and column.backward is None and not column.one_way:
            yield (
                f"column {column.legacy} has no way back; give `backward`, or one_way=True if {column.target} need"
                " never be written back"
            )


def _doubles(columns: Iterable[ColumnMapping]) -> Iterator[str]:
    for place in ("legacy", "target"):
        names = [getattr(column, place) for column in columns if hasattr(column, place)]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{place} column {name} is mapped more than once"


def _templates(columns: Iterable[ColumnMapping]) -> Iterator[str]:
    for column in columns:
        if isinstance(column, Converted):
            for template in (column.forward, column.backward):
                if template is not None and "{}" not in template:
                    yield f"an expression of column {column.legacy} does not say where the value goes: write {{}}"
