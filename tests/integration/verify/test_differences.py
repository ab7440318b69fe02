"""What verify finds, how it names it, and what repair does about it."""

from __future__ import annotations

import pytest
from planting import (
    QUICK,
    SMALL_CHUNKS,
    THING,
    fill,
    filling,
    noted,
    one_key,
    thing_ddl,
    unseen,
    verify_one,
)
from twins import MakeTwins, Twins, schema_of

from crossfade.events import RowsDiffered
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.verify import Kind, Mode, Verdict, Verify, VerifySettings
from small_schema import scalar

P, S = Side.PRISMA, Side.SQLALCHEMY
ROWS = 600
CHANGES = {
    "name": "name = name || ' '",  # one space
    "note": "note = DEFAULT",
    "amount": "amount = trim_scale(amount)",  # 1.50 and 1.5
    "price": "price = price + 0.01",
    "count": "count = NULL",
    "at": "at = at + interval '1 millisecond'",
    "moment": "moment = moment - interval '1 millisecond'",
    "document": "document = jsonb_set(document, '{a}', to_jsonb(((document->>'a') || '.0')::numeric))",  # 1 and 1.0
    "raw": "raw = replace(raw::text, ' : ', ':')::json",
    "is_new": "is_new = NOT is_new",
    "ratio": "ratio = ratio + 1e-9",
    "tags": "tags = tags[2:] || tags[1]",
    "bytes": "bytes = bytes || '\\x00'",
}
TEN = 10


@pytest.mark.parametrize("mode", [Mode.WHOLE, Mode.DEEP])
async def test_every_kind_is_found_named_and_repaired(make: MakeTwins, mode: Mode) -> None:
    """Ten of each are found with their columns; the authority's rows win, and nothing differs afterwards."""
    twins = await make(THING, thing_ddl())
    await fill(twins, filling(ROWS))
    numbers = iter(range(1, ROWS, ROWS // (TEN * (len(CHANGES) + 2))))
    planted = {}
    for column, change in CHANGES.items():
        for _ in range(TEN):
            key = await twins.plain[S].fetchval("SELECT md5($1::integer::text)", next(numbers))
            # `note` is the other way round: NULL against the default.
            first, then = (P, "note = NULL") if column == "note" else (S, change)
            await unseen(twins, first, "Thing", f"UPDATE \"Thing\" SET {then} WHERE id = '{key}'")
            if column == "note":
                await unseen(twins, S, "Thing", f"UPDATE \"Thing\" SET note = DEFAULT WHERE id = '{key}'")
            planted[(key,)] = (Kind.DIFFERENT, (column,))
    for _ in range(TEN):
        key = await twins.plain[S].fetchval("SELECT md5($1::integer::text)", next(numbers))
        await unseen(twins, S, "Thing", f"DELETE FROM \"Thing\" WHERE id = '{key}'")
        planted[(key,)] = (Kind.MISSING, ())
    for n in range(TEN):
        await unseen(twins, S, "Thing", f"INSERT INTO \"Thing\" (id, name) VALUES ('extra {n}', 'x')")
        planted[(f"extra {n}",)] = (Kind.EXTRA, ())

    report = await verify_one(twins, mode=mode)
    assert {row.key: (row.kind, row.columns) for row in await noted(twins)} == planted
    assert (Verdict.DIFFERING, ROWS, mode) == (report.state, report.rows, report.mode)
    assert (TEN, TEN, TEN * len(CHANGES)) == (report.missing, report.extra, report.different)
    assert dict.fromkeys(CHANGES, TEN) == report.columns
    assert {"missing": TEN, "extra": TEN, "different": TEN * len(CHANGES)} == {
        event.kind: event.rows for event in twins.observer.of(RowsDiffered)
    }

    right = (await twins.rows(P))["Thing"]
    repaired = await verify_one(twins, mode=mode, repair=True)
    assert (Verdict.CLEAN, len(planted), 0) == (repaired.state, repaired.repaired, repaired.remaining)
    assert (TEN, TEN, TEN * len(CHANGES)) == (repaired.missing, repaired.extra, repaired.different)
    assert Verdict.CLEAN == (await verify_one(twins, mode=mode)).state
    assert right == (await twins.rows(P))["Thing"] == (await twins.rows(S))["Thing"]


COMPOSITE = Schema.from_dmmf(
    {
        "datamodel": {
            "enums": [],
            "models": [
                {
                    "name": "Thing",
                    "dbName": None,
                    "fields": [scalar("shop"), scalar("number", "Int"), scalar("name")],
                    "primaryKey": {"name": None, "fields": ["shop", "number"]},
                    "uniqueIndexes": [],
                }
            ],
        }
    }
)
KEYS = {
    "integer": (one_key("Int"), "id integer PRIMARY KEY", "n", "id = 77"),
    "bigint": (one_key("BigInt"), "id bigint PRIMARY KEY", "n * 10000000000", "id = 770000000000"),
    "uuid": (one_key(), "id uuid PRIMARY KEY", "md5(n::text)::uuid", "id = md5('77')::uuid"),
    "text": (one_key(), "id text PRIMARY KEY", "'Schlüssel ' || n", "id = 'Schlüssel 77'"),
    "composite": (
        COMPOSITE,
        "shop text, number integer, PRIMARY KEY (shop, number)",
        "'shop, ' || n % 7, n",
        "number = 77",
    ),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("mode", [Mode.WHOLE, Mode.DEEP])
async def test_keys_of_every_type_in_many_chunks(make: MakeTwins, name: str, mode: Mode) -> None:
    """One missing, one extra and one different row are found, whatever the key is, in a table of several chunks."""
    schema, key, value, condition = KEYS[name]
    twins = await make(schema, thing_ddl(key))
    await fill(twins, filling(ROWS, value))
    other = condition.replace("77", "78")
    await unseen(twins, S, "Thing", f"UPDATE \"Thing\" SET name = 'x' WHERE {condition}")
    await unseen(twins, S, "Thing", f'DELETE FROM "Thing" WHERE {other}')
    await unseen(twins, P, "Thing", f'DELETE FROM "Thing" WHERE {condition.replace("77", "79")}')
    report = await verify_one(twins, SMALL_CHUNKS, mode=mode)
    assert (ROWS - 1, 1, 1, 1) == (report.rows, report.missing, report.extra, report.different)
    assert {"name": 1} == report.columns
    assert 6 <= report.chunks <= 12
    repaired = await verify_one(twins, SMALL_CHUNKS, mode=mode, repair=True)
    assert (Verdict.CLEAN, 3) == (repaired.state, repaired.repaired)


SORTED_DIFFERENTLY = {
    "collation": ('id text COLLATE "C" PRIMARY KEY', "id text PRIMARY KEY"),
    "enum": ('id "Size" PRIMARY KEY', 'id "Size" PRIMARY KEY'),
}
SIZES = [f"{size}{n}" for n in range(200) for size in ("small ", "large ", "Medium ")]


@pytest.mark.parametrize("name", SORTED_DIFFERENTLY)
@pytest.mark.parametrize("mode", [Mode.WHOLE, Mode.DEEP])
async def test_a_key_that_the_stores_sort_differently(make: MakeTwins, name: str, mode: Mode) -> None:
    """The table is divided by hashes then, and nothing is overlooked."""
    enums = [
        f"""CREATE TYPE "Size" AS ENUM ({", ".join(f"'{size}'" for size in sizes)}, 'none');"""
        for sizes in (SIZES, sorted(SIZES))
    ]
    one, other = SORTED_DIFFERENTLY[name]
    twins = await make(THING, enums[0] + thing_ddl(one), enums[1] + thing_ddl(other))
    cast = '::"Size"' if name == "enum" else ""
    key = f"((ARRAY['small ', 'large ', 'Medium '])[n % 3 + 1] || (n - 1) / 3){cast}"
    await fill(twins, filling(ROWS, key))
    settings = VerifySettings(settle=0.02, patience=1.0, part_rows=100, deep_rows=100)
    assert Verdict.CLEAN == (await verify_one(twins, settings, mode=mode)).state
    await unseen(twins, S, "Thing", "UPDATE \"Thing\" SET count = 0 WHERE id = 'small 77'")
    await unseen(twins, S, "Thing", "DELETE FROM \"Thing\" WHERE id = 'Medium 78'")
    await unseen(twins, S, "Thing", "INSERT INTO \"Thing\" (id, name) VALUES ('none', 'x')")
    report = await verify_one(twins, settings, mode=mode)
    assert (ROWS, 8, 1, 1, 1) == (report.rows, report.chunks, report.missing, report.extra, report.different)
    assert Verdict.CLEAN == (await verify_one(twins, settings, mode=mode, repair=True)).state


async def test_columns_of_different_types(make: MakeTwins) -> None:
    """What both types can hold is compared, so the same value is the same and another one is named."""
    fields = [scalar("id", "Int", isId=True)]
    twins = await make(
        schema_of(Thing=fields),
        """CREATE TABLE "Thing" (id integer PRIMARY KEY, at timestamp(3), doc json, amount numeric(12,2),
           name varchar(50), kind char(8), day date, small smallint, ratio real, tags varchar(9)[])""",
        """CREATE TABLE "Thing" (id bigint PRIMARY KEY, at timestamptz(6), doc jsonb, amount numeric(65,30),
           name text, kind text, day timestamp, small integer, ratio double precision, tags text[])""",
    )
    await fill(
        twins,
        """INSERT INTO "Thing" SELECT n, timestamp '2024-05-05 12:00' + n * interval '1.001 s',
           '{"b": 1,  "a": [1, 2]}', n + 0.5, 'name ' || n, 'k' || n, date '2024-01-01' + n, n, n + 0.25,
           ARRAY['t', 'u'] FROM generate_series(1, 100) n""",
    )
    assert Verdict.CLEAN == (await verify_one(twins)).state
    assert Verdict.CLEAN == (await verify_one(twins, mode=Mode.DEEP)).state
    for number, change in enumerate(
        (
            "at = at + interval '1 ms'",
            """doc = '{"b": 1, "a": [2, 1]}'""",
            "amount = amount + 0.01",
            "name = name || ' '",
            "kind = 'x'",
            "day = day + interval '1 day'",
            "small = small + 1",
            "ratio = ratio + 0.5",
            "tags = NULL",
        ),
        start=1,
    ):
        await unseen(twins, S, "Thing", f'UPDATE "Thing" SET {change} WHERE id = {number}')
    report = await verify_one(twins)
    assert (
        dict.fromkeys(("at", "doc", "amount", "name", "kind", "day", "small", "ratio", "tags"), 1)
        == report.columns
    )
    assert Verdict.CLEAN == (await verify_one(twins, repair=True)).state


async def test_rows_that_have_exchanged_a_value(make: MakeTwins) -> None:
    """Two rows of one bucket whose values were swapped do not cancel each other out."""
    twins = await make(one_key("Int"), thing_ddl("id integer PRIMARY KEY"))
    await fill(twins, filling(2_000, "n"))
    await unseen(
        twins,
        S,
        "Thing",
        "UPDATE \"Thing\" t SET count = 2001 - t.id, name = 'name ' || 2001 - t.id",
    )
    report = await verify_one(twins)
    assert (2_000, {"count": 2_000, "name": 2_000}) == (report.different, report.columns)


async def test_a_many_to_many_table(shop: Twins) -> None:
    """Pairs that one store alone has are found in the table that belongs to no model, and repaired."""
    pairs = "_ConversationParticipants"
    await unseen(shop, S, pairs, f'DELETE FROM "{pairs}" WHERE ctid IN (SELECT ctid FROM "{pairs}" LIMIT 2)')
    await unseen(
        shop,
        S,
        pairs,
        f'INSERT INTO "{pairs}" SELECT c.id, u.id FROM conversations c, users u'
        f' WHERE NOT EXISTS (SELECT FROM "{pairs}" p WHERE p."A" = c.id AND p."B" = u.id) LIMIT 3',
    )
    verify = Verify(shop.stores, shop.reconciler(), settings=QUICK)
    reports = {report.model: report for report in await verify.run(["Conversation"])}
    assert {"Conversation", pairs} == reports.keys()
    assert ("Conversation", 2, 3) == (reports[pairs].owner, reports[pairs].missing, reports[pairs].extra) or (
        3,
        2,
    ) == (reports[pairs].missing, reports[pairs].extra)
    repaired = await verify.run(["Conversation"], repair=True)
    assert {Verdict.CLEAN} == {report.state for report in repaired}
    assert await shop.rows(P) == await shop.rows(S)


async def test_rows_that_refer_to_each_other_are_repaired(shop: Twins) -> None:
    """Parents and children that are missing or too many in the target are put right in one go."""
    await unseen(shop, S, "Shipment", 'DELETE FROM "Shipment"')
    await unseen(shop, S, "Message", "DELETE FROM messages")
    await unseen(
        shop,
        P,
        "Message",
        "DELETE FROM messages WHERE conversation_id IN (SELECT id FROM conversations ORDER BY id LIMIT 5)",
    )
    verify = Verify(shop.stores, shop.reconciler(), settings=QUICK)
    found = {report.model: report for report in await verify.run()}
    assert Verdict.DIFFERING == found["Message"].state
    assert Verdict.DIFFERING == found["Shipment"].state
    assert {Verdict.CLEAN} == {report.state for report in await verify.run(repair=True)}
    assert await shop.rows(P) == await shop.rows(S)


async def test_where_the_target_has_the_authority(shop: Twins) -> None:
    """At `live` the target's rows win: the legacy store is repaired."""
    await shop.give(S, "User")
    await unseen(shop, P, "User", "UPDATE users SET name = 'late' WHERE id IN (SELECT id FROM users LIMIT 4)")
    before = await shop.rows(S)
    [report] = await Verify(shop.stores, shop.reconciler(), settings=QUICK).run(["User"], repair=True)
    assert (Verdict.CLEAN, 4, 4, {"name": 4}) == (
        report.state,
        report.different,
        report.repaired,
        report.columns,
    )
    assert before == await shop.rows(S) == await shop.rows(P)


async def test_a_target_that_is_empty(make: MakeTwins) -> None:
    """So much is missing that the list ends, and the report says so."""
    twins = await make(one_key("Int"), thing_ddl("id integer PRIMARY KEY"))
    await unseen(twins, P, "Thing", filling(5_000, "n"))
    settings = VerifySettings(
        settle=0.02, patience=1.0, chunk_rows=500, largest_chunk=500, most_differences=1_000
    )
    report = await verify_one(twins, settings)
    assert (Verdict.DIFFERING, True) == (report.state, report.is_cut)
    assert 1_000 <= report.missing < 3_000
