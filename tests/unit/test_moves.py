"""What moves are made of, as far as it needs no store: steps, crash points, records, sequences."""

from __future__ import annotations

import pytest

from crossfade.handover import CRASH_POINTS, CrashPoint, Step
from crossfade.stages import PLANS, Side, Stage, Topology, last_stage_of, moves_authority
from crossfade.store.objects import Fence
from crossfade.store.record import Record, effective
from crossfade.store.sequences import Numbering


def test_the_steps_are_these_in_this_order() -> None:
    """Whoever models the protocol uses the same names."""
    assert ["announce", "catch_up", "freeze", "drain", "sequences", "open", "close"] == list(Step)


def test_every_step_has_a_crash_point_behind_its_commit() -> None:
    """And they come in the order of the steps."""
    assert list(Step) == [point for point in CRASH_POINTS if "." not in point]
    assert list(Step) == list(dict.fromkeys(point.step for point in CRASH_POINTS))
    assert Step.OPEN is CrashPoint.OPEN_BEGUN.step


@pytest.mark.parametrize("stage", Stage)
def test_a_record_that_rests_has_one_side_that_takes_authors_and_one_that_takes_followers(
    stage: Stage,
) -> None:
    """The authority refuses followers, the follower authors."""
    record = Record("User", stage)
    authority = PLANS[Topology.SEPARATE][stage].authority

    assert authority is record.authority
    assert Fence.AUTHORITY is record.fence(authority)
    assert Fence.FOLLOWER is record.fence(authority.other)


def test_a_forced_record_lets_nobody_change_what_is_to_be_listed() -> None:
    """The legacy store takes authors; the target takes neither."""
    record = Record("User", last_stage_of(Side.PRISMA), forced=True)

    assert Fence.AUTHORITY is record.fence(Side.PRISMA)
    assert Fence.FROZEN is record.fence(Side.SQLALCHEMY)


def test_the_record_in_force_has_the_highest_epoch() -> None:
    """A model that only one store speaks of is taken from that one; no answer, no record."""
    old, new, only = Record("User", epoch=3), Record("User", Stage.LIVE, epoch=4), Record("Item", epoch=1)

    assert {"User": new, "Item": only} == effective({"User": old, "Item": only}, {"User": new})
    assert {"User": new, "Item": only} == effective({"User": new}, {"User": old, "Item": only})
    assert {} == effective()


def test_the_last_stage_of_a_side_is_one_move_of_the_authority_away() -> None:
    """That is where going back by force leads."""
    assert Stage.SHADOW is last_stage_of(Side.PRISMA)
    assert Stage.COMPLETE is last_stage_of(Side.SQLALCHEMY)
    assert moves_authority(last_stage_of(Side.PRISMA), Stage.LIVE)


@pytest.mark.parametrize(
    ("mine", "theirs", "behind"),
    [
        ((1, False, 1), (1, False, 1), False),  # both fresh
        ((1, False, 1), (1, True, 1), True),  # the other has given out 1
        ((1, True, 1), (1, False, 1), False),
        ((7, True, 1), (7, True, 1), False),
        ((7, True, 1), (8, True, 1), True),
        ((8, True, 1), (7, True, 1), False),
        ((-7, True, -1), (-8, True, -1), True),  # a sequence that counts down
        ((-8, True, -1), (-7, True, -1), False),
    ],
)
def test_a_sequence_is_behind_when_it_would_repeat_a_number(
    mine: tuple[int, bool, int], theirs: tuple[int, bool, int], behind: bool
) -> None:
    """By what it gives out next, not by what its state says."""
    one, other = (Numbering("s", last, is_called=called, step=step) for last, called, step in (mine, theirs))

    assert behind is one.is_behind(other)
