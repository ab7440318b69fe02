"""Every kind of key, value and table arrives as it was."""

from __future__ import annotations

from typing import Any

import pytest
from copies import backfill, forget, make_backfill
from twins import MakeTwins, P, S, Twins, identifier, refers, schema_of

from crossfade.schema import Schema
from marketplace.seed import seed_legacy
from small_schema import relation, scalar

KEYS: dict[str, tuple[str, str]] = {
    "integer": ("id integer PRIMARY KEY", "n"),
    "sparse bigint": ("id bigint PRIMARY KEY", "(n::bigint * n * 1000003) - 5000000000"),
    "skewed integer": ("id integer PRIMARY KEY", "CASE WHEN n < 280 THEN n ELSE 2000000000 + n END"),
    "numeric": ("id numeric(20,4) PRIMARY KEY", "n / 7.0"),
    "uuid": ("id uuid PRIMARY KEY", "md5(n::text)::uuid"),
    "text": ("id text PRIMARY KEY", "chr(32 + n % 90) || '''' || md5(n::text)"),
    "timestamp": ("id timestamp(3) PRIMARY KEY", "timestamp '2024-01-01' + n * interval '1.001 seconds'"),
    "bytea": ("id bytea PRIMARY KEY", "decode(md5(n::text), 'hex')"),
    "char": ("id char(8) PRIMARY KEY", "'k' || n"),
    "text in another order": ('id text COLLATE "C" PRIMARY KEY', "chr(65 + n % 60) || md5(n::text)"),
}
FIELDS: dict[str, str] = {"uuid": "String", "timestamp": "DateTime", "bytea": "Bytes", "numeric": "Decimal"}


def one_model(*fields: dict[str, Any]) -> Schema:
    """A schema with one model, `Thing`."""
    return schema_of(Thing=list(fields))


async def level(twins: Twins) -> None:
    """Both stores hold the same rows, and there are some."""
    rows = await twins.rows(P)
    assert all(rows.values())
    await twins.assert_level()


async def test_the_marketplace_arrives(market: Twins) -> None:
    """Ten models with enums, lists, Json, Decimal, bytes and NULLs, and a many-to-many table."""
    await seed_legacy(market.stores[P].dsn, 1000)
    await forget(market)

    told = await backfill(market, first_chunk=60, workers=2)

    await level(market)
    assert {"done"} == {table.state for table in told}
    assert 0 == sum(table.left_over + table.waiting + table.failed for table in told)
    assert sum(table.rows_read for table in told) == sum(table.rows_written for table in told)
    counts = {model: len(rows) for model, rows in (await market.rows(P)).items()}
    assert counts == {table.model: table.rows_read for table in told}


@pytest.mark.parametrize("kind", KEYS)
async def test_any_key(make: MakeTwins, kind: str) -> None:
    """In chunks of seven rows, with deletes on the way, whatever the key is made of."""
    column, value = KEYS[kind]
    target = column.replace('COLLATE "C"', 'COLLATE "C.utf8"')
    schema = one_model(identifier(FIELDS.get(kind, "Int")), scalar("n", "Int"))
    ddl = 'CREATE TABLE "Thing" ({}, n integer NOT NULL)'
    twins = await make(schema, ddl.format(column), ddl.format(target))
    await twins.write(P, f'INSERT INTO "Thing" SELECT {value}, n FROM generate_series(1, 300) n')
    await forget(twins)

    told = await backfill(twins, first_chunk=40, smallest_chunk=40, largest_chunk=40)

    await level(twins)
    assert [(300, 300)] == [(table.rows_read, table.rows_written) for table in told]
    assert 8 <= told[0].chunks


async def test_a_key_that_the_stores_sort_differently_is_captured(make: MakeTwins) -> None:
    """Its ranges are not the same in both stores, so the check would not see what it is to see."""
    schema = one_model(identifier("String"))
    twins = await make(
        schema,
        'CREATE TABLE "Thing" (id text COLLATE "C" PRIMARY KEY)',
        'CREATE TABLE "Thing" (id text COLLATE "C.utf8" PRIMARY KEY)',
    )
    await twins.write(P, 'INSERT INTO "Thing" SELECT chr(65 + n) FROM generate_series(0, 50) n')
    await forget(twins)
    captured: list[int] = []

    async def at(*_: object) -> None:
        captured.append(await twins.captured(S))

    await backfill(twins, at=at, workers=1)

    assert 51 == max(captured)
    await level(twins)


async def test_an_enum_as_key_whose_labels_are_declared_in_another_order(make: MakeTwins) -> None:
    """What lies between two keys here lies elsewhere there."""
    ddl = """
        CREATE TYPE size AS ENUM ({});
        CREATE TABLE "Thing" (id size PRIMARY KEY, value text NOT NULL)
    """
    labels = ["'a'", "'b'", "'c'", "'d'", "'e'", "'f'"]
    twins = await make(
        one_model(identifier("String"), scalar("value")),
        ddl.format(", ".join(labels)),
        ddl.format(", ".join(reversed(labels))),
    )
    await twins.write(P, "INSERT INTO \"Thing\" SELECT unnest(enum_range(NULL::size)), 'v'")
    await forget(twins)

    async def at(point: str, _: str) -> None:
        if point == "inserted":
            await twins.write(P, "DELETE FROM \"Thing\" WHERE id = 'b'")
            await twins.reconciler().run_once(settle=0)

    told = await backfill(twins, at=at, workers=1, first_chunk=2, smallest_chunk=2, largest_chunk=2)

    assert 3 <= told[0].chunks
    await level(twins)


@pytest.mark.parametrize("target_key", ["PRIMARY KEY (a, b)", "PRIMARY KEY (b, a)"])
async def test_a_composite_key(make: MakeTwins, target_key: str) -> None:
    """Text and number, in one order or the other."""
    schema = Schema.from_dmmf(
        {
            "datamodel": {
                "enums": [],
                "models": [
                    {
                        "name": "Thing",
                        "dbName": None,
                        "fields": [scalar("a"), scalar("b", "Int"), scalar("value")],
                        "primaryKey": {"name": None, "fields": ["a", "b"]},
                        "uniqueIndexes": [],
                    }
                ],
            }
        }
    )
    ddl = 'CREATE TABLE "Thing" (a text, b integer, value text NOT NULL, {})'
    twins = await make(schema, ddl.format("PRIMARY KEY (a, b)"), ddl.format(target_key))
    await twins.write(
        P, "INSERT INTO \"Thing\" SELECT 'k' || n % 7, n, 'v' || n FROM generate_series(1, 200) n"
    )
    await forget(twins)
    passed = 0

    async def at(point: str, _: str) -> None:
        nonlocal passed
        passed += point == "read"
        if passed == 3:
            await twins.write(P, 'DELETE FROM "Thing" WHERE b % 2 = 0')
            await twins.reconciler().run_once(settle=0)

    await backfill(twins, at=at, first_chunk=30, smallest_chunk=30, largest_chunk=30, workers=1)

    await level(twins)


async def test_values_of_all_sorts(make: MakeTwins) -> None:
    """Other types, arrays of enums, generated columns and identities that are always given."""
    columns = [
        identifier(),
        *(
            scalar(name, isRequired=False)
            for name in ("label", "document", "price", "raw", "at", "tags", "kinds")
        ),
        scalar("doubled", "Int", isRequired=False),
        scalar("network", isRequired=False),
    ]
    legacy = """
        CREATE TYPE kind AS ENUM ('big', 'small');
        CREATE TABLE "Thing" (id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, label varchar(20), document json,
            price numeric(12,4), raw bytea, at timestamp(3), tags text[], kinds kind[],
            doubled integer GENERATED ALWAYS AS (id * 2) STORED, network inet);
    """
    target = """
        CREATE TYPE kind AS ENUM ('small', 'big');
        CREATE TABLE "Thing" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text, document jsonb,
            price numeric(65,30), raw bytea, at timestamptz, tags text[], kinds kind[],
            doubled bigint GENERATED ALWAYS AS (id * 2) STORED, network inet);
    """
    twins = await make(one_model(*columns), legacy, target)
    await twins.write(
        P,
        "INSERT INTO \"Thing\" VALUES (1, 'a', '{\"b\": [1, 2.50, null]}', 12.50, '\\x00ff', '2024-02-29 12:00:00.123',"
        " '{x,NULL,\"\"}', '{big,small}', DEFAULT, '10.0.0.1')",
        'INSERT INTO "Thing" (id) VALUES (2)',
        "INSERT INTO \"Thing\" (id, tags, kinds, raw, label) VALUES (3, '{}', '{}', '', '')",
        "INSERT INTO \"Thing\" (id, price, label) VALUES (4, -0.01, 'ä€😀\\t''\"')",
    )
    await forget(twins)

    await backfill(twins)

    query = (
        "SELECT ROW(id, label, document::jsonb, price::numeric(12,4), raw, at::timestamptz, tags, kinds, doubled,"
        ' network)::text FROM "Thing" ORDER BY id'
    )
    for connection in twins.plain.values():
        await connection.execute("SET TimeZone = 'UTC'")
    here = await twins.column(P, query)
    assert 4 == len(here)
    assert here == await twins.column(S, query)


async def test_partitioned_tables(make: MakeTwins) -> None:
    """Partitioned in either store, or in both."""
    schema = one_model(identifier(), scalar("value"))
    parts = """
        CREATE TABLE "Thing" (id integer PRIMARY KEY, value text NOT NULL) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF "Thing" FOR VALUES FROM (MINVALUE) TO (50);
        CREATE TABLE high PARTITION OF "Thing" FOR VALUES FROM (50) TO (MAXVALUE);
    """
    whole = 'CREATE TABLE "Thing" (id integer PRIMARY KEY, value text NOT NULL)'
    for legacy, target in ((parts, whole), (whole, parts), (parts, parts)):
        twins = await make(schema, legacy, target)
        await twins.write(P, "INSERT INTO \"Thing\" SELECT n, 'v' FROM generate_series(1, 100) n")
        await forget(twins)

        await backfill(twins, first_chunk=30, smallest_chunk=30)

        await level(twins)


TREE = schema_of(
    Node=[
        identifier(),
        *refers("parent", "Node", "Tree"),
        relation("children", "Node", "Tree", isList=True),
    ]
)


@pytest.mark.parametrize("parent", ["n - 1", "n + 1", "1 + n * 37 % 200", "n"])
async def test_rows_that_refer_to_their_own_table(make: MakeTwins, parent: str) -> None:
    """To rows of chunks before and behind, in one long chain or in circles, and to themselves."""
    twins = await make(
        TREE, 'CREATE TABLE "Node" (id integer PRIMARY KEY, parent_id integer REFERENCES "Node")'
    )
    await twins.write(
        P,
        'INSERT INTO "Node" SELECT n, NULL FROM generate_series(0, 201) n',
        f'UPDATE "Node" SET parent_id = n FROM (SELECT n AS i, {parent} AS n FROM generate_series(1, 200) n) s'
        " WHERE id = s.i",
    )
    await forget(twins)

    told = await backfill(twins, first_chunk=30, smallest_chunk=30, largest_chunk=30)

    await level(twins)
    assert [("done", 0)] == [(table.state, table.waiting) for table in told]


@pytest.mark.parametrize("check", ["", ", CHECK (dog_id IS NOT NULL)"])
async def test_models_that_refer_to_each_other(make: MakeTwins, check: str) -> None:
    """No order is right: rows come without the reference that may be left out, and get it from the reconciler."""
    schema = schema_of(
        Man=[identifier(), *refers("dog", "Dog", "Best"), relation("dogs", "Dog", "Owner", isList=True)],
        Dog=[
            identifier(),
            *refers("owner", "Man", "Owner"),
            relation("best", "Man", "Best", isList=True),
        ],
    )
    ddl = """
        CREATE TABLE "Man" (id integer PRIMARY KEY, dog_id integer{});
        CREATE TABLE "Dog" (id integer PRIMARY KEY, owner_id integer REFERENCES "Man");
        ALTER TABLE "Man" ADD FOREIGN KEY (dog_id) REFERENCES "Dog";
    """
    twins = await make(schema, ddl.format(""), ddl.format(check))
    await twins.write(
        P,
        'INSERT INTO "Dog" SELECT n FROM generate_series(1, 40) n',
        'INSERT INTO "Man" SELECT n, n FROM generate_series(1, 40) n',
        'UPDATE "Dog" SET owner_id = id',
    )
    await forget(twins)

    told = await backfill(twins, first_chunk=8, smallest_chunk=8)

    await level(twins)
    assert ["done", "done"] == [table.state for table in told]
    assert 40 <= sum(table.left_over for table in told)


async def test_deferred_constraints(make: MakeTwins) -> None:
    """A constraint that waits for the commit is asked before, or nobody could act on what it says."""
    twins = await make(
        TREE,
        'CREATE TABLE "Node" (id integer PRIMARY KEY, parent_id integer REFERENCES "Node"'
        " DEFERRABLE INITIALLY DEFERRED)",
    )
    await twins.write(P, 'INSERT INTO "Node" SELECT n, nullif(n + 1, 101) FROM generate_series(1, 100) n')
    await forget(twins)

    await backfill(twins, first_chunk=30, smallest_chunk=30)

    await level(twins)


async def test_an_empty_table(make: MakeTwins) -> None:
    """It is done as any other."""
    twins = await make(one_model(identifier()), 'CREATE TABLE "Thing" (id integer PRIMARY KEY)')

    told = await backfill(twins)

    assert [("done", 0, 1)] == [(table.state, table.rows_read, table.chunks) for table in told]
    assert ["done"] == [table.state for table in await make_backfill(twins).plan()]


async def test_rows_that_are_in_the_target_already_stay(make: MakeTwins) -> None:
    """What is there was put there by somebody who knew more; what nobody has is brought level."""
    twins = await make(
        one_model(identifier(), scalar("value")), 'CREATE TABLE "Thing" (id integer PRIMARY KEY, value text)'
    )
    await twins.write(P, "INSERT INTO \"Thing\" SELECT n, 'here' FROM generate_series(1, 20) n")
    await forget(twins)
    await twins.write(
        S, "INSERT INTO \"Thing\" VALUES (5, 'there'), (500, 'in the target alone')", follower=True
    )
    await forget(twins)

    told = await backfill(twins)

    assert (20, 19) == (told[0].rows_read, told[0].rows_written)
    assert ["there"] == await twins.column(S, 'SELECT value FROM "Thing" WHERE id = 5')
    assert [] == await twins.column(S, 'SELECT value FROM "Thing" WHERE id = 500')
