"""What the SQLAlchemy path costs per call, beside asyncpg alone and beside idiomatic SQLAlchemy Core.

Same process, same server, interleaved rounds, medians of the ratios round by round:

* ours: `SqlAlchemyPath.execute`, from Prisma's arguments to finished records;
* asyncpg: its own pool with reset disabled, the same columns by a constant statement, each row mapped by hand to a
  slotted dataclass with aware times and parsed JSON; `raw` is the same with rows left as they come, for information;
* Core: `engine.connect()` (or `begin()` for a create) and a statement built per call, with default transactions.

Client CPU and time per operation, one task at a time.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import create_async_engine

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, arguments, median_ratio, report
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.parser import load_schema
from crossfade.operation import Action, Operation
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from marketplace.models import MODELS, User
from marketplace.records import RECORDS
from marketplace.setup import SCHEMA_FILE, upgrade_target

CALLS = 300
ROWS = 500
CPU_GOAL, TIME_GOAL = 1.25, 0.35
USERS = User.__table__
MINTED = count()
NOW = datetime.now(UTC).replace(microsecond=0)

COLUMNS = """id, email, handle, name, role::text, is_active, balance, reputation, login_count, storage_bytes,
    notify_by::text[], tags, preferences::text, avatar, last_login_at, created_at, updated_at"""
ONE = f"SELECT {COLUMNS} FROM users WHERE email = $1"
PAGE = f"SELECT {COLUMNS} FROM users WHERE is_active = $1 ORDER BY email ASC LIMIT $2"
NEW = f"""INSERT INTO users (id, email, name, role, balance, tags, created_at, updated_at)
    VALUES ($1, $2, $3, CAST($4::text AS "UserRole"), $5, $6, $7, $8) RETURNING {COLUMNS}"""

Call = Callable[[], Awaitable[Any]]


@dataclass
class Times:
    """Microseconds per call, one entry per round."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def new_user() -> dict[str, Any]:
    number = next(MINTED)
    return {
        "id": f"u{number}",
        "email": f"user{number}@example.com",
        "name": f"User {number}",
        "role": "SELLER",
        "balance": 12,
        "tags": ["eu", "vip"],
        "created_at": NOW,
        "updated_at": NOW,
    }


async def measure(variants: dict[str, Call], rounds: int) -> dict[str, Times]:
    times = {name: Times() for name in variants}
    for number in range(rounds + 2):
        for name, call in variants.items():
            cpu, wall = process_time(), perf_counter()
            for _ in range(CALLS):
                await call()
            if number >= 2:  # the first rounds open connections and prepare statements
                times[name].cpu.append((process_time() - cpu) / CALLS * 1e6)
                times[name].wall.append((perf_counter() - wall) / CALLS * 1e6)
    return times


def ours(path: SqlAlchemyPath) -> dict[str, Call]:
    page = {"where": {"is_active": True}, "order": {"email": "asc"}, "take": 20}
    return {
        "find_unique": lambda: path.execute(
            Operation("User", Action.FIND_UNIQUE, {"where": {"email": "user7@example.com"}})
        ),
        "find_many(20)": lambda: path.execute(Operation("User", Action.FIND_MANY, page)),
        "create": lambda: path.execute(Operation("User", Action.CREATE, {"data": new_user()})),
    }


@dataclass(slots=True)
class PlainUser:
    """What somebody who writes for asyncpg alone would map a row to."""

    id: str
    email: str
    handle: str | None
    name: str | None
    role: str
    is_active: bool
    balance: Decimal
    reputation: float
    login_count: int
    storage_bytes: int
    notify_by: list[str]
    tags: list[str]
    preferences: Any
    avatar: bytes | None
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime


def mapped(row: Any) -> PlainUser:
    user = PlainUser(*row)
    user.preferences = json.loads(user.preferences)
    user.created_at = user.created_at.replace(tzinfo=UTC)
    user.updated_at = user.updated_at.replace(tzinfo=UTC)
    return user


def plain(pool: asyncpg.Pool, mapping: Callable[[Any], Any] | None) -> dict[str, Call]:
    async def fetch(sql: str, *values: Any) -> Any:
        async with pool.acquire() as connection:
            rows = await connection.fetch(sql, *values)
        return rows if mapping is None else [mapping(row) for row in rows]

    def create() -> Awaitable[Any]:
        times = (NOW.replace(tzinfo=None),) * 2
        return fetch(NEW, *list(new_user().values())[:-2], *times)

    return {
        "find_unique": lambda: fetch(ONE, "user7@example.com"),
        "find_many(20)": lambda: fetch(PAGE, True, 20),
        "create": create,
    }


def idiomatic(engine: Any) -> dict[str, Call]:
    async def read(statement: Any) -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(statement)).mappings().all()

    async def create() -> Any:
        async with engine.begin() as connection:
            statement = insert(USERS).values(**new_user()).returning(*USERS.c)
            return (await connection.execute(statement)).mappings().one()

    page = USERS.c.is_active, USERS.c.email
    return {
        "find_unique": lambda: read(select(USERS).where(USERS.c.email == "user7@example.com")),
        "find_many(20)": lambda: read(select(USERS).where(page[0].is_(True)).order_by(page[1]).limit(20)),
        "create": create,
    }


async def no_reset(connection: Any) -> None: ...


async def main() -> int:
    options = arguments(__doc__ or "")
    server = EmbeddedPostgres()
    await server.start()
    try:
        dsn = Dsn.parse(await server.create_database("bench"))
        await upgrade_target(dsn)
        return await run(dsn, options)
    finally:
        await server.stop()


async def run(dsn: Dsn, options: Any) -> int:
    tables = {name: model.__table__ for name, model in MODELS.items()}
    path = SqlAlchemyPath(load_schema(SCHEMA_FILE), tables, RECORDS, dsn)
    await path.connect()
    rows = [new_user() for _ in range(ROWS)]
    await path.execute(Operation("User", Action.CREATE_MANY, {"data": rows}))
    engine = create_async_engine(dsn.sqlalchemy_url(), connect_args=dsn.connect_args())
    figures: list[Figure] = []
    shown = Table("call", "µs", "ours", "asyncpg", "raw", "Core", title="medians per call")
    async with asyncpg.create_pool(**dsn.asyncpg_kwargs(), min_size=1, reset=no_reset) as pool:
        sides = {
            "ours": ours(path),
            "asyncpg": plain(pool, mapped),
            "raw": plain(pool, None),
            "Core": idiomatic(engine),
        }
        for name in sides["ours"]:
            times = await measure({side: calls[name] for side, calls in sides.items()}, options.rounds)
            for what in ("cpu", "wall"):
                medians = [f"{statistics.median(getattr(times[side], what)):.0f}" for side in sides]
                shown.add_row(name, what, *medians)
            cpu = median_ratio(times["ours"].cpu, times["asyncpg"].cpu)
            wall = median_ratio(times["ours"].wall, times["Core"].wall)
            figures.append(Figure.at_most(f"{name}: client CPU, of asyncpg's", cpu, CPU_GOAL))
            figures.append(Figure.at_most(f"{name}: time, of idiomatic Core's", wall, TIME_GOAL))
    await engine.dispose()
    await path.close()
    Console().print(shown)
    return report("the SQLAlchemy path", figures, options.json)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
