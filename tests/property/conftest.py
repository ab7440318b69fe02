"""Both sides at once, with the same rows, on an event loop that outlives the examples."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import CrossfadeError, UnsupportedQueryError
from crossfade.operation import Action, Operation
from crossfade.stages import Side
from sides import JOIN_TABLES, OpenSide, marketplace_schema, open_side

from .canonical import canonical
from .strategies import ROWS, Maker

T = TypeVar("T")

settings.register_profile(
    "crossfade",
    deadline=None,
    derandomize="CROSSFADE_HYPOTHESIS_EXAMPLES" not in os.environ,
    max_examples=int(os.environ.get("CROSSFADE_HYPOTHESIS_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=True,
)
settings.load_profile("crossfade")


class Both:
    """The two sides, driven one after the other on one loop."""

    def __init__(self, runner: asyncio.Runner, prisma: OpenSide, sqlalchemy: OpenSide) -> None:
        self._runner = runner
        self.prisma = prisma
        self.sqlalchemy = sqlalchemy

    def run(self, awaitable: Awaitable[T]) -> T:
        """Wait for something on the loop that both sides live on."""

        async def wait() -> T:
            return await awaitable

        return self._runner.run(wait())

    def answers(self, operation: Operation) -> tuple[Any, Any]:
        """Execute on both sides; an answer is a canonical result, or the class and code of an error."""

        async def both() -> tuple[Any, Any]:
            return await _answer(self.prisma, operation), await _answer(self.sqlalchemy, operation)

        return self._runner.run(both())

    def stored(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Every row of every table of both stores, as PostgreSQL prints it."""

        async def both() -> tuple[Any, Any]:
            return await _rows(self.prisma), await _rows(self.sqlalchemy)

        return self._runner.run(both())

    def reset(self) -> None:
        """Put the data set back."""

        async def both() -> None:
            for side in (self.prisma, self.sqlalchemy):
                await side.store.execute(_reset(side))

        self._runner.run(both())


UNSUPPORTED = ("error", UnsupportedQueryError.__name__, None)
"""A gap that is refused by name. It is no disagreement, and nothing has been read or written."""


async def _answer(side: OpenSide, operation: Operation) -> Any:
    try:
        return canonical(await side.path.execute(operation))
    except CrossfadeError as error:
        return ("error", type(error).__name__, getattr(error, "code", None))


async def _rows(side: OpenSide) -> dict[str, list[str]]:
    return {
        table: [row[0] for row in await side.store.fetch(f'SELECT t::text FROM "{table}" t ORDER BY 1')]
        for table in side.tables
    }


def _reset(side: OpenSide) -> str:
    copies = (f'INSERT INTO "{table}" SELECT * FROM seed."{table}";' for table in reversed(side.tables))
    return side.clearing + "".join(copies)


async def _fill(prisma: OpenSide, sqlalchemy: OpenSide) -> None:
    """Make the data set through Prisma, copy it to the other side, and keep a copy of it beside each."""
    schema = marketplace_schema()
    maker = Maker(schema)
    for spec in schema.in_foreign_key_order():
        for row in maker.rows(spec):  # one by one: a row may point at an earlier one of its own model
            await prisma.path.execute(Operation(spec.name, Action.CREATE, {"data": row}))
    pairs = [(f"conversation-{n}", f"user-{(n * step) % ROWS}") for n in range(ROWS) for step in (1, 3)]
    await prisma.store.executemany(
        f'INSERT INTO "{JOIN_TABLES[0]}" ("A", "B") VALUES ($1, $2) ON CONFLICT DO NOTHING', pairs
    )
    for table in reversed(prisma.tables):
        columns = [row[0] for row in await prisma.store.fetch(_COLUMNS, table)]
        rows = await prisma.store.fetch(f'SELECT {_listed(columns)} FROM "{table}"')
        slots = ", ".join(f"${number + 1}" for number in range(len(columns)))
        await sqlalchemy.store.executemany(
            f'INSERT INTO "{table}" ({_listed(columns)}) VALUES ({slots})', [tuple(row) for row in rows]
        )
    for side in (prisma, sqlalchemy):
        keep = "".join(f'CREATE TABLE seed."{table}" AS TABLE "{table}";' for table in side.tables)
        await side.store.execute(f"CREATE SCHEMA seed; {keep}")


_COLUMNS = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1 ORDER BY 1
"""


def _listed(columns: list[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


@pytest.fixture(scope="session")
def both(postgres: EmbeddedPostgres) -> Iterator[Both]:
    """Both sides, open and filled alike."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def open_both() -> list[OpenSide]:
            opened = []
            for side in Side:
                dsn = Dsn.parse(await postgres.create_database(f"property_{side}"))
                opened.append(await stack.enter_async_context(open_side(side, dsn)))
            await _fill(*opened)
            return opened

        try:
            yield Both(runner, *runner.run(open_both()))
        finally:
            runner.run(stack.aclose())
