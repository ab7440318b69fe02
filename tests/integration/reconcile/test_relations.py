"""Rows that refer to each other, with one authority over all of them."""

from __future__ import annotations

from typing import Any

import pytest
from twins import P, S, Twins, identifier, referred, refers, schema_of

from small_schema import relation, scalar

FAMILY = schema_of(
    Town=[identifier(), *refers("mayor", "Person", "Mayor"), referred("people", "Person", "People")],
    Person=[
        identifier(),
        *refers("town", "Town", "People", required=True),
        *refers("boss", "Person", "Boss"),
        referred("staff", "Person", "Boss"),
        referred("rules", "Town", "Mayor"),
        relation("friends", "Person", "Friends", isList=True),
        relation("liked_by", "Person", "Friends", isList=True),
        scalar("name", isRequired=False),
    ],
)
DDL = """
CREATE TABLE "Town" (id integer PRIMARY KEY, mayor_id integer UNIQUE);
CREATE TABLE "Person" (id integer PRIMARY KEY, town_id integer NOT NULL REFERENCES "Town" ON DELETE {on_delete},
    boss_id integer REFERENCES "Person" ON DELETE SET NULL, name text UNIQUE);
ALTER TABLE "Town" ADD FOREIGN KEY (mayor_id) REFERENCES "Person" ON DELETE SET NULL;
CREATE TABLE "_Friends" ("A" integer NOT NULL REFERENCES "Person" ON DELETE CASCADE,
    "B" integer NOT NULL REFERENCES "Person" ON DELETE CASCADE);
CREATE UNIQUE INDEX ON "_Friends" ("A", "B");
"""
PEOPLE = """
INSERT INTO "Town" VALUES (1), (2);
INSERT INTO "Person" VALUES (1, 1, NULL, 'ann'), (2, 1, 1, 'ben'), (3, 2, 2, 'cid'), (4, 2, 3, 'dan');
UPDATE "Town" SET mayor_id = 4 WHERE id = 1;
INSERT INTO "_Friends" VALUES (1, 2), (2, 3);
"""


@pytest.fixture(params=["CASCADE", "RESTRICT", "NO ACTION"])
async def family(make: Any, request: pytest.FixtureRequest) -> Twins:
    """Towns, people, whom they work for and whom they like; towns and people refer to each other."""
    return await make(FAMILY, DDL.format(on_delete=request.param))


@pytest.mark.parametrize("model", ["Town", "Person", None])
async def test_missing_parents_are_brought_first(family: Twins, model: str | None) -> None:
    """Whichever model comes first, also in a circle, and through a table's reference to itself."""
    await family.write(P, PEOPLE)
    await family.reconciler().run_once(None if model is None else [model], settle=0)
    if model is None:
        assert 4 == len(await family.column(S, 'SELECT id FROM "Person"'))
    assert await family.reconciler().drain(["Town", "Person"], 10)

    await family.assert_level()


async def test_one_key_brings_what_it_hangs_on(family: Twins) -> None:
    """A person with the town, the town's mayor, and every boss up to the top."""
    await family.write(P, PEOPLE)

    assert await family.reconciler().settle_keys("Person", [("4",)]) > 1
    assert [1, 2, 3, 4] == await family.column(S, 'SELECT id FROM "Person" ORDER BY id')
    assert [1, 2] == await family.column(S, 'SELECT id FROM "Town" ORDER BY id')


async def test_many_to_many_rows_are_carried_over(family: Twins) -> None:
    """They belong to the model that their first column refers to, with whose keys they are settled."""
    reconciler = family.reconciler()
    await family.write(P, PEOPLE)
    assert 0 < (await reconciler.pending(["Person"]))["Person"].keys
    assert await reconciler.drain(["Town", "Person"], 10)
    await family.write(P, 'DELETE FROM "_Friends" WHERE "A" = 1', 'INSERT INTO "_Friends" VALUES (3, 4)')
    assert {("_Friends", ("1", "2")), ("_Friends", ("3", "4"))} == await reconciler.pending_keys(["Person"])
    assert await reconciler.drain(["Person"], 10)

    await family.assert_level()


async def test_deletes_are_carried_over_children_first(family: Twins) -> None:
    """Everything goes at once, whatever the foreign keys say."""
    await family.write(P, PEOPLE)
    assert await family.reconciler().drain(["Town", "Person"], 10)
    away = ['UPDATE "Town" SET mayor_id = NULL', 'DELETE FROM "Person"', 'DELETE FROM "Town"']
    await family.write(P, *away)
    assert await family.reconciler().drain(["Town", "Person"], 10)

    await family.assert_level()
    assert [] == await family.column(S, 'SELECT id FROM "Person"')


async def test_a_parent_goes_when_its_child_has_moved_away(family: Twins) -> None:
    """If only the parent's key is looked at, the children that hold it back are settled with it."""
    await family.write(P, PEOPLE)
    assert await family.reconciler().drain(["Town", "Person"], 10)
    await family.write(P, 'UPDATE "Person" SET town_id = 1', 'DELETE FROM "Town" WHERE id = 2')

    assert await family.reconciler().settle_keys("Town", [("2",)])
    assert [1] == await family.column(S, 'SELECT id FROM "Town"')
    assert await family.reconciler().drain(["Town", "Person"], 10)
    await family.assert_level()


async def test_truncated_tables_are_emptied(family: Twins) -> None:
    """With those that refer to them."""
    await family.write(P, PEOPLE)
    assert await family.reconciler().drain(["Town", "Person"], 10)
    await family.write(P, 'TRUNCATE "Town" CASCADE', """INSERT INTO "Town" VALUES (5)""")
    assert await family.reconciler().drain(["Town", "Person"], 10)

    await family.assert_level()
    assert [5] == await family.column(S, 'SELECT id FROM "Town"')


async def test_a_unique_reference_can_be_swapped(family: Twins) -> None:
    """Two towns exchange their mayors."""
    await family.write(P, PEOPLE, 'UPDATE "Town" SET mayor_id = 3 WHERE id = 2')
    assert await family.reconciler().drain(["Town", "Person"], 10)
    await family.write(
        P,
        'UPDATE "Town" SET mayor_id = NULL',
        'UPDATE "Town" SET mayor_id = CASE id WHEN 1 THEN 3 ELSE 4 END',
    )
    assert await family.reconciler().drain(["Town", "Person"], 10)

    await family.assert_level()
