"""What a count of mismatches proves about their true share, however often somebody has looked at it. Pure arithmetic.

The question is whether the share of keys that come out as mismatched lies below `share`. People and conductors look at
the counts all the time and stop as soon as they like them, which makes a bound for a fixed number of comparisons (the
rule of three, Clopper and Pearson) wrong far more often than it says. So the test here is one that may be looked at
after every single comparison.

Of n keys, k are mismatched. For a factor r below 1, the likelihood ratio of the share r·share against `share` itself is
r^k · ((1 - r·share) / (1 - share))^(n - k). If the true share is `share` or more, its expectation never grows: each
further key multiplies it by something whose mean is 1 or less. The same holds for a weighted mean of such ratios over
fixed factors (Robbins' method of mixtures),

    M(n, k) = Σ w(r) · r^k · ((1 - r·share) / (1 - share))^(n - k),    Σ w(r) = 1.

M begins at 1 and is never negative, so by Ville's inequality it *ever* reaches 1/alpha with a probability of at most
alpha. Once it has, "the share is `share` or more" is rejected, and whoever looks as often as he likes is wrong with a
probability of at most alpha. M grows with `share`, so the shares that are not rejected end at one upper bound, which is
found by bisection; the bounds for all n together are a confidence sequence.

Half of the weight is on r = 0, which is what no mismatch at all speaks for most: at 95 %, clean keys pass after
3.3/share of them, where the rule of three, which may be looked at once, asks for 3.0/share. The other factors let a
model pass that has mismatches, only fewer than the bound; one whose true share is more than about seven eighths of it
does not pass however long it waits.

Sources: J. Ville, Étude critique de la notion de collectif, 1939. H. Robbins, "Statistical methods related to the law
of the iterated logarithm", Ann. Math. Statist. 41, 1970. S. R. Howard, A. Ramdas, J. McAuliffe, J. Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Ann. Statist. 49, 2021. B. D. Jovanovic, P. S. Levy,
"A look at the rule of three", Amer. Statist. 51, 1997.
"""

from __future__ import annotations

from math import exp, inf, log, log1p

CONFIDENCE = 0.95
ALPHA = 1.0 - CONFIDENCE

_FACTORS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)
_NONE = 0.5
"""The weight of the factor 0; the others share the rest alike."""
_SOME = (1.0 - _NONE) / len(_FACTORS)
_ACCURACY = 1e-4


def evidence(compared: int, mismatched: int, share: float) -> float:
    """Return the natural logarithm of M: how strongly the counts speak against a true share of `share` or more.

    Args:
        compared: how many keys were compared.
        mismatched: how many of them were mismatched.
        share: above 0 and below 1.
    """
    clean = compared - mismatched
    unit = -log1p(-share)
    terms = [
        log(_SOME) + mismatched * log(factor) + clean * (log1p(-factor * share) + unit) for factor in _FACTORS
    ]
    if not mismatched:
        terms.append(log(_NONE) + clean * unit)
    largest = max(terms)
    return largest + log(sum(exp(term - largest) for term in terms))


def passes(compared: int, mismatched: int, share: float, alpha: float = ALPHA) -> bool:
    """Whether the true share of mismatches is shown to lie below `share`. 1 and more need no proof."""
    return share >= 1 or evidence(compared, mismatched, share) >= -log(alpha)


def upper_bound(compared: int, mismatched: int, alpha: float = ALPHA) -> float:
    """Return what the true share lies below, with a confidence of 1 - alpha, at this and every other look.

    It is rounded up by at most a ten-thousandth of itself; 1 where nothing is known.
    """
    low, high = 0.0, 1.0
    if not passes(compared, mismatched, 1 - 1e-12, alpha):
        return 1.0
    while high - low > high * _ACCURACY:
        middle = (low + high) / 2
        if passes(compared, mismatched, middle, alpha):
            high = middle
        else:
            low = middle
    return high


def still_needed(compared: int, mismatched: int, share: float, alpha: float = ALPHA) -> int:
    """Return how many more keys, all of them clean, it takes until `share` is proven; 0 if it is."""
    if passes(compared, mismatched, share, alpha):
        return 0
    low, high = 0, 1
    while not passes(compared + high, mismatched, share, alpha):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if passes(compared + middle, mismatched, share, alpha):
            high = middle
        else:
            low = middle
    return high


def attainable(keys: int, alpha: float = ALPHA) -> float:
    """Return the least share that so many keys, all of them clean, can prove."""
    return upper_bound(keys, 0, alpha) if keys else inf
