"""Tells from what a fleet sees whether a model does well. Pure: the guard gives it the sums, and the time.

Theory of operation. Every process publishes sums of what it sees: calls, failures, how long they took, what comparisons
came to. The judge is shown them about once a second and takes differences: what happened in the last `window` seconds,
and what happened since the look before. A signal is a sign of trouble when the window is beyond its bound *and*
something bad has happened since the last sign. Two signs in succession are a breach: one bad moment is not, however
long it stays in the window.

| signal | what is looked at | beyond its bound |
|---|---|---|
| mismatches | comparisons, for each kind of operation | a larger share of them is mismatched; of few, if two keys are |
| errors | calls to the new side, for each action and all | a larger share of them fails |
| latency | calls to both sides, for each action and all | the new side's p99 is so many times the old side's |
| lag | captured keys that are not verified yet | the oldest has waited longer |

A percentile means nothing unless some calls lie beyond it. So of fewer than 300 calls it is not the 99th that is taken
but the highest that three calls lie beyond. All calls of the old side are weighed so that each action has the part that
it has on the new side: a side that is asked for other things is not a slower one. Below 25 ms nobody minds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import add, sub

from crossfade.events import Verdict
from crossfade.stages import Side
from crossfade.store.signals import BUCKETS, Kind, Timing, bucket, percentile
from crossfade.thresholds import GuardThresholds

NEW, OLD = Side.SQLALCHEMY, Side.PRISMA
QUICK_ENOUGH = 0.025
"""Seconds below which nobody minds how many times slower the new side is."""
_SIGNS = 2
_BEYOND = 3
"""How many calls lie beyond a percentile at least."""
_MOST_WEIGHT = 10
"""How many calls one call may stand for."""
_FINE = 1000
"""In how many parts a call is divided where its weight is changed."""
_ENOUGH_KEYS = 2
"""How many mismatched keys are taken seriously, however few comparisons there were."""


class Signal(StrEnum):
    """What is watched."""

    MISMATCHES = "mismatches"
    ERRORS = "errors"
    LATENCY = "latency"
    LAG = "lag"


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at what the fleet has seen: sums, each since the model came to its stage; and the lag of now.

    A model whose lag could not be read is left out of `lags`.
    """

    timings: Sequence[Timing] = ()
    kinds: Sequence[Kind] = ()
    lags: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Breach:
    """A model does not do well; `since` is when the first sign of it was seen, by the clock of the looks."""

    model: str
    signal: Signal
    reason: str
    since: float


class Judge:
    """Tells breaches from what is seen, look by look. Pure: it is given the time."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}

    def look(
        self,
        now: float,
        seen: Seen,
        entered: Mapping[str, int],
        thresholds: Callable[[str], GuardThresholds],
    ) -> list[Breach]:
        """Return the first breach of each model that has one, at each look for as long as it lasts.

        Args:
            now: seconds, by any clock that only goes forward.
            seen: what the fleet has seen, for these models at least.
            entered: the models that are watched, with the epoch at which each came to its stage: what was seen before
                it came there counts no more.
            thresholds: the bounds of a model.
        """
        for model in self._watched.keys() - entered.keys():
            # It is moving or paused; should it come back at another stage soon, the sums begin with nothing.
            if now - self._watched[model].looks[-1].at > thresholds(model).window:
                del self._watched[model]
        looks = {model: _Look(now, lag=seen.lags.get(model)) for model in entered}
        for timing in seen.timings:
            if timing.model in looks:
                looks[timing.model].add_timing(timing)
        for kind in seen.kinds:
            if kind.model in looks:
                looks[kind.model].add_kind(kind)
        breaches = []
        for model, look in looks.items():
            watched = self._watched.get(model)
            if watched is None:
                watched = self._watched[model] = _Watched(entered[model], deque([look]))
            elif watched.entered != entered[model]:
                nothing = _Look(watched.looks[-1].at)
                watched = self._watched[model] = _Watched(entered[model], deque([nothing]))
            signal = watched.judge(look, thresholds(model))
            if signal is not None:
                breaches.append(Breach(model, signal, watched.reasons[signal], watched.since[signal]))
        return breaches


@dataclass(slots=True)
class _Calls:
    """Calls of one action to one side: the sums of now, and what is taken off them. Buckets are made when asked for."""

    calls: int = 0
    failures: int = 0
    sums: Sequence[int] = (0,) * BUCKETS
    off: Sequence[int] | None = None

    def __add__(self, other: _Calls) -> _Calls:
        return _Calls(
            self.calls + other.calls, self.failures + other.failures, list(map(add, self.sums, other.sums))
        )

    def since(self, before: _Calls | None) -> _Calls:
        """What has come to these sums since they were those; nothing where sums were taken away."""
        if before is None:
            return self
        if self.calls <= before.calls:
            return _NO_CALLS
        failures = max(0, self.failures - before.failures)
        return _Calls(self.calls - before.calls, failures, self.sums, before.sums)

    @property
    def buckets(self) -> Sequence[int]:
        """How many calls took how long."""
        return self.sums if self.off is None else list(map(sub, self.sums, self.off))


@dataclass(frozen=True, slots=True)
class _Compared:
    """Comparisons of one kind: how many were judged, how many of them mismatched, and on how many keys."""

    judged: int = 0
    mismatched: int = 0
    keys: int = 0

    def since(self, before: _Compared) -> _Compared:
        """What has come to these sums since they were those."""
        return _Compared(
            max(0, self.judged - before.judged),
            max(0, self.mismatched - before.mismatched),
            max(0, self.keys - before.keys),
        )


_Action = str
_NO_CALLS, _NOT_COMPARED = _Calls(), _Compared()


@dataclass(slots=True)
class _Look:
    """The sums of one model at one time."""

    at: float
    lag: float | None = None
    calls: dict[tuple[_Action, Side], _Calls] = field(default_factory=dict)
    compared: dict[tuple[str, _Action], _Compared] = field(default_factory=dict)

    def add_timing(self, timing: Timing) -> None:
        """Add one row, whatever the role: a side is as quick or slow as it is."""
        place = timing.action, timing.side
        more = _Calls(timing.calls, timing.failures, timing.buckets)
        self.calls[place] = self.calls[place] + more if place in self.calls else more

    def add_kind(self, kind: Kind) -> None:
        """Add one row. Only what was matched or mismatched says anything."""
        mismatched = kind.verdicts.get(Verdict.MISMATCHED, 0)
        judged = mismatched + kind.verdicts.get(Verdict.MATCHED, 0)
        self.compared[kind.kind, kind.action] = _Compared(judged, mismatched, kind.mismatched)

    def calls_since(self, before: _Look, side: Side) -> dict[_Action, _Calls]:
        """The calls to a side since an earlier look, by action."""
        return {
            action: calls.since(before.calls.get((action, asked)))
            for (action, asked), calls in self.calls.items()
            if asked is side
        }

    def compared_since(self, before: _Look) -> dict[tuple[str, _Action], _Compared]:
        """The comparisons since an earlier look, by kind."""
        return {
            kind: compared.since(before.compared.get(kind, _NOT_COMPARED))
            for kind, compared in self.compared.items()
        }


@dataclass(frozen=True, slots=True)
class _Finding:
    """The window is beyond a bound; `is_fresh` if it has become worse since the look before."""

    reason: str
    is_fresh: bool


@dataclass(slots=True)
class _Watched:
    """What is kept of one model for as long as it stays where it is. `looks` are those that a window may begin with."""

    entered: int
    looks: deque[_Look]
    signs: dict[Signal, int] = field(default_factory=dict)
    since: dict[Signal, float] = field(default_factory=dict)
    reasons: dict[Signal, str] = field(default_factory=dict)

    def judge(self, look: _Look, bounds: GuardThresholds) -> Signal | None:
        """Take a look into account; return the signal that is breached, if one is."""
        while len(self.looks) > 1 and self.looks[1].at <= look.at - bounds.window:
            self.looks.popleft()
        base, last = self.looks[0], self.looks[-1]
        self.looks.append(look)
        findings = {
            Signal.MISMATCHES: _mismatches(base, last, look, bounds),
            Signal.ERRORS: _errors(base, last, look, bounds),
            Signal.LATENCY: _latency(base, last, look, bounds),
            Signal.LAG: _lag(look, bounds),
        }
        for signal, finding in findings.items():
            if finding is None:
                self.signs.pop(signal, None)
            elif finding.is_fresh:
                if signal not in self.signs:
                    self.since[signal] = look.at
                self.signs[signal] = self.signs.get(signal, 0) + 1
                self.reasons[signal] = finding.reason
        return next((signal for signal in Signal if self.signs.get(signal, 0) >= _SIGNS), None)


def _mismatches(base: _Look, last: _Look, look: _Look, bounds: GuardThresholds) -> _Finding | None:
    fresh = look.compared_since(last)
    worst: tuple[float, _Finding] | None = None
    for (kind, action), seen in look.compared_since(base).items():
        share = seen.mismatched / seen.judged if seen.judged else 0.0
        is_enough = seen.judged >= bounds.least or seen.keys >= _ENOUGH_KEYS
        if share > bounds.mismatches and is_enough and (worst is None or share > worst[0]):
            reason = (
                f"{seen.mismatched:,} of {seen.judged:,} {kind}s by {action} mismatched"
                f" ({share:.2%}; at most {bounds.mismatches:.2%})"
            )
            worst = share, _Finding(reason, fresh[kind, action].mismatched > 0)
    return None if worst is None else worst[1]


def _errors(base: _Look, last: _Look, look: _Look, bounds: GuardThresholds) -> _Finding | None:
    seen, fresh = look.calls_since(base, NEW), look.calls_since(last, NEW)
    worst: tuple[float, _Finding] | None = None
    for action in ("", *seen):  # all of them first
        calls = sum(entry.calls for name, entry in seen.items() if action in ("", name))
        failures = sum(entry.failures for name, entry in seen.items() if action in ("", name))
        share = failures / calls if calls else 0.0
        if calls >= bounds.least and share > bounds.errors and (worst is None or share > worst[0]):
            what = f"calls of {action}" if action else "calls"
            reason = (
                f"{failures:,} of {calls:,} {what} to {NEW} failed ({share:.1%}; at most {bounds.errors:.1%})"
            )
            is_fresh = any(entry.failures for name, entry in fresh.items() if action in ("", name))
            worst = share, _Finding(reason, is_fresh)
    return None if worst is None else worst[1]


def _latency(base: _Look, last: _Look, look: _Look, bounds: GuardThresholds) -> _Finding | None:
    new, old, fresh = look.calls_since(base, NEW), look.calls_since(base, OLD), look.calls_since(last, NEW)
    both = [
        action
        for action, seen in new.items()
        if seen.calls and old.get(action, _NO_CALLS).calls * _MOST_WEIGHT >= seen.calls
    ]
    worst: tuple[float, _Finding] | None = None
    for action in ("", *both):  # all of them first
        these = [name for name in both if action in ("", name)]
        fewer = min(sum(calls[name].calls for name in these) for calls in (new, old))
        if fewer < max(bounds.least, _BEYOND + 1):
            continue
        share = min(0.99, 1 - _BEYOND / fewer)
        slow = percentile(_mixed(new, new, these), share)
        quick = percentile(_mixed(old, new, these), share)
        times = slow / quick if quick else 0.0
        if times > bounds.latency and slow > QUICK_ENOUGH and (worst is None or times > worst[0]):
            reason = (
                f"p{share * 100:.0f} of {action or 'all calls'} is {slow * 1000:,.0f} ms on {NEW} and"
                f" {quick * 1000:,.0f} ms on {OLD} ({times:.1f} times as long; at most {bounds.latency:g} times)"
            )
            limit = bucket(max(bounds.latency * quick, QUICK_ENOUGH)) + 1
            worst = times, _Finding(reason, any(any(fresh[name].buckets[limit:]) for name in these))
    return None if worst is None else worst[1]


def _mixed(
    calls: Mapping[_Action, _Calls], like: Mapping[_Action, _Calls], actions: Sequence[_Action]
) -> Sequence[int]:
    """How long calls of some actions took, as if the actions had been called as often as those in `like`."""
    if len(actions) == 1:
        return calls[actions[0]].buckets
    mixed = [0] * BUCKETS
    for action in actions:
        weight = _FINE * like[action].calls // calls[action].calls
        mixed = [sum_ + weight * times for sum_, times in zip(mixed, calls[action].buckets, strict=True)]
    return mixed


def _lag(look: _Look, bounds: GuardThresholds) -> _Finding | None:
    if look.lag is None:
        return _Finding("", is_fresh=False)  # nobody knows; what was known stays so
    if look.lag <= bounds.lag:
        return None
    return _Finding(
        f"the oldest captured key has waited {look.lag:,.0f} s (at most {bounds.lag:g} s)", is_fresh=True
    )
