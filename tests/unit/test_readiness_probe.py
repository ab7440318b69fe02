"""Whether a process may be sent requests, by what it knows."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry

from crossfade.metrics import serve
from crossfade.readiness import NOT_OPEN, Readiness, judge
from crossfade.stages import Stage

RECORDED = {"Author": Stage.SHADOW}


@pytest.mark.parametrize(
    ("age", "recorded", "placed", "reasons"),
    [
        (0.1, RECORDED, {"Author": Stage.SHADOW, "Book": Stage.OFF}, []),
        (5.1, RECORDED, {"Author": Stage.SHADOW}, ["read last 5.1 s ago"]),
        (float("inf"), {}, {"Author": Stage.OFF}, ["no record has been read"]),
        (0.1, RECORDED, {"Author": Stage.LIVE}, ["Author is at shadow by the record"]),
        (9.0, RECORDED, {"Author": Stage.OFF, "Book": Stage.LIVE}, ["9.0 s ago", "Author", "Book is at off"]),
    ],
)
def test_a_process_is_ready_when_it_acts_by_the_record_as_it_is_now(
    age: float, recorded: dict[str, Stage], placed: dict[str, Stage], reasons: list[str]
) -> None:
    """Every reason against it is told."""
    readiness = judge(age=age, lease=5.0, recorded=recorded, placed=placed)

    assert (not reasons) == readiness.ready
    assert len(reasons) == len(readiness.reasons)
    for part, reason in zip(reasons, readiness.reasons, strict=True):
        assert part in reason


def test_readiness_is_served_beside_the_metrics() -> None:
    """200 or 503, with the reasons; the metrics stay where they were."""
    answers = [NOT_OPEN, Readiness()]
    with serve(0, CollectorRegistry(), ready=answers.pop) as address:
        yes, no = (httpx.get(address.replace("/metrics", "/ready")) for _ in range(2))
        metrics = httpx.get(address)

    assert (200, {"ready": True, "reasons": []}) == (yes.status_code, yes.json())
    assert (503, {"ready": False, "reasons": list(NOT_OPEN.reasons)}) == (no.status_code, no.json())
    assert "text/plain" in metrics.headers["Content-Type"]


def test_without_a_probe_there_is_no_page_for_it() -> None:
    """Every path has the metrics then, as before."""
    with serve(0, CollectorRegistry()) as address:
        assert "text/plain" in httpx.get(address.replace("/metrics", "/ready")).headers["Content-Type"]
