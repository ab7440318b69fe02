"""Parents and children whose authorities are on different sides."""

from __future__ import annotations

from typing import Any

import pytest
from twins import P, S, Twins, identifier, referred, refers, schema_of

from crossfade.events import ConflictSettled
from crossfade.stages import Side
from small_schema import scalar

CHAIN = schema_of(
    Root=[identifier(), scalar("name", isRequired=False), referred("trunks", "Trunk", "Trunks")],
    Trunk=[identifier(), *refers("root", "Root", "Trunks"), referred("leaves", "Leaf", "Leaves")],
    Leaf=[identifier(), *refers("trunk", "Trunk", "Leaves"), scalar("text", isRequired=False)],
)
DDL = """
CREATE TABLE "Root" (id integer PRIMARY KEY, name text NOT NULL DEFAULT md5(random()::text) UNIQUE);
CREATE TABLE "Trunk" (id integer PRIMARY KEY, root_id integer REFERENCES "Root" ON DELETE {0});
CREATE TABLE "Leaf" (id integer PRIMARY KEY, trunk_id integer REFERENCES "Trunk" ON DELETE {1}, text text);
"""
EVERYTHING = ["Root", "Trunk", "Leaf"]
BEGIN = """
INSERT INTO "Root" VALUES (1, 'one'), (2, 'two');
INSERT INTO "Trunk" VALUES (11, 1), (21, 2);
INSERT INTO "Leaf" VALUES (111, 11, 'a'), (211, 21, 'b');
"""

MakeChain = Any


@pytest.fixture
def chain(make: Any) -> MakeChain:
    """A level pair: of the rules of both foreign keys, the upper one first, and whose authority has moved."""

    async def create(*on_delete: str, **authorities: Side) -> Twins:
        pair = await make(CHAIN, DDL.format(*on_delete))
        await pair.write(P, BEGIN)
        assert await pair.reconciler().drain(EVERYTHING, 10)
        for model, side in authorities.items():
            await pair.give(side, model.capitalize())
        pair.observer.events.clear()
        return pair

    return create


async def test_a_child_brings_its_parent_over(chain: MakeChain) -> None:
    """A child is created on the other side than the parent, before the parent has got there."""
    pair = await chain("CASCADE", "CASCADE", leaf=S)
    await pair.write(P, 'INSERT INTO "Trunk" VALUES (12, 1)')
    assert 1 == await pair.reconciler().settle_keys("Trunk", [("12",)])
    await pair.write(S, 'INSERT INTO "Leaf" VALUES (121, 12)')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert not pair.observer.of(ConflictSettled)


@pytest.mark.parametrize(("rule", "left"), [("CASCADE", [211]), ("SET NULL", [111, 211])])
async def test_a_deleted_parent_takes_along_what_each_store_would(
    chain: MakeChain, rule: str, left: list[int]
) -> None:
    """The child that both stores had goes, or loses its parent, by the foreign key's own rule: that is no conflict."""
    pair = await chain(rule, rule, trunk=S, leaf=P)
    await pair.write(S, 'DELETE FROM "Trunk" WHERE id = 11')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert left == await pair.column(P, 'SELECT id FROM "Leaf" ORDER BY id')
    assert not pair.observer.of(ConflictSettled)


@pytest.mark.parametrize("child_first", [True, False])
async def test_a_child_that_was_born_while_its_parent_died_is_reported(
    chain: MakeChain, child_first: bool
) -> None:
    """The foreign key cascades: the child goes, its image stays, whichever of the two is looked at first."""
    pair = await chain("CASCADE", "CASCADE", leaf=S)
    await pair.write(S, """INSERT INTO "Leaf" VALUES (112, 11, 'lost')""")
    await pair.write(P, 'DELETE FROM "Trunk" WHERE id = 11')
    await pair.reconciler().run_once(["Leaf" if child_first else "Trunk"], settle=0)
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [211] == await pair.column(S, 'SELECT id FROM "Leaf"')
    assert [ConflictSettled("Leaf", "child-of-deleted-parent", "cascade")] == pair.observer.of(
        ConflictSettled
    )
    ((model, key, _, _, image, other),) = await pair.conflicts(S)
    assert ("Leaf", ["112"], None) == (model, key, other)
    assert '{"id": 112, "text": "lost", "trunk_id": 11}' == image


async def test_a_child_that_moved_to_a_dying_parent_is_reported(chain: MakeChain) -> None:
    """Both images are kept: the one that moved, and the one that had not."""
    pair = await chain("CASCADE", "CASCADE", leaf=S)
    await pair.write(S, 'UPDATE "Leaf" SET trunk_id = 11 WHERE id = 211')
    await pair.write(P, 'DELETE FROM "Trunk" WHERE id = 11')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    ((_, key, _, _, image, other),) = await pair.conflicts(S)
    assert ["211"] == key
    assert '{"id": 211, "text": "b", "trunk_id": 11}' == image
    assert '{"id": 211, "text": "b", "trunk_id": 21}' == other


async def test_a_child_that_was_born_far_below_is_reported(chain: MakeChain) -> None:
    """The root dies on one side; the leaf hangs on it over a trunk of the same side."""
    pair = await chain("CASCADE", "CASCADE", leaf=S)
    await pair.write(S, 'INSERT INTO "Leaf" VALUES (112, 11)')
    await pair.write(P, 'DELETE FROM "Root" WHERE id = 1')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [ConflictSettled("Leaf", "child-of-deleted-parent", "cascade")] == pair.observer.of(
        ConflictSettled
    )


@pytest.mark.parametrize("rule", ["RESTRICT", "NO ACTION"])
@pytest.mark.parametrize("child_first", [True, False])
async def test_a_parent_returns_whose_child_forbids_its_delete(
    chain: MakeChain, rule: str, child_first: bool
) -> None:
    """Nothing is destroyed: the parent is put back where it was deleted, as a write of that store's own."""
    pair = await chain("CASCADE", rule, leaf=S)
    await pair.write(S, 'DELETE FROM "Leaf" WHERE id = 111')
    assert await pair.reconciler().drain(EVERYTHING, 10)
    await pair.write(S, 'INSERT INTO "Leaf" VALUES (112, 11)')
    await pair.write(P, 'DELETE FROM "Trunk" WHERE id = 11')
    await pair.reconciler().run_once(["Leaf" if child_first else "Trunk"], settle=0)
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [11, 21] == await pair.column(P, 'SELECT id FROM "Trunk" ORDER BY id')
    assert [112, 211] == await pair.column(P, 'SELECT id FROM "Leaf" ORDER BY id')
    assert [ConflictSettled("Trunk", "restricted-parent", "parent-returns")] == pair.observer.of(
        ConflictSettled
    )
    ((model, key, _, _, image, other),) = await pair.conflicts(P)
    assert ("Trunk", ["11"], None, '{"id": 11, "root_id": 1}') == (model, key, image, other)


async def test_a_parent_returns_with_its_own_parents(chain: MakeChain) -> None:
    """Root and trunk died together; the leaf on the other side keeps both."""
    pair = await chain("CASCADE", "RESTRICT", leaf=S)
    await pair.write(S, 'DELETE FROM "Leaf" WHERE id = 111')
    assert await pair.reconciler().drain(EVERYTHING, 10)
    await pair.write(S, 'INSERT INTO "Leaf" VALUES (112, 11)')
    await pair.write(P, 'DELETE FROM "Root" WHERE id = 1')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [1, 2] == await pair.column(P, 'SELECT id FROM "Root" ORDER BY id')
    assert [112, 211] == await pair.column(P, 'SELECT id FROM "Leaf" ORDER BY id')
    assert {"parent-returns"} == {event.policy for event in pair.observer.of(ConflictSettled)}


async def test_a_parent_returns_although_its_unique_value_is_taken(chain: MakeChain) -> None:
    """With another value in that column; both images say what it was."""
    pair = await chain("RESTRICT", "RESTRICT", trunk=S, leaf=S)
    await pair.write(S, 'DELETE FROM "Leaf"', 'DELETE FROM "Trunk"')
    assert await pair.reconciler().drain(EVERYTHING, 10)
    await pair.write(S, 'INSERT INTO "Trunk" VALUES (12, 1)')
    await pair.write(P, 'DELETE FROM "Root" WHERE id = 1', """INSERT INTO "Root" VALUES (3, 'one')""")
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [1, 2, 3] == await pair.column(P, 'SELECT id FROM "Root" ORDER BY id')
    assert ["one"] == await pair.column(S, 'SELECT name FROM "Root" WHERE id = 3')
    policies = [event.policy for event in pair.observer.of(ConflictSettled)]
    assert ["parent-returns-renamed"] == policies
    assert ['{"id": 1, "name": "one"}'] == [row[5] for row in await pair.conflicts(P)]


async def test_alternating_authorities_are_settled_in_turns(chain: MakeChain) -> None:
    """Root and leaf on one side, the trunk between them on the other; all is born at once."""
    pair = await chain("CASCADE", "CASCADE", trunk=S)
    await pair.write(P, """INSERT INTO "Root" VALUES (3, 'three')""")
    await pair.reconciler().run_once(["Root"], settle=0)
    await pair.write(S, 'INSERT INTO "Trunk" VALUES (31, 3)')
    await pair.reconciler().run_once(["Trunk"], settle=0)
    await pair.write(P, 'INSERT INTO "Leaf" VALUES (311, 31)')
    assert await pair.reconciler().drain(EVERYTHING, 10)
    await pair.assert_level()
    await pair.write(P, 'DELETE FROM "Root" WHERE id = 3')
    assert await pair.reconciler().drain(EVERYTHING, 10)

    await pair.assert_level()
    assert [111, 211] == await pair.column(S, 'SELECT id FROM "Leaf" ORDER BY id')
