"""Facts, in the past tense, and the `Observer` that hears them.

The repository reports everything that happened as one of these values, to one observer. It does not know that
metrics or logs exist. Facts carry names, counts and durations, never a row's values.
"""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from crossfade.operation import Action
from crossfade.stages import Side, Stage


class Role(StrEnum):
    """In what part a side was asked."""

    AUTHORITY = "authority"
    FOLLOWER = "follower"
    SHADOW = "shadow"


class Verdict(StrEnum):
    """What a comparison came to."""

    MATCHED = "matched"
    IN_FLIGHT = "in_flight"
    MISMATCHED = "mismatched"
    IGNORED = "ignored"
    ERROR = "error"
    SKIPPED = "skipped"


class DifferenceKind(StrEnum):
    """How two values differ."""

    MISSING = "missing"
    """The side under test lacks a row, or an element of a list."""
    EXTRA = "extra"
    """The side under test has a row or an element that the other lacks."""
    NULL = "null"
    """One of the two is null."""
    TYPE = "type"
    VALUE = "value"
    ORDER = "order"
    """The same rows in another order than the one asked for."""
    COUNT = "count"


class Difference(NamedTuple):
    """One difference: where (`email`, `items[].price`, or `` for the whole row) and how. Never the values."""

    field: str
    kind: DifferenceKind


class OperationFinished(NamedTuple):
    """A side has executed an operation, or failed to. `error` is the class name of what it raised."""

    model: str
    action: Action
    side: Side
    role: Role
    seconds: float
    error: str | None


class ReadCompared(NamedTuple):
    """A shadow read has been judged.

    `subject` is the digest of what was compared: see `keys.subject`.
    """

    model: str
    action: Action
    verdict: Verdict
    differences: tuple[Difference, ...]
    subject: int = 0


class WriteCompared(NamedTuple):
    """What the follower wrote has been judged against what the authority wrote.

    `subject` is the digest of what was compared: see `keys.subject`.
    """

    model: str
    action: Action
    verdict: Verdict
    differences: tuple[Difference, ...]
    subject: int = 0


class FollowDropped(NamedTuple):
    """A follower write was not executed; its keys are kept for the reconciler. `reason` is of a closed set."""

    model: str
    action: Action
    reason: str


class ShadowDropped(NamedTuple):
    """A shadow read was not executed. `reason` is of a closed set."""

    model: str
    action: Action
    reason: str


class RowReconciled(NamedTuple):
    """Touched keys were verified: `equal`, `copied`, `deleted`, or `failed`; `rows` of them with the same outcome."""

    model: str
    outcome: str
    rows: int = 1


class ConflictSettled(NamedTuple):
    """A lost race between two authorities was recorded and settled; kind and policy are of closed sets.

    `child-of-deleted-parent` is settled by `cascade`, `restricted-parent` by `parent-returns` or, where its unique
    values were taken meanwhile, by `parent-returns-renamed`. `model` is the one whose row was deleted or returned.
    """

    model: str
    kind: str
    policy: str


class ChunkCopied(NamedTuple):
    """A backfill has copied a piece of a model's table: rows read, rows that were not there yet, rows left over.

    Rows that are left over could not be inserted as they were; their keys are given to the reconciler.
    """

    model: str
    rows_read: int
    rows_written: int
    left_over: int
    seconds: float


class ChunkFailed(NamedTuple):
    """A piece of a model's table could not be copied; `problem`: SQLSTATE and constraint."""

    model: str
    problem: str


class BackfillThrottled(NamedTuple):
    """A backfill has waited for `seconds`; `reason` is of a closed set: lag, latency, rate or paused."""

    reason: str
    seconds: float


class ChunkVerified(NamedTuple):
    """A piece of a model's table has been compared in both stores."""

    model: str
    rows: int
    seconds: float


class RowsDiffered(NamedTuple):
    """Verify has found rows that differ and do not settle; `kind` is missing, extra or different."""

    model: str
    kind: str
    rows: int


class BreakerMoved(NamedTuple):
    """The circuit breaker in front of a side has opened, half-opened or closed."""

    side: Side
    state: str


class SideUnavailable(NamedTuple):
    """A side that no caller depends on did not answer at the start; it is tried again. `error` is a class name."""

    side: Side
    error: str


class StageMoved(NamedTuple):
    """A model stands at another stage. `pause` is how long its writers waited, in seconds."""

    model: str
    before: Stage
    after: Stage
    pause: float
    by: str
    reason: str


class AuthorityMissed(NamedTuple):
    """A write reached a side that had lost the authority, was refused, and waits for the record that says where to."""

    model: str


class StaleRead(NamedTuple):
    """A read of several models was answered by a side to which some of them may not have been carried over yet."""

    model: str
    action: Action


class CaptureLagged(NamedTuple):
    """How much is captured and not verified yet: how many keys of a model, and how old the oldest is, in seconds."""

    model: str
    keys: int
    oldest: float


class StageRequested(NamedTuple):
    """A flag asks for a stage."""

    model: str
    stage: Stage
    by: str


class StageHeld(NamedTuple):
    """A model was asked to move and stays where it is."""

    model: str
    stage: Stage
    wanted: Stage
    reason: str


class GateRead(NamedTuple):
    """The leader has read a gate of a model's next step; `figure` is its number, where it has one."""

    model: str
    gate: str
    holds: bool
    figure: float | None


class GuardTripped(NamedTuple):
    """What is watched after a move has gone beyond its bound: the model is walked back and stays until resumed.

    `signal` is of a closed set: mismatches, errors, latency or lag. `seconds` have gone by since the first sign.
    """

    model: str
    stage: Stage
    signal: str
    reason: str
    seconds: float


class ModelResumed(NamedTuple):
    """A person has let a model that was walked back go forward again."""

    model: str
    by: str
    reason: str


class CanaryFellBack(NamedTuple):
    """The next side failed to answer a read in its share, so the authority did; `error` is a class name."""

    model: str
    action: Action
    error: str


class ModelsSpanned(NamedTuple):
    """One operation, or one transaction, touches several models: it reads them, or (`is_write`) writes to them."""

    models: tuple[str, ...]
    is_write: bool


class FlagServiceMoved(NamedTuple):
    """The flag service has stopped answering, or answers again. `problem` is empty then."""

    source: str
    problem: str


class FlagRejected(NamedTuple):
    """A flag source could not be used; the last good value stays in force."""

    source: str
    problem: str


class ObserverFailed(NamedTuple):
    """A callback of the user's raised; `callback` names it, `error` is the exception's class."""

    callback: str
    error: str


Event: TypeAlias = (
    OperationFinished
    | ReadCompared
    | WriteCompared
    | FollowDropped
    | ShadowDropped
    | RowReconciled
    | ConflictSettled
    | ChunkCopied
    | ChunkFailed
    | BackfillThrottled
    | ChunkVerified
    | RowsDiffered
    | BreakerMoved
    | SideUnavailable
    | StageMoved
    | AuthorityMissed
    | StaleRead
    | CaptureLagged
    | StageRequested
    | StageHeld
    | GateRead
    | GuardTripped
    | ModelResumed
    | CanaryFellBack
    | ModelsSpanned
    | FlagServiceMoved
    | FlagRejected
    | ObserverFailed
)


class Observer(Protocol):
    """Hears every fact. Called on the event loop: it must be quick and must not block."""

    def observe(self, event: Event) -> None:
        """Take note of `event`."""


class NullObserver:
    """Hears everything and does nothing."""

    def observe(self, event: Event) -> None:
        """Do nothing."""


class Observers:
    """Passes each fact on to several observers; one that raises does not keep it from the others."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def observe(self, event: Event) -> None:
        """Tell every observer; the others hear `ObserverFailed` of one that raises."""
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception as error:  # noqa: BLE001  # an observer is the user's code, and its bugs end here
                self._report(observer, error)

    def _report(self, failed: Observer, error: Exception) -> None:
        fact = ObserverFailed(type(failed).__name__, type(error).__name__)
        for observer in self._observers:
            if observer is not failed:
                with suppress(Exception):
                    observer.observe(fact)
