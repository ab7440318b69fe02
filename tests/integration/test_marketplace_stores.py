"""Seeding, copying and using the marketplace's stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import selectinload

from crossfade.covering import cover
from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.errors import ConfigurationError
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from marketplace.db import Database, connect
from marketplace.models import (
    MODELS,
    AnalyticsSnapshot,
    Channel,
    Conversation,
    Item,
    ItemCondition,
    Listing,
    Message,
    Order,
    User,
    UserRole,
)
from marketplace.sample import generate_rows
from marketplace.seed import many_to_many, seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

FreshDatabase = Callable[..., Awaitable[Dsn]]


@pytest.fixture
async def database(fresh_database: FreshDatabase) -> Database:
    """An empty new store at head."""
    dsn = await fresh_database()
    await upgrade_target(dsn)
    return Database(dsn)


async def test_a_seeded_store_is_copied_whole(fresh_database: FreshDatabase) -> None:
    """Every table, the relation's included, holds the same rows in both stores afterwards."""
    schema = load_schema(SCHEMA_FILE)
    legacy, target = await fresh_database(), await fresh_database()
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    told: list[tuple[str, int]] = []

    seeded = await seed_legacy(legacy, total=1500, progress=lambda name, rows: told.append((name, rows)))
    stores = {side: Store(side, dsn, schema) for side, dsn in zip(Side, (legacy, target), strict=True)}
    for store in stores.values():
        await install(store, by="test")
    reports = await cover(stores, by="test")
    for store in stores.values():
        await store.close()

    assert sum(seeded.values()) == 1500
    assert list(seeded.items()) == told
    assert seeded == {report.model: report.rows for report in reports if report.model in seeded}
    tables = [*(model.table for model in schema), *(f"_{name}" for name in many_to_many(schema))]
    async with connect(legacy) as one, connect(target) as other:
        for table in tables:
            rows = f'SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM "{table}" t'
            expected = await one.fetchrow(rows)
            assert expected is not None
            assert expected["count"] > 0
            assert expected == await other.fetchrow(rows)
        for table, model in (("Shipment", "Shipment"), ("AnalyticsSnapshot", "AnalyticsSnapshot")):
            next_number = f"SELECT nextval(pg_get_serial_sequence('\"{table}\"', 'id'))"
            assert seeded[model] + 1 == await one.fetchval(next_number)


async def test_seeding_keeps_every_value(fresh_database: FreshDatabase) -> None:
    """What the ORM reads from the seeded store is what was made up, to the last millisecond and decimal."""
    legacy = await fresh_database()
    await apply_legacy_schema(legacy)
    await seed_legacy(legacy, total=400, seed=3)
    rows = generate_rows(400, seed=3)

    async with Database(legacy) as database, database.session() as session:
        for name, model in MODELS.items():
            key = "id"
            stored = {getattr(one, key): one for one in await session.scalars(select(model))}
            assert len(rows[name]) == len(stored)
            for row in rows[name]:
                one = stored[row[key]]
                reserved = {"metadata": "metadata_"}
                assert row == {field: getattr(one, reserved.get(field, field)) for field in row}


async def test_filled_stores_are_left_alone(fresh_database: FreshDatabase) -> None:
    """Seeding does not add to rows that are there already."""
    legacy = await fresh_database()
    await apply_legacy_schema(legacy)
    await seed_legacy(legacy, total=20)

    with pytest.raises(ConfigurationError, match="already holds rows in users, "):
        await seed_legacy(legacy, total=20)


async def test_orm_round_trip(database: Database) -> None:
    """A graph of objects made in one session is read whole in another, with defaults minted on the way."""
    async with database, database.session() as session:
        ada = User(email="ada@example.com", role=UserRole.SELLER, notify_by=[Channel.SMS], avatar=b"\x00\xff")
        item = Item(
            sku="S1", title="Lamp", price=Decimal("19.90"), owner=ada, condition=ItemCondition.LIKE_NEW
        )
        item.metadata_ = {"box": True}
        item.variants = [Item(sku="S2", title="Lamp, red", price=Decimal(21), owner=ada)]
        talk = Conversation(subject="Hello", participants=[ada])
        first = Message(body="one", author=ada, conversation=talk)
        first.replies = [Message(body="two", author=ada, conversation=talk)]
        session.add_all([ada, item, talk])
        await session.commit()

    async with database.session() as session:
        talk = (
            await session.scalars(
                select(Conversation).options(
                    selectinload(Conversation.participants), selectinload(Conversation.messages)
                )
            )
        ).one()
        user = talk.participants[0]
        assert user.email == "ada@example.com"
        assert user.notify_by == [Channel.SMS]
        assert user.preferences == {"theme": "light", "page_size": 50}
        assert user.created_at.tzinfo is UTC
        assert user.created_at.microsecond % 1000 == 0
        assert {"one", "two"} == {message.body for message in talk.messages}
        lamp = (await session.scalars(select(Item).where(Item.condition == ItemCondition.LIKE_NEW))).one()
        assert lamp.metadata_ == {"box": True}
        label = await session.scalar(text("SELECT condition::text FROM items WHERE sku = 'S1'"))
        assert label == "like-new"
    await database.close()


async def test_unloaded_relations_say_so(database: Database) -> None:
    """A relation that was not loaded is an error with its name, not a query behind the caller's back."""
    async with database, database.session() as session:
        session.add(User(id="u1", email="ada@example.com"))
        await session.flush()
        session.expire_all()
        user = await session.get_one(User, "u1")

        with pytest.raises(InvalidRequestError, match=r"User\.items"):
            _ = user.items


async def test_cascades_are_the_databases(database: Database) -> None:
    """Deleting an owner takes items and messages along, clears optional references, and stops at an order."""
    async with database:
        async with database.session() as session:
            owner, buyer = User(id="owner", email="o@example.com"), User(id="buyer", email="b@example.com")
            item = Item(sku="S1", title="Lamp", price=Decimal(5), owner=owner)
            listing = Listing(id="l1", item=item, seller=owner, slug="lamp", price=Decimal(5))
            session.add_all(
                [
                    listing,
                    Order(id="o1", number="1", buyer=buyer, listing=listing, total=Decimal(5)),
                    AnalyticsSnapshot(
                        scope="eu",
                        day=datetime(2026, 1, 5, tzinfo=UTC),
                        author=owner,
                        gross=Decimal(5),
                        totals={},
                    ),
                ]
            )

        with pytest.raises(IntegrityError, match="orders_listing_id_fkey"):
            async with database.session() as session:
                await session.delete(await session.get_one(User, "owner"))

        async with database.session() as session:
            await session.delete(await session.get_one(Order, "o1"))
            await session.flush()
            await session.delete(await session.get_one(User, "owner"))
        async with database.session() as session:
            assert await session.scalar(select(func.count()).select_from(Item)) == 0
            assert list(await session.scalars(select(AnalyticsSnapshot.author_id))) == [None]


async def test_session_rolls_back_when_its_block_raises(database: Database) -> None:
    """Nothing of a failed block is kept."""

    async def add_and_fail() -> None:
        async with database.session() as session:
            session.add(User(email="ada@example.com"))
            await session.flush()
            raise ZeroDivisionError

    async with database:
        with pytest.raises(ZeroDivisionError):
            await add_and_fail()

        async with database.session() as session:
            assert await session.scalar(select(func.count()).select_from(User)) == 0


async def test_times_do_not_depend_on_the_sessions_time_zone(database: Database) -> None:
    """What is written in New York is the same moment, cut to milliseconds, in plain and zoned columns alike."""
    moment = datetime(2026, 7, 1, 23, 30, 0, 123_999, tzinfo=timezone(timedelta(hours=-4)))
    expected = datetime(2026, 7, 2, 3, 30, 0, 123_000, tzinfo=UTC)
    async with database:
        async with database.session() as session:
            await session.execute(text("SET LOCAL TimeZone = 'America/New_York'"))
            session.add(User(id="u1", email="ada@example.com", created_at=moment, last_login_at=moment))
            session.add(AnalyticsSnapshot(scope="eu", day=moment, gross=Decimal(5), totals={}))
            await session.flush()
            session.expire_all()
            user = await session.get_one(User, "u1")
            assert expected == user.created_at
            assert expected == user.last_login_at
            day = datetime(2026, 7, 2, tzinfo=UTC)
            assert [day] == list(await session.scalars(select(AnalyticsSnapshot.day)))
            found = await session.scalars(
                select(User.id).where(User.created_at == moment, User.last_login_at == moment)
            )
            assert list(found) == ["u1"]
            later = select(User.id).where(User.created_at + timedelta(days=1) > moment)
            assert list(await session.scalars(later)) == ["u1"]
            [hence] = await session.scalars(select(AnalyticsSnapshot.day + timedelta(hours=1)))
            assert day + timedelta(hours=1) == hence

        async with database.session() as session:
            stored = await session.scalar(text("SELECT created_at::text FROM users"))
            assert stored == "2026-07-02 03:30:00.123"


async def test_updates_touch_updated_at(database: Database) -> None:
    """An update by a session moves `updated_at`, one that gives the value keeps it."""
    past = datetime(2020, 1, 1, tzinfo=UTC)
    async with database:
        async with database.session() as session:
            session.add(User(id="u1", email="ada@example.com", updated_at=past))
        async with database.session() as session:
            assert past == await session.scalar(select(User.updated_at))
            await session.execute(update(User).values(login_count=User.login_count + 1))
            touched = await session.scalar(select(User.updated_at))
            assert touched is not None
            assert touched > past
