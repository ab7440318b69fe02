"""Keeps count, model by model, of everything that is observed while the demo runs."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple

from crossfade.events import (
    AuthorityMissed,
    BreakerMoved,
    CaptureLagged,
    ConflictSettled,
    Difference,
    DifferenceKind,
    Event,
    FlagRejected,
    FollowDropped,
    GuardTripped,
    OperationFinished,
    ReadCompared,
    Role,
    RowReconciled,
    ShadowDropped,
    StageHeld,
    StageMoved,
    StageRequested,
    StaleRead,
    Verdict,
    WriteCompared,
)
from crossfade.stages import PLANS, Side, Stage, Topology

WINDOW = 5.0
"""Seconds: what the board's rates and latencies look back on."""

_KEPT = 20_000
_WHOLE = {
    DifferenceKind.MISSING: "row missing",
    DifferenceKind.EXTRA: "row too many",
    DifferenceKind.ORDER: "order of rows",
    DifferenceKind.COUNT: "count",
}
_JUDGED = (Verdict.MATCHED, Verdict.IN_FLIGHT, Verdict.MISMATCHED)
_PLANS = PLANS[Topology.SEPARATE]


class Percentiles(NamedTuple):
    """Latency in seconds."""

    p50: float
    p99: float


class Move(NamedTuple):
    """One stage move, `at` seconds after the start. Writers waited `pause` seconds."""

    at: float
    before: Stage
    after: Stage
    pause: float


@dataclass(slots=True)
class ModelTally:
    """What has happened to one model."""

    stage: Stage = Stage.OFF
    requested: Stage = Stage.OFF
    operations: int = 0
    errors: Counter[tuple[Side, Role, str]] = field(default_factory=Counter)
    reads: Counter[Verdict] = field(default_factory=Counter)
    writes: Counter[Verdict] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    """Mismatches by field, or by what is wrong with the rows as a whole."""
    compared_at: Counter[Stage] = field(default_factory=Counter)
    followed_from: Counter[Side] = field(default_factory=Counter)
    reconciled: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    misses: int = 0
    """Writes that a store refused for want of authority, and that the other one took."""
    stale_reads: int = 0
    lagging: int = 0
    """Captured keys that were not verified yet when that was looked at last."""
    held: str | None = None
    """Why it cannot move on, if so."""
    visible_at: Stage | None = None
    """Where it stood when the first mismatch was confirmed."""
    moves: list[Move] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    times: dict[Side, deque[tuple[float, float]]] = field(
        default_factory=lambda: {side: deque(maxlen=_KEPT) for side in Side}
    )

    @property
    def compared(self) -> int:
        """How many reads were judged on both sides."""
        return sum(self.reads[verdict] for verdict in _JUDGED)

    @property
    def followed(self) -> int:
        """How many writes reached the follower and were judged."""
        return sum(self.writes[verdict] for verdict in _JUDGED)

    @property
    def mismatched(self) -> int:
        """How many reads and followed writes were confirmed to differ."""
        return self.reads[Verdict.MISMATCHED] + self.writes[Verdict.MISMATCHED]

    @property
    def verified(self) -> int:
        """How many captured keys were verified."""
        return self.reconciled.total()

    @property
    def repaired(self) -> int:
        """How many rows of the follower were made equal."""
        return self.reconciled["copied"] + self.reconciled["deleted"]

    @property
    def longest_pause(self) -> float:
        """The longest time that writers waited for a move, in seconds."""
        return max((move.pause for move in self.moves), default=0.0)

    def rate(self, now: float) -> float:
        """Calls per second of the last few seconds."""
        while self.recent and self.recent[0] < now - WINDOW:
            self.recent.popleft()
        return len(self.recent) / WINDOW

    def percentiles(self, side: Side, since: float = 0.0) -> Percentiles | None:
        """How long `side` took over what it was asked since then; None if it was asked nothing."""
        return percentiles(seconds for at, seconds in self.times[side] if at >= since)


def percentiles(times: Iterable[float]) -> Percentiles | None:
    """The median and the 99th percentile; None of nothing."""
    ordered = sorted(times)
    if not ordered:
        return None
    last = len(ordered) - 1
    return Percentiles(ordered[round(last * 0.5)], ordered[round(last * 0.99)])


class Tally:
    """An observer that counts. `notes` are the latest things a spectator may want to know."""

    def __init__(self, models: Iterable[str], clock: Callable[[], float] = monotonic) -> None:
        self.models: Mapping[str, ModelTally] = {name: ModelTally() for name in models}
        self.notes: deque[tuple[float, str]] = deque(maxlen=200)
        self._clock = clock
        self._began = clock()
        self.began_at = datetime.now(UTC)
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def restart_clock(self) -> None:
        """Count the time from now on."""
        self._began = self._clock()
        self.began_at = datetime.now(UTC)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def place(self, model: str, stage: Stage) -> None:
        """Note where the record places a model."""
        tally = self.models[model]
        if tally.stage is not stage:
            tally.stage = stage
            tally.held = None
        self._wake()

    def note(self, text: str) -> None:
        """Say something to the spectator."""
        self.notes.append((self.elapsed, text))
        self._wake()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`; it is asked again after every event and note."""
        if not holds():
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((holds, reached))
            await reached

    def observe(self, event: Event) -> None:
        """Count `event`."""
        if type(event) is OperationFinished:
            self._finished(event)
            return
        self._count(event)
        self._wake()

    def _wake(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for holds, reached in waiting:
            if reached.done():
                continue
            if holds():
                reached.set_result(None)
            else:
                self._waiting.append((holds, reached))

    def _count(self, event: Event) -> None:  # noqa: PLR0912 - one branch for each fact
        match event:
            case ReadCompared(name, action, verdict, differences):
                model = self.models[name]
                model.reads[verdict] += 1
                model.compared_at[model.stage] += verdict in _JUDGED
                self._mismatched(name, verdict, f"{action} of", differences)
            case WriteCompared(name, action, verdict, differences):
                model = self.models[name]
                model.writes[verdict] += 1
                model.followed_from[_PLANS[model.stage].authority] += verdict in _JUDGED
                self._mismatched(name, verdict, f"{action} of", differences)
            case RowReconciled(name, outcome, rows):
                self.models[name].reconciled[outcome] += rows
            case CaptureLagged(name, keys):
                self.models[name].lagging = keys
            case ConflictSettled(name, kind, policy):
                self.note(f"conflict: {kind} of {name}, settled by {policy}")
            case AuthorityMissed(name):
                self.models[name].misses += 1
            case StaleRead(name):
                self.models[name].stale_reads += 1
            case FollowDropped(name, _, reason) | ShadowDropped(name, _, reason):
                self.models[name].drops[reason] += 1
            case StageRequested(name, stage):
                self.models[name].requested = stage
                self.models[name].held = None
            case StageMoved(name, before, after, pause):
                self.models[name].moves.append(Move(self.elapsed, before, after, pause))
                waited = f" (writers waited {pause * 1000:.0f} ms)" if pause else ""
                self.note(f"{name}: {before} → {after}{waited}")
            case StageHeld(name, stage, wanted, reason):
                self.models[name].held = reason
                self.note(f"{name} stays at {stage}, not {wanted}: {reason}")
            case GuardTripped(name, stage, _, reason):
                self.note(f"the guard walks {name} back from {stage}: {reason}")
            case BreakerMoved(side, state):
                self.note(f"the breaker in front of {side} is {state}")
            case FlagRejected(source, problem):
                self.note(f"{source}: {problem}")
            case _:
                pass

    def _finished(self, event: OperationFinished) -> None:
        model = self.models[event.model]
        now = self._clock()
        if event.role is Role.AUTHORITY:
            model.operations += 1
            model.recent.append(now)
        model.times[event.side].append((now, event.seconds))
        if event.error is not None:
            model.errors[event.side, event.role, event.error] += 1

    def _mismatched(self, name: str, verdict: Verdict, what: str, differences: Sequence[Difference]) -> None:
        if verdict is not Verdict.MISMATCHED:
            return
        self.models[name].visible_at = self.models[name].visible_at or self.models[name].stage
        places = [field.removeprefix("[].") or _WHOLE.get(kind, "row") for field, kind in differences]
        self.models[name].differences.update(places)
        self.note(f"mismatch: {what} {name}, {', '.join(places)}")
