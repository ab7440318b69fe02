"""Every way in which rows change is captured: which keys, how often, and in whatever session."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import asyncpg
import pytest
from captured import Captive, Captured, captive, renamed

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.install import install
from crossfade.store.problems import installed_problems
from crossfade.store.tables import quoted
from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE

LIBRARY = """
CREATE TABLE author (id text PRIMARY KEY, name text UNIQUE, at timestamptz);
CREATE TABLE book (id int PRIMARY KEY, title text,
    author_id text REFERENCES author ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE note (id int PRIMARY KEY, author_id text REFERENCES author ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE tree (id int PRIMARY KEY, parent_id int REFERENCES tree ON DELETE SET NULL);
CREATE TABLE outside (id int PRIMARY KEY);
INSERT INTO author VALUES ('a', 'Ada'), ('b', 'Bob'), ('c', 'Cem');
INSERT INTO book VALUES (1, 'One', 'a'), (2, 'Two', 'a'), (3, 'Three', 'b');
INSERT INTO note VALUES (1, 'a'), (2, 'c');
INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 1), (4, 2);
"""
MODELS = {"Author": "author", "Book": "book", "Note": "note", "Tree": "tree"}


@pytest.fixture
async def library(fresh_database: FreshDatabase) -> AsyncIterator[Captive]:
    """Four captured tables with a few rows."""
    async with captive(await fresh_database(), LIBRARY, MODELS) as opened:
        yield opened


def author(op: str, *keys: str) -> list[Captured]:
    return [("Author", op, (key,)) for key in keys]


STATEMENTS: list[tuple[str, str, list[Captured]]] = [
    ("insert", "INSERT INTO author VALUES ('d', 'Dov')", author("I", "d")),
    ("insert of several", "INSERT INTO author VALUES ('d', 'Dov'), ('e', 'Eva')", author("I", "d", "e")),
    ("insert from a query", "INSERT INTO author SELECT 'x' || id FROM author", author("I", "xa", "xb", "xc")),
    ("update", "UPDATE author SET name = 'Abe' WHERE id = 'a'", author("U", "a")),
    ("update that changes nothing", "UPDATE author SET name = name WHERE id = 'a'", author("U", "a")),
    ("update of several", "UPDATE author SET at = now()", author("U", "a", "b", "c")),
    ("update of none", "UPDATE author SET at = now() WHERE false", []),
    (
        "update of the key",
        "UPDATE author SET id = 'z' WHERE id = 'a'",
        [
            *renamed("Author", ("a",), ("z",)),
            ("Book", "U", ("1",)),
            ("Book", "U", ("2",)),
            ("Note", "U", ("1",)),
        ],
    ),
    (
        "update of one key among several rows",
        "UPDATE tree SET id = CASE id WHEN 3 THEN 5 ELSE id END WHERE id >= 3",
        [*renamed("Tree", ("3",), ("5",)), ("Tree", "U", ("4",))],
    ),
    (
        "update of several keys",
        "UPDATE tree SET id = id + 10 WHERE id >= 3",
        [*renamed("Tree", ("3",), ("13",)), *renamed("Tree", ("4",), ("14",))],
    ),
    (
        "update through a join",
        "UPDATE note SET author_id = 'b' FROM author a WHERE note.author_id = a.id AND a.name = 'Cem'",
        [("Note", "U", ("2",))],
    ),
    ("delete with set null", "DELETE FROM author WHERE id = 'c'", [*author("D", "c"), ("Note", "U", ("2",))]),
    (
        "delete with cascade and set null",
        "DELETE FROM author WHERE id = 'a'",
        [
            *author("D", "a"),
            ("Book", "D", ("1",)),
            ("Book", "D", ("2",)),
            ("Note", "U", ("1",)),
        ],
    ),
    (
        "delete of a row that refers to itself",
        "DELETE FROM tree WHERE id = 1",
        [("Tree", "D", ("1",)), ("Tree", "U", ("2",)), ("Tree", "U", ("3",))],
    ),
    ("truncate", "TRUNCATE tree", [("Tree", "T", None)]),
    (
        "truncate with cascade",
        "TRUNCATE author CASCADE",
        [("Author", "T", None), ("Book", "T", None), ("Note", "T", None)],
    ),
    ("on conflict do nothing", "INSERT INTO author VALUES ('a') ON CONFLICT DO NOTHING", []),
    (
        "on conflict do update",
        "INSERT INTO author VALUES ('a'), ('d') ON CONFLICT (id) DO UPDATE SET name = 'New'",
        [*author("I", "d"), *author("U", "a")],
    ),
    (
        "writes inside a query",
        """WITH gone AS (DELETE FROM book WHERE author_id = 'b' RETURNING 1),
        kept AS (UPDATE note SET author_id = 'b' WHERE id = 1 RETURNING 1)
        INSERT INTO tree VALUES (9, NULL)""",
        [("Book", "D", ("3",)), ("Note", "U", ("1",)), ("Tree", "I", ("9",))],
    ),
    (
        "a function of the server's",
        "DO $$ BEGIN UPDATE author SET name = 'Dot' WHERE id = 'a'; DELETE FROM tree WHERE id = 4; END $$",
        [*author("U", "a"), ("Tree", "D", ("4",))],
    ),
    ("a table that is no model", "INSERT INTO outside VALUES (1)", []),
]


@pytest.mark.parametrize(
    ("statement", "expected"), [case[1:] for case in STATEMENTS], ids=[case[0] for case in STATEMENTS]
)
async def test_every_statement_is_captured(
    library: Captive, statement: str, expected: list[Captured]
) -> None:
    """A statement notes each key that it has touched, once, and whatever it causes elsewhere."""
    assert sorted(expected, key=repr) == await library.captured_by(statement)


async def test_merge_is_captured(library: Captive) -> None:
    """MERGE notes what each of its actions has done."""
    if library.author.get_server_version().major < 15:
        pytest.skip("MERGE came with PostgreSQL 15")
    expected = [*author("D", "b"), ("Book", "D", ("3",)), *author("I", "d"), *author("U", "a")]

    assert sorted(expected, key=repr) == await library.captured_by(
        """MERGE INTO author USING (VALUES ('a'), ('b'), ('d')) AS s (id) ON author.id = s.id
        WHEN MATCHED AND s.id = 'b' THEN DELETE
        WHEN MATCHED THEN UPDATE SET name = 'Merged'
        WHEN NOT MATCHED THEN INSERT (id) VALUES (s.id)"""
    )


async def test_copy_is_captured(library: Captive) -> None:
    """COPY notes every row that it brings."""
    await library.author.copy_to_table("author", source=io.BytesIO(b"d\tDov\t\\N\ne\tEva\t\\N\n"))

    assert author("I", "d", "e") == await library.captured()


async def test_prepared_statement_is_captured_each_time(library: Captive) -> None:
    """A statement that was prepared once notes the key of every execution."""
    update = await library.author.prepare("UPDATE author SET at = now() WHERE id = $1")
    for key in ("a", "b", "a"):
        await update.fetch(key)

    assert author("U", "a", "a", "b") == await library.captured()


async def test_many_rows_after_single_ones_cost_no_more_each(library: Captive) -> None:
    """A session that has updated single rows before updates many with a plan that is fit for many."""
    await library.run("INSERT INTO tree SELECT n, NULL FROM generate_series(10, 20009) AS n")
    for _ in range(7):  # whatever plan a session comes to keep, it has by then
        await library.run("UPDATE tree SET parent_id = NULL WHERE id = 10")
    await library.captured()

    async with asyncio.timeout(30):  # with a plan for single rows it takes minutes
        captured = await library.captured_by("UPDATE tree SET parent_id = NULL WHERE id >= 10")

    assert {("Tree", "U", (str(number),)) for number in range(10, 20010)} == set(captured)
    assert len(captured) == 20_000


async def test_statement_prepared_before_the_installation_is_captured(fresh_database: FreshDatabase) -> None:
    """A session that has planned its write before the triggers came is not missed."""
    dsn = await fresh_database()
    early = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await early.execute(LIBRARY)
        update = await early.prepare("UPDATE author SET at = now() WHERE id = $1")
        for _ in range(6):  # from the sixth time on the plan is a generic one
            await update.fetch("a")
        async with captive(dsn, "SELECT", MODELS) as opened:
            await update.fetch("b")

            assert author("U", "b") == await opened.captured()
    finally:
        await early.close()


async def test_rolled_back_writes_are_not_captured(library: Captive) -> None:
    """What never happened is not noted: neither after a rollback, nor one to a savepoint, nor an error."""
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await library.run("INSERT INTO book VALUES (9, 'Nine', 'nobody')")
    statements = (
        "BEGIN", "UPDATE author SET name = 'No' WHERE id = 'a'", "ROLLBACK",
        "BEGIN", "UPDATE author SET name = 'Yes' WHERE id = 'b'", "SAVEPOINT here",
        "DELETE FROM author", "ROLLBACK TO here", "COMMIT",
    )  # fmt: skip

    assert author("U", "b") == await library.captured_by(*statements)


async def test_change_is_seen_with_its_row(library: Captive) -> None:
    """The note becomes visible at the same moment as the write."""
    async with library.store.transaction() as other:
        async with library.author.transaction():
            await library.run("UPDATE author SET name = 'Abe' WHERE id = 'a'")
            assert await other.fetchval("SELECT count(*) FROM crossfade.change") == 0
        assert await other.fetchval("SELECT count(*) FROM crossfade.change") == 1


async def test_replica_role_is_captured(library: Captive) -> None:
    """`session_replication_role = replica` silences ordinary triggers and foreign keys, but not capture."""
    statements = ("SET session_replication_role = replica", "DELETE FROM author WHERE id = 'a'")

    assert author("D", "a") == await library.captured_by(*statements)


async def test_triggers_of_the_tables_own_are_captured(library: Captive) -> None:
    """What a trigger of the legacy schema writes elsewhere is noted beside what fired it."""
    await library.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE author SET at = now() WHERE id = NEW.author_id; RETURN NULL; END $$",
        "CREATE TRIGGER touch AFTER UPDATE ON book FOR EACH ROW EXECUTE FUNCTION touch()",
    )

    assert await library.captured_by("UPDATE book SET title = '?' WHERE id = 3") == [
        *author("U", "b"),
        ("Book", "U", ("3",)),
    ]


async def test_strangers_write_without_any_right_on_crossfade(
    library: Captive, fresh_database: FreshDatabase
) -> None:
    """A role that may write to a table and nothing else is captured all the same, whatever its search path."""
    await library.run(
        "CREATE ROLE clerk",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON tree TO clerk",
        "CREATE SCHEMA trap AUTHORIZATION clerk",
        "SET ROLE clerk",
        # Whoever may create objects tries to be called with the rights of the capture function's owner.
        "CREATE FUNCTION trap.equal(text, text) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 = 1'",
        "CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal)",
        "CREATE FUNCTION trap.pg_try_advisory_xact_lock_shared(bigint) RETURNS bool LANGUAGE sql AS 'SELECT 1/0 = 1'",
        "CREATE TEMP TABLE crossfade_new (id int)",
        "SET search_path = trap, pg_catalog, public",
    )
    try:
        await library.run(
            "INSERT INTO tree VALUES (7, NULL)",
            "UPDATE tree SET id = 8 WHERE id = 7",
            "DELETE FROM tree WHERE id = 8",
            "TRUNCATE tree",
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await library.run("SELECT * FROM crossfade.change")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await library.run(
                "CREATE TEMP TABLE mine (id int)", "INSERT INTO crossfade.change (model) VALUES ('x')"
            )
    finally:
        await library.run("RESET ROLE", "RESET search_path")

    expected = [
        ("Tree", "I", ("7",)),
        *renamed("Tree", ("7",), ("8",)),
        ("Tree", "D", ("8",)),
        ("Tree", "T", None),
    ]
    assert sorted(expected, key=repr) == await library.captured()
    await library.run("DROP TABLE pg_temp.mine", "DROP OWNED BY clerk CASCADE", "DROP ROLE clerk")


# --- keys ------------------------------------------------------------------------------------------------------

KEYS: list[tuple[str, str, str]] = [
    ("text", "'it''s {x,y}'", "it's {x,y}"),
    ("varchar(20)", "'NULL'", "NULL"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("bigint", "'-9223372036854775808'", "-9223372036854775808"),
    ("smallint", "7", "7"),
    ("numeric(12,3)", "12.5", "12.500"),
    ("boolean", "true", "true"),
    ("double precision", "0.1::float8 + 0.2::float8", "0.30000000000000004"),
    ("date", "'2026-03-01'", "2026-03-01"),
    ("timestamp(3)", "'2026-03-01 12:30:00.5'", "2026-03-01 12:30:00.5"),
    ("timestamptz", "'2026-03-01 12:30:00+02'", "2026-03-01 10:30:00+00"),
    ("time", "'12:30'", "12:30:00"),
    ("interval", "'1 year 2 days 3 hours'", "P1Y2DT3H"),
    ("bytea", r"'\x00ff41'", r"\x00ff41"),
    ("mood", "'so so'", "so so"),
]
STRANGE = (
    "SET TimeZone = 'Asia/Kolkata'", "SET DateStyle = 'German, DMY'", "SET IntervalStyle = 'postgres_verbose'",
    "SET bytea_output = 'escape'", "SET extra_float_digits = -5", "SET search_path = pg_catalog",
    "SET standard_conforming_strings = on", "SET lock_timeout = '5s'", "SET lc_numeric = 'C'",
)  # fmt: skip


async def test_text_of_a_key_depends_on_no_setting(fresh_database: FreshDatabase) -> None:
    """A key is noted by one text, in a session of whatever settings, for every operation."""
    ddl = "CREATE TYPE mood AS ENUM ('so so')" + "".join(
        f"; CREATE TABLE thing{number} (id {kind} PRIMARY KEY, other int)"
        for number, (kind, _, _) in enumerate(KEYS)
    )
    statements = [
        statement
        for number, (kind, value, _) in enumerate(KEYS)
        for statement in (
            f"INSERT INTO public.thing{number} VALUES ({value}::{'public.' * (kind == 'mood')}{kind})",
            f"UPDATE public.thing{number} SET other = 1",
            f"DELETE FROM public.thing{number}",
        )
    ]
    tables = {kind: f"thing{number}" for number, (kind, _, _) in enumerate(KEYS)}
    async with captive(await fresh_database(), ddl, tables) as opened:
        plain = await opened.captured_by(*statements)
        await opened.run(*STRANGE)
        strange = await opened.captured_by(*statements)

    assert sorted([(kind, op, (text,)) for kind, _, text in KEYS for op in "DIU"], key=repr) == plain
    assert plain == strange


async def test_equal_keys_of_different_text_are_noted(fresh_database: FreshDatabase) -> None:
    """Where a type takes two texts for one value, both are noted: a key is its text."""
    ddl = "CREATE TABLE thing (id numeric PRIMARY KEY); INSERT INTO thing VALUES (1.0)"
    async with captive(await fresh_database(), ddl, {"Thing": "thing"}) as opened:
        captured = await opened.captured_by("UPDATE thing SET id = 1.00")

    assert sorted(renamed("Thing", ("1.0",), ("1.00",)), key=repr) == captured


async def test_keys_that_rows_exchange_are_noted(fresh_database: FreshDatabase) -> None:
    """When no key comes or goes, but each belongs to another row, every row is noted with the key that it had."""
    ddl = "CREATE TABLE thing (id int PRIMARY KEY DEFERRABLE, other int); INSERT INTO thing VALUES (1), (2), (3)"
    async with captive(await fresh_database(), ddl, {"Thing": "thing"}) as opened:
        captured = await opened.captured_by("UPDATE thing SET id = id % 3 + 1")

    pairs = [("1", "2"), ("2", "3"), ("3", "1")]
    assert (
        sorted((entry for old, new in pairs for entry in renamed("Thing", (old,), (new,))), key=repr)
        == captured
    )


async def test_composite_keys_are_noted_in_the_order_of_the_key(fresh_database: FreshDatabase) -> None:
    """The parts stand as in the primary key, and a change of one part notes the old and the new whole."""
    ddl = 'CREATE TABLE seat ("row" text, note text, number int, PRIMARY KEY (number, "row"))'
    async with captive(await fresh_database(), ddl, {"Seat": "seat"}) as opened:
        await opened.run("INSERT INTO seat VALUES ('F', NULL, 3), ('G', NULL, 3)")
        await opened.captured()

        captured = await opened.captured_by("UPDATE seat SET number = 4 WHERE \"row\" = 'F'")

    assert sorted(renamed("Seat", ("3", "F"), ("4", "F")), key=repr) == captured


async def test_names_that_need_quoting(fresh_database: FreshDatabase) -> None:
    """Names with quotes, spaces, keywords and names of PL/pgSQL's own variables do no harm."""
    name = 'it\'s a "table"'
    table = quoted(name)
    ddl = (
        f'CREATE TABLE {table} ("select" int, found text, tg_op int, "$body$" int, n int, t int,'
        ' PRIMARY KEY ("select", found, tg_op, "$body$", n, t))'
    )
    key = ("1", "x", "2", "3", "4", "5")
    async with captive(await fresh_database(), ddl, {'The "Model" 100%': name}) as opened:
        captured = await opened.captured_by(
            f"INSERT INTO {table} VALUES (1, 'x', 2, 3, 4, 5)",
            f"UPDATE {table} SET n = 4",
            f"DELETE FROM {table}",
        )

        assert [('The "Model" 100%', op, key) for op in "DIU"] == captured
        assert await installed_problems(opened.store) == []


async def test_names_longer_than_postgresql_keeps(fresh_database: FreshDatabase) -> None:
    """Two models whose names agree in more than 63 bytes keep a function each, on tables with cut names."""
    first, second = "M" * 70 + "a", "M" * 70 + "b"
    long = "t" * 70
    ddl = f"CREATE TABLE {long} (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)"
    async with captive(await fresh_database(), ddl, {first: long, second: "other"}) as opened:
        captured = await opened.captured_by(f"INSERT INTO {long} VALUES (1)", "INSERT INTO other VALUES (2)")

        assert [(first, "I", ("1",)), (second, "I", ("2",))] == captured
        assert await installed_problems(opened.store) == []


async def test_tables_in_another_schema(fresh_database: FreshDatabase) -> None:
    """The schema that the URL names has the tables, whatever lies elsewhere under the same names."""
    dsn = await fresh_database()
    ddl = (
        'CREATE TABLE thing (id int PRIMARY KEY); CREATE SCHEMA "My Shop";'
        ' CREATE TABLE "My Shop".thing (id int PRIMARY KEY)'
    )
    async with captive(
        dsn.replace(schema="My Shop"), f"SET search_path = public; {ddl}", {"Thing": "thing"}
    ) as opened:
        captured = await opened.captured_by(
            'INSERT INTO "My Shop".thing VALUES (1)', "INSERT INTO public.thing VALUES (2)"
        )

        assert [("Thing", "I", ("1",))] == captured


# --- partitions ------------------------------------------------------------------------------------------------

PARTITIONED = """
CREATE TABLE event (id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE event_eu PARTITION OF event FOR VALUES IN ('eu');
CREATE TABLE event_us (note text, region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));
ALTER TABLE event ATTACH PARTITION event_us FOR VALUES IN ('us');
CREATE TABLE event_asia PARTITION OF event FOR VALUES IN ('jp', 'in') PARTITION BY LIST (region);
CREATE TABLE event_jp PARTITION OF event_asia FOR VALUES IN ('jp');
INSERT INTO event VALUES (1, 'eu'), (2, 'us'), (3, 'jp');
"""


def event(op: str, *keys: tuple[str, str]) -> list[Captured]:
    return [("Event", op, key) for key in keys]


PARTITIONS: list[tuple[str, str, list[Captured]]] = [
    ("insert by the parent", "INSERT INTO event VALUES (4, 'eu'), (5, 'us')", event("I", ("4", "eu"), ("5", "us"))),
    ("insert into a partition", "INSERT INTO event_us (id, region) VALUES (4, 'us')", event("I", ("4", "us"))),
    ("insert half way down", "INSERT INTO event_asia VALUES (4, 'jp')", event("I", ("4", "jp"))),
    ("update through the parent", "UPDATE event SET note = ''", event("U", ("1", "eu"), ("2", "us"), ("3", "jp"))),
    ("update of a partition", "UPDATE event_jp SET note = ''", event("U", ("3", "jp"))),
    ("move away", "UPDATE event SET region = 'us' WHERE id = 1", renamed("Event", ("1", "eu"), ("1", "us"))),
    (
        "move of some of several",
        "UPDATE event SET region = CASE id WHEN 2 THEN 'us' ELSE 'eu' END, id = id + 1",
        [entry for old, new in ((("1", "eu"), ("2", "eu")), (("2", "us"), ("3", "us")), (("3", "jp"), ("4", "eu")))
         for entry in renamed("Event", old, new)],
    ),
    ("delete through the parent", "DELETE FROM event WHERE id < 3", event("D", ("1", "eu"), ("2", "us"))),
    ("delete from a partition", "DELETE FROM event_eu", event("D", ("1", "eu"))),
    ("truncate of a partition", "TRUNCATE event_us", [("Event", "T", None)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("statement", "expected"), [case[1:] for case in PARTITIONS], ids=[case[0] for case in PARTITIONS]
)
async def test_partitions_are_captured(
    fresh_database: FreshDatabase, statement: str, expected: list[Captured]
) -> None:
    """A partitioned table notes each key once, whether it is written to through the parent or a partition."""
    async with captive(await fresh_database(), PARTITIONED, {"Event": "event"}) as opened:
        assert sorted(expected, key=repr) == await opened.captured_by(statement)


async def test_truncate_of_a_partitioned_table(fresh_database: FreshDatabase) -> None:
    """TRUNCATE of the whole makes the whole model suspect."""
    async with captive(await fresh_database(), PARTITIONED, {"Event": "event"}) as opened:
        assert {("Event", "T", None)} == set(await opened.captured_by("TRUNCATE event"))


async def test_partition_that_came_later_is_detected(fresh_database: FreshDatabase) -> None:
    """Writes to a new partition itself are not seen until `install` has run again; that is said."""
    async with captive(await fresh_database(), PARTITIONED, {"Event": "event"}) as opened:
        await opened.run(
            "CREATE TABLE event_in (id int, region text, note text, PRIMARY KEY (id, region))",
            "ALTER TABLE event_asia ATTACH PARTITION event_in FOR VALUES IN ('in')",
        )
        insert = "INSERT INTO event_in VALUES (7, 'in')"

        assert await opened.captured_by(insert) == []
        (problem,) = await installed_problems(opened.store)
        assert "event_in of Event has no triggers" in problem

        done = await install(opened.store, by="a test")
        assert [entry.steps for entry in done if entry.steps] == [
            ('capture on partition "public"."event_in"', 'fence (authority) on partition "public"."event_in"')
        ]
        assert await installed_problems(opened.store) == []
        assert event("U", ("7", "in")) == await opened.captured_by("UPDATE event_in SET note = ''")


# --- implicit many-to-many ---------------------------------------------------------------------------------------


async def test_implicit_many_to_many_tables_are_captured(marketplace_legacy: Dsn) -> None:
    """A row of Prisma's own relation table is noted under the table's name and both its columns."""
    author = await asyncpg.connect(**marketplace_legacy.asyncpg_kwargs())
    try:
        async with Store(Side.PRISMA, marketplace_legacy, load_schema(SCHEMA_FILE)) as store:
            await install(store, by="a test")
            opened = Captive(store, author)
            await opened.run(
                "INSERT INTO users (id, email, updated_at) VALUES ('u', 'u@x', now())",
                "INSERT INTO conversations (id, updated_at) VALUES ('c', now())",
            )
            table = '"_ConversationParticipants"'
            captured = await opened.captured_by(f"INSERT INTO {table} VALUES ('c', 'u')")
            cascaded = await opened.captured_by("DELETE FROM users")
    finally:
        await author.close()

    assert [("_ConversationParticipants", "I", ("c", "u"))] == captured
    assert [("User", "D", ("u",)), ("_ConversationParticipants", "D", ("c", "u"))] == cascaded
