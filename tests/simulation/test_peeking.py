"""Migrations that are no good do not pass by being looked at often: 2,000 of them, looked at after every comparison.

Between two mismatches the evidence only grows, so whether any look would have let a model pass is told by the looks
right before each mismatch and by the last one. That spares most of the work and none of the looks: see the last test.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log, log1p, sqrt
from random import Random

import pytest

from crossfade.gates.bounds import ALPHA, passes

MIGRATIONS = 2000
BOUND = 0.02
LONGEST = 5000
"""Keys that are compared in each migration: at the bound, a hundred mismatches."""


def mismatches(random: Random, true: float, longest: int) -> Iterator[int]:
    """The numbers of the keys that are mismatched, from 0, where each is with a probability of `true`."""
    key = -1
    while True:
        key += 1 + int(log(1 - random.random()) / log1p(-true))
        if key >= longest:
            return
        yield key


def ever_passes(random: Random, true: float, bound: float = BOUND, longest: int = LONGEST) -> bool:
    """Whether a model passes at one of all the looks, the first after one key and the last after `longest`."""
    bad = 0
    for key in mismatches(random, true, longest):
        if passes(key, bad, bound):
            return True
        bad += 1
    return passes(longest, bad, bound)


@pytest.mark.parametrize("worse", [1.05, 1.2, 2.0])
def test_hardly_any_migration_above_the_bound_passes(worse: float) -> None:
    """At most 5 % of 2,000, though everybody looks all the time and stops at the first good figure."""
    random = Random(int(worse * 100))

    passed = sum(ever_passes(random, BOUND * worse) for _ in range(MIGRATIONS))

    assert passed <= ALPHA * MIGRATIONS


def test_right_at_the_bound_no_more_pass_than_chance_allows() -> None:
    """The promise is kept with little to spare: a bound that nothing ever reaches would promise nothing."""
    random = Random(20)
    spread = sqrt(MIGRATIONS * ALPHA * (1 - ALPHA))

    passed = sum(ever_passes(random, BOUND) for _ in range(MIGRATIONS))

    assert 0.03 * MIGRATIONS < passed < ALPHA * MIGRATIONS + 3 * spread


@pytest.mark.parametrize("worse", [1.0, 1.01, 1.5])
def test_the_probability_to_pass_ever_is_exactly_within_the_promise(worse: float) -> None:
    """Not simulated but summed up over every course that the first thousands of keys can take."""
    chance, total = chance_to_pass(BOUND * worse, 3000)

    assert pytest.approx(1.0, abs=1e-9) == total
    assert 0.001 < chance <= ALPHA


def chance_to_pass(true: float, longest: int) -> tuple[float, float]:
    """The probability that some look among `longest` lets a model pass; and all probabilities together, to check."""
    passed, at = 0.0, {0: 1.0}
    for keys in range(1, longest + 1):
        ahead: dict[int, float] = {}
        for bad, chance in at.items():
            ahead[bad] = ahead.get(bad, 0.0) + chance * (1 - true)
            ahead[bad + 1] = ahead.get(bad + 1, 0.0) + chance * true
        # Fewer mismatches prove more, so those courses that pass now are the ones with the fewest.
        for bad in sorted(ahead):
            if not passes(keys, bad, BOUND):
                break
            passed += ahead.pop(bad)
        at = {bad: chance for bad, chance in ahead.items() if chance > 1e-15}
    return passed, passed + sum(at.values())


def test_a_fixed_bound_would_not_do() -> None:
    """The same looks at the rule of three and its exact kin let far more pass: what the sequence is there for."""
    random = Random(7)

    def peeked() -> bool:
        for bad, key in enumerate(mismatches(random, BOUND, LONGEST)):
            if key and clopper_pearson_passes(key, bad):
                return True
        return False

    assert sum(peeked() for _ in range(MIGRATIONS // 4)) > 0.10 * MIGRATIONS / 4


def clopper_pearson_passes(keys: int, bad: int) -> bool:
    """Whether so few mismatches have a probability of 5 % at most at the bound: right for one look alone."""
    chance = (1 - BOUND) ** keys
    total = chance
    for count in range(bad):
        chance *= (keys - count) / (count + 1) * BOUND / (1 - BOUND)
        total += chance
    return total <= ALPHA


def test_a_model_passes_only_with_all_its_kinds() -> None:
    """With one kind at the bound and two that are clean it passes no more often: no correction is needed."""
    random = Random(3)
    clean = passes(LONGEST, 0, BOUND)

    passed = sum(clean and ever_passes(random, BOUND) for _ in range(MIGRATIONS))

    assert clean
    assert passed <= ALPHA * MIGRATIONS


@pytest.mark.parametrize(("better", "least"), [(0.0, 1.0), (0.1, 0.99), (0.3, 0.9)])
def test_good_migrations_pass(better: float, least: float) -> None:
    """Clean ones always do, and those with a tenth or a third of the bound nearly so, in good time."""
    random = Random(11)
    runs = 500

    passed = sum(
        ever_passes(random, BOUND * better) if better else passes(200, 0, BOUND) for _ in range(runs)
    )

    assert passed >= least * runs


def test_no_look_is_left_out() -> None:
    """Looking after every single key comes to the same as looking before each mismatch and at the end."""
    for seed in range(60):
        looked, bad, every = set(mismatches(Random(seed), 0.03, 400)), 0, False
        for key in range(400):
            bad += key in looked
            every = every or passes(key + 1, bad, 0.03)

        assert every is ever_passes(Random(seed), 0.03, 0.03, 400)
