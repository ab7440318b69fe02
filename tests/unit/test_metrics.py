"""Facts as Prometheus metrics."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from crossfade.errors import ConfigurationError
from crossfade.events import (
    BreakerMoved,
    Difference,
    DifferenceKind,
    Event,
    FlagRejected,
    FollowDropped,
    ObserverFailed,
    OperationFinished,
    ReadCompared,
    Role,
    RowReconciled,
    ShadowDropped,
    SideUnavailable,
    StageHeld,
    StageMoved,
    StageRequested,
    Verdict,
    WriteCompared,
)
from crossfade.metrics import PrometheusObserver, scrape, serve
from crossfade.operation import Action
from crossfade.stages import Side, Stage

MODELS = {"User": ("id", "email", "orders")}
FINISHED = OperationFinished("User", Action.CREATE, Side.PRISMA, Role.AUTHORITY, 0.002, None)
OPERATION = {"model": "User", "action": "create", "side": "prisma", "role": "authority"}


@pytest.fixture
def observer() -> PrometheusObserver:
    return PrometheusObserver(MODELS, CollectorRegistry())


def sample(observer: PrometheusObserver, name: str, **labels: str) -> float | None:
    return observer.registry.get_sample_value(f"crossfade_{name}", labels)


def series(observer: PrometheusObserver) -> int:
    return sum(len(family.samples) for family in observer.registry.collect())


def of(model: str) -> list[Event]:
    """One fact of every kind that is about a model."""
    difference = (Difference("email", DifferenceKind.VALUE),)
    return [
        FINISHED._replace(model=model, error="UniqueViolationError"),
        ReadCompared(model, Action.COUNT, Verdict.MISMATCHED, difference),
        WriteCompared(model, Action.CREATE, Verdict.MISMATCHED, difference),
        FollowDropped(model, Action.CREATE, "full"),
        ShadowDropped(model, Action.COUNT, "full"),
        RowReconciled(model, "copied"),
        StageMoved(model, Stage.OFF, Stage.DUALWRITE, 0.1, "ann", "asked"),
        StageRequested(model, Stage.LIVE, "ann"),
        StageHeld(model, Stage.OFF, Stage.LIVE, "lag"),
    ]


def test_operations_are_timed(observer: PrometheusObserver) -> None:
    """Twice the same labels are one series; the time falls into its bucket."""
    observer.observe(FINISHED)
    observer.observe(FINISHED._replace(seconds=0.2))

    assert sample(observer, "operation_seconds_count", **OPERATION) == 2
    assert sample(observer, "operation_seconds_sum", **OPERATION) == pytest.approx(0.202)
    assert sample(observer, "operation_seconds_bucket", **OPERATION, le="0.0025") == 1
    assert sample(observer, "operation_errors_total", **OPERATION, error="other") is None


@pytest.mark.parametrize(
    ("error", "label"), [("UniqueViolationError", "UniqueViolationError"), ("ValueError", "other")]
)
def test_errors_are_counted_by_known_classes(observer: PrometheusObserver, error: str, label: str) -> None:
    """A class that crossfade does not raise itself is `other`."""
    observer.observe(FINISHED._replace(error=error))

    assert sample(observer, "operation_errors_total", **OPERATION, error=label) == 1
    assert sample(observer, "operation_seconds_count", **OPERATION) == 1


def test_comparisons_are_counted_by_verdict(observer: PrometheusObserver) -> None:
    """Reads and writes apart."""
    for verdict in (Verdict.MATCHED, Verdict.MATCHED, Verdict.IN_FLIGHT):
        observer.observe(ReadCompared("User", Action.COUNT, verdict, ()))
    observer.observe(WriteCompared("User", Action.CREATE, Verdict.MATCHED, ()))
    labels = {"model": "User", "action": "count", "kind": "read"}

    assert sample(observer, "comparisons_total", **labels, verdict="matched") == 2
    assert sample(observer, "comparisons_total", **labels, verdict="in_flight") == 1
    assert (
        sample(observer, "comparisons_total", model="User", action="create", kind="write", verdict="matched")
        == 1
    )


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("email", "email"),
        ("orders[].total", "orders"),
        ("orders.total", "orders"),
        ("[].email", "email"),
        ("", "row"),
        ("surname", "other"),
        ("4711[].email", "other"),
    ],
)
def test_differences_carry_fields_of_the_schema_only(
    observer: PrometheusObserver, path: str, label: str
) -> None:
    """A path becomes the model's own field; what the schema does not have becomes `other`."""
    difference = Difference(path, DifferenceKind.NULL)
    observer.observe(ReadCompared("User", Action.COUNT, Verdict.MISMATCHED, (difference,)))

    assert sample(observer, "differences_total", model="User", field=label, kind="null") == 1


def test_a_difference_in_flight_is_not_a_difference(observer: PrometheusObserver) -> None:
    """Only what is called mismatched counts."""
    difference = Difference("email", DifferenceKind.VALUE)
    observer.observe(ReadCompared("User", Action.COUNT, Verdict.IN_FLIGHT, (difference,)))

    assert sample(observer, "differences_total", model="User", field="email", kind="value") is None


def test_an_unknown_model_makes_no_series(observer: PrometheusObserver) -> None:
    """Whatever is reported about it."""
    before = series(observer)
    for event in of("Stranger"):
        observer.observe(event)
    observer.place("Stranger", Stage.LIVE)

    assert series(observer) == before


def test_every_fact_about_a_model_is_counted(observer: PrometheusObserver) -> None:
    """No kind of fact goes unnoticed."""
    for event in of("User"):
        before = series(observer)
        observer.observe(event)

        assert series(observer) > before, event


def test_a_move_sets_the_stage_and_counts_the_pause(observer: PrometheusObserver) -> None:
    """The gauge is the position, 0 to 5."""
    observer.place("User", Stage.SHADOW)
    observer.request("User", Stage.COMPLETE)
    observer.observe(StageMoved("User", Stage.SHADOW, Stage.LIVE, 0.03, "ann", "asked"))

    assert sample(observer, "stage_position", model="User") == 3
    assert sample(observer, "requested_stage_position", model="User") == 5
    assert sample(observer, "stage_pause_seconds_count", model="User") == 1
    assert sample(observer, "stage_moves_total", model="User", before="shadow", after="live") == 1


def test_the_breaker_is_in_one_state(observer: PrometheusObserver) -> None:
    """Exactly one of the three is 1."""
    for state in ("open", "half_open"):
        observer.observe(BreakerMoved(Side.PRISMA, state))

    states = ("closed", "half_open", "open")
    assert [sample(observer, "breaker_state", side="prisma", state=state) for state in states] == [0, 1, 0]


def test_failed_connects_are_counted_by_side(observer: PrometheusObserver) -> None:
    """Each attempt counts."""
    for _ in range(2):
        observer.observe(SideUnavailable(Side.SQLALCHEMY, "StoreUnavailableError"))

    assert sample(observer, "failed_connects_total", side="sqlalchemy") == 2


def test_flag_rejections_name_the_model_and_not_the_path(observer: PrometheusObserver) -> None:
    """A source that names no model is `other`."""
    for source in (
        "flags/User.yaml:4",
        "unleash.example.com/production/crossfade.User",
        "/srv/flags/Stranger.yaml",
        "flags",
    ):
        observer.observe(FlagRejected(source, "is empty"))

    assert sample(observer, "flag_rejections_total", model="User") == 2
    assert sample(observer, "flag_rejections_total", model="other") == 2


def test_words_from_outside_cannot_flood_a_label(observer: PrometheusObserver) -> None:
    """However many names arrive, there are few series."""
    for number in range(500):
        observer.observe(ObserverFailed(f"compare_{number}", "ValueError"))
    observer.observe(ObserverFailed("SELECT 'secret'", "ValueError"))
    labels = [
        one.labels["callback"]
        for family in observer.registry.collect()
        for one in family.samples
        if one.name == "crossfade_observer_failures_total"
    ]

    assert len(labels) < 50
    assert "other" in labels
    assert not any("secret" in label for label in labels)


def test_gauges_are_asked_at_every_scrape(observer: PrometheusObserver) -> None:
    """They follow what they watch."""
    waiting = [1, 2, 3]
    observer.watch_queue(Role.FOLLOWER, lambda: len(waiting))
    waiting.pop()

    assert sample(observer, "queue_length", role="follower") == 2


def test_metrics_are_served_and_read_back() -> None:
    """Over real HTTP, with the process's own figures, and without `_created` series."""
    observer = PrometheusObserver(MODELS)
    observer.observe(FINISHED)
    with serve(0, observer.registry) as address:
        readings = {reading.name: reading for reading in scrape(address)}

    assert readings["crossfade_operation_seconds_count"].labels == OPERATION
    assert "process_cpu_seconds_total" in readings
    assert not [name for name in readings if name.endswith("_created")]
    with pytest.raises(ConfigurationError, match="no metrics at"):
        list(scrape(address))


def test_a_taken_port_is_one_clear_line() -> None:
    """It names the address and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} .*choose another port"),
            serve(port, CollectorRegistry()),
        ):
            pass


@pytest.mark.parametrize("address", ["file:///etc/hostname", "localhost:1"])
def test_only_http_is_scraped(address: str) -> None:
    """A metrics address cannot read files."""
    with pytest.raises(ConfigurationError, match="starts with http://"):
        list(scrape(address))


def test_the_page_lists_every_metric_with_its_labels() -> None:
    """And no other: what the page says is what a scrape finds."""
    page = (Path(__file__).parents[2] / "grafana" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(crossfade_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    listed = {name: tuple(label for label in labels.strip().split(", ") if label) for name, labels in rows}
    observer = PrometheusObserver({"User": ["id"]}, CollectorRegistry())
    observer.watch_queue(Role.FOLLOWER, lambda: 0)
    labels = {
        metric._name + ("_total" if metric._type == "counter" else ""): metric._labelnames
        for metric in observer.registry._collector_to_names
        if isinstance(metric, MetricWrapperBase)
    }

    assert {name: tuple(names) for name, names in labels.items()} == listed
