"""Backfills for tests: with writes injected at the points that a worker passes, and workers that die there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from twins import P, S, Twins, identifier, refers, schema_of

from crossfade.backfill import Backfill, BackfillSettings, CopyPoint, TableProgress
from crossfade.backfill.session import APPLICATION
from small_schema import relation, scalar

QUICK: dict[str, Any] = {"poll": 0.02, "backoff": 0.02, "settle_deadline": 20.0}

SHOP = schema_of(
    Shop=[
        identifier(),
        scalar("name"),
        relation("wares", "Ware", "Wares", isList=True),
    ],
    Ware=[
        identifier(),
        scalar("code", isUnique=True),
        scalar("value"),
        *refers("shop", "Shop", "Wares"),
    ],
)
SHOP_DDL = """
CREATE TABLE "Shop" (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE "Ware" (id integer PRIMARY KEY, code text NOT NULL UNIQUE, value text NOT NULL,
    shop_id integer REFERENCES "Shop" ON DELETE CASCADE ON UPDATE CASCADE);
"""


async def fill(twins: Twins, rows: int = 40) -> None:
    """Put rows into the legacy store, as if they had been there before crossfade was installed."""
    await twins.write(
        P,
        "INSERT INTO \"Shop\" SELECT n, 'shop ' || n FROM generate_series(1, 5) n",
        "INSERT INTO \"Ware\" SELECT n * 10, 'code ' || n, 'old', 1 + n % 5"
        f" FROM generate_series(1, {rows}) n",
    )
    await forget(twins)


async def forget(twins: Twins) -> None:
    """Take what is captured for verified."""
    for connection in twins.plain.values():
        await connection.execute("DELETE FROM crossfade.change")


async def backfill(twins: Twins, *models: str, **settings: Any) -> list[TableProgress]:
    """Run one to its end; `at` and `checked` are not settings."""
    return await make_backfill(twins, **settings).run(models or None)


def make_backfill(twins: Twins, at: Any = None, *, checked: bool = True, **settings: Any) -> Backfill:
    """One for tests: it does not wait long for anything."""
    given = BackfillSettings(**{**QUICK, **settings})
    hook = {} if at is None else {"at": at}
    made = Backfill(twins.stores, twins.reconciler(lock_timeout=0.05), twins.observer, given, **hook)
    made._checked = checked
    return made


@dataclass
class Once:
    """Does something the first time that a worker passes a point with a chunk of a model."""

    point: CopyPoint
    model: str
    act: Callable[[], Awaitable[None]]
    done: bool = field(default=False, init=False)

    async def __call__(self, point: CopyPoint, model: str) -> None:
        if (point, model) == (self.point, self.model) and not self.done:
            self.done = True
            await self.act()


async def terminate_workers(twins: Twins) -> None:
    """End every connection of the backfill, in both stores."""
    for side in (P, S):
        await twins.plain[side].execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = $1 AND datname = current_database()",
            APPLICATION,
        )
