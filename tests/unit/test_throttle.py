"""The pace of a backfill, on a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from crossfade.backfill.probe import Latencies
from crossfade.backfill.throttle import LEAST_SPEED, LONGEST_REST, Felt, Throttle
from crossfade.errors import StoreUnavailableError
from crossfade.events import BackfillThrottled, ChunkCopied
from crossfade.testing import RecordingObserver


class Clock:
    """Time that passes while somebody sleeps, for all sleepers at once."""

    def __init__(self) -> None:
        self.now = 100.0
        self.on_sleep: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.on_sleep()
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


class Dial:
    """Shows what a test has set."""

    def __init__(self, *felt: Felt) -> None:
        self.now = list(felt)
        self.forgotten = 0

    def felt(self) -> list[Felt]:
        return self.now

    def forget(self) -> None:
        self.forgotten += 1


def copied(rows: int, seconds: float = 0.0) -> ChunkCopied:
    return ChunkCopied("Item", rows, rows, 0, seconds)


async def copy(throttle: Throttle, clock: Clock, rows: int, seconds: float = 0.0) -> None:
    """Do as a worker does: look twice, copy a chunk, say so."""
    await throttle.before(rows)
    await throttle.before(rows)
    clock.now += seconds
    throttle.observe(copied(rows, seconds))


SLOW = Felt("a small write to the target store", 0.002, 0.05)
FINE = Felt("a small write to the target store", 0.002, 0.003)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


def waited(observer: RecordingObserver, reason: str) -> float:
    """The seconds reported for one reason."""
    found = [event.seconds for event in observer.of(BackfillThrottled) if event.reason == reason]
    return pytest.approx(sum(found))


async def test_nothing_to_wait_for(clock: Clock, observer: RecordingObserver) -> None:
    """Without bounds a chunk goes at once, and nothing is reported."""
    throttle = Throttle(observer, gauge=Dial(FINE), clock=clock, sleep=clock.sleep)

    await throttle.before(1_000_000)

    assert (100.0, [], "") == (clock.now, observer.events, throttle.why)


async def test_rate(clock: Clock, observer: RecordingObserver) -> None:
    """The first chunk goes at once; then rows come at the rate, whatever the size of the chunks."""
    throttle = Throttle(observer, max_rate=1_000, clock=clock, sleep=clock.sleep)

    for rows in (500, 2_000, 100, 100):
        await copy(throttle, clock, rows)

    assert pytest.approx(100 + 0.5 + 2 + 0.1) == clock.now
    assert waited(observer, "rate") == 2.6


async def test_the_time_that_a_chunk_takes_counts(clock: Clock, observer: RecordingObserver) -> None:
    """Whoever is not faster than the rate never waits."""
    throttle = Throttle(observer, max_rate=1_000, clock=clock, sleep=clock.sleep)

    for _ in range(5):
        await copy(throttle, clock, 1_000, 1.0)

    assert [] == observer.events


async def test_rate_is_shared(clock: Clock, observer: RecordingObserver) -> None:
    """What one worker has copied holds up the others."""
    throttle = Throttle(observer, max_rate=1_000, clock=clock, sleep=clock.sleep)
    for _ in range(4):
        throttle.observe(copied(1_000))

    await asyncio.gather(*(throttle.before(1_000) for _ in range(4)))

    assert pytest.approx(104) == clock.now


async def test_a_rate_that_was_not_used_is_not_saved(clock: Clock, observer: RecordingObserver) -> None:
    """A long pause does not allow a burst afterwards."""
    throttle = Throttle(observer, max_rate=1_000, clock=clock, sleep=clock.sleep)
    await copy(throttle, clock, 1_000)
    clock.now += 1_000

    await copy(throttle, clock, 1_000)
    await copy(throttle, clock, 1_000)

    assert pytest.approx(1_101) == clock.now


async def test_lag(clock: Clock, observer: RecordingObserver) -> None:
    """While captured keys are too old nothing is copied, and it says so; then it goes on."""
    ages = iter([7.0, 6.0, 5.0])
    said = []

    async def lag() -> float:
        return next(ages)

    throttle = Throttle(observer, lag=lag, max_lag=5.0, clock=clock, sleep=clock.sleep)
    clock.on_sleep = lambda: said.append(throttle.why)

    await throttle.before(1)

    assert [
        "captured keys have waited for 7 s to be reconciled",
        "captured keys have waited for 6 s to be reconciled",
    ] == said
    assert waited(observer, "lag") == clock.now - 100
    assert "" == throttle.why


async def test_many_workers_ask_once(clock: Clock, observer: RecordingObserver) -> None:
    """A question to the stores is not asked by every worker."""
    asked = 0

    async def lag() -> float:
        nonlocal asked
        asked += 1
        return 0.0

    throttle = Throttle(observer, lag=lag, clock=clock, sleep=clock.sleep)

    await asyncio.gather(*(throttle.before(1) for _ in range(8)))

    assert asked == 1


async def test_a_store_that_does_not_answer_holds_nobody_up(
    clock: Clock, observer: RecordingObserver
) -> None:
    """Whoever copies meets the same and says it."""

    async def lag() -> float:
        raise StoreUnavailableError("somewhere", "no answer")

    await Throttle(observer, lag=lag, clock=clock, sleep=clock.sleep).before(1)

    assert [] == observer.events


async def test_latency_halves_the_speed(clock: Clock, observer: RecordingObserver) -> None:
    """Each time that traffic is slow, a worker rests longer after its chunks; what was measured before counts once."""
    dial = Dial(FINE)
    throttle = Throttle(observer, gauge=dial, clock=clock, sleep=clock.sleep)

    rests = []
    for number in range(4):
        await copy(throttle, clock, 1, 2.0)
        dial.now = [SLOW, FINE] if number < 3 else []
        began = clock.now
        await throttle.before(1)
        rests.append(round(clock.now - began, 6))
        dial.now = []

    assert [2, 6, 14, 14] == rests
    assert 3 == dial.forgotten
    assert "slowed to 12%: a small write to the target store takes 50 ms, usually 2.0 ms" == throttle.why
    assert waited(observer, "latency") == 36


async def test_latency_never_stops_it(clock: Clock, observer: RecordingObserver) -> None:
    """However slow the stores are, and however long chunks take, the next one goes after a bounded time."""
    throttle = Throttle(observer, gauge=Dial(SLOW), clock=clock, sleep=clock.sleep)

    for _ in range(50):
        throttle.observe(copied(1, 60))
        began = clock.now
        await throttle.before(1)
        assert clock.now - began <= LONGEST_REST + 1e-6

    assert LEAST_SPEED == throttle.speed


async def test_only_who_has_worked_rests(clock: Clock, observer: RecordingObserver) -> None:
    """A worker that has copied nothing since it was asked last does not wait for those that have."""
    throttle = Throttle(observer, gauge=Dial(SLOW), clock=clock, sleep=clock.sleep)
    throttle.observe(copied(1, 2.0))

    await asyncio.create_task(throttle.before(1))

    assert [] == observer.events
    await throttle.before(1)
    assert waited(observer, "latency") == 6


async def test_latency_recovers_bit_by_bit(clock: Clock, observer: RecordingObserver) -> None:
    """When traffic is fine again, the speed comes back by a tenth at a time, up to the full one."""
    dial = Dial(SLOW)
    throttle = Throttle(observer, gauge=dial, clock=clock, sleep=clock.sleep)
    await throttle.before(1)
    dial.now = [FINE]

    speeds = []
    for _ in range(7):
        clock.now += 1
        await throttle.before(1)
        speeds.append(round(throttle.speed, 6))

    assert [0.6, 0.7, 0.8, 0.9, 1, 1, 1] == speeds
    assert "" == throttle.why


async def test_nothing_measured_changes_nothing(clock: Clock, observer: RecordingObserver) -> None:
    """Right after it was slowed down there is no measurement yet, and the speed stays."""
    dial = Dial(SLOW)
    throttle = Throttle(observer, gauge=dial, clock=clock, sleep=clock.sleep)
    await throttle.before(1)
    dial.now = []
    clock.now += 60

    await throttle.before(1)

    assert 0.5 == throttle.speed


async def test_what_is_fast_enough_for_anybody(clock: Clock, observer: RecordingObserver) -> None:
    """A few milliseconds are no reason, even if they are many times the usual."""
    throttle = Throttle(observer, gauge=Dial(Felt("a read", 0.0002, 0.0049)), clock=clock, sleep=clock.sleep)

    await throttle.before(1)

    assert 1 == throttle.speed


async def test_a_cancelled_wait_is_no_longer_said(clock: Clock, observer: RecordingObserver) -> None:
    """A worker that is stopped while it waits leaves no reason behind."""
    throttle = Throttle(observer, max_rate=1, clock=clock, sleep=asyncio.sleep)
    throttle.observe(copied(1_000))
    task = asyncio.create_task(throttle.before(1_000))
    await asyncio.sleep(0)
    assert "held to 1 rows/s" == throttle.why

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert "" == throttle.why


def measure(latencies: Latencies, clock: Clock, *durations: float) -> None:
    """Take measurements that last so long."""
    for duration in durations:
        latencies.begin()
        clock.now += duration
        latencies.end()


def test_percentiles(clock: Clock) -> None:
    """One slow measurement of many says nothing; two do."""
    latencies = Latencies("a read", clock)
    measure(latencies, clock, *[0.001] * 18, 0.25, 0.5)
    assert latencies.felt() is None
    latencies.settle()
    assert latencies.felt() is None

    measure(latencies, clock, *[0.125] * 4, 1.0)

    felt = latencies.felt()
    assert felt is not None
    assert ("a read", 0.25, 0.125) == (felt.what, pytest.approx(felt.usual), pytest.approx(felt.late))


def test_only_the_latest_count(clock: Clock) -> None:
    """What was slow a while ago is forgotten."""
    latencies = Latencies("a read", clock)
    measure(latencies, clock, 1.0)
    latencies.settle()
    measure(latencies, clock, *[1.0] * 10, *[0.5] * 20)

    felt = latencies.felt()
    assert felt is not None
    assert 0.5 == pytest.approx(felt.late)


def test_a_measurement_that_hangs_counts(clock: Clock) -> None:
    """A store that does not come back is slow before it has answered; one that failed has said nothing."""
    latencies = Latencies("a write", clock)
    measure(latencies, clock, 0.001)
    latencies.settle()
    latencies.begin()
    clock.now += 1
    assert latencies.felt() is None

    clock.now += 3
    felt = latencies.felt()
    assert felt is not None
    assert 4 == pytest.approx(felt.late)

    latencies.end(counts=False)
    assert latencies.felt() is None
