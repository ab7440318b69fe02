"""Facts as log lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import CapturingLogger

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
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.operation import Action
from crossfade.stages import Side, Stage

FINISHED = OperationFinished("User", Action.CREATE, Side.PRISMA, Role.AUTHORITY, 0.002, None)
MISMATCHED = ReadCompared(
    "User",
    Action.FIND_MANY,
    Verdict.MISMATCHED,
    (
        Difference("email", DifferenceKind.VALUE),
        Difference("email", DifferenceKind.VALUE),
        Difference("", DifferenceKind.MISSING),
    ),
)
DROPPED = FollowDropped("User", Action.CREATE, "full")


class Later:
    """Calls what was put off when the test says that the time has come."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, _seconds: float, call: Callable[[], None]) -> Later:
        self.calls.append(call)
        return self

    def cancel(self) -> None:
        self.calls.clear()

    def elapse(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Log:
    """An observer at one level, and the lines it writes."""

    def __init__(self, level: int) -> None:
        self._written = CapturingLogger()
        self.later = Later()
        logger = structlog.wrap_logger(
            self._written, processors=[], wrapper_class=structlog.make_filtering_bound_logger(level)
        ).bind()
        self.observer = StructlogObserver(logger, later=self.later)

    def lines(self, *events: Event) -> list[tuple[str, dict[str, Any]]]:
        """Report `events` and return what was written since the last time."""
        for event in events:
            self.observer.observe(event)
        calls = [(call.method_name, dict(call.kwargs)) for call in self._written.calls]
        self._written.calls.clear()
        return calls


@pytest.fixture
def info() -> Log:
    return Log(logging.INFO)


@pytest.fixture
def debug() -> Log:
    return Log(logging.DEBUG)


@pytest.fixture
def _unconfigured() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_what_happens_for_every_call_is_debug(info: Log, debug: Log) -> None:
    """Nothing at info; one line each at debug."""
    quiet = (
        FINISHED,
        ReadCompared("User", Action.COUNT, Verdict.MATCHED, ()),
        WriteCompared("User", Action.CREATE, Verdict.IN_FLIGHT, ()),
        RowReconciled("User", "equal"),
    )

    assert info.lines(*quiet) == []
    assert [method for method, _ in debug.lines(*quiet)] == ["debug"] * 4


def test_the_authority_s_errors_are_the_application_s(info: Log) -> None:
    """The caller gets the error itself; a failed follower is told to nobody else, so it is a warning."""
    failed = FINISHED._replace(error="UniqueViolationError")

    assert info.lines(failed) == []
    assert [line["error"] for _, line in info.lines(failed._replace(role=Role.FOLLOWER))] == [
        "UniqueViolationError"
    ]


def test_a_mismatch_names_fields_and_kinds(info: Log) -> None:
    """Each difference once, and the whole row by its name."""
    [(method, line)] = info.lines(MISMATCHED)

    assert method == "warning"
    assert line == {
        "event": "read.compared",
        "model": "User",
        "action": "find_many",
        "verdict": "mismatched",
        "differences": ("email:value", "row:missing"),
    }


def test_a_long_list_of_differences_is_cut(info: Log) -> None:
    """A line stays a line."""
    many = tuple(Difference(f"field_{number}", DifferenceKind.NULL) for number in range(30))
    [(_, line)] = info.lines(MISMATCHED._replace(differences=many))

    assert len(line["differences"]) == 11
    assert line["differences"][-1] == "and 20 more"


@pytest.mark.parametrize(
    ("event", "method", "name"),
    [
        (StageMoved("User", Stage.OFF, Stage.DUALWRITE, 0.1, "ann", "asked"), "info", "stage.moved"),
        (StageRequested("User", Stage.LIVE, "ann"), "info", "stage.requested"),
        (StageHeld("User", Stage.OFF, Stage.LIVE, "lag"), "warning", "stage.held"),
        (FlagRejected("flags/User.yaml:4", "is empty"), "warning", "flag.rejected"),
        (BreakerMoved(Side.PRISMA, "open"), "warning", "breaker.moved"),
        (SideUnavailable(Side.SQLALCHEMY, "StoreUnavailableError"), "warning", "side.unavailable"),
        (ObserverFailed("compare", "ValueError"), "warning", "observer.failed"),
        (RowReconciled("User", "failed"), "warning", "row.reconciled"),
        (DROPPED, "warning", "follow.dropped"),
        (ShadowDropped("User", Action.COUNT, "full"), "warning", "shadow.dropped"),
    ],
)
def test_a_fact_is_written_with_all_it_says(info: Log, event: Event, method: str, name: str) -> None:
    """Name, level and every field."""
    assert info.lines(event) == [(method, {"event": name, **event._asdict()})]


def test_repeated_warnings_become_one_line_a_second(info: Log) -> None:
    """The first at once, then a count; a second without any is silent, and the next is a first again."""
    assert len(info.lines(*[DROPPED] * 500, MISMATCHED)) == 2

    info.later.elapse()
    [(_, line)] = info.lines()
    assert (line["event"], line["repeated"]) == ("follow.dropped", 499)

    info.later.elapse()
    assert info.lines() == []
    [(_, line)] = info.lines(DROPPED)
    assert "repeated" not in line


def test_many_different_warnings_are_bounded(info: Log) -> None:
    """No flood, and none is lost from the count."""
    floods = [ObserverFailed(f"callback_{number}", "ValueError") for number in range(1000)]
    at_once = info.lines(*floods)
    info.later.elapse()
    [(_, rest)] = info.lines()

    assert len(at_once) < 300
    assert len(at_once) + rest["repeated"] == 1000


def test_closing_writes_what_is_held_back(info: Log) -> None:
    """The count of the last second is not lost."""
    info.lines(DROPPED, DROPPED)
    info.observer.close()

    assert [line["repeated"] for _, line in info.lines()] == [1]
    assert info.later.calls == []


def test_outside_an_event_loop_every_line_is_written() -> None:
    """Nothing can be put off there."""
    written = CapturingLogger()
    logger = structlog.wrap_logger(
        written, processors=[], wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
    ).bind()
    observer = StructlogObserver(logger)
    observer.observe(DROPPED)
    observer.observe(DROPPED)

    assert len(written.calls) == 2


@pytest.mark.usefixtures("_unconfigured")
def test_away_from_a_terminal_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, on stderr, with time and level."""
    configure_logging()
    StructlogObserver().observe(FlagRejected("flags/User.yaml:4", "is empty"))
    out, err = capsys.readouterr()
    line = json.loads(err)

    assert out == ""
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "flag.rejected",
        "level": "warning",
        "source": "flags/User.yaml:4",
        "problem": "is empty",
    }


@pytest.mark.usefixtures("_unconfigured")
def test_the_level_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    """Console text for a person, and nothing below the level."""
    configure_logging(json=False, level="warning")
    observer = StructlogObserver()
    observer.observe(StageRequested("User", Stage.LIVE, "ann"))
    observer.observe(BreakerMoved(Side.PRISMA, "open"))
    err = capsys.readouterr().err

    assert "breaker.moved" in err
    assert "stage.requested" not in err


def test_an_unknown_level_is_refused() -> None:
    """With the list of those there are."""
    with pytest.raises(ConfigurationError, match="unknown log level 'loud'; levels are debug, info"):
        configure_logging(level="loud")
