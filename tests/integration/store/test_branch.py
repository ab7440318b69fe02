"""The installation as a branch of Alembic's, beside a project's own."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from alembic import command
from captured import read_whole_catalog

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.errors import ConfigurationError, InstallError
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.branch import ATTRIBUTE
from crossfade.store.install import install
from crossfade.store.problems import installed_problems
from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE, alembic_config, downgrade_target, upgrade_target

INSERT = "INSERT INTO users (id, email, updated_at) VALUES ($1, $1, now())"


def store_of(dsn: Dsn) -> Store:
    return Store(Side.SQLALCHEMY, dsn, load_schema(SCHEMA_FILE))


async def test_heads_make_tables_and_objects(fresh_database: FreshDatabase) -> None:
    """In an empty database `upgrade heads` makes the tables first, and a store that follows."""
    dsn = await fresh_database()
    await upgrade_target(dsn, "heads")

    async with store_of(dsn) as store:
        await store.check_installed()
        assert await installed_problems(store) == []
        assert [] == [entry for entry in await install(store, by="a test") if entry.steps]
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        with pytest.raises(asyncpg.PostgresError, match="crossfade XF001"):
            await session.execute(INSERT, "u")
    finally:
        await session.close()


async def test_tables_alone_by_default(fresh_database: FreshDatabase) -> None:
    """The project's own branch can be upgraded without the other, before it and after it."""
    dsn = await fresh_database()
    await upgrade_target(dsn)
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await session.execute(INSERT, "u")
        await upgrade_target(dsn, "heads")
        await upgrade_target(dsn)

        async with store_of(dsn) as store:
            assert await installed_problems(store) == []
    finally:
        await session.close()


async def test_downgrade_removes_the_objects_alone(fresh_database: FreshDatabase) -> None:
    """`downgrade crossfade@base` leaves what there was before, and the way forward is open again."""
    dsn = await fresh_database()
    await upgrade_target(dsn)
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        before = await read_whole_catalog(session)
        await upgrade_target(dsn, "heads")
        await downgrade_target(dsn, "crossfade@base")
        assert before == await read_whole_catalog(session)
        await session.execute(INSERT, "u")

        await upgrade_target(dsn, "heads")
        async with store_of(dsn) as store:
            assert await installed_problems(store) == []
        await downgrade_target(dsn)
        assert await session.fetchval("SELECT to_regclass('users') IS NULL")
    finally:
        await session.close()


async def test_downgrade_is_refused_while_a_model_is_under_way(fresh_database: FreshDatabase) -> None:
    """The branch does not take away what a migration stands on."""
    dsn = await fresh_database()
    await upgrade_target(dsn, "heads")
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await session.execute("UPDATE crossfade.record SET stage = 'dualwrite' WHERE model = 'User'")
        with pytest.raises(InstallError, match="User left `off`"):
            await downgrade_target(dsn, "crossfade@base")
    finally:
        await session.close()
    async with store_of(dsn) as store:
        assert await installed_problems(store) == []


async def test_objects_are_no_drift(fresh_database: FreshDatabase) -> None:
    """`alembic check` finds nothing to generate."""
    dsn = await fresh_database()
    await upgrade_target(dsn, "heads")
    config = alembic_config(with_crossfade=True)
    config.attributes["dsn"] = dsn

    await asyncio.to_thread(command.check, config)


async def test_revision_gives_way_to_writers(fresh_database: FreshDatabase) -> None:
    """While a table is not to be had, the revision keeps none of the others either, and completes afterwards."""
    dsn = await fresh_database()
    await upgrade_target(dsn)
    holder, writer = [await asyncpg.connect(**dsn.asyncpg_kwargs()) for _ in range(2)]
    # The last table that is done: all the others have been locked by then.
    blocked = holder.transaction()
    await blocked.start()
    await holder.execute('LOCK TABLE "_ConversationParticipants" IN ROW EXCLUSIVE MODE')
    upgrading = asyncio.create_task(asyncio.to_thread(asyncio.run, upgrade_target(dsn, "heads")))
    try:
        async with asyncio.timeout(20):
            while not await writer.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.005)
            for number in range(5):
                await writer.execute(INSERT, f"u{number}")
        assert not upgrading.done()
    finally:
        await blocked.rollback()
        await upgrading
        await holder.close()
        await writer.close()
    async with store_of(dsn) as store:
        assert await installed_problems(store) == []


async def test_missing_tables_are_named(fresh_database: FreshDatabase) -> None:
    """The branch on its own, before the project's tables are there, says what it misses."""
    with pytest.raises(InstallError, match=r'User has no table "public"\."users"'):
        await upgrade_target(await fresh_database(), "crossfade@head")


def test_branch_cannot_be_printed() -> None:
    """It depends on the catalog, so offline mode is refused with what to do instead."""
    with pytest.raises(ConfigurationError, match="cannot be printed as SQL; upgrade it online"):
        command.upgrade(alembic_config(with_crossfade=True), "crossfade@head", sql=True)


async def test_environment_that_says_nothing_is_refused(fresh_database: FreshDatabase) -> None:
    """An `env.py` without options gets told which."""
    config = alembic_config(with_crossfade=True)
    config.attributes["dsn"] = await fresh_database()
    config.attributes[ATTRIBUTE] = None

    with pytest.raises(ConfigurationError, match=r"env\.py must set"):
        await asyncio.to_thread(command.upgrade, config, "crossfade@head")
