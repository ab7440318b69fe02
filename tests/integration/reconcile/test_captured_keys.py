"""One key at a time: whatever happened to its row, the follower's is level afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from twins import P, S, Twins, identifier, schema_of

from crossfade.events import RowReconciled
from small_schema import scalar

WORDS = schema_of(Word=[identifier(), scalar("text"), scalar("rank", "Int", isUnique=True, isRequired=False)])
DDL = 'CREATE TABLE "Word" (id integer PRIMARY KEY, text text NOT NULL, rank integer UNIQUE)'


@pytest.fixture
async def words(make: Any) -> Twins:
    """A table of words."""
    return await make(WORDS, DDL)


async def test_an_insert_is_copied(words: Twins) -> None:
    """And verified once more, because the copy is captured like any other write."""
    await words.write(P, """INSERT INTO "Word" VALUES (1, 'one', NULL)""")
    assert 1 == await words.reconciler().run_once(settle=0)

    assert 1 == await words.captured(S)
    assert [RowReconciled("Word", "copied", 1)] == words.observer.of(RowReconciled)
    assert 1 == await words.reconciler().run_once(settle=0)
    assert RowReconciled("Word", "equal", 1) == words.observer.of(RowReconciled)[-1]
    await words.assert_level()


@pytest.mark.parametrize(
    "change",
    [
        """UPDATE "Word" SET text = 'uno' WHERE id = 1""",
        """DELETE FROM "Word" WHERE id = 1""",
        """UPDATE "Word" SET id = 3 WHERE id = 1""",
        """UPDATE "Word" SET id = 9 - id""",
        """TRUNCATE "Word" """,
        """INSERT INTO "Word" VALUES (1, 'uno', 5) ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text""",
    ],
)
async def test_a_change_is_carried_over(words: Twins, change: str) -> None:
    """Of a row, of its key, or of the whole table."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'one', 1), (2, 'two', NULL)""")
    assert await words.reconciler().drain(["Word"], 10)
    await words.write(P, change)
    assert await words.reconciler().drain(["Word"], 10)

    await words.assert_level()


async def test_the_authority_wins(words: Twins) -> None:
    """What only the follower says is undone, whichever side follows."""
    for authority in (P, S):
        await words.give(authority, "Word")
        await words.write(authority, """INSERT INTO "Word" VALUES (1, 'right', 7)""")
        await words.write(authority.other, """INSERT INTO "Word" VALUES (1, 'wrong', 7)""", follower=True)
        await words.write(authority.other, """INSERT INTO "Word" VALUES (2, 'stray', 8)""", follower=True)
        assert await words.reconciler().drain(["Word"], 10)

        await words.assert_level()
        assert ["right"] == await words.column(authority.other, 'SELECT text FROM "Word"')
        await words.write(authority, 'DELETE FROM "Word"')
        assert await words.reconciler().drain(["Word"], 10)


async def test_keys_can_be_settled_without_being_captured(words: Twins) -> None:
    """By whoever knows that they may differ; those that do not are not counted."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'one', 1)""")
    await words.write(P, """INSERT INTO "Word" VALUES (2, 'two', 2), (3, 'three', 3)""")
    await words.write(S, """INSERT INTO "Word" VALUES (4, 'four', 4)""", follower=True)

    assert 2 == await words.reconciler().settle_keys("Word", [("1",), ("2",), ("4",)])
    assert [1, 2] == await words.column(S, 'SELECT id FROM "Word" ORDER BY id')


async def test_what_waits_is_told(words: Twins) -> None:
    """How much, how old, and which keys, unless they are too many or all of them."""
    reconciler = words.reconciler()
    await words.both("""INSERT INTO "Word" VALUES (1, 'one', 1), (2, 'two', 2)""")
    lag = (await reconciler.pending(["Word"]))["Word"]

    assert 4 == lag.keys
    assert 0 < lag.oldest < 10
    assert {("Word", ("1",)), ("Word", ("2",))} == await reconciler.pending_keys(["Word"])
    assert await reconciler.pending_keys(["Word"], limit=1) is None
    assert await reconciler.drain(["Word"], 10)
    assert set() == await reconciler.pending_keys(["Word"])
    await words.write(P, 'TRUNCATE "Word"')
    assert await reconciler.pending_keys(["Word"]) is None


async def test_a_model_without_a_standing_is_left_alone(words: Twins) -> None:
    """Its entries stay where they are."""
    words.authority["Word"] = None
    await words.write(P, """INSERT INTO "Word" VALUES (1, 'one', 1)""")

    assert 0 == await words.reconciler().run_once(settle=0)
    assert 0 == await words.reconciler().settle_keys("Word", [("1",)])
    assert 1 == await words.captured(P)


@pytest.mark.parametrize("swap", [[(1, 2), (2, 1)], [(1, 2), (2, 3), (3, 1)]])
async def test_rows_that_swap_unique_values_are_carried_over(
    words: Twins, swap: list[tuple[int, int]]
) -> None:
    """Two of them, or three in a circle; nobody sees them without a value."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)""")
    assert await words.reconciler().drain(["Word"], 10)
    cases = " ".join(f"WHEN {one} THEN {other}" for one, other in swap)
    away = 'UPDATE "Word" SET rank = NULL WHERE id IN (1, 2, 3)'
    await words.write(P, away, f'UPDATE "Word" SET rank = CASE id {cases} ELSE id END')
    assert await words.reconciler().drain(["Word"], 10)

    await words.assert_level()


async def test_a_unique_value_passes_from_a_deleted_row_to_a_new_one(words: Twins) -> None:
    """Even if only the new row's key is looked at."""
    await words.both("""INSERT INTO "Word" VALUES (1, 'one', 1)""")
    await words.write(P, 'DELETE FROM "Word"', """INSERT INTO "Word" VALUES (2, 'new one', 1)""")

    assert 2 == await words.reconciler().settle_keys("Word", [("2",)])
    assert [2] == await words.column(S, 'SELECT id FROM "Word"')


async def test_a_constraint_that_is_checked_late_keeps_one_row_back_and_no_other(make: Any) -> None:
    """A duplicate that only the target refuses, at the commit, is put off with its reason; the rest is copied."""
    words = await make(
        WORDS,
        DDL.replace("rank integer UNIQUE", "rank integer"),
        DDL.replace("rank integer UNIQUE", "rank integer UNIQUE DEFERRABLE INITIALLY DEFERRED"),
    )
    await words.write(P, """INSERT INTO "Word" VALUES (1, 'one', 7), (2, 'two', 7), (3, 'three', 8)""")
    reconciler = words.reconciler()

    assert not await reconciler.drain(["Word"], 3.0)

    assert 2 == len(await words.column(S, 'SELECT id FROM "Word"'))
    assert ["23505"] == [problem.problem.split()[0] for problem in await reconciler.problems(["Word"])]
