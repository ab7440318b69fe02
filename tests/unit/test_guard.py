"""What the guard's judge makes of sums: what trips it, what does not, and how soon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from crossfade.events import Role, Verdict
from crossfade.judge import Breach, Judge, Seen, Signal
from crossfade.stages import Side
from crossfade.store.signals import BOUNDS, Kind, Timing, bucket
from crossfade.thresholds import GuardThresholds

NEW, OLD = Side.SQLALCHEMY, Side.PRISMA


@dataclass
class Fleet:
    """Sums of one model, which only grow, as the processes of a fleet publish them; and a judge that looks at them."""

    bounds: GuardThresholds = field(default_factory=GuardThresholds)
    judge: Judge = field(default_factory=Judge)
    entered: int = 1
    now: float = 100.0
    lag: float | None = 0.0
    timings: dict[tuple[str, Side, Role], list[int]] = field(default_factory=dict)
    failures: dict[tuple[str, Side, Role], int] = field(default_factory=dict)
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)

    def call(
        self,
        side: Side,
        times: int = 1,
        *,
        seconds: float = 0.001,
        failed: int = 0,
        action: str = "find_many",
        role: Role = Role.AUTHORITY,
    ) -> None:
        """Let a side be called, for so long each time."""
        place = action, side, role
        self.timings.setdefault(place, [0] * (len(BOUNDS) + 1))[bucket(seconds)] += times
        self.failures[place] = self.failures.get(place, 0) + failed

    def compare(
        self, matched: int = 0, mismatched: int = 0, *, keys: int | None = None, action: str = "find_many"
    ) -> None:
        """Let answers be compared; mismatches are on `keys` keys that had not mismatched before."""
        seen = self.verdicts.setdefault(action, {})
        for verdict, times in ((Verdict.MATCHED, matched), (Verdict.MISMATCHED, mismatched)):
            seen[verdict] = seen.get(verdict, 0) + times
        self.keys[action] = self.keys.get(action, 0) + (mismatched if keys is None else keys)

    def arrive(self) -> None:
        """Come to another stage: the sums begin with nothing."""
        self.entered += 1
        for sums in (self.timings, self.failures, self.verdicts, self.keys):
            sums.clear()

    def look(self, after: float = 1.0) -> Breach | None:
        """Let the judge look, so many seconds after the last time."""
        self.now += after
        timings = [
            Timing("Book", *place, sum(buckets), self.failures[place], tuple(buckets))
            for place, buckets in self.timings.items()
        ]
        kinds = [
            Kind("Book", "read", action, sum(seen.values()), self.keys[action], dict(seen))
            for action, seen in self.verdicts.items()
        ]
        lags = {} if self.lag is None else {"Book": self.lag}
        found = self.judge.look(
            self.now, Seen(timings, kinds, lags), {"Book": self.entered}, lambda _: self.bounds
        )
        return found[0] if found else None

    def watch(self, happens: Callable[[Fleet], None], seconds: int) -> tuple[int, Breach] | None:
        """Let something happen each second; return the first breach and after how many looks it was seen."""
        for second in range(1, seconds + 1):
            happens(self)
            if breach := self.look():
                return second, breach
        return None


@pytest.fixture
def fleet() -> Fleet:
    """A fleet that is watched, and has been quiet so far."""
    fleet = Fleet()
    assert fleet.look() is None
    return fleet


def busy(
    *, share_failed: float = 0.0, slow: float = 0.001, mismatched: int = 0, calls: int = 40
) -> Callable[[Fleet], None]:
    """One second of an application: calls of both sides, and comparisons."""

    def second(fleet: Fleet) -> None:
        fleet.call(OLD, calls, seconds=0.001)
        fleet.call(NEW, calls, seconds=slow, failed=int(calls * share_failed), role=Role.SHADOW)
        fleet.compare(calls - mismatched, mismatched)

    return second


@pytest.mark.parametrize(
    ("happens", "signal"),
    [
        (busy(mismatched=4), Signal.MISMATCHES),
        (busy(mismatched=1), Signal.MISMATCHES),  # 2.5 %, and the second key is the proof
        (busy(share_failed=0.1), Signal.ERRORS),
        (busy(share_failed=1.0, calls=8), Signal.ERRORS),
        (busy(slow=0.2), Signal.LATENCY),
        (busy(slow=0.2, calls=6), Signal.LATENCY),
    ],
)
def test_what_is_bad_is_told_within_five_looks(
    fleet: Fleet, happens: Callable[[Fleet], None], signal: Signal
) -> None:
    """With the default bounds, one look a second; and what is wrong has a figure."""
    found = fleet.watch(happens, 5)

    assert found is not None
    assert signal is found[1].signal
    assert "at most" in found[1].reason
    assert found[1].since < fleet.now


@pytest.mark.parametrize(
    "happens",
    [
        busy(),
        busy(share_failed=0.025),
        busy(slow=0.0025),  # 2.5 times as long
        busy(slow=0.004),  # four times as long, and nobody minds four milliseconds
        busy(share_failed=1.0, calls=1),  # half a call of each kind a second says nothing
    ],
)
def test_what_is_within_the_bounds_is_not_told(fleet: Fleet, happens: Callable[[Fleet], None]) -> None:
    """However long it lasts."""
    assert fleet.watch(happens, 60) is None


@pytest.mark.parametrize("bad", [busy(share_failed=1.0), busy(mismatched=20), busy(slow=2.0, calls=100)])
def test_one_bad_moment_is_no_breach(fleet: Fleet, bad: Callable[[Fleet], None]) -> None:
    """Although it stays in the window, beyond every bound, for ten seconds."""
    assert fleet.watch(busy(), 20) is None
    bad(fleet)
    assert fleet.look() is None

    assert fleet.watch(busy(calls=10), 20) is None


def test_two_bad_moments_with_silence_between_them_are_a_breach(fleet: Fleet) -> None:
    """A look that sees nothing new is not a good one: processes publish when they come to it."""
    happens = busy(share_failed=1.0)
    happens(fleet)
    assert fleet.look() is None
    assert fleet.look() is None
    happens(fleet)

    breach = fleet.look()

    assert breach is not None
    assert 2.0 == fleet.now - breach.since


def test_a_key_that_mismatches_again_and_again_needs_as_many_comparisons_as_any_share(fleet: Fleet) -> None:
    """One key alone is not taken seriously before `least` comparisons."""

    def second(fleet: Fleet) -> None:
        fleet.compare(1, 1, keys=0)

    fleet.compare(0, 1)
    found = fleet.watch(second, 20)

    assert found is not None
    assert found[0] in (10, 11)


def test_a_rare_kind_is_not_hidden_by_a_frequent_one(fleet: Fleet) -> None:
    """Each kind of operation is judged by itself."""

    def second(fleet: Fleet) -> None:
        fleet.compare(10_000)
        fleet.compare(0, 1, action="group_by")

    found = fleet.watch(second, 5)

    assert found is not None
    assert "reads by group_by mismatched" in found[1].reason


def test_an_action_that_fails_is_not_hidden_by_others(fleet: Fleet) -> None:
    """Each action is judged by itself, and all of them together."""

    def second(fleet: Fleet) -> None:
        fleet.call(NEW, 1_000)
        fleet.call(NEW, 10, failed=10, action="upsert")

    found = fleet.watch(second, 6)

    assert found is not None
    assert "calls of upsert to sqlalchemy failed (100.0%; at most 5.0%)" in found[1].reason


def test_a_slow_store_is_seen_although_no_action_is_called_often(fleet: Fleet) -> None:
    """All calls together are enough."""

    def second(fleet: Fleet) -> None:
        for action in ("find_unique", "find_many", "count", "create"):
            fleet.call(OLD, 20, seconds=0.002, action=action)
            fleet.call(NEW, 1, seconds=0.3, action=action)

    found = fleet.watch(second, 8)

    assert found is not None
    assert "of all calls is" in found[1].reason


def test_a_side_that_is_asked_for_other_things_is_not_a_slower_one(fleet: Fleet) -> None:
    """Both take as long for the same; the new side is asked for what takes long more often."""

    def second(fleet: Fleet) -> None:
        for side, slow in ((OLD, 1), (NEW, 200)):
            fleet.call(side, 200, seconds=0.001)
            fleet.call(side, slow, seconds=0.2, action="group_by")

    assert fleet.watch(second, 30) is None


def test_failures_of_the_old_side_are_not_the_guards_business(fleet: Fleet) -> None:
    """Walking back would not help."""

    def second(fleet: Fleet) -> None:
        fleet.call(OLD, 50, failed=50, seconds=5.0)
        fleet.call(NEW, 50)

    assert fleet.watch(second, 20) is None


def test_a_lag_is_a_breach_at_the_second_look(fleet: Fleet) -> None:
    """It is no matter of a window; a look that does not know it changes nothing."""
    fleet.lag = 61.0
    assert fleet.look() is None
    fleet.lag = None
    assert fleet.look() is None
    fleet.lag = 62.0

    breach = fleet.look()

    assert breach is not None
    assert (Signal.LAG, "the oldest captured key has waited 62 s (at most 60 s)") == (
        breach.signal,
        breach.reason,
    )


def test_a_lag_that_goes_by_is_none(fleet: Fleet) -> None:
    """Two looks in succession."""
    for lag in (61.0, 0.5, 61.0, 0.5):
        fleet.lag = lag
        assert fleet.look() is None


def test_at_another_stage_the_window_is_empty(fleet: Fleet) -> None:
    """What was seen before counts no more, and what is seen from there on counts from the first call."""
    happens = busy(share_failed=1.0)
    happens(fleet)
    assert fleet.look() is None
    fleet.arrive()
    assert fleet.look() is None
    happens(fleet)
    assert fleet.look() is None
    happens(fleet)

    assert fleet.look() is not None


def test_a_judge_that_comes_new_does_not_judge_what_was_before_it(fleet: Fleet) -> None:
    """The sums of a whole stay at a stage are not a window."""
    fleet.call(NEW, 1_000, failed=1_000)
    fleet.compare(0, 500)
    fleet.judge = Judge()

    assert fleet.look() is None
    assert fleet.watch(busy(), 20) is None


def test_it_forgets_what_has_left_the_window(fleet: Fleet) -> None:
    """Two failures that lie further apart than the window are never seen together."""
    fleet.bounds = GuardThresholds(least=10)
    for _ in range(5):
        fleet.call(NEW, 6, failed=6)
        assert fleet.look() is None
        for _ in range(12):
            assert fleet.look() is None


@pytest.mark.parametrize(
    ("bounds", "happens"),
    [
        ({"errors": 0.2}, busy(share_failed=0.1)),
        ({"mismatches": 0.2}, busy(mismatched=4)),
        ({"latency": 500.0}, busy(slow=0.2)),
        ({"least": 1_000.0}, busy(share_failed=1.0)),
    ],
)
def test_every_bound_can_be_set(
    fleet: Fleet, bounds: Mapping[str, float], happens: Callable[[Fleet], None]
) -> None:
    """A team may put up with more."""
    fleet.bounds = GuardThresholds.of(bounds)

    assert fleet.watch(happens, 20) is None


def test_sums_that_shrink_are_nothing_new(fleet: Fleet) -> None:
    """Whoever tidies up the books does not trip the guard."""
    assert fleet.watch(busy(), 3) is None
    fleet.timings.clear()
    fleet.failures.clear()
    fleet.verdicts.clear()
    fleet.keys.clear()

    assert fleet.look() is None
    assert fleet.watch(busy(), 20) is None


def test_models_are_judged_each_by_itself() -> None:
    """One breach for each that has one."""
    judge = Judge()
    found: Sequence[Breach] = []
    for second in range(4):
        timings = [
            Timing(
                model,
                "find_many",
                NEW,
                Role.SHADOW,
                30 * second,
                failed * second,
                (30 * second, *[0] * len(BOUNDS)),
            )
            for model, failed in (("Author", 0), ("Book", 30), ("Tag", 3))
        ]
        entered = dict.fromkeys(("Author", "Book", "Tag"), 1)
        found = judge.look(float(second), Seen(timings), entered, lambda _: GuardThresholds())

    assert ["Book", "Tag"] == [breach.model for breach in found]
