"""The stage table: every row, every move, both topologies."""

from itertools import product

import pytest

from crossfade.errors import UnknownStageError
from crossfade.stages import (
    MOVES,
    PLANS,
    FollowerPart,
    Side,
    Stage,
    Topology,
    has_begun,
    has_moved,
    is_final,
    is_forward,
    moves_authority,
    next_step,
    position,
    stops_feeding,
)

EVERY = [(topology, stage) for topology in Topology for stage in Stage]


@pytest.mark.parametrize(("topology", "stage"), EVERY)
def test_a_side_never_follows_or_shadows_itself(topology: Topology, stage: Stage) -> None:
    """The follower is not the authority, and the shadow does not answer."""
    plan = PLANS[topology][stage]

    assert plan.authority is not plan.follower
    assert plan.shadow is not plan.reads


@pytest.mark.parametrize(("topology", "stage"), EVERY)
def test_reads_come_from_the_authority(topology: Topology, stage: Stage) -> None:
    """What answers reads is what takes the writes, so a caller reads its own writes."""
    plan = PLANS[topology][stage]

    assert plan.authority is plan.reads


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize(("before", "after"), sorted(MOVES))
def test_whatever_a_stage_reads_was_already_written_in_the_stage_before(
    topology: Topology, before: Stage, after: Stage
) -> None:
    """A move never makes reads come from a store that was not being fed."""
    plan, next_plan = PLANS[topology][before], PLANS[topology][after]
    written = {plan.authority}
    if plan.follower_part is not FollowerPart.NONE:
        written.add(plan.follower)

    assert next_plan.reads in written


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize(("before", "after"), sorted(MOVES))
def test_the_authority_moves_only_between_two_stages_with_a_follower(
    topology: Topology, before: Stage, after: Stage
) -> None:
    """Both ends of a move of the authority keep the other side up to date, so the way back is open."""
    if moves_authority(before, after):
        idle = (FollowerPart.NONE, FollowerPart.CAPTURE)
        assert PLANS[topology][before].follower_part not in idle
        assert PLANS[topology][after].follower_part not in idle


@pytest.mark.parametrize("stage", Stage)
def test_topologies_differ_only_in_the_followers_part(stage: Stage) -> None:
    """The same stages, sides and shadows; another part for the follower."""
    one, two = PLANS[Topology.SEPARATE][stage], PLANS[Topology.SHARED][stage]

    assert (one.reads, one.shadow, one.authority) == (two.reads, two.shadow, two.authority)


def test_a_shared_store_is_never_written_twice() -> None:
    """In the shared topology a second write would be wrong, so nothing is ever applied or kept."""
    parts = {plan.follower_part for plan in PLANS[Topology.SHARED].values()}

    assert {FollowerPart.NONE, FollowerPart.READ_BACK} == parts


@pytest.mark.parametrize(("before", "after"), list(product(Stage, Stage)))
def test_moves_are_single_steps(before: Stage, after: Stage) -> None:
    """Exactly the neighbours on the way are permitted, in both directions."""
    assert (abs(position(before) - position(after)) == 1) is ((before, after) in MOVES)


@pytest.mark.parametrize(("before", "wanted"), list(product(Stage, Stage)))
def test_steps_lead_to_what_is_asked_for(before: Stage, wanted: Stage) -> None:
    """Walking step by step arrives, by permitted moves, in as many steps as the stages are apart."""
    here, steps = before, 0
    while (step := next_step(here, wanted)) is not None:
        assert (here, step) in MOVES
        here, steps = step, steps + 1

    assert wanted is here
    assert abs(position(before) - position(wanted)) == steps


def test_the_authority_moves_once_on_the_whole_way() -> None:
    """Only shadow → live hands the writes over."""
    moved = [(a, b) for a, b in MOVES if moves_authority(a, b) and is_forward(a, b)]

    assert [(Stage.SHADOW, Stage.LIVE)] == moved


def test_predicates_follow_the_order() -> None:
    """begun, moved and final split the way at off, live and complete."""
    assert [False, True, True, True, True, True] == [has_begun(stage) for stage in Stage]
    assert [False, False, False, True, True, True] == [has_moved(stage) for stage in Stage]
    assert [False, False, False, False, False, True] == [is_final(stage) for stage in Stage]


@pytest.mark.parametrize("topology", Topology)
def test_a_candidate_is_tried_in_the_stage_before_it_answers(topology: Topology) -> None:
    """It is asked in the shadow there, and written to in the stages on either side of it."""
    plans = PLANS[topology]
    candidates = {stage: plan.candidate for stage, plan in plans.items() if plan.candidate is not None}

    assert {Stage.SHADOW: Side.SQLALCHEMY} == candidates
    for stage, candidate in candidates.items():
        before, after = [plans[other] for one, other in sorted(MOVES) if one is stage]
        assert candidate is plans[stage].shadow
        assert candidate in {before.reads, after.reads}
        assert all(plan.is_followed for plan in (before, after))


@pytest.mark.parametrize(("topology", "stage"), EVERY)
def test_a_recall_leads_to_prisma_as_long_as_it_is_written_to(topology: Topology, stage: Stage) -> None:
    """Where it is not, the reads stay with the authority."""
    plan = PLANS[topology][stage]

    assert (Side.SQLALCHEMY if is_final(stage) else Side.PRISMA) is plan.recalled
    assert plan.is_followed or plan.recalled is plan.authority


def test_two_steps_leave_a_store_without_writes() -> None:
    """The old side's at the end of the way, the new side's at its beginning; a shared store goes without none."""
    stops = {topology: {move for move in MOVES if stops_feeding(topology, *move)} for topology in Topology}

    assert {(Stage.RAMPDOWN, Stage.COMPLETE), (Stage.DUALWRITE, Stage.OFF)} == stops[Topology.SEPARATE]
    assert set() == stops[Topology.SHARED]


def test_whatever_may_answer_a_read_loses_its_writes_a_step_later_at_the_earliest() -> None:
    """So a process that is one lease behind reads nothing stale, recalled or by a canary."""
    plans = PLANS[Topology.SEPARATE]
    for before, after in MOVES:
        if stops_feeding(Topology.SEPARATE, before, after):
            lost = {plans[before].follower}
            assert plans[before].candidate not in lost
            assert plans[before].reads not in lost


def test_an_unknown_stage_is_refused_with_the_list() -> None:
    """The message names every stage there is."""
    with pytest.raises(UnknownStageError, match="unknown stage 'banana'; stages are off, dualwrite, shadow"):
        Stage.parse("banana")


def test_the_other_side_of_the_other_side_is_the_side() -> None:
    """There are two sides."""
    assert [side.other.other for side in Side] == list(Side)
