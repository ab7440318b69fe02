"""Facts as Prometheus metrics: the only module that knows `prometheus_client`.

Labels come from closed sets: the models and fields of the schema, the enums of crossfade, the class names in
`crossfade.errors`. A model that the schema does not have never makes a series; any other word that is not known is
counted as `other`. Never a key, a value or a text from outside.

One `OperationFinished` costs about a microsecond: the children of the metrics are looked up once and kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, assert_never
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from crossfade import errors
from crossfade.errors import ConfigurationError
from crossfade.events import (
    AuthorityMissed,
    BackfillThrottled,
    BreakerMoved,
    CanaryFellBack,
    CaptureLagged,
    ChunkCopied,
    ChunkFailed,
    ChunkVerified,
    ConflictSettled,
    Event,
    FlagRejected,
    FlagServiceMoved,
    FollowDropped,
    GateRead,
    GuardTripped,
    ModelResumed,
    ModelsSpanned,
    ObserverFailed,
    OperationFinished,
    ReadCompared,
    Role,
    RowReconciled,
    RowsDiffered,
    ShadowDropped,
    SideUnavailable,
    StageHeld,
    StageMoved,
    StageRequested,
    StaleRead,
    Verdict,
    WriteCompared,
)
from crossfade.operation import Action
from crossfade.readiness import Readiness
from crossfade.schema import Schema
from crossfade.stages import Side, Stage, position

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BREAKER_STATES = ("closed", "half_open", "open")
_ERRORS = frozenset(
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
) | {"TimeoutError", "CancelledError"}
_OTHER = "other"
_ROW = "row"
"""The field label of a difference that concerns the whole row."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,39}")
_MOST_WORDS = 24


class PrometheusObserver:
    """Counts and times every fact.

    `models` gives the names of every model's fields, relations included. Without a `registry` the observer makes
    its own, which also carries the process's memory, CPU and garbage collection. Facts must all come from one thread.
    """

    def __init__(
        self, models: Mapping[str, Collection[str]], registry: CollectorRegistry | None = None
    ) -> None:
        if registry is None:
            registry = _Registry()
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
        self.registry = registry
        self._models = {model: frozenset(fields) for model, fields in models.items()}
        # Facts that concern no model have None for it.
        self._known = {None, *self._models}
        self._metrics = _Metrics(registry)
        self._times: dict[tuple[str, Action, Side, Role], Callable[[float], None]] = {}
        self._comparisons: dict[tuple[str, Action, str, Verdict], Callable[[], None]] = {}
        self._words: dict[str, set[str]] = {}

    @classmethod
    def for_schema(cls, schema: Schema, registry: CollectorRegistry | None = None) -> PrometheusObserver:
        """Make an observer for all models and fields of `schema`."""
        return cls({model.name: (*model.fields, *model.relations) for model in schema}, registry)

    def observe(self, event: Event) -> None:
        """Count `event`."""
        if type(event) is OperationFinished:
            # A NamedTuple's first four fields are the labels; slicing is cheaper than naming them.
            time = self._times.get(event[:4])
            if time is None:
                time = self._new_time(event)
            time(event.seconds)
            if event.error is not None:
                self._fail(event)
            return
        self._observe_rarer(event)

    def _observe_rarer(self, event: Event) -> None:  # noqa: PLR0912 - one branch for each fact
        if getattr(event, "model", None) not in self._known:
            return
        metrics = self._metrics
        match event:
            case ReadCompared():
                self._compare(event, "read")
            case WriteCompared():
                self._compare(event, "write")
            case FollowDropped(model, action, reason):
                metrics.follow_drops.labels(model, action, self._word("follow", reason)).inc()
            case ShadowDropped(model, action, reason):
                metrics.shadow_drops.labels(model, action, self._word("shadow", reason)).inc()
            case RowReconciled(model, outcome, rows):
                metrics.reconciled_rows.labels(model, self._word("outcome", outcome)).inc(rows)
            case ConflictSettled(model, kind, policy):
                metrics.conflicts.labels(
                    model, self._word("conflict", kind), self._word("policy", policy)
                ).inc()
            case ChunkCopied() | ChunkFailed() | BackfillThrottled() | ChunkVerified() | RowsDiffered():
                self._observe_progress(event)
            case AuthorityMissed(model):
                metrics.authority_misses.labels(model).inc()
            case StaleRead(model, action):
                metrics.stale_reads.labels(model, action).inc()
            case CaptureLagged(model, keys, oldest):
                metrics.captured_keys.labels(model).set(keys)
                metrics.capture_lag.labels(model).set(oldest)
            case BreakerMoved(side, state):
                for known in _BREAKER_STATES:
                    metrics.breaker_state.labels(side, known).set(known == state.replace("-", "_"))
            case SideUnavailable(side, _):
                metrics.failed_connects.labels(side).inc()
            case StageMoved(model, before, after, pause):
                metrics.stage_moves.labels(model, before, after).inc()
                metrics.stage_pause.labels(model).observe(pause)
                self.place(model, after)
            case StageRequested(model, stage):
                self.request(model, stage)
            case StageHeld(model, _, wanted):
                metrics.stage_holds.labels(model, wanted).inc()
            case (
                GateRead()
                | GuardTripped()
                | ModelResumed()
                | CanaryFellBack()
                | ModelsSpanned()
                | FlagServiceMoved()
            ):
                self._observe_conducting(event)
            case FlagRejected(source):
                metrics.flag_rejections.labels(self._model_in(source)).inc()
            case ObserverFailed(callback):
                metrics.observer_failures.labels(self._word("callback", callback)).inc()
            case OperationFinished():
                self.observe(event)
            case _:
                assert_never(event)

    def _observe_progress(
        self, event: ChunkCopied | ChunkFailed | BackfillThrottled | ChunkVerified | RowsDiffered
    ) -> None:
        metrics = self._metrics
        match event:
            case ChunkCopied(model, rows_read, rows_written, left_over, seconds):
                metrics.backfill_rows.labels(model, "read").inc(rows_read)
                metrics.backfill_rows.labels(model, "written").inc(rows_written)
                metrics.backfill_rows.labels(model, "left_over").inc(left_over)
                metrics.backfill_chunk.labels(model).observe(seconds)
            case ChunkFailed(model):
                metrics.backfill_failures.labels(model).inc()
            case BackfillThrottled(reason, seconds):
                metrics.backfill_throttled.labels(self._word("throttle", reason)).inc(seconds)
            case ChunkVerified(model, rows, seconds):
                metrics.verified_rows.labels(model).inc(rows)
                metrics.verify_chunk.labels(model).observe(seconds)
            case RowsDiffered(model, kind, rows):
                metrics.differing_rows.labels(model, self._word("difference", kind)).inc(rows)

    def _observe_conducting(
        self,
        event: GateRead | GuardTripped | ModelResumed | CanaryFellBack | ModelsSpanned | FlagServiceMoved,
    ) -> None:
        metrics = self._metrics
        match event:
            case GateRead(model, gate, holds, _):
                metrics.gate.labels(model, self._word("gate", gate)).set(holds)
            case GuardTripped(model, _, signal):
                metrics.guard_trips.labels(model, self._word("signal", signal)).inc()
                metrics.paused.labels(model).set(1)
            case ModelResumed(model):
                metrics.paused.labels(model).set(0)
            case CanaryFellBack(model, action):
                metrics.canary_fallbacks.labels(model, action).inc()
            case ModelsSpanned():
                pass  # it matters to whoever plans, and would make a series for each set of models
            case FlagServiceMoved(_, problem):
                metrics.flag_service_up.set(not problem)

    def place(self, model: str, stage: Stage) -> None:
        """Say at what stage a model stands, without a move: at start."""
        if model in self._models:
            self._metrics.stage_position.labels(model).set(position(stage))

    def request(self, model: str, stage: Stage) -> None:
        """Say what stage a model's flag asks for."""
        if model in self._models:
            self._metrics.requested_stage_position.labels(model).set(position(stage))

    def watch_queue(self, role: Role, length: Callable[[], float]) -> None:
        """Have every scrape ask `length` how many operations wait for `role`. Called on another thread."""
        self._metrics.queue_length.labels(role).set_function(length)

    def _new_time(self, event: OperationFinished) -> Callable[[float], None]:
        if event.model not in self._models:
            return _ignore
        time = self._metrics.operation_seconds.labels(*event[:4]).observe
        self._times[event[:4]] = time
        return time

    def _fail(self, event: OperationFinished) -> None:
        if event.model in self._models:
            error = event.error if event.error in _ERRORS else _OTHER
            self._metrics.operation_errors.labels(*event[:4], error).inc()

    def _compare(self, event: ReadCompared | WriteCompared, kind: str) -> None:
        key = (event.model, event.action, kind, event.verdict)
        count = self._comparisons.get(key)
        if count is None:
            count = self._comparisons[key] = self._metrics.comparisons.labels(*key).inc
        count()
        if event.verdict is Verdict.MISMATCHED:
            for field, how in event.differences:
                self._metrics.differences.labels(event.model, self._field(event.model, field), how).inc()

    def _field(self, model: str, path: str) -> str:
        if not path:
            return _ROW
        head = re.split(r"[.\[]", path.removeprefix("[]").lstrip("."), maxsplit=1)[0]
        return head if head in self._models[model] else _OTHER

    def _word(self, kind: str, word: str) -> str:
        # Reasons and callbacks are closed sets of other modules; the bound keeps a mistake there from making series.
        words = self._words.setdefault(kind, set())
        if word not in words:
            if len(words) >= _MOST_WORDS or not _WORD.fullmatch(word):
                return _OTHER
            words.add(word)
        return word

    def _model_in(self, source: str) -> str:
        name = source.rsplit("/", 1)[-1].removeprefix("crossfade.").split(".", 1)[0]
        return name if name in self._models else _OTHER


def _ignore(_: float) -> None:
    """Take note of nothing."""


class _Metrics:
    """Every metric there is, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"crossfade_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"crossfade_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"crossfade_{name}", text, labels, registry=registry, buckets=_SECONDS)

        operation = ("model", "action", "side", "role")
        self.operation_seconds = histogram(
            "operation_seconds", "How long a side took over an operation.", *operation
        )
        self.operation_errors = counter(
            "operation_errors_total", "Operations that raised.", *operation, "error"
        )
        self.comparisons = counter(
            "comparisons_total", "Comparisons of both sides.", "model", "action", "kind", "verdict"
        )
        self.differences = counter(
            "differences_total", "Differences in mismatched comparisons.", "model", "field", "kind"
        )
        dropped = ("model", "action", "reason")
        self.follow_drops = counter("follow_drops_total", "Follower writes that were not executed.", *dropped)
        self.shadow_drops = counter("shadow_drops_total", "Shadow reads that were not executed.", *dropped)
        self.queue_length = gauge(
            "queue_length", "Operations that wait for their turn off the caller's time.", "role"
        )
        self.failed_connects = counter(
            "failed_connects_total", "Attempts to connect a side that no caller depends on.", "side"
        )
        self.breaker_state = gauge(
            "breaker_state", "1 for the state the circuit breaker is in.", "side", "state"
        )
        self.stage_position = gauge("stage_position", "Stage in force: 0 off to 5 complete.", "model")
        self.requested_stage_position = gauge(
            "requested_stage_position", "Stage the flag asks for: 0 off to 5 complete.", "model"
        )
        self.stage_moves = counter("stage_moves_total", "Stage moves.", "model", "before", "after")
        self.stage_pause = histogram(
            "stage_pause_seconds", "How long writers waited for a stage move.", "model"
        )
        self.stage_holds = counter(
            "stage_holds_total", "Moves that were asked for and refused.", "model", "wanted"
        )
        self.reconciled_rows = counter("reconciled_rows_total", "Touched keys verified.", "model", "outcome")
        self.captured_keys = gauge("captured_keys", "Captured keys that are not verified yet.", "model")
        self.capture_lag = gauge("capture_lag_seconds", "Age of the oldest captured key.", "model")
        self.authority_misses = counter(
            "authority_misses_total", "Writes that a store refused and that were made again.", "model"
        )
        self.conflicts = counter(
            "conflicts_total",
            "Writes of two authorities that contradict each other.",
            "model",
            "kind",
            "policy",
        )
        self.backfill_rows = counter(
            "backfill_rows_total",
            "Rows that a backfill has read, written, or left to the reconciler.",
            "model",
            "outcome",
        )
        self.backfill_chunk = histogram("backfill_chunk_seconds", "How long a chunk took to copy.", "model")
        self.backfill_failures = counter(
            "backfill_failures_total", "Attempts to copy a chunk that failed.", "model"
        )
        self.backfill_throttled = counter(
            "backfill_throttled_seconds_total", "Time that a backfill has waited on purpose.", "reason"
        )
        self.verified_rows = counter("verified_rows_total", "Rows compared in both stores.", "model")
        self.verify_chunk = histogram("verify_chunk_seconds", "How long a chunk took to compare.", "model")
        self.differing_rows = counter(
            "differing_rows_total", "Rows that verify found to differ.", "model", "kind"
        )
        self.stale_reads = counter(
            "stale_reads_total", "Reads of several models while one of them was not level.", "model", "action"
        )
        self.gate = gauge(
            "gate", "1 where the gate of the model's next step holds, 0 where not.", "model", "gate"
        )
        self.guard_trips = counter(
            "guard_trips_total", "Times that the guard has walked a model back.", "model", "signal"
        )
        self.paused = gauge("paused", "1 while a model that was walked back waits to be resumed.", "model")
        self.canary_fallbacks = counter(
            "canary_fallbacks_total", "Canary reads that the authority has answered.", "model", "action"
        )
        self.flag_service_up = gauge("flag_service_up", "1 while the flag service answers.")
        self.flag_rejections = counter(
            "flag_rejections_total", "Flag sources that could not be used.", "model"
        )
        self.observer_failures = counter("observer_failures_total", "Callbacks that raised.", "callback")


class _Registry(CollectorRegistry):
    """A registry without the `_created` series, which would double the number of series for no dashboard's use."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


@contextmanager
def serve(
    port: int,
    registry: CollectorRegistry,
    addr: str = "127.0.0.1",
    ready: Callable[[], Readiness] | None = None,
) -> Iterator[str]:
    """Serve `registry` over HTTP, on a thread of its own, while the context is open. Gives the address.

    Port 0 takes a free one. With `ready`, `/ready` beside it says whether this process may be sent requests: 200 or
    503, and why not. It is asked on the server's thread, so that a process whose event loop is stuck is not ready.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    try:
        server, thread = start_http_server(port, addr, registry)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"cannot serve metrics on {addr}:{port} ({error}); choose another port"
        ) from None
    if ready is not None:
        server.set_app(_with_readiness(server.get_app(), ready))
    try:
        yield f"http://{addr}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _with_readiness(metrics: WSGIApplication | None, ready: Callable[[], Readiness]) -> WSGIApplication:
    assert metrics is not None

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment["PATH_INFO"] != "/ready":
            return metrics(environment, start)
        readiness = ready()
        status = "200 OK" if readiness.ready else "503 Service Unavailable"
        start(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [json.dumps({"ready": readiness.ready, "reasons": readiness.reasons}).encode()]

    return answer


class Reading(NamedTuple):
    """One sample from a process's endpoint."""

    name: str
    labels: Mapping[str, str]
    value: float


def scrape(url: str, *, timeout: float = 5.0) -> Iterator[Reading]:
    """Read what another process serves. Blocks.

    Raises:
        ConfigurationError: nothing answers there, or what answers is not Prometheus's text format.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"a metrics address starts with http://, unlike {url!r}")
    try:
        with urlopen(url, timeout=timeout) as answer:  # noqa: S310 - the scheme is checked above
            text = answer.read().decode("utf-8")
        families = list(text_string_to_metric_families(text))
    except URLError as error:
        raise ConfigurationError(f"no metrics at {url}: {error.reason}") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no metrics at {url}: {error}") from None
    for family in families:
        for sample in family.samples:
            yield Reading(sample.name, sample.labels, sample.value)
