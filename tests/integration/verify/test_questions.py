"""Parts of a table, files of images, and what cannot be asked."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from planting import (
    QUICK,
    SMALL_CHUNKS,
    THING,
    fill,
    filling,
    one_key,
    thing_ddl,
    unseen,
    verify_one,
)
from twins import MakeTwins, Twins

from crossfade.errors import ConfigurationError, UnknownModelError, VerifyError
from crossfade.stages import Side
from crossfade.verify import Mode, RedactedImages, Verdict, Verify

P, S = Side.PRISMA, Side.SQLALCHEMY
ROWS = 1_000
SINCE = datetime(2024, 3, 1, 10, tzinfo=UTC)  # of row 600


async def things(make: MakeTwins) -> Twins:
    twins = await make(one_key("Int"), thing_ddl("id integer PRIMARY KEY"))
    await fill(twins, filling(ROWS, "n"))
    return twins


async def test_a_sample(make: MakeTwins) -> None:
    """A share of the chunks is compared, the same one for the same seed."""
    twins = await things(make)
    await unseen(twins, S, "Thing", 'UPDATE "Thing" SET count = 0')
    first, again = [await verify_one(twins, SMALL_CHUNKS, sample=0.3) for _ in range(2)]
    assert (Mode.SAMPLE, Verdict.DIFFERING) == (first.mode, first.state)
    assert 200 <= first.rows <= 400
    assert (first.rows, first.different, first.examples) == (again.rows, again.different, again.examples)
    assert first.rows == first.different
    assert ROWS == (await verify_one(twins, SMALL_CHUNKS, sample=1)).rows


async def test_rows_since_a_time(make: MakeTwins) -> None:
    """What was written before in both stores is left out; what either store says was written since is compared."""
    twins = await things(make)
    await unseen(
        twins,
        S,
        "Thing",
        'UPDATE "Thing" SET count = 0 WHERE id IN (599, 601)',
        'DELETE FROM "Thing" WHERE id IN (100, 700)',
        "UPDATE \"Thing\" SET written = '2020-01-01' WHERE id = 800",
        "UPDATE \"Thing\" SET written = '2024-06-01' WHERE id = 10",
    )
    report = await verify_one(twins, SMALL_CHUNKS, since=SINCE)
    assert (Mode.SINCE, 401, 1, 3) == (report.mode, report.rows, report.missing, report.different)
    assert [("10",), ("601",), ("700",), ("800",)] == sorted(row.key for row in report.examples)
    assert Verdict.CLEAN == (await verify_one(twins, since=SINCE, repair=True)).state
    assert Verdict.DIFFERING == (await verify_one(twins)).state


async def test_models_that_do_not_say_when_a_row_was_written(shop: Twins) -> None:
    """They are refused by name; many-to-many tables are compared as a whole."""
    verify = Verify(shop.stores, shop.reconciler(), settings=QUICK)
    with pytest.raises(VerifyError, match="verify Message: no column there says when"):
        await verify.run(since=SINCE)
    reports = await verify.run(["Conversation", "User"], since=SINCE)
    assert {"Conversation", "User", "_ConversationParticipants"} == {report.model for report in reports}
    assert {Verdict.CLEAN} == {report.state for report in reports}


async def test_images_say_how_rows_differ_and_not_what_is_in_them(make: MakeTwins, tmp_path: Path) -> None:
    """Equal values have equal hashes, only what is asked for is legible, and the file is private."""
    twins = await make(THING, thing_ddl())
    await fill(twins, filling(50))
    await unseen(
        twins,
        S,
        "Thing",
        "UPDATE \"Thing\" SET note = 'confidential', count = NULL WHERE id = md5('7')",
        "DELETE FROM \"Thing\" WHERE id = md5('8')",
    )
    file = tmp_path / "images.jsonl"
    with RedactedImages(file, ["Thing.count"]) as images:
        [report] = await Verify(twins.stores, twins.reconciler(), settings=QUICK).run(
            images=images, repair=True
        )
    assert Verdict.CLEAN == report.state
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    text = file.read_text()
    assert "confidential" not in text
    assert "name 7" not in text
    rows = {row["kind"]: row for row in map(json.loads, text.splitlines())}
    assert {"different", "missing"} == rows.keys()
    columns = rows["different"]["columns"]
    assert ["note", "count"] == [name for name, column in columns.items() if column["differs"]]
    note, name = columns["note"], columns["name"]
    assert (6, 12, False, "text") == (
        note["legacy"]["length"],
        note["target"]["length"],
        note["target"]["null"],
        note["target"]["type"],
    )
    assert note["legacy"]["hash"] != note["target"]["hash"]
    assert name["legacy"] == name["target"]
    assert ("7", None, True) == (
        columns["count"]["legacy"]["value"],
        columns["count"]["target"]["value"],
        columns["count"]["target"]["null"],
    )
    assert rows["missing"]["columns"]["name"]["target"] is None
    with pytest.raises(ConfigurationError, match="exists already"), RedactedImages(file):
        pass


async def test_what_cannot_be_asked(make: MakeTwins, tmp_path: Path) -> None:
    """An unknown model or column, half a question and a store without crossfade's objects are refused in a line."""
    twins = await things(make)
    verify = Verify(twins.stores, twins.reconciler())
    with pytest.raises(UnknownModelError):
        await verify.run(["Nothing"])
    with pytest.raises(VerifyError, match="is no share of the chunks"):
        await verify.run(sample=1.5)
    for column, value in (("forced", "true"), ("moving_to", "'live'")):
        await twins.plain[S].execute(f"UPDATE crossfade.record SET {column} = {value}, epoch = epoch + 1")
        with pytest.raises(VerifyError, match="verify Thing: nobody's rows win there now"):
            await verify.run(repair=True)
    assert Verdict.CLEAN == (await verify.run())[0].state
    images = RedactedImages(tmp_path / "images", ["nonsense"])
    with images, pytest.raises(VerifyError, match="has a column nonsense"):
        await verify.run(images=images)
    await twins.plain[S].execute("DROP SCHEMA crossfade CASCADE")
    with pytest.raises(Exception, match="crossfade is not installed there"):
        await verify.run()
