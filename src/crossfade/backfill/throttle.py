"""When the next chunk may be copied: a `Pace` that keeps a backfill from hurting those who work with the stores.

Before each chunk a worker waits, for three reasons at most, which are looked at in this order:

* lag: the reconciler is behind: a captured key is older than `max_lag`. It waits until that is over.
* latency: what live traffic feels has become slow: the 95th percentile of the last measurements of some kind is more
  than `max_latency` times what it was before the first chunk. The speed is halved each time, and comes back by a tenth
  of the full one at a time when measurements are fine. At half the speed a worker rests for as long as its last chunk
  took, and so on. It never falls under `LEAST_SPEED`: a slow backfill ends, one that stands still because something
  else makes the stores slow does not.
* rate: more than `max_rate` rows a second would be copied. Workers of one process share the rate.

(A backfill that is paused waits by itself.) Waits go by what was really copied, not by what was asked for: so the
throttle is an `Observer` too, and must hear the facts of the backfill that it holds back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

from crossfade.errors import StoreUnavailableError
from crossfade.events import BackfillThrottled, ChunkCopied, Event, Observer

T = TypeVar("T")

LEAST_SPEED = 1 / 16
LONGEST_REST = 15.0
"""Seconds that a worker rests at most, however long its last chunk took."""

FLOOR = 0.005
"""Seconds that anything may take, whatever was usual before."""

_RECOVERY = 0.1
_SLICE = 1.0
"""Waits are reported, and looked at again, after so many seconds."""
_LOOK_SECONDS = 0.5
_MOMENT = 1e-6


class Felt(NamedTuple):
    """How long one kind of measurement took before, and takes of late (95th percentiles, in seconds)."""

    what: str
    usual: float
    late: float


class Gauge(Protocol):
    """Measures what live traffic feels."""

    def felt(self) -> Sequence[Felt]:
        """What has been measured of late, of every kind of which there is enough to tell."""

    def forget(self) -> None:
        """Begin anew with what counts as late."""


class Throttle:
    """The pace of one process's workers; each of them is a task.

    Args:
        observer: hears of every wait.
        max_rate: rows a second, of all workers together; None: any.
        max_lag: seconds that a captured key may be old.
        lag: asks how old the oldest is; without it nobody looks.
        max_latency: how many times the usual latency is too much.
        gauge: measures it; without it nobody looks.
        clock: seconds that never go back.
        sleep: waits.
    """

    def __init__(
        self,
        observer: Observer,
        *,
        max_rate: float | None = None,
        max_lag: float = 5.0,
        lag: Callable[[], Awaitable[float]] | None = None,
        max_latency: float = 3.0,
        gauge: Gauge | None = None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._observer = observer
        self._max_rate = max_rate
        self._max_lag = max_lag
        self._max_latency = max_latency
        self._gauge = gauge
        self._clock = clock
        self._sleep = sleep
        self._lag = None if lag is None else _Asked(lag, harmless=0.0, clock=clock)
        self._free_at = clock()
        self._worked: WeakKeyDictionary[asyncio.Task[Any], float] = WeakKeyDictionary()
        self._adjusted_at = clock()
        self._reasons: dict[str, tuple[int, str]] = {}
        self._slow = ""
        self.speed = 1.0

    @property
    def why(self) -> str:
        """Why workers wait or have been slowed down, in words; empty if they have not."""
        texts = [text for waiting, text in self._reasons.values() if waiting]
        if self.speed < 1 and self._slow not in texts:
            texts.append(self._slow)
        return "; ".join(texts)

    def observe(self, event: Event) -> None:
        """Take note of what the worker that says so has copied."""
        if not isinstance(event, ChunkCopied):
            return
        if self._max_rate is not None:
            # Time that was not used before the chunk began is not saved for later.
            begun = max(self._free_at, self._clock() - event.seconds)
            self._free_at = begun + event.rows_read / self._max_rate
        task = asyncio.current_task()
        if task is not None:
            self._worked[task] = self._worked.get(task, 0.0) + event.seconds

    async def before(self, rows: int) -> None:  # noqa: ARG002 - what counts is what becomes of them
        """Wait until the next chunk may be copied."""
        while self._lag is not None and (oldest := await self._lag.answer()) > self._max_lag:
            await self._wait(
                "lag", _LOOK_SECONDS, f"captured keys have waited for {oldest:.0f} s to be reconciled"
            )
        task = asyncio.current_task()
        if self._gauge is not None and task is not None:
            self._adjust(self._gauge)
            rest = self._worked.pop(task, 0.0) * (1 / self.speed - 1)
            await self._wait("latency", min(rest, LONGEST_REST), self._slow)
        while self._max_rate is not None and (left := self._free_at - self._clock()) > _MOMENT:
            await self._wait("rate", min(left, _SLICE), f"held to {self._max_rate:,.0f} rows/s")

    def _adjust(self, gauge: Gauge) -> None:
        felt = gauge.felt()
        now = self._clock()
        slow = [one for one in felt if one.late > max(FLOOR, one.usual * self._max_latency)]
        if slow:
            worst = max(slow, key=lambda one: one.late / max(one.usual, FLOOR))
            self.speed = max(LEAST_SPEED, self.speed / 2)
            self._slow = (
                f"slowed to {self.speed:.0%}: {worst.what} takes {worst.late * 1000:.0f} ms,"
                f" usually {worst.usual * 1000:.1f} ms"
            )
            # What was measured at the old speed must not slow it down a second time.
            gauge.forget()
            self._adjusted_at = now
        elif felt and self.speed < 1 and now - self._adjusted_at >= _SLICE:
            self.speed = min(1.0, round(self.speed + _RECOVERY, 6))
            self._slow = f"recovering, at {self.speed:.0%}"
            self._adjusted_at = now

    async def _wait(self, reason: str, seconds: float, text: str) -> None:
        until = self._clock() + seconds
        waiting, _ = self._reasons.get(reason, (0, ""))
        self._reasons[reason] = (waiting + 1, text)
        try:
            while (left := until - self._clock()) > _MOMENT:
                began = self._clock()
                await self._sleep(min(left, _SLICE))
                self._observer.observe(BackfillThrottled(reason, self._clock() - began))
        finally:
            self._reasons[reason] = (self._reasons[reason][0] - 1, self._reasons[reason][1])


class _Asked(Generic[T]):
    """A question to the stores that many workers have: one of them asks, and the answer holds for a moment."""

    def __init__(
        self, question: Callable[[], Awaitable[T]], *, harmless: T, clock: Callable[[], float]
    ) -> None:
        self._question = question
        self._harmless = harmless
        self._clock = clock
        self._answer = harmless
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def answer(self) -> T:
        """The answer; where a store does not answer, the one that holds nobody up: the chunk meets the same."""
        async with self._asking:
            if self._clock() - self._asked_at >= _LOOK_SECONDS:
                try:
                    self._answer = await self._question()
                except StoreUnavailableError:
                    self._answer = self._harmless
                self._asked_at = self._clock()
            return self._answer
