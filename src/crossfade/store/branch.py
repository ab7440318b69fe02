"""The installation as a branch of Alembic's: what its revisions run, through whatever driver the project migrates with.

The environment of the project (`env.py`) says what there is to capture:

    context.config.attributes["crossfade"] = BranchOptions(schema=lambda: load_schema("schema.prisma"))

Alembic runs a revision in one transaction. So all tables are locked together, and given free together whenever one of
them is not to be had soon; the tables of the project must have been made before.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import sqlalchemy
from alembic import context, op
from sqlalchemy.exc import DBAPIError

from crossfade.errors import ConfigurationError, InstallError, LockedOutError
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store.catalog import own_triggers
from crossfade.store.homes import HOME
from crossfade.store.install import (
    DEADLINE,
    conclude,
    install_core,
    install_table,
    models_under_way,
    uninstall_core,
    uninstall_table,
)
from crossfade.store.locks import LOCK_TIMEOUT
from crossfade.store.refusals import refusals
from crossfade.store.tables import Connection, inspect_tables

T = TypeVar("T")

ATTRIBUTE = "crossfade"
"""Where the options stand in the attributes of Alembic's configuration."""

_LOCKED = frozenset({"55P03", "40P01"})


@dataclass(frozen=True, slots=True)
class BranchOptions:
    """What the branch installs.

    `schema` is asked for when a revision runs. `database_schema` is the PostgreSQL schema of the tables; None is the
    first of the connection's search path. `mappings` say which tables have another name or schema there.
    """

    schema: Callable[[], Schema]
    side: Side = Side.SQLALCHEMY
    home: str = HOME
    by: str = "alembic"
    database_schema: str | None = None
    mappings: Mappings = NO_MAPPINGS


def upgrade() -> None:
    """Create or complete the objects.

    Raises:
        InstallError: something stands in the way, or a table stayed locked.
        ConfigurationError: the environment does not say what there is to capture.
    """
    options = _options()
    _in_savepoint(lambda connection, where: _install(connection, where, options))


def downgrade() -> None:
    """Remove the objects.

    Raises:
        InstallError: a model is under way, or a table stayed locked.
    """
    options = _options()
    _in_savepoint(lambda connection, where: _uninstall(connection, where, options.home))


async def _install(connection: Connection, where: str, options: BranchOptions) -> None:
    schema = options.schema()
    database_schema = options.database_schema or await connection.fetchval("SELECT current_schema()::text")
    tables, problems = await inspect_tables(connection, schema, database_schema, options.mappings)
    problems += await refusals(connection, options.home, options.side, tables)
    if problems:
        raise InstallError(where, "; ".join(problems))
    await install_core(connection, options.home, list(schema.models), options.by)
    for table in tables:
        await install_table(connection, options.home, options.side, table, where)
    await conclude(connection, options.home, options.side, options.by)


async def _uninstall(connection: Connection, where: str, home: str) -> None:
    under_way = await models_under_way(connection, home)
    if under_way:
        raise InstallError(where, f"{', '.join(under_way)} left `off`; take every model back to it first")
    for target, _ in await own_triggers(connection, home):
        await uninstall_table(connection, home, target)
    await uninstall_core(connection, home)


def _options() -> BranchOptions:
    if context.is_offline_mode():
        raise ConfigurationError(
            "the branch `crossfade` reads the catalog and cannot be printed as SQL; upgrade it online,"
            " or use `crossfade install`"
        )
    options = context.config.attributes.get(ATTRIBUTE)
    if not isinstance(options, BranchOptions):
        raise ConfigurationError(
            f'env.py must set config.attributes["{ATTRIBUTE}"] to BranchOptions for the branch `crossfade`'
        )
    return options


def _in_savepoint(work: Callable[[Connection, str], Coroutine[Any, Any, T]]) -> T:
    """Run `work`, and give back every lock that it got whenever it would have to wait for one."""
    bind = op.get_bind()
    where = f"{bind.engine.url.host}:{bind.engine.url.port}/{bind.engine.url.database}"
    connection = cast("Connection", _OverAlembic(bind))
    until = time.monotonic() + DEADLINE
    while True:
        try:
            with bind.begin_nested():
                _finish(connection.execute(f"SET LOCAL lock_timeout = '{round(LOCK_TIMEOUT * 1000)}ms'"))
                result = _finish(work(connection, where))
                _finish(connection.execute("SET LOCAL lock_timeout TO DEFAULT"))
                return result
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
            if state not in _LOCKED:
                raise
            if time.monotonic() >= until:
                raise LockedOutError(where, None, (), DEADLINE) from error
        time.sleep(random.uniform(0.5, 1.5) * LOCK_TIMEOUT)  # noqa: S311


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, which is what all of them do over `_OverAlembic`."""
    try:
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    raise AssertionError("it has waited for something")


class _OverAlembic:
    """As much of asyncpg's connection as an installation needs, over the connection that Alembic migrates with."""

    def __init__(self, bind: sqlalchemy.Connection) -> None:
        self._bind = bind

    async def execute(self, query: str, *values: Any) -> None:
        self._run(query, values)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        return list(self._run(query, values).mappings())

    async def fetchrow(self, query: str, *values: Any) -> Any:
        return self._run(query, values).mappings().first()

    async def fetchval(self, query: str, *values: Any) -> Any:
        return self._run(query, values).scalar()

    def _run(self, query: str, values: tuple[Any, ...]) -> sqlalchemy.CursorResult[Any]:
        named = query.replace(":", r"\:")
        if values:
            named = re.sub(r"\$(\d+)", r"(:p\1)", named)
        parameters = {f"p{number}": value for number, value in enumerate(values, start=1)}
        return self._bind.execute(sqlalchemy.text(named), parameters)
