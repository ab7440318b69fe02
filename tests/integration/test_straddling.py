"""Two models that a foreign key joins, with the authority over one on each side: what callers may rely on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import ForeignKeyViolationError, MixedAuthorityError
from crossfade.events import ConflictSettled, StaleRead
from crossfade.repository import RepositorySettings
from crossfade.stages import Side, Stage, has_begun
from databases import FreshDatabase
from property.relations.graph import Graph, Link, Model, Reference
from property.relations.world import World, open_world

MOVED = {
    "parent": {"Parent": Stage.LIVE, "Child": Stage.SHADOW},
    "child": {"Parent": Stage.SHADOW, "Child": Stage.LIVE},
}
EARLY = {"Parent": Stage.LIVE, "Child": Stage.OFF}
"""The parent has moved, and the child has not even begun."""
PARENT = {"id": "p", "tag": "parent", "code": "one"}
CHILD = {"id": "c", "tag": "child", "r0_id": "p"}

OpenFamily = Callable[..., AbstractAsyncContextManager["Family"]]


class Family:
    """A parent and a child whose authorities are on different sides. Nothing is verified unless somebody asks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.db = world.db

    async def bare(self, model: str, statement: str, *values: Any) -> None:
        """Write to a model's authority behind everybody's back."""
        await self.world.looking[self.world.authority(model)].execute(statement, *values)

    async def bare_parent(self) -> None:
        """Create the parent where only its own side knows of it."""
        await self.bare("Parent", "INSERT INTO \"Parent\" (id, tag, code) VALUES ('p', 'parent', 'one')")

    async def bare_child(self, tag: str = "c") -> None:
        """Create a child where only its own side knows of it."""
        await self.bare("Child", "INSERT INTO \"Child\" (id, tag, r0_id) VALUES ($1, $1, 'p')", tag)

    async def level(self) -> None:
        """Verify everything, and find both stores the same."""
        await self.world.begin_all()
        assert await self.world.repository.drain(10.0), await self.world.waiting()
        assert {} == await self.world.different()
        assert 0 == await self.world.orphans()

    async def ids(self, model: str, side: Side | None = None) -> list[str]:
        """The keys of a model in one store; in the one of its authority by default."""
        found = await self.world.rows(side or self.world.authority(model), model)
        return sorted(row["id"] for row in found)

    def settled(self) -> list[ConflictSettled]:
        """The conflicts that were told."""
        return self.world.observer.of(ConflictSettled)


Templates = dict[tuple[str, str, bool], dict[Side, str]]


@pytest.fixture(scope="session")
def templates(postgres: EmbeddedPostgres) -> Iterator[Templates]:
    """Databases in which a family stands where it is to stand, by what they were made for."""
    made: Templates = {}
    yield made
    for names in made.values():
        for name in names.values():
            asyncio.run(postgres.drop_database(name))


@pytest.fixture
def family(postgres: EmbeddedPostgres, templates: Templates, fresh_database: FreshDatabase) -> OpenFamily:
    """Opens a family by which of the two has moved, and by what the foreign key does when a parent is deleted."""

    @asynccontextmanager
    async def opened(
        moved: str, on_delete: str = "Cascade", *, is_optional: bool = False, **settings: Any
    ) -> AsyncIterator[Family]:
        is_optional = is_optional or on_delete == "SetNull"
        reference = Reference("r0", "Child", "Parent", ("id",), is_optional, on_delete)
        models = {
            "Parent": Model("Parent", "cuid", ("id",), ()),
            "Child": Model("Child", "cuid", ("id",), (reference,)),
        }
        graph = Graph(models, (Link("Child", "Parent"),))
        names = templates.get((moved, on_delete, is_optional))
        if names is None:
            names = {side: f"family_{len(templates)}_{side}" for side in Side}
            made = {side: Dsn.parse(await postgres.create_database(name)) for side, name in names.items()}
            templates[moved, on_delete, is_optional] = names
            async with open_world(graph, made, background=False) as world:
                await _place(world, (MOVED | {"early": EARLY})[moved])
        dsns = {side: await fresh_database(name) for side, name in names.items()}
        bounds = RepositorySettings(**settings)
        async with open_world(graph, dsns, background=False, is_prepared=True, settings=bounds) as world:
            yield Family(world)

    return opened


async def _place(world: World, wanted: Mapping[str, Stage]) -> None:
    for first in (Stage.SHADOW, *Stage):
        for model, stage in wanted.items():
            if stage is first or (has_begun(stage) and first is Stage.SHADOW):
                await world.bring(model, first)


BOTH = pytest.mark.parametrize("moved", MOVED)


async def _create(db: Any) -> None:
    await db.child.create(data=CHILD)


async def _connect(db: Any) -> None:
    await db.child.create(data={"id": "c", "tag": "child", "r0": {"connect": {"id": "p"}}})


async def _connect_by_another_key(db: Any) -> None:
    await db.child.create(data={"id": "c", "tag": "child", "r0": {"connect": {"code": "one"}}})


async def _create_many(db: Any) -> None:
    await db.child.create_many(data=[CHILD])


async def _upsert(db: Any) -> None:
    await db.child.upsert(where={"id": "c"}, data={"create": CHILD, "update": {"label": "there"}})


async def _batch(db: Any) -> None:
    async with db.batch_() as batch:
        batch.child.create(data=CHILD)


async def _transaction(db: Any) -> None:
    async with db.tx() as tx:
        await tx.child.create(data=CHILD)


@pytest.mark.parametrize("moved", [*MOVED, "early"])
@pytest.mark.parametrize(
    "create", [_create, _connect, _connect_by_another_key, _create_many, _upsert, _batch, _transaction]
)
async def test_a_child_fetches_the_parent_that_is_not_here_yet(
    family: OpenFamily, moved: str, create: Callable[[Any], Awaitable[None]]
) -> None:
    """However the child is created; nobody but the parent's own side knew of the parent before."""
    async with family(moved) as found:
        await found.bare_parent()
        await create(found.db)

        assert ["c"] == await found.ids("Child")
        assert ["p"] == await found.ids("Parent", found.world.authority("Child"))
        await found.level()


@BOTH
async def test_a_child_may_come_to_refer_to_a_parent_that_is_not_here_yet(
    family: OpenFamily, moved: str
) -> None:
    """An update fetches the parent as a create does."""
    async with family(moved, is_optional=True) as found:
        await found.db.child.create(data={"id": "c", "tag": "child"})
        await found.bare_parent()
        child = await found.db.child.update(where={"id": "c"}, data={"r0_id": "p"})

        assert "p" == child.r0_id
        await found.level()


@BOTH
async def test_a_child_of_nobody_is_refused(family: OpenFamily, moved: str) -> None:
    """The authority's own error, when the parent is on neither side."""
    async with family(moved) as found:
        with pytest.raises(ForeignKeyViolationError):
            await found.db.child.create(data=CHILD)
        await found.level()


@BOTH
@pytest.mark.parametrize(("on_delete", "left"), [("Cascade", []), ("SetNull", ["c"])])
async def test_what_the_foreign_key_does_to_children_happens_on_both_sides(
    family: OpenFamily, moved: str, on_delete: str, left: list[str]
) -> None:
    """A deleted parent takes its children along, or leaves them without one; that is no conflict."""
    async with family(moved, on_delete) as found:
        await found.db.parent.create(data=PARENT)
        await found.db.child.create(data=CHILD)
        await found.level()
        await found.db.parent.delete(where={"id": "p"})
        await found.level()

        assert left == await found.ids("Child")
        assert [] == await found.ids("Parent")
        assert [] == found.settled()


async def _delete(db: Any) -> None:
    await db.parent.delete(where={"id": "p"})


async def _delete_many(db: Any) -> None:
    await db.parent.delete_many(where={"tag": "parent"})


async def _delete_in_batch(db: Any) -> None:
    async with db.batch_() as batch:
        batch.parent.delete(where={"id": "p"})


async def _delete_in_transaction(db: Any) -> None:
    async with db.tx() as tx:
        await tx.parent.delete(where={"id": "p"})


@BOTH
@pytest.mark.parametrize(
    ("on_delete", "delete"),
    [
        ("Restrict", _delete),
        ("Restrict", _delete_many),
        ("Restrict", _delete_in_batch),
        ("Restrict", _delete_in_transaction),
        ("NoAction", _delete),
    ],
)
async def test_a_child_that_is_on_its_own_side_only_forbids_the_delete_of_its_parent(
    family: OpenFamily, moved: str, on_delete: str, delete: Callable[[Any], Awaitable[None]]
) -> None:
    """The caller hears of it, and nothing has to return afterwards."""
    async with family(moved, on_delete) as found:
        await found.db.parent.create(data=PARENT)
        await found.bare_child()
        with pytest.raises(ForeignKeyViolationError):
            await delete(found.db)
        await found.level()

        assert ["p"] == await found.ids("Parent")
        assert ["c"] == await found.ids("Child")
        assert [] == found.settled()


@BOTH
@pytest.mark.parametrize("delete", [_delete, _delete_many, _delete_in_batch, _delete_in_transaction])
async def test_a_child_that_is_gone_on_its_own_side_forbids_nothing(
    family: OpenFamily, moved: str, delete: Callable[[Any], Awaitable[None]]
) -> None:
    """Its copy on the parent's side does not count."""
    async with family(moved, "Restrict") as found:
        await found.db.parent.create(data=PARENT)
        await found.db.child.create(data=CHILD)
        await found.bare("Child", 'DELETE FROM "Child"')
        await delete(found.db)
        await found.level()

        assert [] == await found.ids("Parent")


@BOTH
async def test_a_child_that_was_born_while_its_parent_died_is_recorded(
    family: OpenFamily, moved: str
) -> None:
    """It goes with its parent, and its image is kept."""
    async with family(moved, "Cascade") as found:
        await found.db.parent.create(data=PARENT)
        await found.bare_child()
        await found.bare("Parent", 'DELETE FROM "Parent"')
        await found.level()

        assert [] == await found.ids("Child")
        assert [ConflictSettled("Child", "child-of-deleted-parent", "cascade")] == found.settled()
        (conflict,) = await found.world.conflicts()
        assert "c" == json.loads(conflict["authority_image"])["tag"]
        assert conflict["follower_image"] is None


@BOTH
async def test_a_parent_returns_that_died_while_a_child_was_born(family: OpenFamily, moved: str) -> None:
    """The foreign key forbids to delete it, so nothing is destroyed, and the parent's image is kept."""
    async with family(moved, "Restrict") as found:
        await found.db.parent.create(data=PARENT)
        await found.bare_child()
        await found.bare("Parent", 'DELETE FROM "Parent"')
        await found.level()

        assert ["p"] == await found.ids("Parent")
        assert ["c"] == await found.ids("Child")
        assert [ConflictSettled("Parent", "restricted-parent", "parent-returns")] == found.settled()
        (conflict,) = await found.world.conflicts()
        assert "parent" == json.loads(conflict["follower_image"])["tag"]


@BOTH
async def test_a_child_that_was_born_while_its_parent_died_may_be_left_without_one(
    family: OpenFamily, moved: str
) -> None:
    """Where the foreign key says so; that is no conflict."""
    async with family(moved, "SetNull") as found:
        await found.db.parent.create(data=PARENT)
        await found.bare_child()
        await found.bare("Parent", 'DELETE FROM "Parent"')
        await found.level()

        assert ["c"] == await found.ids("Child")
        assert [] == found.settled()


@BOTH
@pytest.mark.parametrize("on_delete", ["Cascade", "SetNull", "Restrict"])
async def test_children_stay_with_a_parent_that_gets_another_key(
    family: OpenFamily, moved: str, on_delete: str
) -> None:
    """However the new key reaches the other side: by the follower, or by capture alone."""
    async with family(moved, on_delete) as found:
        await found.db.parent.create(data=PARENT)
        await found.db.child.create(data=CHILD)
        await found.db.parent.update(where={"id": "p"}, data={"id": "q"})
        await found.level()
        await found.bare("Parent", "UPDATE \"Parent\" SET id = 'r' WHERE id = 'q'")
        await found.level()

        (child,) = await found.world.rows(found.world.authority("Child"), "Child")
        assert "r" == child["r0_id"]
        assert ["r"] == await found.ids("Parent")
        assert [] == found.settled()


@BOTH
async def test_each_child_stays_with_its_own_parent(family: OpenFamily, moved: str) -> None:
    """Several keys change at once, and again, and a new row gets an old key, before anything is carried over."""
    async with family(moved) as found:
        for parent, child in (("p", "c"), ("q", "d")):
            await found.db.parent.create(data={"id": parent, "tag": parent})
            await found.db.child.create(data={"id": child, "tag": child, "r0_id": parent})
        await found.level()
        for _ in range(2):
            await found.bare("Parent", "UPDATE \"Parent\" SET id = 'x' || id, label = 'renamed'")
        await found.bare("Parent", "INSERT INTO \"Parent\" (id, tag) VALUES ('p', 'new')")
        await found.level()

        children = await found.world.rows(found.world.authority("Child"), "Child")
        assert {"c": "xxp", "d": "xxq"} == {row["id"]: row["r0_id"] for row in children}
        assert ["p", "xxp", "xxq"] == await found.ids("Parent", found.world.authority("Child"))
        assert [] == found.settled()


@BOTH
async def test_what_was_acknowledged_is_on_both_sides(family: OpenFamily, moved: str) -> None:
    """While they straddle, a call waits for its follower, so that a read of both models sees it, on either side."""
    async with family(moved) as found:
        await found.db.parent.create(data=PARENT)
        assert ["p"] == await found.ids("Parent", found.world.authority("Parent").other)
        await found.db.child.create(data=CHILD)
        assert ["c"] == await found.ids("Child", found.world.authority("Child").other)
        async with found.db.tx() as tx:
            await tx.child.update(where={"id": "c"}, data={"label": "new"})

        parent = await found.db.parent.find_unique(where={"id": "p"}, include={"child_r0_of": True})
        assert ["new"] == [child.label for child in parent.child_r0_of]
        child = await found.db.child.find_unique(where={"id": "c"}, include={"r0": True})
        assert "parent" == child.r0.tag


@BOTH
async def test_a_stalled_follower_holds_nobody_up_for_longer_than_the_deadline(
    family: OpenFamily, moved: str
) -> None:
    """The call is answered, and the row arrives later."""
    async with family(moved, follow_deadline=0.2) as found:
        other = found.world.looking[found.world.authority("Parent").other]
        async with other.transaction():
            await other.execute('LOCK TABLE "Parent"')
            async with asyncio.timeout(5.0):
                await found.db.parent.create(data=PARENT)
        assert ["p"] == await found.ids("Parent")
        await found.level()


@BOTH
async def test_a_read_is_counted_that_may_lack_what_was_acknowledged(family: OpenFamily, moved: str) -> None:
    """When it spans both sides and keys are waiting; not before, and not when it concerns one model."""
    async with family(moved) as found:
        repository = found.world.repository
        await found.bare_parent()
        await found.bare("Child", 'UPDATE "Child" SET label = NULL')
        lags = await found.world.reconciler.pending(["Parent", "Child"])
        assert 1 == lags["Parent"].keys
        repository.note_lagging(
            {name: lag.oldest if lag.keys else None for name, lag in lags.items()}, monotonic()
        )
        await found.db.parent.find_many()
        assert [] == found.world.observer.of(StaleRead)
        await found.db.child.find_many(include={"r0": True})

        # Only the legacy store answers for both while one of them is before live, so only the moved one can lack rows.
        assert (1 if moved == "parent" else 0) == len(found.world.observer.of(StaleRead))


@BOTH
async def test_links_of_rows_of_two_authorities(family: OpenFamily, moved: str) -> None:
    """They belong to the model that comes first by name, reach the other side, and go with either end."""
    async with family(moved) as found:
        for parent in ("p", "q"):
            await found.db.parent.create(data={**PARENT, "id": parent, "code": parent})
        for child in ("c", "d"):
            await found.db.child.create(data={**CHILD, "id": child})
        with pytest.raises(MixedAuthorityError):
            await found.db.child.update(where={"id": "c"}, data={"linked": {"connect": [{"id": "q"}]}})
        for child, parent in (("c", "q"), ("d", "q"), ("d", "p")):
            await found.bare("Child", 'INSERT INTO "_ChildToParent" VALUES ($1, $2)', child, parent)
        await found.level()
        await found.db.parent.delete(where={"id": "q"})
        await found.level()

        for side in Side:
            assert [{"A": "d", "B": "p"}] == await found.world.rows(side, "_ChildToParent")
        await found.db.child.delete(where={"id": "d"})
        await found.level()
        assert [] == await found.world.rows(Side.PRISMA, "_ChildToParent")


@BOTH
async def test_a_link_to_a_row_that_is_not_here_yet(family: OpenFamily, moved: str) -> None:
    """A link that was made on one side waits for the row that it names, and arrives."""
    async with family(moved) as found:
        await found.db.parent.create(data=PARENT)
        await found.bare_child()
        await found.bare("Child", "INSERT INTO \"_ChildToParent\" VALUES ('c', 'p')")
        await found.level()

        assert [{"A": "c", "B": "p"}] == await found.world.rows(
            found.world.authority("Parent"), "_ChildToParent"
        )
