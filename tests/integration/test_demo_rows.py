"""The demo's last look at both stores finds whatever differs, and reads the journal's fields as they are stored."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import asyncpg

from crossfade.covering import cover
from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install, uninstall
from databases import FreshDatabase
from marketplace.demo.rows import EXTRA, MISSING, compare_stores, read_noted
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

SCHEMA = load_schema(SCHEMA_FILE)
ROWS = 400


async def two_stores(fresh_database: FreshDatabase) -> tuple[Dsn, Dsn]:
    """A seeded legacy store and its copy."""
    legacy, target = await fresh_database(), await fresh_database()
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    await seed_legacy(legacy, ROWS)
    stores = {
        Side.PRISMA: Store(Side.PRISMA, legacy, SCHEMA),
        Side.SQLALCHEMY: Store(Side.SQLALCHEMY, target, SCHEMA),
    }
    for store in stores.values():
        await install(store, by="test")
    await cover(stores, by="test")
    for store in stores.values():
        await uninstall(store, force=True)
        await store.close()
    return legacy, target


async def test_equal_stores(fresh_database: FreshDatabase) -> None:
    """Every table is compared, and nothing differs."""
    tables = await compare_stores(SCHEMA, *await two_stores(fresh_database))

    assert {*SCHEMA.models, "ConversationParticipants"} == set(tables)
    assert ROWS == sum(table.rows for name, table in tables.items() if name in SCHEMA.models)
    assert {0} == {table.different for table in tables.values()}


async def test_every_kind_of_difference(fresh_database: FreshDatabase) -> None:
    """Rows that are missing or too many, and values of every kind, are counted by table and field."""
    legacy, target = await two_stores(fresh_database)
    connection = await asyncpg.connect(**target.asyncpg_kwargs())
    await connection.execute(
        """
        DELETE FROM messages WHERE id = (SELECT max(id) FROM messages);
        INSERT INTO "AnalyticsSnapshot" (id, scope, day, gross, totals, updated_at)
             VALUES (9001, 'one too many', now(), 1, '{}', now()), (9002, 'another', now(), 1, '{}', now());
        UPDATE messages SET sent_at = sent_at + interval '1 ms' WHERE id = (SELECT min(id) FROM messages);
        UPDATE users SET tags = NULL, preferences = '{"page_size": true}', balance = balance + 0.01
                   WHERE id = (SELECT min(id) FROM users);
        UPDATE items SET description = '' WHERE description IS NULL;
        DELETE FROM "_ConversationParticipants" WHERE "A" = (SELECT min(id) FROM conversations);
        """
    )
    await connection.close()
    tables = await compare_stores(SCHEMA, legacy, target)

    assert {MISSING: 1, "sent_at": 1} == tables["Message"].fields
    assert 2 == tables["Message"].different
    assert {EXTRA: 2} == tables["AnalyticsSnapshot"].fields
    assert {"tags", "preferences", "balance"} == set(tables["User"].fields)
    assert 1 == tables["User"].different
    assert {"description"} == set(tables["Item"].fields)
    assert {MISSING} == set(tables["ConversationParticipants"].fields)
    assert 0 == tables["Order"].different


async def test_noted_fields(fresh_database: FreshDatabase) -> None:
    """Times are aware, decimals are decimals, and renamed columns have the field's name."""
    legacy, _ = await two_stores(fresh_database)
    rows = await read_noted(legacy, SCHEMA)

    assert set(SCHEMA.models) == set(rows)
    item = next(iter(rows["Item"].values()))
    assert ({"views", "description", "price", "sku"}, Decimal) == (set(item), type(item["price"]))
    snapshot = next(iter(rows["AnalyticsSnapshot"].values()))
    assert (
        datetime(snapshot["day"].year, snapshot["day"].month, snapshot["day"].day, tzinfo=UTC)
        == snapshot["day"]
    )
    assert all(row["bucket"].tzinfo is UTC for row in rows["AnalyticsData"].values())
