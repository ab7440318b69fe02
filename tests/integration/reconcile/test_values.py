"""Every type of column arrives as it was, also where the two stores give it different types."""

from __future__ import annotations

from typing import Any

import pytest
from twins import P, S, Twins, identifier, schema_of

from crossfade.mapping import Converted, Dropped, Mapping, Mappings
from crossfade.reconcile.pair import Pair
from crossfade.reconcile.settlement import working
from crossfade.stages import Side
from small_schema import scalar

ROWS = """
INSERT INTO users (id, email, handle, name, role, is_active, balance, reputation, login_count, storage_bytes, notify_by,
                   tags, preferences, avatar, last_login_at, created_at, updated_at) VALUES
 ('u1', 'é"{},\\ ünï@example.org', NULL, E'tab\\tline\\nquote''"', 'ADMIN', false, -1234567890.12, 0.1 + 0.2,
  -2147483648, 9223372036854775807, '{SMS,IN_APP}', ARRAY['', 'NULL', 'a,b', '{}', E'"\\\\', NULL],
  '{"a": [1, 2.50, null], "b": "x"}',
  '\\x00ff10', '2024-02-29 23:59:59.999+02', '0001-01-01 00:00:00', '2038-01-19 03:14:07.123'),
 ('u2', '', '', '', 'BUYER', true, 0.10, 'NaN', 2147483647, -9223372036854775808, '{}', '{}', '"text"', '\\x',
  '2024-10-27 02:30:00+01', '294276-12-31 23:59:59.999', 'infinity'),
 ('u3', 'u3', 'u3', NULL, 'BUYER', true, 0.00, '-Infinity', 0, 0, NULL, NULL, 'null', NULL, NULL, now(), now());
INSERT INTO items (id, sku, owner_user_id, parent_id, title, condition, price, weight_kg, dimensions_mm, attributes,
                   metadata, photo, updated_at) VALUES
 ('i1', 's1', 'u1', NULL, 'one', 'like-new', 1.00, 1e-300, '{-1,0,NULL,2147483647}', '{}', 'null', NULL, now()),
 ('i2', 's2', 'u1', 'i1', 'two', 'for parts', 1.10, 5e-324, NULL, '[]', NULL, '\\xff', now());
INSERT INTO "Listing" (id, item_id, seller_id, slug, price, discount, keywords, published_at, updated_at) VALUES
 ('l1', 'i1', 'u1', 's', 5, 0.050000000000000000000000000001, '{}', now(), now());
INSERT INTO market_research_data (id, source, reference, item_id, condition, average_price, median, raw, observed_at,
                                  updated_at) VALUES
 ('m1', 's', 'r', 'i2', 'fair', 12345678901234567890.5, 1, '0', now(), now()),
 ('m2', 's', 'q', NULL, NULL, NULL, 1, '1', now(), now());
INSERT INTO orders (id, number, buyer_id, listing_id, total, updated_at) VALUES ('o1', 'n1', 'u2', 'l1', 1, now());
INSERT INTO "Shipment" (order_id, cost, customs, label, updated_at) VALUES ('o1', 1, '{"k": {}}', '\\x00', now());
INSERT INTO analytics_data (id, metric, bucket, hits, percentiles, updated_at) VALUES
 ('a1', 'm', now(), 9007199254740993, '{}', now());
INSERT INTO "AnalyticsSnapshot" (scope, day, gross, exact, totals, digest, updated_at) VALUES
 ('s', '2024-02-29', 1, 0.1, '{}', NULL, now());
INSERT INTO conversations (id, labels, updated_at) VALUES ('c1', '{a}', now());
INSERT INTO messages (id, conversation_id, sender_id, body, channel) VALUES ('g1', 'c1', 'u1', 'b', 'PUSH');
INSERT INTO messages (id, conversation_id, sender_id, reply_to_id, body) VALUES ('g0', 'c1', 'u1', 'g1', 'b');
INSERT INTO "_ConversationParticipants" VALUES ('c1', 'u1'), ('c1', 'u2');
"""


@pytest.mark.parametrize("authority", list(Side))
async def test_every_column_of_the_marketplace_arrives(shop: Twins, authority: Side) -> None:
    """In both directions: NULL is not empty, the last digit stays, and a time is the same moment."""
    models = [spec.name for spec in shop.stores[P].schema]
    await shop.give(authority, *models)
    await shop.write(authority, ROWS)
    assert await shop.reconciler().drain(models, 20)

    await shop.assert_level()
    assert all(rows for rows in (await shop.rows(authority.other)).values())


@pytest.mark.parametrize("authority", list(Side))
async def test_a_changed_value_is_found_in_any_column(shop: Twins, authority: Side) -> None:
    """Each column of a row is compared, and copied."""
    models = [spec.name for spec in shop.stores[P].schema]
    await shop.give(authority, *models)
    await shop.write(authority, ROWS)
    assert await shop.reconciler().drain(models, 20)
    changes = {
        "name": "'other'",
        "role": "'SELLER'",
        "is_active": "NOT is_active",
        "balance": "balance + 0.01",
        "reputation": "1.5",
        "storage_bytes": "1",
        "notify_by": "ARRAY['EMAIL']::\"Channel\"[]" if authority is P else "notify_by[:1]",
        "tags": "'{}'",
        "preferences": "'{}'",
        "avatar": "'\\x01'",
        "last_login_at": "'2024-02-29 23:59:59.998+02'",
        "created_at": "created_at + interval '1 ms'",
    }
    for column, value in changes.items():
        await shop.write(authority, f"UPDATE users SET {column} = {value} WHERE id = 'u1'")
        assert await shop.reconciler().drain(["User"], 10), column
        await shop.assert_level()


MIXED = schema_of(
    Mixed=[
        identifier(),
        scalar("moment", "DateTime"),
        scalar("amount", "Decimal"),
        scalar("document", "Json"),
        scalar("code"),
        scalar("amounts", "Decimal", isList=True),
        scalar("moments", "DateTime", isList=True),
        scalar("small", "Float"),
        scalar("short"),
    ]
)
LEGACY = """
CREATE TABLE "Mixed" (id integer PRIMARY KEY, moment timestamp(3), amount numeric(65,30), document jsonb, code char(5),
    amounts numeric(65,30)[], moments timestamp(3)[], small real, short text, only_here text DEFAULT 'x',
    doubled integer GENERATED ALWAYS AS (id * 2) STORED)
"""
TARGET = """
CREATE TYPE kind AS ENUM ('a', 'b');
CREATE TABLE "Mixed" (short varchar(4), small double precision, moments timestamptz[], amounts numeric(12,2)[],
    code text, document json, amount numeric(12,2), moment timestamptz,
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    more integer DEFAULT 7)
"""
MEANT = Mappings(
    (
        Mapping(
            "Mixed",
            columns=(
                Dropped("only_here", one_way=True),
                Converted("amount", "amount", "{}", "{}"),
                Converted("amounts", "amounts", "{}", "{}"),
            ),
        ),
    )
)
VALUES = """
INSERT INTO "Mixed" (id, moment, amount, document, code, amounts, moments, small, short)
{override} VALUES
 (1, '2024-01-02 03:04:05.678', 1.10, '{{"b": 1, "a": [1.0]}}', 'ab', '{{1.5,NULL,2}}',
  '{{2024-01-02 03:04:05.678,NULL}}', 0.1, 'abcd'),
 (2, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL), (3, 'infinity', -5, '"x"', '', '{{}}', '{{}}', 0.5, '')
"""


@pytest.mark.parametrize("authority", list(Side))
async def test_columns_of_different_types_agree(make: Any, authority: Side) -> None:
    """A value that both types can hold is the same value in both, and is not copied again."""
    mixed = await make(MIXED, LEGACY, TARGET, MEANT)
    await mixed.give(authority, "Mixed")
    await mixed.write(authority, VALUES.format(override="" if authority is P else "OVERRIDING SYSTEM VALUE"))
    assert await mixed.reconciler().drain(["Mixed"], 10)

    query = """SELECT ROW(id, moment::timestamptz, trim_scale(amount), document::jsonb, rtrim(code),
        amounts::numeric(9,1)[], moments::timestamptz[], small::real, short)::text FROM "Mixed" ORDER BY id"""
    assert await mixed.column(P, query) == await mixed.column(S, query)
    assert [1, 2, 3] == await mixed.column(authority.other, 'SELECT id FROM "Mixed" ORDER BY id')
    assert [0, 0] == [await mixed.captured(side) for side in Side]


async def test_a_value_that_does_not_fit_is_not_cut(make: Any) -> None:
    """It stays behind with the reason; what fits is carried over."""
    mixed = await make(MIXED, LEGACY, TARGET, MEANT)
    await mixed.write(P, """INSERT INTO "Mixed" (id, short) VALUES (1, 'fits'), (2, 'too long'), (3, 'ok')""")
    reconciler = mixed.reconciler()

    assert not await reconciler.drain(["Mixed"], 10)
    assert [1, 3] == await mixed.column(S, 'SELECT id FROM "Mixed" ORDER BY id')
    assert [("Mixed", 1, "22001")] == [
        (p.model, p.count, p.problem) for p in await reconciler.problems(["Mixed"])
    ]
    await mixed.write(P, """UPDATE "Mixed" SET short = 'fits' WHERE id = 2""")
    assert await reconciler.drain(["Mixed"], 10)
    assert [] == await reconciler.problems(["Mixed"])


async def test_a_key_that_is_none_in_the_other_store_is_set_aside(make: Any) -> None:
    """A text that is no number cannot even be looked up there; the other keys are not held up."""
    schema = schema_of(Thing=[identifier("String")])
    things = await make(
        schema,
        'CREATE TABLE "Thing" (id text PRIMARY KEY)',
        'CREATE TABLE "Thing" (id bigint PRIMARY KEY)',
    )
    await things.write(P, """INSERT INTO "Thing" VALUES ('1'), ('none'), ('3')""")
    reconciler = things.reconciler()

    assert not await reconciler.drain(["Thing"], 10)
    assert [1, 3] == await things.column(S, 'SELECT id FROM "Thing" ORDER BY id')
    assert ["22P02"] == [problem.problem for problem in await reconciler.problems(["Thing"])]
    await things.write(P, """DELETE FROM "Thing" WHERE id = 'none'""")


async def test_rows_are_found_by_their_index(shop: Twins) -> None:
    """Whatever the type of the key: no table is read from end to end to find some rows."""
    pair = await Pair.open(shop.stores)
    for side, store in shop.stores.items():
        async with working(store, 1.0) as connection:
            for image in pair.images[side].values():
                reading = (*image.digests_sql.values(), image.locked_sql, image.rows_sql)
                for statement in (*reading, image.delete_sql):
                    columns = [["1"]] * len(image.key)
                    plan = "\n".join(
                        row[0] for row in await connection.fetch(f"EXPLAIN {statement}", *columns)
                    )
                    assert "Index" in plan, plan
                    assert "Seq Scan" not in plan, plan
