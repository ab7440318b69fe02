"""History for a backfill to copy: rows that were there before anybody captured, and a writer that stirs them.

The rows are put into the legacy store with its capture switched off for that moment, and what the target store has
noted of earlier copies is forgotten. So to a backfill they are what it finds where crossfade has just been installed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import asyncpg

from crossfade.drill.journal import JournalFile
from crossfade.drill.models import PARENTS_FIRST
from crossfade.drill.order import StoreOrder
from crossfade.drill.stores import Stores
from crossfade.stages import Side
from crossfade.store.tables import quoted

ACCOUNTS: Final = 15_000
_HOT: Final = 40
"""Accounts that are written to again and again while they are copied."""
_SLOTS_FROM: Final = 1_000_000_000
_FILL: Final = """
INSERT INTO {at}."Account" (id, sequence, total, note, updated_at)
SELECT $1 || lpad(n::text, 6, '0'), 0, n, 'note ' || n, '2026-01-01' FROM generate_series(1, $2::int) n;
INSERT INTO {at}."Entry" (reference, account_id, sequence, slot)
SELECT $1 || m || '-' || lpad(n::text, 6, '0'), $1 || lpad(n::text, 6, '0'), 0, $3::int + n * 2 + m
FROM generate_series(1, $2::int) n CROSS JOIN generate_series(0, 1) m;
INSERT INTO {at}."Setting" (account_id, name, sequence, updated_at)
SELECT $1 || lpad(n::text, 6, '0'), 'setting', 0, '2026-01-01' FROM generate_series(1, $2::int) n;
INSERT INTO {at}."Hold" (id, account_id, sequence)
SELECT $1 || lpad(n::text, 6, '0'), $1 || lpad(n::text, 6, '0'), 0 FROM generate_series(1, $2::int, 7) n
"""


def ballast_prefix(name: str) -> str:
    """What the keys of a round's history begin with, by the name of any process of that round."""
    return f"old-{name.rpartition('-')[0]}-"


async def load(stores: Stores, prefix: str, number: int) -> int:
    """Put a history into the legacy store; return how many rows it has."""
    order = stores.orders[Side.PRISMA]
    at = quoted(order.dsn.schema or "")
    async with stores.connect(Side.PRISMA) as connection, connection.transaction():
        for model in PARENTS_FIRST:
            await connection.execute(
                f"ALTER TABLE {at}.{quoted(model)} DISABLE TRIGGER crossfade_capture_insert"
            )
        rows = 0
        for statement in _FILL.format(at=at).split(";"):
            given = [prefix, ACCOUNTS, _SLOTS_FROM + number * 1_000_000]
            status = await connection.execute(statement, *given[: statement.count("$3") + 2])
            rows += int(status.rpartition(" ")[2])
        for model in PARENTS_FIRST:
            trigger = "ENABLE ALWAYS TRIGGER crossfade_capture_insert"
            await connection.execute(f"ALTER TABLE {at}.{quoted(model)} {trigger}")
    async with stores.connect(Side.PRISMA) as connection:
        for model in PARENTS_FIRST:
            await connection.execute(f"ANALYZE {at}.{quoted(model)}")
    await _forget(stores.orders[Side.SQLALCHEMY], stores)
    return rows


async def _forget(order: StoreOrder, stores: Stores) -> None:
    async with stores.connect(Side.SQLALCHEMY) as connection, connection.transaction():
        for table in ("backfill", "chunk", "verification", "difference"):
            await connection.execute(f"DELETE FROM {quoted(order.home)}.{table}")  # noqa: S608


class Stirrer:
    """Writes to the history by plain SQL: hot rows, deletes, other keys, unique values that change hands.

    It notes nothing: whether both stores came to hold the same is for the comparison of all rows to say.
    """

    def __init__(self, store: StoreOrder, prefix: str, chance: random.Random) -> None:
        self._store = store
        self._prefix = prefix
        self._chance = chance
        self._at = quoted(store.dsn.schema or "")
        self._renamed = 0
        self.failed = 0

    async def run(self, rate: float, journal: JournalFile, stop: asyncio.Event) -> None:
        """Write until `stop`."""
        connection = await asyncpg.connect(**self._store.dsn.asyncpg_kwargs())
        loop = asyncio.get_running_loop()
        choices: list[tuple[Callable[[], tuple[str, tuple[object, ...]]], int]] = [
            (self._touch_hot, 6),
            (self._touch, 5),
            (self._delete, 2),
            (self._delete_entry, 3),
            (self._rename, 2),
            (self._rename_setting, 1),
            (self._swap, 2),
        ]
        makers, weights = zip(*choices, strict=True)
        due = loop.time()
        try:
            while not stop.is_set():
                due = max(due, loop.time() - 0.5) + self._chance.expovariate(rate)
                await asyncio.sleep(max(0.0, due - loop.time()))
                sql, values = self._chance.choices(makers, weights)[0]()
                try:
                    await connection.execute(sql.format(at=self._at), *values)
                except asyncpg.IntegrityConstraintViolationError:
                    pass  # a hold keeps its account; a slot is taken: nothing has happened
                except asyncpg.TransactionRollbackError:
                    pass  # a deadlock with somebody else: nothing has happened either
        finally:
            connection.terminate()
        journal.mark("stirred", str(self._renamed))

    def _account(self) -> str:
        return f"{self._prefix}{self._chance.randint(1, ACCOUNTS):06}"

    def _touch_hot(self) -> tuple[str, tuple[object, ...]]:
        name = f"{self._prefix}{self._chance.randint(1, _HOT) * (ACCOUNTS // _HOT):06}"
        return 'UPDATE {at}."Account" SET total = total + 1 WHERE id = $1', (name,)

    def _touch(self) -> tuple[str, tuple[object, ...]]:
        return 'UPDATE {at}."Entry" SET sequence = sequence + 1 WHERE account_id = $1', (self._account(),)

    def _delete(self) -> tuple[str, tuple[object, ...]]:
        return 'DELETE FROM {at}."Account" WHERE id = $1', (self._account(),)

    def _delete_entry(self) -> tuple[str, tuple[object, ...]]:
        return 'DELETE FROM {at}."Entry" WHERE reference = $1', (f"{self._prefix}0-{self._account()[-6:]}",)

    def _rename(self) -> tuple[str, tuple[object, ...]]:
        self._renamed += 1
        # Now before the row's old place in the order of keys, now behind it.
        name = f"{self._prefix}{self._chance.randint(1, ACCOUNTS):06}-{self._renamed}"
        return 'UPDATE {at}."Account" SET id = $2 WHERE id = $1', (self._account(), name)

    def _rename_setting(self) -> tuple[str, tuple[object, ...]]:
        self._renamed += 1
        sql = 'UPDATE {at}."Setting" SET name = $2 WHERE account_id = $1'
        return sql, (self._account(), f"setting {self._renamed}")

    def _swap(self) -> tuple[str, tuple[object, ...]]:
        # A unique value is freed by one row and taken by another in one transaction.
        sql = (
            'WITH freed AS (UPDATE {at}."Entry" SET slot = NULL WHERE reference = $1 RETURNING 1)'
            ' UPDATE {at}."Entry" SET slot = $3 + (SELECT count(*) FROM freed)::int WHERE reference = $2'
        )
        one, other = self._account()[-6:], self._account()[-6:]
        fresh = _SLOTS_FROM // 2 + self._chance.randint(0, 400_000_000)
        return sql, (f"{self._prefix}1-{one}", f"{self._prefix}1-{other}", fresh)
