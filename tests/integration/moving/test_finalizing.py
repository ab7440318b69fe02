"""The end: a model's triggers go, and with them the way back."""

from __future__ import annotations

import asyncpg
import pytest
from places import Places

from crossfade.covering import cover
from crossfade.errors import StageMoveError
from crossfade.finalizing import finalize
from crossfade.stages import Side, Stage

ON_THE_WAY = (Stage.DUALWRITE, Stage.SHADOW, Stage.LIVE, Stage.RAMPDOWN)


async def triggers(places: Places, side: Side, model: str) -> int:
    """How many of crossfade's triggers a table has."""
    return int(
        await places.write(
            side,
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND tgname LIKE 'crossfade%'",
            places.stores[side].tables[model].quoted,
        )
    )


async def test_a_final_model_has_nothing_of_crossfade_left(places: Places) -> None:
    """Neither triggers nor captured keys, its many-to-many tables included; the others keep theirs. Twice is once."""
    models = ("Author", "Book", "Tag")
    await cover(places.stores, by="ada")
    await places.bring(models, *ON_THE_WAY, Stage.COMPLETE)
    await places.write(Side.SQLALCHEMY, "INSERT INTO books (title) VALUES ('one')")
    await finalize(places.mover(), "Book", by="ada")
    await finalize(places.mover(), "Book", by="ada")

    record = await places.agree("Book")
    assert (True, Stage.COMPLETE, "ada") == (record.final, record.stage, record.by)
    for side in Side:
        assert [0, 0, 6] == [await triggers(places, side, model) for model in ("Book", "_BookToTag", "Tag")]
        count = "SELECT count(*) FROM crossfade.change WHERE model = 'Book'"
        assert 0 == await places.write(side, count)
    for notes in ("backfill", "verification"):
        left = f"SELECT string_agg(model, ' ' ORDER BY model) FROM crossfade.{notes}"
        assert "Author Tag" == await places.write(Side.SQLALCHEMY, left)
    with pytest.raises(StageMoveError, match="it is final"):
        await places.mover().move(["Book"], Stage.RAMPDOWN, by="test")
    assert [] == await places.mover().recover()


async def test_a_model_on_the_way_is_not_made_final(places: Places) -> None:
    """The refusal comes before anything is removed."""
    await places.bring(["Author", "Book", "Tag"], *ON_THE_WAY)
    with pytest.raises(StageMoveError, match="only a model at complete can be made final"):
        await finalize(places.mover(), "Book", by="ada")

    assert 6 == await triggers(places, Side.PRISMA, "Book")
    with pytest.raises(asyncpg.PostgresError):
        await places.write(Side.PRISMA, "INSERT INTO books (title) VALUES ('one')")
