"""The gates that say how a model does at its stage, by what the fleet has seen since the model came there.

* `lag`: the oldest captured key that is not verified yet is young enough.
* `latency`: the new side is not much slower than the old one.
* `errors`: the new side hardly ever fails.
* `settled`: the model has been at its stage for a lease, so that no process acts by an older one any more.

What was compared is judged in `comparisons`. Everything here is arithmetic on sums: nothing asks a store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import ceil

from crossfade.gates.figures import listed, told_seconds, told_share
from crossfade.gates.gate import Gate, GateName
from crossfade.stages import Side, Stage
from crossfade.store.signals import Timing, percentile
from crossfade.thresholds import GateThresholds

MOST_COUNTED = 100_000
"""How many captured keys of a table are looked at; the oldest are among them."""
LEAST_CALLS = 100
"""How many calls of an action each side must have answered before a p99 is taken of them."""
QUICK_SECONDS = 0.005
"""What is answered in less than this is quick enough, however much quicker the other side is."""


def lag(model: str, entries: int, oldest: float, thresholds: GateThresholds) -> Gate:
    """How old, in seconds, the oldest of the `entries` captured keys is that wait to be verified."""
    if not entries:
        return Gate(model, GateName.LAG, "nothing waits to be verified", "", 0.0)
    many = (
        f"{entries:,} or more captured keys wait"
        if entries >= MOST_COUNTED
        else f"{entries:,} captured keys wait"
    )
    figure = f"{'1 captured key waits' if entries == 1 else many}, the oldest for {told_seconds(oldest)}"
    remedy = ""
    if oldest > thresholds.lag:
        figure += f", which is more than {told_seconds(thresholds.lag)}"
        remedy = "wait for the reconciler, or see why it cannot settle them in its metrics and the log"
    return Gate(model, GateName.LAG, figure, remedy, oldest)


def settled(model: str, stage: Stage, seconds: float, lease: float) -> Gate:
    """Whether every process that does not know of `stage` yet has been told to ask again by now."""
    if seconds >= lease:
        return Gate(model, GateName.SETTLED, f"at {stage} for longer than a lease", "", seconds)
    figure = f"at {stage} for {told_seconds(seconds)}, and a lease is {told_seconds(lease)}"
    return Gate(
        model, GateName.SETTLED, figure, f"it goes on by itself in {told_seconds(lease - seconds)}", seconds
    )


def errors(model: str, timings: Iterable[Timing], thresholds: GateThresholds) -> Gate:
    """What share of the calls to the new side have failed by its own fault."""
    new = [timing for timing in timings if timing.side is Side.SQLALCHEMY]
    calls, failures = sum(timing.calls for timing in new), sum(timing.failures for timing in new)
    if not calls:
        return Gate(model, GateName.ERRORS, "unproven: no call to the new side yet", "")
    share = failures / calls
    figure = f"{failures:,} of {calls:,} calls to the new side failed"
    if share <= thresholds.errors:
        return Gate(model, GateName.ERRORS, figure, "", share)
    figure += f", which is more than {told_share(thresholds.errors)} of them"
    remedy = "look into the failures in the log"
    if thresholds.errors:
        more = ceil(failures / thresholds.errors) - calls
        remedy += f"; then it takes about {more:,} more calls without one"
    return Gate(model, GateName.ERRORS, figure, remedy, share)


def latency(model: str, timings: Iterable[Timing], thresholds: GateThresholds) -> Gate:
    """How many times the old side's p99 the new side's is, for the action where that is most."""
    by_action: dict[str, dict[Side, list[int]]] = defaultdict(dict)
    for timing in timings:
        sums = by_action[timing.action].get(timing.side)
        added = (
            [*timing.buckets] if sums is None else [a + b for a, b in zip(sums, timing.buckets, strict=True)]
        )
        by_action[timing.action][timing.side] = added
    found: list[tuple[float, str, float, float]] = []
    unproven = []
    for action, sides in sorted(by_action.items()):
        old, new = sides.get(Side.PRISMA, []), sides.get(Side.SQLALCHEMY, [])
        if min(sum(old), sum(new)) < LEAST_CALLS:
            unproven.append(f"{action} ({min(sum(old), sum(new)):,} calls)")
            continue
        before, after = percentile(old, 0.99), percentile(new, 0.99)
        found.append((after / before, action, after, before))
    slow = [entry for entry in found if entry[2] >= QUICK_SECONDS and entry[0] > thresholds.latency]
    more = f"; unproven: {listed(unproven)}" if unproven else ""
    if not found:
        return Gate(model, GateName.LATENCY, f"no action with {LEAST_CALLS} calls to each side yet{more}", "")
    factor, action, after, before = max(slow or found)
    figure = (
        f"{factor:.2f} times the old p99 ({action}: {told_seconds(after)} against {told_seconds(before)})"
    )
    if not slow:
        if factor > thresholds.latency:
            figure += f", which counts for nothing below {told_seconds(QUICK_SECONDS)}"
        return Gate(model, GateName.LATENCY, figure + more, "", factor)
    figure += f", which is more than {thresholds.latency:g} times{more}"
    remedy = f"make {listed([entry[1] for entry in slow])} quicker on the new side"
    return Gate(model, GateName.LATENCY, figure, f"{remedy}, or raise `gates.latency` in the flag", factor)
