"""Installing on live tables, completing, refusing, detecting what is missing, and leaving nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from captured import Captive, captive, read_whole_catalog, schema_of

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.errors import InstallError
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.homes import homes_of
from crossfade.store.install import install, obstacles, uninstall
from crossfade.store.objects import VERSION
from crossfade.store.problems import installed_problems
from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE

TABLES = """
CREATE TABLE author (id text PRIMARY KEY);
CREATE TABLE book (id int PRIMARY KEY, author_id text REFERENCES author);
"""
MODELS = {"Author": "author", "Book": "book"}


@pytest.fixture
async def shop(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """Two tables with everything installed."""
    async with captive(await fresh_database(), TABLES, MODELS) as opened:
        yield opened


@pytest.fixture
async def bare(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """Two tables with nothing installed."""
    dsn = await fresh_database()
    author = await asyncpg.connect(**dsn.asyncpg_kwargs())
    await author.execute(TABLES)
    store = Store(Side.PRISMA, dsn, schema_of(MODELS))
    yield Captive(store, author)
    await store.close()
    await author.close()


# --- completing --------------------------------------------------------------------------------------------------


async def test_second_installation_locks_nothing(shop: Captive) -> None:
    """With nothing to do it passes while a writer keeps every table, and does nothing."""
    triggers = await shop.author.fetch("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid")
    await shop.run("BEGIN", "LOCK TABLE author, book IN ACCESS EXCLUSIVE MODE")

    done = await install(shop.store, by="a test", deadline=0)

    assert [] == [entry for entry in done if entry.steps]
    assert triggers == await shop.author.fetch("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid")


async def test_installation_says_what_it_did(bare: Captive) -> None:
    """The objects beside come first, then table by table, parents before children."""
    done = await install(bare.store, by="a test")

    assert ["", "Author", "Book"] == [entry.model for entry in done]
    assert ("capture", "fence (authority)", "capture function") == done[1].steps
    assert await installed_problems(bare.store) == []


async def test_table_that_stays_locked_is_named_and_the_rest_is_done(bare: Captive) -> None:
    """The store counts as installed once a second run has done what could not be had."""
    await bare.run("SET application_name = 'report'", "BEGIN", "LOCK TABLE author IN ROW EXCLUSIVE MODE")

    with pytest.raises(InstallError) as caught:
        await install(bare.store, by="a test", deadline=0.3)
    assert "author stayed locked" in str(caught.value)
    assert "(report, idle in transaction" in str(caught.value)
    assert str(caught.value).endswith("1 of 2 tables are done, and a second run does the rest")
    with pytest.raises(InstallError, match="not installed"):
        await bare.store.check_installed()

    await bare.run("COMMIT")
    done = await install(bare.store, by="a test")
    assert ["Author"] == [entry.model for entry in done if entry.steps]
    await bare.store.check_installed()


async def test_two_installations_at_once(bare: Captive) -> None:
    """Both end well, and together they have done everything once."""
    other = Store(Side.PRISMA, bare.store.dsn, bare.store.schema)
    try:
        both = await asyncio.gather(install(bare.store, by="one"), install(other, by="other"))
    finally:
        await other.close()

    assert ["", "Author", "Book"] == sorted(entry.model for done in both for entry in done if entry.steps)
    assert await installed_problems(bare.store) == []


async def test_objects_of_an_older_version_are_made_anew(shop: Captive) -> None:
    """Triggers of another version are replaced, and keep the state of the fence."""
    before = {
        row["oid"] for row in await shop.author.fetch("SELECT oid FROM pg_trigger WHERE NOT tgisinternal")
    }
    await shop.run(
        "UPDATE crossfade.installation SET version = 0",
        "UPDATE crossfade.record SET stage = 'live', epoch = 5 WHERE model = 'Book'",
    )
    with pytest.raises(InstallError, match="version 0"):
        await shop.store.check_installed()
    assert [f"it has version 0 of crossfade's objects instead of {VERSION}; run `crossfade install`"] == (
        await installed_problems(shop.store)
    )

    await install(shop.store, by="a test")

    after = await shop.author.fetch(
        "SELECT oid, tgrelid::regclass::text AS name FROM pg_trigger WHERE NOT tgisinternal"
    )
    assert {"crossfade.record"} == {row["name"] for row in after if row["oid"] in before}
    await shop.store.check_installed()
    assert await installed_problems(shop.store) == []
    with pytest.raises(asyncpg.PostgresError, match="crossfade XF001"):
        await shop.run("DELETE FROM book")


async def test_newer_objects_are_left_alone(shop: Captive) -> None:
    """A store that a newer crossfade has prepared is refused, and named as such."""
    await shop.run(f"UPDATE crossfade.installation SET version = {VERSION + 1}")

    with pytest.raises(InstallError, match="install with the newer crossfade"):
        await install(shop.store, by="a test")
    assert await shop.author.fetchval("SELECT version FROM crossfade.installation") == VERSION + 1


async def test_shared_store_gets_the_record_alone(bare: Captive) -> None:
    """Where both sides work on the same tables there is nothing to capture or to refuse."""
    await install(bare.store, by="a test", core_only=True)

    tables = await bare.author.fetch(
        "SELECT DISTINCT tgrelid::regclass::text AS name FROM pg_trigger WHERE NOT tgisinternal"
    )
    assert ["crossfade.record"] == [row["name"] for row in tables]
    assert await bare.author.fetchval("SELECT count(*) FROM crossfade.record WHERE stage = 'off'") == 2
    await bare.store.check_installed()


# --- refusing ----------------------------------------------------------------------------------------------------

OBSTRUCTED = """
CREATE VIEW view AS SELECT 1 AS id;
CREATE TABLE keyless (id int);
CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE heir () INHERITS (parent);
CREATE TABLE fed (id int PRIMARY KEY);
CREATE ROLE owner;
CREATE TABLE owned (id int PRIMARY KEY);
CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere' PUBLICATION p
    WITH (connect = false, enabled = false, slot_name = NONE);
INSERT INTO pg_subscription_rel SELECT oid, 'fed'::regclass, 'r', NULL FROM pg_subscription;
CREATE ROLE visitor LOGIN PASSWORD 'v';
ALTER TABLE owned OWNER TO owner;
"""
OBSTACLES = {
    "Missing": 'Missing has no table "public"."missing"',
    "View": '"public"."view" of View is a view, and only tables can be captured',
    "Keyless": '"public"."keyless" of Keyless has no primary key; give it one',
    "Fleeting": '"public"."fleeting" is unlogged, and a crash empties it unseen;'
    ' ALTER TABLE "public"."fleeting" SET LOGGED',
    "Parent": 'tables inherit from "public"."parent", and writes to those are not seen; make it partitioned',
    "Fed": '"public"."fed" is fed by the logical replication subscription feed, which fires no statement triggers;'
    " drop the subscription",
}


async def test_everything_in_the_way_is_listed_before_anything_is_changed(
    fresh_database: FreshDatabase,
) -> None:
    """Each obstacle is named with what helps, all at once, and the store stays as it is."""
    dsn = await fresh_database()
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await session.execute(OBSTRUCTED)
        tables = {model: model.lower() for model in (*OBSTACLES, "Owned")}
        before = await read_whole_catalog(session)

        store = Store(Side.PRISMA, dsn, schema_of(tables))
        with pytest.raises(InstallError) as caught:
            await install(store, by="a test")
        found = str(caught.value)
        for obstacle in OBSTACLES.values():
            assert obstacle in found
            found = found.replace(obstacle, "", 1)
        assert f"the store at {dsn.where}: {'; ' * (len(OBSTACLES) - 1)}" == found

        visitor = Dsn.parse(f"postgresql://visitor:v@{dsn.host}:{dsn.port}/{dsn.database}")
        found = await obstacles(Store(Side.PRISMA, visitor, schema_of({"Owned": "owned"})))
        grant = f"GRANT CREATE ON DATABASE {dsn.database} TO visitor, or create the schema for it"
        assert [
            f"role visitor may not create the schema crossfade; {grant}",
            '"public"."owned" belongs to owner, and only its owner can put triggers on it; install as that role',
        ] == found
        assert before == await read_whole_catalog(session)
    finally:
        await session.execute("DROP SUBSCRIPTION IF EXISTS feed")
        await session.execute("DROP OWNED BY owner, visitor CASCADE; DROP ROLE owner, visitor")
        await session.close()


async def test_ordinary_role_that_owns_the_tables_can_install(fresh_database: FreshDatabase) -> None:
    """No superuser is needed: owning the tables and a schema that somebody has created are enough."""
    dsn = await fresh_database()
    session = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await session.execute(TABLES)
        await session.execute(
            "CREATE ROLE keeper LOGIN PASSWORD 'k'; ALTER TABLE author OWNER TO keeper;"
            " ALTER TABLE book OWNER TO keeper; CREATE SCHEMA crossfade AUTHORIZATION keeper"
        )
        keeper = Dsn.parse(f"postgresql://keeper:k@{dsn.host}:{dsn.port}/{dsn.database}")
        async with Store(Side.PRISMA, keeper, schema_of(MODELS)) as store:
            await install(store, by="a test")
            await session.execute("INSERT INTO author VALUES ('a')")

            assert await installed_problems(store) == []
            assert await session.fetchval("SELECT count(*) FROM crossfade.change") == 1
            others = await obstacles(Store(Side.PRISMA, dsn, schema_of(MODELS)))
            assert others == []  # a superuser may complete what another role has begun
    finally:
        await session.execute("DROP OWNED BY keeper CASCADE; DROP ROLE keeper")
        await session.close()


async def test_two_stores_in_one_database_have_two_homes(fresh_database: FreshDatabase) -> None:
    """Stores that are schemas of one database are kept apart; one home cannot serve two sides."""
    legacy = await fresh_database()
    target = legacy.replace(schema="new")
    homes = homes_of(legacy, target)
    assert {Side.PRISMA: "crossfade_prisma", Side.SQLALCHEMY: "crossfade_sqlalchemy"} == homes
    assert set(homes_of(legacy, await fresh_database()).values()) == {"crossfade"}

    session = await asyncpg.connect(**legacy.asyncpg_kwargs())
    try:
        await session.execute(f"{TABLES}; CREATE SCHEMA new; SET search_path = new; {TABLES}")
        for side, dsn in ((Side.PRISMA, legacy), (Side.SQLALCHEMY, target)):
            async with Store(side, dsn, schema_of(MODELS), home=homes[side]) as store:
                await install(store, by="a test")
                assert await installed_problems(store) == []
        await session.execute("INSERT INTO public.author VALUES ('a')")
        with pytest.raises(asyncpg.PostgresError, match=r"crossfade XF001: new\.author"):
            await session.execute("INSERT INTO new.author VALUES ('a')")
        assert await session.fetchval("SELECT count(*) FROM crossfade_prisma.change") == 1
        assert await session.fetchval("SELECT count(*) FROM crossfade_sqlalchemy.change") == 0

        wrong = Store(Side.SQLALCHEMY, target, schema_of(MODELS), home=homes[Side.PRISMA])
        assert ["serves the side prisma already" in problem for problem in await obstacles(wrong)] == [True]
    finally:
        await session.close()


# --- detecting -------------------------------------------------------------------------------------------------

DAMAGE = {
    "ALTER TABLE author DISABLE TRIGGER crossfade_capture_update": [
        '"public"."author" of Author: the trigger crossfade_capture_update is disabled'
    ],
    "ALTER TABLE author DISABLE TRIGGER USER": [
        f'"public"."author" of Author: the trigger crossfade_{name} is disabled{why}'
        for name, why in (
            ("capture_insert", ""), ("capture_update", ""), ("capture_delete", ""), ("capture_truncate", ""),
            ("refuse_followers", ", against the record (off)"),
        )
    ],
    "ALTER TABLE author ENABLE TRIGGER crossfade_capture_insert": [
        """"public"."author" of Author: the trigger crossfade_capture_insert is not enabled ALWAYS,\
 so a session in the role of a replica passes it by"""
    ],
    "ALTER TABLE author ENABLE REPLICA TRIGGER crossfade_capture_insert": [
        '"public"."author" of Author: the trigger crossfade_capture_insert is enabled for replicas alone'
    ],
    "DROP TRIGGER crossfade_capture_delete ON book": [
        '"public"."book" of Book: the trigger crossfade_capture_delete is missing'
    ],
    "DROP TRIGGER crossfade_refuse_followers ON book": [
        '"public"."book" of Book: the trigger crossfade_refuse_followers is missing'
    ],
    "ALTER TABLE author ENABLE ALWAYS TRIGGER crossfade_refuse_authors": [
        '"public"."author" of Author: the trigger crossfade_refuse_authors is enabled, against the record (off)'
    ],
    "DROP TRIGGER crossfade_capture_insert ON book; CREATE TRIGGER crossfade_capture_insert AFTER INSERT ON book"
    " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()": [
        '"public"."book" of Book: the trigger crossfade_capture_insert is not the one that was installed'
    ],
    'CREATE OR REPLACE FUNCTION crossfade."capture_Book"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS'
    " 'BEGIN RETURN NULL; END'": ["the function crossfade.capture_Book has been changed or dropped"],
    "DROP FUNCTION crossfade.refuse_authors CASCADE": [
        '"public"."author" of Author: the trigger crossfade_refuse_authors is missing',
        '"public"."book" of Book: the trigger crossfade_refuse_authors is missing',
        "the function crossfade.refuse_authors has been changed or dropped",
    ],
}  # fmt: skip


async def test_damage_is_detected_and_repaired(shop: Captive) -> None:
    """Whatever somebody has disabled, dropped or replaced is named, and `install` brings it back."""
    for damage, expected in DAMAGE.items():
        await shop.run(damage)

        assert [f"{problem}; run `crossfade install`" for problem in expected] == (
            await installed_problems(shop.store)
        )
        await install(shop.store, by="a test")
        assert (damage, []) == (damage, await installed_problems(shop.store))


async def test_what_no_trigger_can_see_is_detected(shop: Captive) -> None:
    """A table that has become unlogged, has heirs, or is gone is reported."""
    await shop.run("CREATE TABLE heir () INHERITS (author)", "ALTER TABLE book SET UNLOGGED")
    assert ["is unlogged", "tables inherit from"] == sorted(
        phrase
        for problem in await installed_problems(shop.store)
        for phrase in ("is unlogged", "tables inherit from")
        if phrase in problem
    )
    await shop.run("DROP TABLE book, heir")
    assert ['"public"."book" of Book is gone'] == await installed_problems(shop.store)


async def test_nothing_installed_is_one_problem(bare: Captive) -> None:
    """A store without crossfade's objects says so."""
    assert ["crossfade is not installed, or not completely; run `crossfade install`"] == (
        await installed_problems(bare.store)
    )


async def test_fence_is_left_alone_while_its_model_moves(shop: Captive) -> None:
    """A move under way decides about the fence: it is no problem, not repaired, and not put up anew."""
    await shop.run(
        "UPDATE crossfade.record SET stage = 'shadow', moving_to = 'live', epoch = 7 WHERE model = 'Author'",
        "ALTER TABLE author ENABLE ALWAYS TRIGGER crossfade_refuse_authors",
    )
    assert await installed_problems(shop.store) == []
    done = await install(shop.store, by="a test")
    assert [] == [entry for entry in done if entry.steps]

    await shop.run("DROP TRIGGER crossfade_refuse_followers ON author")
    with pytest.raises(InstallError, match="the authority over Author is being moved"):
        await install(shop.store, by="a test")


async def test_final_models_are_left_alone(shop: Captive) -> None:
    """What `finalize` has removed does not come back, and is not missed."""
    await shop.run(
        "UPDATE crossfade.record SET stage = 'complete', final = true WHERE model = 'Book'",
        'DROP FUNCTION crossfade."capture_Book" CASCADE',
        "DROP TRIGGER crossfade_refuse_authors ON book",
        "DROP TRIGGER crossfade_refuse_followers ON book",
    )

    assert await installed_problems(shop.store) == []
    assert [] == [entry for entry in await install(shop.store, by="a test") if entry.steps]


# --- leaving -----------------------------------------------------------------------------------------------------


async def test_uninstall_leaves_nothing_behind(marketplace_legacy: Dsn) -> None:
    """After the installation has gone, the whole catalog is what it was."""
    session = await asyncpg.connect(**marketplace_legacy.asyncpg_kwargs())
    try:
        before = await read_whole_catalog(session)
        async with Store(Side.PRISMA, marketplace_legacy, load_schema(SCHEMA_FILE)) as store:
            await install(store, by="a test")
            assert before != await read_whole_catalog(session)

            await uninstall(store)
            assert before == await read_whole_catalog(session)
            assert [] == [entry for entry in await uninstall(store) if entry.steps]
    finally:
        await session.close()


async def test_installation_is_no_drift_in_the_schema_that_prisma_reads(marketplace_legacy: Dsn) -> None:
    """Of what Prisma introspects in its schema (tables, columns, keys, indexes, enums) nothing changes."""
    seen = ("relations", "columns", "constraints", "indexes", "types", "functions")

    def of_public(catalog: dict[str, list[str]]) -> dict[str, list[str]]:
        # `relhastriggers` stays set by foreign keys; everything of crossfade's bears its schema's name.
        return {kind: [line for line in catalog[kind] if "crossfade" not in line] for kind in seen}

    session = await asyncpg.connect(**marketplace_legacy.asyncpg_kwargs())
    try:
        before = await read_whole_catalog(session)
        async with Store(Side.PRISMA, marketplace_legacy, load_schema(SCHEMA_FILE)) as store:
            await install(store, by="a test")
        after = await read_whole_catalog(session)
    finally:
        await session.close()

    assert of_public(before) == of_public(after)
    assert {kind: before[kind] for kind in seen} == of_public(after)


async def test_uninstall_is_refused_while_models_are_under_way(shop: Captive) -> None:
    """Models that have left `off` are named; `force` removes everything all the same, from renamed tables as well."""
    await shop.run(
        "UPDATE crossfade.record SET stage = 'shadow' WHERE model = 'Book'",
        "UPDATE crossfade.record SET moving_to = 'dualwrite' WHERE model = 'Author'",
    )
    with pytest.raises(InstallError, match="Author, Book left `off`"):
        await uninstall(shop.store)
    assert await installed_problems(shop.store) == []

    await shop.run(
        "ALTER TABLE book RENAME TO volume", "ALTER TRIGGER crossfade_capture_insert ON volume RENAME TO mine"
    )
    await uninstall(shop.store, force=True)
    catalog = await read_whole_catalog(shop.author)
    assert [] == catalog["triggers"]
    assert not any(
        "crossfade" in line for kind in ("schemas", "relations", "functions") for line in catalog[kind]
    )


async def test_final_models_do_not_keep_anybody_from_leaving(shop: Captive) -> None:
    """A model that is final has nothing left to lose."""
    await shop.run("UPDATE crossfade.record SET stage = 'complete', final = true WHERE model = 'Book'")

    await uninstall(shop.store)
    assert ["crossfade is not installed, or not completely; run `crossfade install`"] == (
        await installed_problems(shop.store)
    )
