"""A test kit: a path that keeps rows in memory, and an observer that remembers.

`MemoryPath` executes the operations of `crossfade.operation` on plain dictionaries: equality filters, primary and
unique keys, atomic increments, foreign keys. It is for tests of what surrounds a path: order, failure, timing. It is no
model of PostgreSQL, and a test of what a query means belongs on a real store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from pydantic import create_model

from crossfade.errors import DataError, ForeignKeyViolationError, RecordNotFoundError, UniqueViolationError
from crossfade.events import Event
from crossfade.keys import Key, key_from_where, key_of
from crossfade.operation import Action, Operation
from crossfade.paths.transaction import Ending, Verb, check_batch, refusal
from crossfade.records import Record
from crossfade.schema import ModelSpec, Schema
from crossfade.settler import KeyText
from crossfade.stages import Side

EventT = TypeVar("EventT")
Undo: TypeAlias = dict[tuple[str, Key], Record | None]
"""What the rows were that were touched; None where there was none."""


class RecordingObserver:
    """Remembers every fact, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        """Remember `event`."""
        self.events.append(event)

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return the facts of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


def record_classes(schema: Schema) -> dict[str, type[Record]]:
    """Make plain record classes for a schema, every attribute of any type."""
    return {spec.name: _record_class(spec) for spec in schema}


def _record_class(spec: ModelSpec) -> type[Record]:
    fields: dict[str, Any] = dict.fromkeys((*spec.fields, *spec.relations), (Any, None))
    return create_model(spec.name, __base__=Record, **fields)


class MemoryPath:
    """A path over dictionaries.

    `before` is awaited ahead of every operation and `after` when its effect is there but nobody knows yet: stall, fail
    or count there. `refusals` are raised by `connect`, one a time, until none is left.
    """

    def __init__(
        self,
        side: Side,
        schema: Schema,
        records: Mapping[str, type[Record]],
        before: Callable[[Operation], Awaitable[None]] | None = None,
        after: Callable[[Operation], Awaitable[None]] | None = None,
    ) -> None:
        self._side = side
        self._schema = schema
        self._records = records
        self.before = before
        self.after = after
        self.rows: dict[str, dict[Key, Record]] = {spec.name: {} for spec in schema}
        self.executed: list[Operation] = []
        self.refusals: list[Exception] = []
        self._sequences: dict[tuple[str, str], int] = {}

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._side

    async def connect(self) -> None:
        """Raise the next refusal, if there is one."""
        if self.refusals:
            raise self.refusals.pop(0)

    async def close(self) -> None:
        """Nothing to close."""

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        """Take `count` values from a counter."""
        last = self._sequences.get((model, field), 0)
        self._sequences[model, field] = last + count
        return list(range(last + 1, last + count + 1))

    async def sequence_value(self, model: str, field: str) -> int:
        """Return the counter's last value."""
        return self._sequences.get((model, field), 0)

    async def advance_sequence(self, model: str, field: str, value: int) -> None:
        """Raise the counter to at least `value`."""
        self._sequences[model, field] = max(value, self._sequences.get((model, field), 0))

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes, or none of them."""
        undo: Undo = {}
        try:
            await self._write_all(operations, undo)
        except BaseException:
            self._undo(undo)
            raise

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> MemoryTransaction:  # noqa: ARG002, ASYNC109
        """Start a transaction. Everybody sees at once what it does; a rollback takes back the rows that it touched."""
        return MemoryTransaction(self, timeout)

    async def _write_all(self, operations: Sequence[Operation], undo: Undo) -> None:
        check_batch(operations)
        for operation in operations:
            if await self._execute(operation, undo) is None:
                raise RecordNotFoundError("a record that was required but not found")

    def _undo(self, undo: Undo) -> None:
        for (model, key), row in undo.items():
            if row is None:
                self.rows[model].pop(key, None)
            else:
                self.rows[model][key] = row
        undo.clear()

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; `include`, `order` and operators other than equality are not understood."""
        return await self._execute(operation, None)

    async def _execute(self, operation: Operation, undo: Undo | None) -> Any:
        """Execute one operation, and note in `undo` what the rows were that it touches."""
        if self.before is not None:
            await self.before(operation)
        self.executed.append(operation)
        before = {model: dict(rows) for model, rows in self.rows.items()} if undo is not None else {}
        try:
            result = self._perform(operation)
        finally:
            for model, rows in before.items():
                for key in rows.keys() | self.rows[model].keys():
                    if undo is not None and rows.get(key) is not self.rows[model].get(key):
                        undo.setdefault((model, key), rows.get(key))
        if self.after is not None:
            await self.after(operation)
        return result

    def _perform(self, operation: Operation) -> Any:
        spec = self._schema.models[operation.model]
        data: Any = operation.arguments.get("data")
        match operation.action:
            case Action.CREATE:
                return self._insert(spec, data)
            case Action.CREATE_MANY:
                return len([self._insert(spec, row) for row in data])
            case Action.UPSERT:
                found = self._find(spec, operation)
                return (
                    self._change(spec, found[0], data["update"])
                    if found
                    else self._insert(spec, data["create"])
                )
            case Action.UPDATE | Action.UPDATE_MANY:
                changed = [self._change(spec, row, data) for row in self._find(spec, operation)]
            case Action.DELETE | Action.DELETE_MANY:
                changed = [self.rows[spec.name].pop(key_of(spec, row)) for row in self._find(spec, operation)]
            case _:
                changed = self._find(spec, operation)
        return self._result(operation.action, changed)

    @staticmethod
    def _result(action: Action, rows: list[Record]) -> Any:
        if action is Action.FIND_MANY:
            return rows
        if action in (Action.COUNT, Action.UPDATE_MANY, Action.DELETE_MANY):
            return len(rows)
        return rows[0] if rows else None

    def _find(self, spec: ModelSpec, operation: Operation) -> list[Record]:
        where = dict(operation.arguments.get("where") or {})
        key = key_from_where(spec, where)
        if key is not None and operation.action not in (
            Action.UPDATE_MANY,
            Action.DELETE_MANY,
            Action.FIND_MANY,
        ):
            where = dict(key.items)
        return [
            row
            for row in self.rows[spec.name].values()
            if all(getattr(row, n) == v for n, v in where.items())
        ]

    def _insert(self, spec: ModelSpec, data: Mapping[str, Any]) -> Record:
        minted = {}
        for column in spec.minted_by_database:
            if column.name not in data:
                last = self._sequences[spec.name, column.name] = (
                    self._sequences.get((spec.name, column.name), 0) + 1
                )
                minted[column.name] = last
        values = dict.fromkeys((*spec.fields, *spec.relations)) | dict(data) | minted
        self._check_parents(spec, values)
        row = self._records[spec.name].build(values)
        for fields in spec.uniques.values():
            for other in self.rows[spec.name].values():
                if all(getattr(other, name) == values[name] for name in fields):
                    raise UniqueViolationError("unique constraint failed", meta={"target": list(fields)})
        self.rows[spec.name][key_of(spec, row)] = row
        return row

    def _change(self, spec: ModelSpec, row: Record, data: Mapping[str, Any]) -> Record:
        values = dict(vars(row))
        for name, value in data.items():
            values[name] = values[name] + value["increment"] if isinstance(value, Mapping) else value
        self._check_parents(spec, values)
        del self.rows[spec.name][key_of(spec, row)]
        changed = self._records[spec.name].build(values)
        self.rows[spec.name][key_of(spec, changed)] = changed
        return changed

    def _check_parents(self, spec: ModelSpec, values: Mapping[str, Any]) -> None:
        for relation in spec.relations.values():
            wanted = [values[name] for name in relation.from_fields]
            if not wanted or None in wanted:
                continue
            parents = self.rows[relation.model].values()
            if not any([getattr(row, name) for name in relation.to_fields] == wanted for row in parents):
                raise ForeignKeyViolationError("foreign key constraint failed")


class MemorySettler:
    """Keeps two paths in memory level, as a reconciler keeps two stores; the authority wins.

    `pending` is what it says is captured and not verified yet; None stands for "too much to tell".
    """

    def __init__(self, paths: Mapping[Side, MemoryPath], authority: Callable[[str], Side]) -> None:
        self._paths = paths
        self._authority = authority
        self.pending: set[tuple[str, KeyText]] | None = set()
        self.settled: list[tuple[str, KeyText]] = []

    async def pending_keys(self, models: Iterable[str], limit: int = 1000) -> set[tuple[str, KeyText]] | None:
        """Return `pending`, as far as it is about `models`."""
        if self.pending is None or len(self.pending) > limit:
            return None
        wanted = frozenset(models)
        return {key for key in self.pending if key[0] in wanted}

    async def settle_keys(self, model: str, keys: Sequence[KeyText]) -> int:
        """Make rows equal; return how many were not."""
        self.settled += [(model, key) for key in keys]
        side = self._authority(model)
        theirs, ours = self._paths[side.other].rows[model], self._paths[side].rows[model]
        changed = 0
        for key in {*theirs, *ours}:
            if tuple(str(value) for _, value in key.items) in keys and theirs.get(key) != ours.get(key):
                changed += 1
                if key in ours:
                    theirs[key] = ours[key].model_copy()
                else:
                    del theirs[key]
        return changed

    async def run_once(self, models: Iterable[str] | None = None, *, settle: float | None = None) -> int:
        """Make every row of `models` equal; return how many were not."""
        del settle
        repaired = 0
        for model in self._paths[Side.PRISMA].rows if models is None else models:
            rows = [path.rows[model] for path in self._paths.values()]
            keys = [tuple(str(value) for _, value in key.items) for row in rows for key in row]
            repaired += await self.settle_keys(model, keys)
        return repaired

    async def drain(self, models: Iterable[str], deadline: float) -> bool:
        """Make every row of `models` equal."""
        del deadline
        await self.run_once(models)
        return True


class MemoryTransaction:
    """A transaction of a `MemoryPath`."""

    def __init__(self, path: MemoryPath, timeout: float) -> None:
        self._path = path
        self._undo: Undo = {}
        self._ending: Ending | None = None
        self._is_aborted = False
        self._timeout = timeout
        self._started = asyncio.get_running_loop().time()
        self.held: list[str] = []

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._path.side

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation; a `DataError` aborts the transaction, as PostgreSQL does it."""
        self._check(Verb.QUERY)
        if self._is_aborted:
            raise DataError("current transaction is aborted, commands ignored until end of transaction block")
        try:
            return await self._path._execute(operation, self._undo)  # noqa: SLF001  # one kit
        except DataError as error:
            self._is_aborted = not isinstance(error, RecordNotFoundError)
            raise

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes."""
        check_batch(operations)
        for operation in operations:
            if await self.execute(operation) is None:
                raise RecordNotFoundError("a record that was required but not found")

    async def hold(self, models: Sequence[str]) -> None:
        """Remember the names in `held`."""
        self._check(Verb.QUERY)
        self.held += models

    async def commit(self) -> None:
        """Keep what was done, unless an error aborted it."""
        self._check(Verb.COMMIT)
        self._end(Ending.COMMITTED, keeps=not self._is_aborted)

    async def rollback(self) -> None:
        """Take back what was done."""
        self._check(Verb.ROLLBACK)
        self._end(Ending.ROLLED_BACK, keeps=False)

    def _check(self, verb: Verb) -> None:
        passed = asyncio.get_running_loop().time() - self._started
        if self._ending is None and passed >= self._timeout:
            self._end(Ending.EXPIRED, keeps=False)
        if self._ending is not None:
            raise refusal(verb, self._ending, self._timeout, passed)

    def _end(self, ending: Ending, *, keeps: bool) -> None:
        self._ending = ending
        if not keeps:
            self._path._undo(self._undo)  # noqa: SLF001
