"""What the fleet's sums come to: figures, and what is to be done where they do not suffice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from crossfade.events import Role
from crossfade.gates.comparisons import comparisons, keys_needed
from crossfade.gates.evidence import MOST_COUNTED, errors, lag, latency, settled
from crossfade.gates.figures import listed, rounded, told_seconds, told_share
from crossfade.gates.gate import Gate
from crossfade.stages import Side, Stage
from crossfade.store.signals import BUCKETS, Kind, Timing, bucket
from crossfade.thresholds import GateThresholds

USUAL = GateThresholds()
PROVEN = 4512


def kind(action: str, keys: int, bad: int = 0, times: int | None = None, **verdicts: int) -> Kind:
    """What was compared of one action, each key once unless said otherwise."""
    told: Mapping[str, int] = {
        "matched": (keys if times is None else times) - bad,
        "mismatched": bad,
        **verdicts,
    }
    is_read = action.startswith(("find", "count"))
    return Kind(
        "Book", "read" if is_read else "write", action, keys, bad, {k: n for k, n in told.items() if n}
    )


def judged(*kinds: Kind, compared_with: Side = Side.SQLALCHEMY, **thresholds: float) -> Gate:
    """The gate of comparisons."""
    return comparisons("Book", kinds, GateThresholds.of(thresholds), compared_with)


def timing(
    action: str, side: Side, seconds: Mapping[float, int], failures: int = 0, role: Role = Role.AUTHORITY
) -> Timing:
    """So many calls that took so long."""
    buckets = [0] * BUCKETS
    for value, times in seconds.items():
        buckets[bucket(value)] += times
    return Timing("Book", action, side, role, sum(seconds.values()), failures, tuple(buckets))


# --- comparisons -------------------------------------------------------------------------------------------------


def test_enough_clean_keys_hold() -> None:
    """The figure is the bound of the kind of which least is proven."""
    gate = judged(kind("find_many", PROVEN), kind("find_unique", 20_000))

    assert gate.holds
    assert "≤ 0.000725 (find_many, 4,512 keys)" == gate.figure
    assert pytest.approx(0.000725, abs=1e-6) == gate.number


def test_too_few_keys_say_how_many_more_it_takes() -> None:
    """Not more exactly than it can be known."""
    gate = judged(kind("find_many", 812))

    assert "≤ 0.00403 (find_many, 812 keys), which is more than 0.001" == gate.figure
    assert (
        "needs about 2,600 more distinct keys of find_many, or a larger `gates.comparisons` in the flag"
        == gate.remedy
    )
    assert gate.why.startswith("its comparisons do not prove enough: ≤ 0.00403")


def test_the_same_key_again_proves_nothing() -> None:
    """However often it is compared."""
    assert not judged(kind("find_many", 40, times=1_000_000)).holds


def test_nothing_compared_is_nothing_proven() -> None:
    """Not even with a bound of 1."""
    assert "nothing was compared yet" == judged().figure
    assert "needs about 3,400 more distinct keys of each kind" in judged().remedy
    assert not judged(comparisons=1.0).holds
    assert judged(kind("find_many", 1), comparisons=1.0).holds


def test_rare_kinds_are_named_as_unproven() -> None:
    """They keep nobody, and are not hidden in the average."""
    gate = judged(kind("find_many", PROVEN), kind("delete", 3), kind("upsert", 1))

    assert gate.holds
    assert "≤ 0.000725 (find_many, 4,512 keys); unproven: delete (3 keys), upsert (1 key)" == gate.figure


def test_every_kind_that_is_not_rare_must_be_proven() -> None:
    """However well the others do."""
    gate = judged(kind("find_many", 60_000), kind("update", 700))

    assert not gate.holds
    assert "≤ 0.00467 (update, 700 keys), which is more than 0.001" == gate.figure


def test_a_rare_kind_with_a_mismatch_does_not_pass() -> None:
    """A mismatch is no accident of too few keys."""
    gate = judged(kind("find_many", PROVEN), kind("delete", 3, 1))

    assert not gate.holds
    assert "(delete, 3 keys, 1 mismatched)" in gate.figure
    assert gate.remedy.startswith(
        "see what was mismatched (the log names the fields, `crossfade verify Book` the rows); needs about 7,"
    )


def test_few_mismatches_among_many_keys_pass() -> None:
    """The bound is a share, not a ban."""
    assert judged(kind("find_many", 20_000, 3)).holds
    assert not judged(kind("find_many", 20_000, 40)).holds


def test_all_that_fails_is_named() -> None:
    """The worst first."""
    gate = judged(kind("count", 500), kind("find_many", 900), kind("update", 100))

    assert gate.figure.startswith(
        "≤ 0.0322 (update, 100 keys), which is more than 0.001; so it is for count, 500"
    )
    assert "of update" in gate.remedy


def test_comparisons_that_come_to_nothing_ask_for_proof() -> None:
    """A kind whose comparisons always fail, or never come to rest, is not a rare one."""
    gate = judged(kind("find_many", PROVEN), kind("count", 0, error=400, in_flight=12))

    assert not gate.holds
    assert gate.figure.startswith("≤ 1 (count, 0 keys, 400 error, 12 in_flight)")


def test_questions_without_one_right_answer_are_unproven() -> None:
    """Nothing can be said about them, and they keep nobody."""
    gate = judged(kind("find_many", PROVEN), kind("find_first", 0, ignored=9000))

    assert gate.holds
    assert gate.figure.endswith("; unproven: find_first (0 keys, 9,000 ignored)")
    assert not judged(kind("find_first", 0, ignored=9000)).holds


def test_what_the_new_side_cannot_answer_is_no_small_thing() -> None:
    """It would fail for callers as soon as it answers them. The old side has nothing left to answer."""
    calls = kind("find_many", PROVEN, skipped=50)
    gate = judged(calls)

    assert "; the new side does not know how to do find_many (50 of 4,562)" in gate.figure
    assert "write those calls of find_many in another way" == gate.remedy
    assert judged(calls, compared_with=Side.PRISMA).holds
    assert judged(calls, errors=0.05).holds


def test_a_bound_that_no_number_of_keys_can_prove_is_said_to_be_one() -> None:
    """Rather than a number of keys that will never be there."""
    gate = judged(kind("find_many", 60_000), comparisons=1e-6)

    assert (
        "that can never be proven, as no more than 65,536 keys are told apart:"
        " raise `gates.comparisons` in the flag to 0.0000999 or more" == gate.remedy
    )


def test_estimates_are_told_of_each_kind_that_lacks_keys() -> None:
    """As far as a number of keys would do."""
    kinds = [kind("find_many", 812), kind("count", 20_000), kind("delete", 1), kind("update", 3000, 2900)]

    needed = keys_needed(kinds, USUAL)

    assert {"find_many": 2600, "update": None} == needed
    assert {} == keys_needed([], USUAL)


def test_nearly_full_bitmaps_take_more_keys() -> None:
    """Most of them look like keys that were compared before."""
    near, far = (judged(kind("find_many", keys), comparisons=0.00006) for keys in (52_000, 1_000))

    assert "needs about 14,000 more" in near.remedy
    assert "needs about 120,000 more" in far.remedy


def test_even_if_all_kinds_were_rare_the_most_frequent_is_asked() -> None:
    """A model cannot pass by spreading itself thin."""
    gate = judged(kind("find_many", 9), kind("count", 8), rare=0.9)

    assert not gate.holds
    assert "(find_many, 9 keys)" in gate.figure
    assert "unproven: count (8 keys)" in gate.figure


# --- latency -----------------------------------------------------------------------------------------------------


def test_a_side_that_is_as_quick_holds() -> None:
    """The action with the largest factor is named, over all roles; others are named as unproven."""
    gate = latency(
        "Book",
        [
            timing("find_many", Side.PRISMA, {0.020: 500}),
            timing("find_many", Side.SQLALCHEMY, {0.020: 60}, role=Role.SHADOW),
            timing("find_many", Side.SQLALCHEMY, {0.020: 60}, role=Role.AUTHORITY),
            timing("count", Side.PRISMA, {0.020: 500}),
            timing("count", Side.SQLALCHEMY, {0.010: 500}),
            timing("delete", Side.PRISMA, {0.020: 7}),
            timing("delete", Side.SQLALCHEMY, {9.0: 7}),
        ],
        USUAL,
    )

    assert gate.holds
    assert (
        "1.00 times the old p99 (find_many: 21.5 ms against 21.5 ms); unproven: delete (7 calls)"
        == gate.figure
    )
    assert 1.0 == gate.number


def test_a_slow_action_does_not_hide_behind_quick_ones() -> None:
    """The worst one counts, and its tail, not its mean."""
    gate = latency(
        "Book",
        [
            timing("find_many", Side.PRISMA, {0.010: 500}),
            timing("find_many", Side.SQLALCHEMY, {0.010: 480, 0.100: 20}),
            timing("count", Side.PRISMA, {0.010: 9000}),
            timing("count", Side.SQLALCHEMY, {0.001: 9000}),
        ],
        USUAL,
    )

    assert not gate.holds
    assert gate.number is not None
    assert 8 < gate.number < 12
    assert "which is more than 1.5 times" in gate.figure
    assert "make find_many quicker on the new side, or raise `gates.latency` in the flag" == gate.remedy


def test_what_is_quick_enough_may_be_slower() -> None:
    """Below 5 ms a factor counts for nothing, and it says so; the figure is there all the same."""
    gate = latency(
        "Book",
        [timing("count", Side.PRISMA, {0.0005: 500}), timing("count", Side.SQLALCHEMY, {0.003: 500})],
        USUAL,
    )

    assert gate.holds
    assert gate.figure.endswith("which counts for nothing below 5 ms")
    assert gate.number is not None
    assert gate.number > 5


def test_few_calls_prove_nothing_about_a_tail() -> None:
    """They keep nobody, but it is said that nothing is known."""
    gate = latency(
        "Book",
        [timing("count", Side.PRISMA, {0.01: 99}), timing("count", Side.SQLALCHEMY, {5.0: 5000})],
        USUAL,
    )

    assert gate.holds
    assert "no action with 100 calls to each side yet; unproven: count (99 calls)" == gate.figure
    assert gate.number is None


# --- errors, lag, settled ----------------------------------------------------------------------------------------


def test_failures_of_the_new_side_count_in_every_role() -> None:
    """Those of the old side do not, and it is said how many calls make up for them."""
    gate = errors(
        "Book",
        [
            timing("find_many", Side.SQLALCHEMY, {0.01: 900}, failures=2, role=Role.SHADOW),
            timing("update", Side.SQLALCHEMY, {0.01: 100}, failures=1, role=Role.FOLLOWER),
            timing("find_many", Side.PRISMA, {0.01: 900}, failures=900),
        ],
        USUAL,
    )

    assert "3 of 1,000 calls to the new side failed, which is more than 0.001 of them" == gate.figure
    assert (
        "look into the failures in the log; then it takes about 2,000 more calls without one" == gate.remedy
    )
    assert pytest.approx(0.003) == gate.number


def test_errors_hold_where_they_are_few_or_nothing_was_called() -> None:
    """No call is no failure."""
    few = errors("Book", [timing("count", Side.SQLALCHEMY, {0.01: 1000}, failures=1)], USUAL)

    assert few.holds
    assert "1 of 1,000 calls to the new side failed" == few.figure
    assert "unproven: no call to the new side yet" == errors("Book", [], USUAL).figure
    assert errors("Book", [], USUAL).holds


def test_lag_is_the_age_of_what_waits() -> None:
    """Not how much it is."""
    assert lag("Book", 0, 0.0, USUAL).holds
    assert lag("Book", 9000, 4.9, USUAL).holds
    late = lag("Book", 2, 61.0, USUAL)
    assert "2 captured keys wait, the oldest for 61.0 s, which is more than 5.0 s" == late.figure
    assert not late.holds
    assert 61.0 == late.number
    assert "1 captured key waits, the oldest for 500 ms" == lag("Book", 1, 0.5, USUAL).figure
    assert (
        "100,000 or more captured keys wait, the oldest for 2.0 s"
        == lag("Book", MOST_COUNTED, 2.0, USUAL).figure
    )


def test_a_lease_is_waited_out() -> None:
    """It says how much of it is left."""
    early = settled("Book", Stage.RAMPDOWN, 3.2, 5.0)

    assert (
        "it is not settled: at rampdown for 3.2 s, and a lease is 5.0 s; it goes on by itself in 1.8 s"
        == early.why
    )
    assert settled("Book", Stage.RAMPDOWN, 5.0, 5.0).holds


# --- figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "told"),
    [(0, "0"), (1, "1"), (0.05, "0.05"), (0.0010001, "0.00101"), (0.00004992, "0.00005"), (0.4321, "0.433")],
)
def test_shares_are_rounded_up(share: float, told: str) -> None:
    """A bound that is told too low would be a lie."""
    assert told == told_share(share)


def test_figures_are_short() -> None:
    """What people read."""
    assert [1, 7, 42, 130, 3300, 120_000] == [rounded(n) for n in (0.2, 7, 41.2, 123, 3271, 112_001)]
    assert ["250 µs", "21.5 ms", "1.0 s", "1,234.5 s"] == [
        told_seconds(n) for n in (0.00025, 0.02153, 1.0, 1234.5)
    ]
    assert ["", "a", "a, b, c", "a, b, c, and 2 more"] == [listed(list(n)) for n in ("", "a", "abc", "abcde")]
