"""What counts of mismatches prove: the test is a fair bet, and its figures fit together."""

from __future__ import annotations

from math import comb, exp, log

import pytest

from crossfade.gates.bounds import ALPHA, attainable, evidence, passes, still_needed, upper_bound

COUNTS = [(1, 0), (40, 0), (40, 1), (812, 3), (4512, 0), (4512, 1), (65_536, 0), (65_536, 700), (1000, 990)]


def mean_of_m(keys: int, share: float, true: float) -> float:
    """What M comes to on average after `keys` keys whose true share of mismatches is `true`, exactly."""
    return sum(
        comb(keys, bad) * true**bad * (1 - true) ** (keys - bad) * exp(evidence(keys, bad, share))
        for bad in range(keys + 1)
    )


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("keys", [1, 2, 7, 60])
def test_at_the_bound_the_bet_is_fair(share: float, keys: int) -> None:
    """On average M stays at 1, which is what makes the bound hold at every look."""
    assert pytest.approx(1.0, rel=1e-9) == mean_of_m(keys, share, share)


@pytest.mark.parametrize("worse", [1.01, 1.5, 3.0])
def test_beyond_the_bound_the_bet_loses(worse: float) -> None:
    """The worse the true share is, the faster M falls, whatever the number of keys."""
    means = [mean_of_m(keys, 0.05, 0.05 * worse) for keys in (1, 5, 20, 80)]

    assert sorted(means, reverse=True) == means
    assert means[0] < 1


def test_each_key_is_a_fair_bet_of_its_own() -> None:
    """From wherever M stands, the next key leaves its mean alone: no moment is a good one to look."""
    share = 0.04
    for keys, bad in ((0, 0), (10, 0), (10, 2), (300, 9)):
        clean, mismatched = evidence(keys + 1, bad, share), evidence(keys + 1, bad + 1, share)

        ahead = (1 - share) * exp(clean) + share * exp(mismatched)

        assert pytest.approx(exp(evidence(keys, bad, share)), rel=1e-9) == ahead


@pytest.mark.parametrize("share", [0.1, 0.01, 0.001, 0.0001])
def test_clean_keys_pass_soon(share: float) -> None:
    """It takes a tenth more of them than the rule of three, which may be looked at only once."""
    needed = still_needed(0, 0, share)

    assert 3.0 < needed * share < 3.35
    assert passes(needed, 0, share)
    assert not passes(needed - 1, 0, share)


@pytest.mark.parametrize(("keys", "bad"), COUNTS)
def test_the_upper_bound_is_where_the_test_begins_to_pass(keys: int, bad: int) -> None:
    """A little above it the share is proven, a little below it is not."""
    bound = upper_bound(keys, bad)

    assert bad / keys < bound <= 1
    assert not passes(keys, bad, bound * 0.999)
    if bound < 1:
        assert passes(keys, bad, bound)


def test_more_clean_keys_prove_more_and_mismatches_less() -> None:
    """The bound falls with each clean key and rises with each mismatch."""
    falling = [upper_bound(keys, 2) for keys in (10, 11, 50, 500, 5000, 50_000)]
    rising = [upper_bound(5000, bad) for bad in (0, 1, 2, 5, 50, 500, 5000)]

    assert sorted(set(falling), reverse=True) == falling
    assert sorted(set(rising)) == rising


@pytest.mark.parametrize(
    ("keys", "bad", "share"), [(0, 0, 0.001), (500, 0, 0.001), (812, 3, 0.01), (9, 9, 0.2), (60_000, 9, 1e-6)]
)
def test_it_says_how_many_clean_keys_it_takes(keys: int, bad: int, share: float) -> None:
    """With so many it passes, with one less it does not."""
    more = still_needed(keys, bad, share)

    assert passes(keys + more, bad, share)
    assert not passes(keys + more - 1, bad, share)


def test_what_is_proven_needs_no_more() -> None:
    """Neither does a bound of 1, which everything is below."""
    assert 0 == still_needed(100_000, 3, 0.001)
    assert 0 == still_needed(0, 0, 1.0)
    assert passes(3, 3, 1.0)


def test_nothing_is_known_of_nothing() -> None:
    """Nor of what was mismatched throughout."""
    assert [1.0, 1.0, 1.0] == [upper_bound(0, 0), upper_bound(1, 1), upper_bound(5000, 5000)]


def test_a_smaller_risk_takes_more_keys() -> None:
    """At 99 % the bound is wider than at 95 %."""
    assert upper_bound(1000, 1) < upper_bound(1000, 1, alpha=0.01)
    assert upper_bound(1000, 1) == upper_bound(1000, 1, alpha=ALPHA)


def test_it_is_never_bolder_than_the_rule_of_three() -> None:
    """Who may look at any time has to pay for it."""
    for keys in (10, 100, 1000, 10_000):
        assert upper_bound(keys, 0) > 1 - exp(log(ALPHA) / keys)


def test_a_number_of_keys_can_prove_so_much_and_no_more() -> None:
    """The bound that is attainable with keys passes with all of them clean."""
    least = attainable(65_536)

    assert passes(65_536, 0, least)
    assert not passes(65_535, 0, least * 0.99)
    assert still_needed(0, 0, least) <= 65_536
