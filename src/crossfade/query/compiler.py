"""Operations to plans: read the shape, look it up, and compile it the first time it is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import TableClause

from crossfade.errors import UnknownModelError
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.operation import Action, Operation
from crossfade.query.compiled import (
    BatchPlan,
    ConstantPlan,
    CountPlan,
    DeleteRowPlan,
    FindPlan,
    ManyPlan,
    Plan,
    Statement,
    UpsertPlan,
    WriteRowPlan,
    compiled,
)
from crossfade.query.nested import Nested, build_linkings, build_lookups
from crossfade.query.refusals import unsupported
from crossfade.query.select import Selection, build_includes, build_selection
from crossfade.query.shape import (
    Count,
    Create,
    CreateMany,
    Delete,
    DeleteMany,
    FindUnique,
    Shape,
    Update,
    UpdateMany,
    Upsert,
    Values,
    read,
)
from crossfade.query.storage import Storage, StoredModel
from crossfade.query.where import Nodes, build_where
from crossfade.query.write import (
    Assignments,
    build_changed,
    build_insert,
    build_rows,
    build_update,
    kept,
)
from crossfade.records import Record
from crossfade.schema import Schema

_REQUIRED = frozenset({Action.FIND_UNIQUE_OR_RAISE, Action.FIND_FIRST_OR_RAISE})
_FIRST = frozenset({Action.FIND_FIRST, Action.FIND_FIRST_OR_RAISE})


class Compiler:
    """Turns operations into plans and values. Holds the plans of the shapes it has seen, up to `capacity`."""

    def __init__(
        self,
        schema: Schema,
        tables: Mapping[str, sa.Table],
        records: Mapping[str, type[Record]],
        *,
        capacity: int = 4096,
        mappings: Mappings = NO_MAPPINGS,
    ) -> None:
        self._dialect: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
        self._models = Storage(schema, tables, records, self._dialect, mappings).models
        self._capacity = capacity
        self._plans: dict[tuple[str, Action, Shape], Plan] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def place(self, model: str, field: str) -> tuple[TableClause, str]:
        """The table of a model and the column of one of its fields."""
        stored = self._models[model]
        return stored.table, stored.fields[field].column

    def table(self, model: str) -> TableClause:
        """The table of a model."""
        return self._models[model].table

    def plan(self, operation: Operation) -> tuple[Plan, Values]:
        """Return how to execute `operation`, and its values.

        Raises:
            QueryError: the arguments cannot be used here.
            DataError: the engine would refuse them.
            UnknownModelError: the schema has no such model.
        """
        try:
            model = self._models[operation.model]
        except KeyError:
            raise UnknownModelError(operation.model, list(self._models)) from None
        values: Values = []
        shape = read(model, operation, values)
        key = (operation.model, operation.action, shape)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._compile(model, operation.action, shape, len(values))
            if len(self._plans) >= self._capacity:
                del self._plans[next(iter(self._plans))]  # the oldest: shapes in use come back at once
            self._plans[key] = plan
        return plan, values

    def _compile(self, model: StoredModel, action: Action, shape: Shape, values: int) -> Plan:
        required = model.name if action in _REQUIRED else None
        match shape:
            case FindUnique():
                return self._find_unique(model, shape, values, required)
            case Selection():
                return self._find(model, shape, values, action, required)
            case Count():
                return self._count(model, shape, values)
            case Create():
                insert = build_insert(model, shape.data.assignments).returning(*model.columns(model.table))
                statement = compiled(insert, self._dialect, values)
                return self._write(model, statement, shape, shape.data.nested, values)
            case CreateMany():
                return self._create_many(model, shape, values)
            case Update():
                statement = self._update(model, shape.data.assignments, shape.where, values)
                return self._write(model, statement, shape, shape.data.nested, values)
            case UpdateMany():
                return self._update_many(model, shape, values)
            case Upsert():
                return self._upsert(model, shape, values)
            case Delete():
                return self._delete(model, shape, values)
            case DeleteMany():
                condition = build_where(model, model.table, shape.where, joins=False)
                delete = sa.delete(model.table).where(condition)
                return ManyPlan(compiled(delete, self._dialect, values))

    def _find_unique(
        self, model: StoredModel, shape: FindUnique, values: int, required: str | None
    ) -> FindPlan:
        statement = self._select(model, shape.where, values)
        includes = build_includes(self._dialect, model, shape.include, values)
        return FindPlan(statement, model.builder(), None, includes, single=True, required=required)

    def _find(
        self, model: StoredModel, shape: Selection, values: int, action: Action, required: str | None
    ) -> FindPlan:
        first = action in _FIRST
        found = build_selection(model, shape, first=first)
        return FindPlan(
            compiled(found.select, self._dialect, values),
            model.builder(),
            found.window,
            build_includes(self._dialect, model, shape.include, values),
            single=first,
            required=required,
        )

    def _count(self, model: StoredModel, shape: Count, values: int) -> CountPlan:
        selection = shape.selection
        names = shape.names or ("_all",)
        found = build_selection(model, selection)
        if found.window is not None and found.window.cursor:
            raise unsupported(model.name, "count.cursor")
        if selection.take is None and selection.skip is None:
            source: Any = model.table
            query = sa.select().where(build_where(model, source, selection.where))
            if selection.cursor:
                source = found.select.order_by(None).subquery("counted")
                query = sa.select()
        else:
            source = found.select.subquery("counted")
            query = sa.select()
        positions = {name: position for position, name in enumerate(model.fields)}
        counts = [
            sa.func.count()
            if name == "_all"
            else sa.func.count(
                model.fields[name].of(source) if source is model.table else list(source.c)[positions[name]]
            )
            for name in names
        ]
        statement = compiled(query.add_columns(*counts).select_from(source), self._dialect, values)
        return CountPlan(statement, shape.names)

    def _create_many(self, model: StoredModel, shape: CreateMany, values: int) -> Plan:
        statements = tuple(
            compiled(
                build_rows(model, columns, skip_duplicates=shape.skip_duplicates),
                self._dialect,
                values,
            )
            for columns in shape.groups
        )
        match statements:
            case ():
                return ConstantPlan(0)
            case (statement,):
                return ManyPlan(statement)
            case _:
                return BatchPlan(statements)

    def _update_many(self, model: StoredModel, shape: UpdateMany, values: int) -> Plan:
        if not shape.data:
            return ConstantPlan(0)
        if kept(model, shape.data):
            changed = build_changed(model, shape.data, shape.where, joins=False)
            return ManyPlan(compiled(changed, self._dialect, values))
        # Nothing that this store has; the rows are counted nevertheless.
        condition = build_where(model, model.table, shape.where, joins=False)
        found: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(model.table).where(condition)
        return ManyPlan(compiled(found, self._dialect, values))

    def _upsert(self, model: StoredModel, shape: Upsert, values: int) -> Plan:
        columns = model.columns(model.table)
        insert = build_insert(model, shape.create)
        if (
            shape.target is not None
            and kept(model, shape.update)
            and all(model.fields[name].is_kept for name in shape.target)
        ):
            target = [model.table.c[model.fields[name].column] for name in shape.target]
            upsert = insert.on_conflict_do_update(
                index_elements=target, set_=build_update(model, shape.update)
            ).returning(*columns)
            return self._write(model, compiled(upsert, self._dialect, values), shape, Nested(), values)
        key = tuple((name, "equals", ~index) for index, name in enumerate(model.spec.primary_key))
        positions = {name: position for position, name in enumerate(model.fields)}
        return UpsertPlan(
            locked=self._select(model, shape.where, values, locked=True),
            key=tuple(positions[name] for name in model.spec.primary_key),
            insert=compiled(insert.returning(*columns), self._dialect, values),
            update=self._update(model, shape.update, key, values),
            build=model.builder(),
            includes=build_includes(self._dialect, model, shape.include, values),
        )

    def _delete(self, model: StoredModel, shape: Delete, values: int) -> DeleteRowPlan:
        condition = build_where(model, model.table, shape.where)
        delete = sa.delete(model.table).where(condition).returning(*model.columns(model.table))
        return DeleteRowPlan(
            statement=compiled(delete, self._dialect, values),
            build=model.builder(),
            locked=self._select(model, shape.where, values, locked=True) if shape.include else None,
            includes=build_includes(self._dialect, model, shape.include, values),
        )

    def _write(
        self,
        model: StoredModel,
        statement: Statement,
        shape: Create | Update | Upsert,
        nested: Nested,
        values: int,
    ) -> WriteRowPlan:
        return WriteRowPlan(
            statement,
            model.builder(),
            build_includes(self._dialect, model, shape.include, values),
            build_lookups(self._dialect, model, nested, values),
            build_linkings(self._dialect, model, nested, values),
            key=list(model.fields).index(model.spec.primary_key[0]),
            is_new=isinstance(shape, Create),
        )

    def _update(self, model: StoredModel, data: Assignments, where: Nodes, values: int) -> Statement:
        if not kept(model, data):
            return self._select(model, where, values)  # nothing to change: the row as it is
        changed = build_changed(model, data, where).returning(*model.columns(model.table))
        return compiled(changed, self._dialect, values)

    def _select(self, model: StoredModel, where: Nodes, values: int, *, locked: bool = False) -> Statement:
        condition = build_where(model, model.table, where)
        query = sa.select(*model.columns(model.table)).where(condition)
        return compiled(query.with_for_update() if locked else query, self._dialect, values)
