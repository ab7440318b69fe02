"""The two stores of a drill: throwaway ones, or schemas of the drill's own in databases that were named for it.

Everything that the drill makes in a database lies in two schemas, which carry a comment that says whose they are. A
schema of that name without that comment is somebody else's, and the drill does not touch it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Final

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.schema import CreateIndex, CreateTable

from crossfade.covering import cover
from crossfade.drill.judge import RowKey, Stored, Values
from crossfade.drill.models import KEYS, NOTED, PARENTS_FIRST, PLAYGROUND, SCHEMA, SHARED, tables
from crossfade.drill.order import StoreOrder
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import ConfigurationError
from crossfade.stages import PLANS, Side, Stage, Topology
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.store.tables import literal, quoted
from crossfade.stores import check_reachable

APPLICATION_NAME: Final = "crossfade-drill"
_MARK: Final = "crossfade drill: throwaway tables, dropped when the drill ends"
_SPELLING: Final = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "application_name": "crossfade-drill-verdict"}
_NAMES: Final = {Side.PRISMA: "legacy", Side.SQLALCHEMY: "target"}


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores. `psql` is None where there is none."""

    orders: Mapping[Side, StoreOrder]
    psql: Path | None

    @asynccontextmanager
    async def connect(self, side: Side) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of the drill's own to a store."""
        arguments = self.orders[side].dsn.asyncpg_kwargs()
        arguments["server_settings"] = arguments["server_settings"] | _SPELLING
        connection = await asyncpg.connect(**arguments)
        try:
            yield connection
        finally:
            connection.terminate()


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one model stands, by the record with the higher epoch."""

    stage: Stage
    is_moving: bool

    @property
    def authority(self) -> Side:
        """The side that takes its writes."""
        return PLANS[Topology.SEPARATE][self.stage].authority


@asynccontextmanager
async def open_stores(given: tuple[Dsn, Dsn] | None, allowed: Collection[str]) -> AsyncIterator[Stores]:
    """Make the tables and install crossfade, in an embedded server or in `given` databases; remove them afterwards.

    Raises:
        ConfigurationError: `allowed` does not name the given databases, or the drill's schemas belong to others.
        StoreUnavailableError: a database does not answer.
    """
    async with AsyncExitStack() as stack:
        if given is None:
            server = await stack.enter_async_context(EmbeddedPostgres())
            dsns = {
                side: Dsn.parse(await server.create_database(f"drill_{name}"))
                for side, name in _NAMES.items()
            }
            psql: Path | None = server.psql
        else:
            dsns = dict(zip(_NAMES, given, strict=True))
            check_allowed(list(given), allowed)
            psql = _find_psql()
            for side, dsn in dsns.items():
                await check_reachable(dsn, f"the store of {side}")
        orders = {side: _order(side, dsn) for side, dsn in dsns.items()}
        stores = Stores(orders, psql)
        for side in Side:
            await _make(stores, side)
            stack.push_async_callback(_drop, stores, side)
        for side, order in orders.items():
            async with Store(side, order.dsn, SCHEMA, home=order.home) as store:
                await install(store, by="drill")
        await _cover(orders)
        yield stores


async def _cover(orders: Mapping[Side, StoreOrder]) -> None:
    """Let the gates pass: the few rows that are there are copied and verified."""
    async with AsyncExitStack() as stack:
        opened = {
            side: await stack.enter_async_context(Store(side, order.dsn, SCHEMA, home=order.home))
            for side, order in orders.items()
        }
        await cover(opened, by="drill")


def check_allowed(given: list[Dsn], allowed: Collection[str]) -> None:
    """Return if every database was named by the operator.

    Raises:
        ConfigurationError: one was not; the message says how to name it.
    """
    wanted = dict.fromkeys(f"{dsn.host}/{dsn.database}" for dsn in given)
    missing = [name for name in wanted if name not in allowed]
    if missing:
        options = " ".join(f"--yes-on {name}" for name in wanted)
        raise ConfigurationError(
            f"the drill makes, breaks and drops schemas named crossfade_drill_* in {' and '.join(missing)};"
            f" if that is what you want, add {options}"
        )


def _order(side: Side, dsn: Dsn) -> StoreOrder:
    schema = f"crossfade_drill_{_NAMES[side]}"
    named = dataclasses.replace(
        dsn, schema=schema, params={**dsn.params, "application_name": APPLICATION_NAME}
    )
    return StoreOrder(named, f"{schema}_own")


def _find_psql() -> Path | None:
    found = which("psql")
    if found is not None:
        return Path(found)
    from crossfade.embedded.binaries import find_bin_dir, server_user  # noqa: PLC0415 - an extra may be missing
    from crossfade.errors import EmbeddedError  # noqa: PLC0415 - as above

    try:
        psql = find_bin_dir(server_user()) / "psql"
    except EmbeddedError:
        return None
    return psql if psql.is_file() else None


async def _make(stores: Stores, side: Side) -> None:
    order = stores.orders[side]
    schema = order.dsn.schema or ""
    await _drop(stores, side)
    async with stores.connect(side) as connection, connection.transaction():
        for name in (schema, order.home):
            await connection.execute(f"CREATE SCHEMA {quoted(name)}")
            await connection.execute(f"COMMENT ON SCHEMA {quoted(name)} IS {literal(_MARK)}")
        dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]
        for table in tables(schema).values():
            await connection.execute(str(CreateTable(table).compile(dialect=dialect)))
            for index in table.indexes:
                await connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
        at = quoted(schema)
        await connection.execute(
            f'INSERT INTO {at}."Account" (id, sequence, updated_at)'
            " SELECT unnest($1::text[]), 0, '2026-01-01'",
            list(SHARED),
        )
        await connection.execute(
            f'INSERT INTO {at}."Setting" (account_id, name, sequence, updated_at)'
            " SELECT unnest($1::text[]), $2, 0, '2026-01-01'",
            list(SHARED),
            PLAYGROUND,
        )


async def _drop(stores: Stores, side: Side) -> None:
    """Drop the drill's schemas in a store, if they are there and its own."""
    order = stores.orders[side]
    async with stores.connect(side) as connection:
        for name in (order.dsn.schema or "", order.home):
            row = await connection.fetchrow(
                "SELECT obj_description(oid, 'pg_namespace') AS mark FROM pg_namespace WHERE nspname = $1",
                name,
            )
            if row is None:
                continue
            if row["mark"] != _MARK:
                raise ConfigurationError(
                    f"the schema {name} at {order.dsn.where} was not made by a drill; rename it, or name another"
                    " database"
                )
            await connection.execute(f"DROP SCHEMA {quoted(name)} CASCADE")


# --- what a store says --------------------------------------------------------------------------------------------


async def read_stored(stores: Stores, side: Side, prefix: str) -> Stored:
    """Read what a store holds of the rows whose journal keys begin with `prefix`, and of the shared rows."""
    at = quoted(stores.orders[side].dsn.schema or "")
    own: dict[RowKey, Values] = {}
    counters: dict[RowKey, int] = {}
    fields: dict[RowKey, str | None] = {}
    async with stores.connect(side) as connection:
        for model in PARENTS_FIRST:
            key = KEYS[model]
            columns = ", ".join(quoted(name) for name in (*key, *NOTED[model]))
            rows = await connection.fetch(
                f"SELECT {columns} FROM {at}.{quoted(model)} WHERE starts_with({quoted(key[0])}, $1)",  # noqa: S608
                prefix,
            )
            for row in rows:
                values = tuple(row)
                own[model, "/".join(values[: len(key)])] = values[len(key) :]
        for row in await connection.fetch(
            f'SELECT id, total, note FROM {at}."Account" WHERE id = ANY ($1)',  # noqa: S608
            list(SHARED),
        ):
            counters["Account", row["id"]] = row["total"]
            fields["Account", row["id"]] = row["note"]
        for row in await connection.fetch(
            f'SELECT account_id, name, note FROM {at}."Setting" WHERE account_id = ANY ($1)',  # noqa: S608
            list(SHARED),
        ):
            fields["Setting", f"{row['account_id']}/{row['name']}"] = row["note"]
    return Stored(own, counters, fields)


async def different_rows(stores: Stores) -> dict[str, list[str]]:
    """Compare every row of both stores; return the keys of those that differ, by model."""
    found: dict[str, list[str]] = {}
    for model in PARENTS_FIRST:
        if len({await _digest(stores, side, model) for side in Side}) > 1:
            one, other = [await _hashes(stores, side, model) for side in Side]
            found[model] = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return found


def _key_of(model: str) -> str:
    return ", ".join(f"{quoted(name)}::text" for name in SCHEMA.model(model).primary_key)


async def _digest(stores: Stores, side: Side, model: str) -> tuple[int, str]:
    at = quoted(stores.orders[side].dsn.schema or "")
    order = ", ".join(f'({part}) COLLATE "C"' for part in _key_of(model).split(", "))
    async with stores.connect(side) as connection:
        row = await connection.fetchrow(
            f"SELECT count(*), coalesce(md5(string_agg(md5(t::text), '' ORDER BY {order})), '')"  # noqa: S608
            f" FROM {at}.{quoted(model)} t"
        )
    assert row is not None
    return row[0], row[1]


async def _hashes(stores: Stores, side: Side, model: str) -> dict[str, str]:
    at = quoted(stores.orders[side].dsn.schema or "")
    async with stores.connect(side) as connection:
        rows = await connection.fetch(
            f"SELECT concat_ws('/', {_key_of(model)}), md5(t::text) FROM {at}.{quoted(model)} t"  # noqa: S608
        )
    return {row[0]: row[1] for row in rows}


async def read_standings(stores: Stores) -> dict[str, Standing]:
    """Read where every model stands, and whether anything of its last move is still to be done."""
    found: dict[str, list[asyncpg.Record]] = {}
    for side, order in stores.orders.items():
        async with stores.connect(side) as connection:
            for row in await connection.fetch(
                f"SELECT model, stage, moving_to, epoch FROM {quoted(order.home)}.record"  # noqa: S608
            ):
                found.setdefault(row["model"], []).append(row)
    standings = {}
    for model, rows in found.items():
        newest = max(rows, key=lambda row: row["epoch"])
        is_moving = len({row["epoch"] for row in rows}) > 1 or any(row["moving_to"] for row in rows)
        standings[model] = Standing(Stage(newest["stage"]), is_moving)
    return standings


async def unverified(stores: Stores) -> tuple[int, str | None]:
    """How many captured keys are still to be verified in both stores, and why the first of them is stuck."""
    count, problem = 0, None
    for side, order in stores.orders.items():
        async with stores.connect(side) as connection:
            row = await connection.fetchrow(
                f"SELECT count(*), max(model || ': ' || problem) FROM {quoted(order.home)}.change"  # noqa: S608
            )
            assert row is not None
            count += row[0]
            problem = problem or row[1]
    return count, problem


async def writing(stores: Stores) -> int:
    """How many statements of writers that may be dead by now the servers are still busy with."""
    count = 0
    for side in Side:
        async with stores.connect(side) as connection:
            count += await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"
                " AND state IN ('active', 'idle in transaction')",
                APPLICATION_NAME,
            )
    return count


async def read_moves(stores: Stores, after: Mapping[Side, int]) -> tuple[list[float], dict[Side, int]]:
    """Read the moves of authorities since the entries `after` of each store's history.

    Returns:
        How long each held writers up, in seconds, and the last entry of each history.
    """
    pauses: dict[tuple[str, int], float] = {}
    last = {}
    for side, order in stores.orders.items():
        async with stores.connect(side) as connection:
            rows = await connection.fetch(
                f"SELECT id, model, epoch, pause FROM {quoted(order.home)}.history WHERE id > $1 ORDER BY id",  # noqa: S608
                after.get(side, 0),
            )
        last[side] = max((row["id"] for row in rows), default=after.get(side, 0))
        for row in rows:
            if (
                row["pause"] is not None
            ):  # the new side's entry is the decision, the old side's has the whole pause
                move = row["model"], row["epoch"]
                pauses[move] = max(row["pause"], pauses.get(move, 0.0))
    return list(pauses.values()), last
