"""Operations on a Prisma client: that of the path, or the one that stands for a transaction.

* Arguments pass through as they are. `Json` and `Base64` are made known to the client's own serializer instead of
  being replaced call by call: nothing is copied on the way in.
* Results are taken over: a model of Prisma is already validated, so its values become our record without a second
  validation. Only bytes and included relations are converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from crossfade import errors
from crossfade.fields import Base64
from crossfade.operation import Action, Operation
from crossfade.paths.prisma_engine import Engine
from crossfade.paths.prisma_faults import Package, refused
from crossfade.paths.transaction import check_batch
from crossfade.records import Record
from crossfade.schema import ModelSpec, Scalar, Schema

_COUNTS = frozenset({Action.COUNT, Action.CREATE_MANY, Action.UPDATE_MANY, Action.DELETE_MANY})

Converter = Callable[[Any, Mapping[str, Any] | None], Record]


class Session:
    """Executes operations on one client."""

    def __init__(
        self,
        schema: Schema,
        converters: Mapping[str, Converter],
        client: Any,
        package: Package,
        engine: Engine,
    ) -> None:
        self._schema = schema
        self._converters = converters
        self._client = client
        self._package = package
        self._engine = engine
        self._actions = {spec.name: getattr(client, spec.attribute) for spec in schema}

    def of(self, client: Any) -> Self:
        """Return a session on another client of the same engine."""
        return type(self)(self._schema, self._converters, client, self._package, self._engine)

    async def execute(self, operation: Operation, *, again: bool) -> Any:
        """Execute one operation; see `Path.execute`. `again` allows a second try when the engine was gone."""
        try:
            call = getattr(self._actions[operation.model], operation.action)
        except KeyError:
            raise errors.UnknownModelError(operation.model, list(self._schema.models)) from None
        try:
            result = await self._engine.call(partial(call, **operation.arguments), again=again)
        except (TypeError, UnicodeError) as error:
            raise refused(operation, error) from error
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, operation.model) from error
        if result is None or operation.action in _COUNTS:
            return result
        convert = self._converters[operation.model]
        include = operation.arguments.get("include")
        if isinstance(result, list):
            return [convert(row, include) for row in result]
        return convert(result, include)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes together; see `Path.batch`."""
        check_batch(operations)
        if not operations:
            return
        batch = self._client.batch_()
        for operation in operations:
            self._add(batch, operation)
        try:
            await self._engine.call(batch.commit)
        except UnicodeError as error:
            raise refused(operations[0], error) from error
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, operations[0].model) from error

    def _add(self, batch: Any, operation: Operation) -> None:
        add = getattr(getattr(batch, self._schema.model(operation.model).attribute), operation.action)
        try:
            add(**operation.arguments)
        except (TypeError, UnicodeError) as error:
            raise refused(operation, error) from error
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, operation.model) from error

    async def raw(self, method: str, sql: str, *values: Any, again: bool = False) -> Any:
        """Run a statement of our own with `query_raw` or `execute_raw`."""
        try:
            return await self._engine.call(partial(getattr(self._client, method), sql, *values), again=again)
        except self._package.errors.PrismaError as error:
            raise self._package.translated(error, "") from error


def converters_for(schema: Schema, records: Mapping[str, type[Record]]) -> dict[str, Converter]:
    """Return, by model, the function from Prisma's model to our record."""
    converters: dict[str, Converter] = {}
    for spec in schema:
        converters[spec.name] = _converter(spec, records[spec.name], converters)
    return converters


def _converter(spec: ModelSpec, record: type[Record], converters: Mapping[str, Converter]) -> Converter:
    """Return a function from Prisma's model to our record; `converters` is filled when it is first called."""
    of_bytes = tuple(f.name for f in spec.fields.values() if f.scalar is Scalar.BYTES)
    relations = {relation.name: relation.model for relation in spec.relations.values()}
    build = record.build

    def convert(row: Any, include: Mapping[str, Any] | None) -> Record:
        values: dict[str, Any] = row.__dict__  # the row is Prisma's no longer: its dict becomes the record's
        for name in of_bytes:
            value = values[name]
            if value is not None:
                values[name] = (
                    [Base64(str(v)) for v in value] if isinstance(value, list) else Base64(str(value))
                )
        if include:
            for name, choice in include.items():
                related = values[name]
                if related is None:
                    continue
                deeper = choice.get("include") if isinstance(choice, Mapping) else None
                into = converters[relations[name]]
                if isinstance(related, list):
                    values[name] = [into(one, deeper) for one in related]
                else:
                    values[name] = into(related, deeper)
        return build(values)

    return convert
