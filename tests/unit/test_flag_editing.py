"""Flag files that are changed: the values that were meant, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.errors import FlagError
from crossfade.flags import Flag
from crossfade.flags.document import parse_text
from crossfade.flags.editing import fresh_text, with_flag, with_stage
from crossfade.flags.files import read_flags, write_flag
from crossfade.stages import Stage

PATH = Path("flags/User.yaml")
TEXT = """\
# looked after by hand
model: User
owner: accounts  # since spring
description: "People: who buy and sell."
stage: off # not yet
sample: 0.5
cohort: money

gates:  # agreed with the team
  # seconds
  lag: 5
  errors: 0.01 # a lot

guard: {lag: 30, window: 10}
# the end
"""


def edited(change: Flag) -> str:
    return with_flag(PATH, TEXT.encode(), change)


def flag() -> Flag:
    return parse_text(PATH, TEXT, None)


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        ({"stage": Stage.SHADOW}, "stage: off # not yet", "stage: shadow # not yet"),
        ({"sample": 1.0}, "sample: 0.5\n", ""),
        ({"sample": 0.25}, "sample: 0.5\n", "sample: 0.25\n"),
        ({"canary": 0.1}, "# the end\n", "# the end\ncanary: 0.1\n"),
        ({"cohort": None}, "cohort: money\n", ""),
        ({"cohort": "no"}, "cohort: money\n", "cohort: 'no'\n"),
        ({"owner": "shop: front"}, "owner: accounts", "owner: 'shop: front'"),
        ({"description": "Two\nlines."}, '"People: who buy and sell."', '"Two\\nlines."'),
        ({"gates": {"lag": 2.5, "errors": 0.01}}, "  lag: 5\n", "  lag: 2.5\n"),
        ({"gates": {"lag": 5.0}}, "  errors: 0.01 # a lot\n", ""),
        ({"gates": {"lag": 5.0, "errors": 0.01, "rare": 0.1}}, "  lag: 5\n", "  rare: 0.1\n  lag: 5\n"),
        ({"guard": {"lag": 20.0, "errors": 0.5}}, "{lag: 30, window: 10}", "{lag: 20, errors: 0.5}"),
        ({"guard": {}}, "guard: {lag: 30, window: 10}\n", ""),
    ],
)
def test_a_change_is_made_in_place(change: dict[str, object], old: str, new: str) -> None:
    """Comments, order, quotes of other values and blank lines stay."""
    wanted = replace(flag(), **change)  # type: ignore[arg-type]

    assert TEXT.replace(old, new) == edited(wanted)
    assert wanted == parse_text(PATH, edited(wanted), None)


def test_nothing_to_change_changes_nothing() -> None:
    """Not one byte."""
    assert TEXT == edited(flag())


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@given(
    stage=st.sampled_from(Stage),
    sample=st.floats(0, 1),
    canary=st.floats(0, 1),
    owner=texts,
    description=texts,
    cohort=st.none() | texts,
    gates=st.fixed_dictionaries({}, optional={"lag": st.floats(0, 100), "errors": st.floats(0, 1)}),
    guard=st.fixed_dictionaries({}, optional={"lag": st.floats(0, 100), "least": st.floats(1, 100)}),
)
def test_any_flag_can_be_written(
    stage: Stage,
    sample: float,
    canary: float,
    owner: str,
    description: str,
    cohort: str | None,
    gates: dict[str, float],
    guard: dict[str, float],
) -> None:
    """Into a file that is there, and into a new one."""
    wanted = Flag("User", stage, sample, canary, owner, description, cohort, gates, guard)

    assert wanted == parse_text(PATH, edited(wanted), None)
    assert wanted == parse_text(PATH, fresh_text(wanted), None)


def test_a_value_that_cannot_be_changed_in_place_is_left_to_a_person() -> None:
    """An anchor that another line uses would change both, so nothing is written."""
    text = "model: User\nowner: t\ndescription: &d off\nstage: *d\n"

    with pytest.raises(FlagError, match="edit it by hand: stage: live"):
        with_stage(PATH, text.encode(), Stage.LIVE)


def test_a_written_flag_is_read_again(tmp_path: Path) -> None:
    """A file is made where there is none, changed where there is one, and left alone where nothing differs."""
    wanted = Flag("User", Stage.SHADOW, owner="team", description="People.", gates={"lag": 2.0})

    assert write_flag(tmp_path, wanted)
    assert not write_flag(tmp_path, wanted)
    assert write_flag(tmp_path, replace(wanted, canary=0.1))
    assert replace(wanted, canary=0.1) == read_flags(tmp_path, ["User"])["User"]
