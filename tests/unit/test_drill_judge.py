"""What the drill's judge makes of journals and rows."""

from pathlib import Path

import pytest

from crossfade.drill.journal import Effect, JournalFile, Outcome, What
from crossfade.drill.judge import Finding, Judge, Loss, Stored

START = Stored({}, {("Account", "shared-0"): 100}, {("Account", "shared-0"): "first"})


def put(key: str, *values: object) -> Effect:
    """A row of the writer's own."""
    return Effect(What.PUT, "Account", key, list(values))


def add(by: int) -> Effect:
    """A shared counter grows."""
    return Effect(What.ADD, "Account", "shared-0", by)


def text(value: str) -> Effect:
    """A shared field is overwritten."""
    return Effect(What.SET, "Account", "shared-0", value)


GONE = Effect(What.DELETE, "Account", "a")


@pytest.fixture
def journal(tmp_path: Path) -> JournalFile:
    """A journal to write."""
    return JournalFile(tmp_path / "one.jsonl")


def write(journal: JournalFile, effect: Effect, outcome: Outcome | None = Outcome.ACKNOWLEDGED) -> None:
    """Note one write; None: its writer was killed before it ended."""
    number = journal.begin([effect])
    if outcome is not None:
        journal.end(number, outcome)


def losses(tmp_path: Path, stored: Stored) -> list[tuple[str, Loss]]:
    """What the judge finds in a store, by key."""
    judge = Judge()
    for path in sorted(tmp_path.glob("*.jsonl")):
        judge.read(path)
    return [(finding.key, finding.loss) for finding in judge.verify(stored, START)]


def store(own: dict[str, tuple[object, ...]], total: int = 100, note: str = "first") -> Stored:
    """What a store holds."""
    return Stored(
        {("Account", key): values for key, values in own.items()},
        {("Account", "shared-0"): total},
        {("Account", "shared-0"): note},
    )


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"a": (2,)}, []),
        ({"a": (1,)}, [("a", Loss.LOST_UPDATE)]),
        ({}, [("a", Loss.MISSING_ROW)]),
        ({"a": (2,), "b": (1,)}, [("b", Loss.STRANGE_ROW)]),
    ],
)
def test_a_row_has_its_last_acknowledged_values(
    tmp_path: Path, journal: JournalFile, held: dict[str, tuple[object, ...]], expected: list[object]
) -> None:
    """Anything else is a loss."""
    write(journal, put("a", 1))
    write(journal, put("a", 2))
    write(journal, put("a", 3), Outcome.REFUSED)

    assert expected == losses(tmp_path, store(held))


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, None])
@pytest.mark.parametrize(("held", "expected"), [(1, []), (2, []), (3, [("a", Loss.LOST_UPDATE)])])
def test_a_write_of_unknown_outcome_may_have_taken_place(
    tmp_path: Path, journal: JournalFile, outcome: Outcome | None, held: int, expected: list[object]
) -> None:
    """Both values are right then, and no third one."""
    write(journal, put("a", 1))
    write(journal, put("a", 2), outcome)

    assert expected == losses(tmp_path, store({"a": (held,)}))


def test_a_row_that_was_perhaps_created_may_be_missing(tmp_path: Path, journal: JournalFile) -> None:
    """Nobody was told that it is there."""
    write(journal, put("a", 1), None)

    assert [] == losses(tmp_path, store({}))
    assert [] == losses(tmp_path, store({"a": (1,)}))


def test_a_deleted_row_stays_away(tmp_path: Path, journal: JournalFile) -> None:
    """One that is there again was brought back by an older write."""
    write(journal, put("a", 1))
    write(journal, GONE)

    assert [] == losses(tmp_path, store({}))
    assert [("a", Loss.RETURNED_ROW)] == losses(tmp_path, store({"a": (1,)}))


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (104, [("shared-0", Loss.LOST_INCREMENT)]),
        (105, []),
        (112, []),
        (113, [("shared-0", Loss.EXTRA_INCREMENT)]),
    ],
)
def test_a_counter_grows_by_what_was_acknowledged_and_perhaps_by_the_rest(
    tmp_path: Path, journal: JournalFile, total: int, expected: list[object]
) -> None:
    """Increments are never applied twice and never lost."""
    write(journal, add(5))
    write(journal, add(7), None)
    write(journal, add(9), Outcome.REFUSED)

    assert expected == losses(tmp_path, store({}, total=total))


def test_how_much_was_lost_of_a_counter_is_counted(tmp_path: Path, journal: JournalFile) -> None:
    """The finding says by how much the counter is short."""
    write(journal, add(5))
    judge = Judge()
    judge.read(tmp_path / "one.jsonl")

    expected = Finding("Account", "shared-0", Loss.LOST_INCREMENT, 3, "5 to 5 more", "2 more")

    assert [expected] == judge.verify(store({}, total=102), START)


def test_a_shared_field_holds_what_may_have_been_written_last(tmp_path: Path, journal: JournalFile) -> None:
    """A value that another acknowledged write came after is a lost update; of two at the same time either is right."""
    write(journal, text("old"))
    with JournalFile(tmp_path / "two.jsonl") as other:
        number = other.begin([text("other")])
        write(journal, text("mine"))
        other.end(number, Outcome.ACKNOWLEDGED)

    assert [] == losses(tmp_path, store({}, note="mine"))
    assert [] == losses(tmp_path, store({}, note="other"))
    assert [("shared-0", Loss.LOST_UPDATE)] == losses(tmp_path, store({}, note="old"))
    assert [("shared-0", Loss.LOST_UPDATE)] == losses(tmp_path, store({}, note="first"))


def test_a_shared_field_may_be_untouched_while_nothing_was_acknowledged(
    tmp_path: Path, journal: JournalFile
) -> None:
    """A write of unknown outcome need not have taken place."""
    write(journal, text("perhaps"), None)

    assert [] == losses(tmp_path, store({}))
    assert [] == losses(tmp_path, store({}, note="perhaps"))
    assert [("shared-0", Loss.LOST_UPDATE)] == losses(tmp_path, store({}, note="never written"))


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path, journal: JournalFile) -> None:
    """It was never handed over as a whole, so the write had not begun."""
    write(journal, put("a", 1))
    with (tmp_path / "one.jsonl").open("ab") as file:
        file.write(b'["b",9,12,[["put","Acc')

    judge = Judge()
    judge.read(tmp_path / "one.jsonl")

    assert (1, 0) == (judge.acknowledged, judge.unknown)


def test_problems_and_marks_are_counted(tmp_path: Path, journal: JournalFile) -> None:
    """What a caller should not have seen is counted by its text, whatever came of the write."""
    number = journal.begin([put("a", 1)])
    journal.end(number, Outcome.REFUSED, "update Account: WrongAuthorityError")
    journal.mark("done")

    judge = Judge()
    judge.read(tmp_path / "one.jsonl")

    assert {"update Account: WrongAuthorityError": 1} == judge.problems
    assert {"done": 1} == judge.marks
