"""The figures of a run: their goals, and what misses them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from crossfade.cli.drill import NAMES
from crossfade.drill.drills import DRILLS
from crossfade.drill.episode import Result
from crossfade.drill.judge import Finding, Loss
from crossfade.drill.report import Report, problems, sentence, write_json
from crossfade.drill.run import Options


def report(*results: Result, rounds: int = 1, names: tuple[str, ...] = ("kill",)) -> Report:
    """A report on so many rounds."""
    options = Options([DRILLS[name] for name in names], rounds, None, 1, None, frozenset())
    return Report(options, results, {}, None)


def figure(of: Report, name: str) -> tuple[float, str, bool]:
    """One figure's value, goal and verdict."""
    found = next(entry for entry in of.figures() if entry.figure == name)
    return found.value, found.goal, found.ok


def test_twenty_rounds_of_everything_have_the_goals_of_the_whole_run() -> None:
    """A hundred thousand acknowledged writes, four hundred crashes, a hundred moves in the storm."""
    whole = report(rounds=20, names=tuple(DRILLS))

    assert (0, "≥ 112500", False) == figure(whole, "acknowledged writes")
    assert (0, "≥ 400", False) == figure(whole, "crashes injected")


def test_a_single_drill_has_goals_of_its_size() -> None:
    """What is asked for in a short run can be reached in it."""
    one = report(Result("kill", 1, acknowledged=500, crashes=12))

    assert (12, "≥ 10", True) == figure(one, "crashes injected")
    assert one.ok
    assert "500 acknowledged writes, 12 processes killed: 0 lost" in sentence(one)


@pytest.mark.parametrize(
    "bad",
    [
        Result("kill", 1, acknowledged=9, crashes=12, lost=1),
        Result("kill", 1, acknowledged=9, crashes=12, different=1),
        Result("kill", 1, acknowledged=9, crashes=12, problems=Counter({"update Account: TimeoutError": 1})),
        Result("kill", 1, acknowledged=9, crashes=12, failures=["a reconciler ended by itself"]),
        Result("kill", 1, acknowledged=0, crashes=12),
        Result("kill", 1, acknowledged=9, crashes=0),
    ],
)
def test_whatever_is_wrong_fails_the_run(bad: Result) -> None:
    """One lost write, one different row, one error, one failure, or too little done."""
    assert not report(bad).ok


def test_a_storm_must_move_often_and_keep_pauses_short() -> None:
    """The pause's 99th percentile has a goal, the median is told."""
    quick = Result("flip-storm", 1, acknowledged=9, moves=120, pauses=[0.02] * 99 + [0.4], times=[1000])
    slow = Result("flip-storm", 1, acknowledged=9, moves=120, pauses=[0.02] * 90 + [0.7] * 10, times=[1000])

    assert (400.0, "≤ 500", True) == figure(report(quick, names=("flip-storm",)), "flip-storm: pause p99 ms")
    assert (700.0, "≤ 500", False) == figure(report(slow, names=("flip-storm",)), "flip-storm: pause p99 ms")
    assert (120, "≥ 100", True) == figure(report(quick, names=("flip-storm",)), "flip-storm: authority moves")


def test_what_is_wrong_is_named_by_drill_round_store_and_row() -> None:
    """So that the journal and the log of that round can be read."""
    finding = Finding("Account", "kill-3-app.7-1", Loss.MISSING_ROW, 1, "(2, 0)", "None")
    bad = Result("kill", 3, lost=1, findings={"prisma": [finding]}, rows={"Entry": ["17", "18"]})

    assert [
        "kill 3: prisma: Account kill-3-app.7-1: missing row: expected (2, 0), found None",
        "kill 3: 2 rows of Entry differ: 17, 18",
    ] == problems(report(bad))


def test_the_command_line_knows_every_drill() -> None:
    """Its names are written out, so that `--help` need not import the drills."""
    assert tuple(DRILLS) == NAMES


def test_the_file_is_a_list_of_figures(tmp_path: Path) -> None:
    """The same shape as that of the benchmarks."""
    write_json(report(Result("kill", 1, acknowledged=9, crashes=12)), tmp_path / "out.json")

    entries = json.loads((tmp_path / "out.json").read_text())

    assert {"figure": "lost", "value": 0, "goal": "≤ 0", "ok": True} in entries
