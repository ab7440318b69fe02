"""Put crossfade's objects into a store, and take them away again without a trace.

Each table is done in a transaction of its own with a short `lock_timeout` that is retried, so a live table is never
kept locked for longer than that.
"""

from __future__ import annotations

from crossfade.stages import Side
from crossfade.store.objects import VERSION, Fence, capture, core, drop_core, drop_table_objects, fence
from crossfade.store.store import Store


async def install(store: Store, *, by: str) -> None:
    """Create or complete the objects in `store`. A table that has them keeps its fence as it is."""
    async with store.transaction() as connection:
        for statement in core(store.home):
            await connection.execute(statement)
        await connection.execute(f"DELETE FROM {store.own('installation')}")  # noqa: S608
        await connection.execute(
            f"INSERT INTO {store.own('installation')} (version, side, by) VALUES ($1, $2, $3)",  # noqa: S608
            VERSION,
            store.side,
            by,
        )
        await connection.executemany(
            f"INSERT INTO {store.own('record')} (model, by, reason) VALUES ($1, $2, 'installed') ON CONFLICT DO NOTHING",  # noqa: S608
            [(spec.name, by) for spec in store.schema],
        )
    state = Fence.AUTHORITY if store.side is Side.PRISMA else Fence.FOLLOWER
    for table in store.tables:
        async with store.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '500ms'")
            for statement in capture(store.home, table):
                await connection.execute(statement)
            present = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = $1::regclass AND tgname = 'crossfade_refuse_authors')",
                table.quoted,
            )
            if not present:
                for statement in fence(store.home, table, state):
                    await connection.execute(statement)


async def uninstall(store: Store) -> None:
    """Remove everything that `install` has put there."""
    for table in store.tables:
        async with store.transaction() as connection:
            await connection.execute("SET LOCAL lock_timeout = '500ms'")
            for statement in drop_table_objects(store.home, table):
                await connection.execute(statement)
    async with store.transaction() as connection:
        for statement in drop_core(store.home):
            await connection.execute(statement)
