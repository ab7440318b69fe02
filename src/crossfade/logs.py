"""Facts as log lines: the only module that knows `structlog`.

What needs a person is a warning, what changes the course is info, and what happens for every call is debug. A line
carries names, counts and kinds of difference, never a value of a row.

Warnings that can come with every call (drops, mismatches, failed followers) are held together: the first of its kind
is written at once, those that repeat it within the next second become one line with a count.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, Protocol, TextIO, assert_never

import structlog
from structlog.typing import FilteringBoundLogger, Processor

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
    Difference,
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
from crossfade.settings import LOG_LEVELS

_WINDOW_SECONDS = 1.0
_MOST_DIFFERENCES = 10
_MOST_KINDS = 200
"""How many different warnings one window keeps apart; those beyond are counted together."""


class Handle(Protocol):
    """A call that was put off and can be taken back."""

    def cancel(self) -> None:
        """Do not make the call."""


def configure_logging(*, json: bool | None = None, level: str = "info", stream: TextIO | None = None) -> None:
    """Write log lines to `stream`, or else to stderr: JSON, or coloured text for a person.

    `json` None decides by whether the stream is a terminal.

    For the process that owns its logging, such as the command line; a host application keeps its own configuration.

    Raises:
        ConfigurationError: there is no such level.
    """
    if level not in LOG_LEVELS:
        raise ConfigurationError(f"unknown log level {level!r}; levels are {', '.join(LOG_LEVELS)}")
    stream = stream or sys.stderr
    if json is None:
        json = not stream.isatty()
    last: list[Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
    )


class StructlogObserver:
    """Writes facts to structlog, as it is configured when the observer is made.

    `later` calls a function after so many seconds; the default is the running event loop's `call_later`.
    """

    def __init__(
        self,
        logger: FilteringBoundLogger | None = None,
        *,
        later: Callable[[float, Callable[[], None]], Handle | None] | None = None,
    ) -> None:
        self._log: FilteringBoundLogger = (
            structlog.get_logger("crossfade").bind() if logger is None else logger
        )
        self._debug = self._log.is_enabled_for(logging.DEBUG)
        self._later = later or _call_later
        self._repeats: dict[tuple[str, tuple[tuple[str, Any], ...]], int] = {}
        self._window: Handle | None = None

    def observe(self, event: Event) -> None:
        """Log `event`."""
        if type(event) is OperationFinished:
            # A failed authority is the application's to log: it gets the error itself.
            if event.error is not None and event.role is not Role.AUTHORITY:
                self._warn(
                    "operation.failed",
                    model=event.model,
                    action=event.action,
                    side=event.side,
                    role=event.role,
                    error=event.error,
                )
            elif self._debug:
                self._log.debug("operation.finished", **event._asdict())
            return
        self._observe_rarer(event)

    def close(self) -> None:
        """Write what is still held back."""
        if self._window is not None:
            self._window.cancel()
            self._end_window()

    def _observe_rarer(self, event: Event) -> None:  # noqa: PLR0912 - one branch for each fact
        match event:
            case ReadCompared():
                self._compare("read.compared", event)
            case WriteCompared():
                self._compare("write.compared", event)
            case FollowDropped():
                self._warn("follow.dropped", **event._asdict())
            case ShadowDropped():
                self._warn("shadow.dropped", **event._asdict())
            case RowReconciled(_, outcome, _):
                if outcome == "failed":
                    self._warn("row.reconciled", **event._asdict())
                elif self._debug:
                    self._log.debug("row.reconciled", **event._asdict())
            case ConflictSettled():
                self._warn("conflict.settled", **event._asdict())
            case ChunkFailed() | RowsDiffered():
                self._warn(_NAMES[type(event)], **event._asdict())
            case ChunkCopied() | ChunkVerified():
                self._log.info(_NAMES[type(event)], **event._asdict())
            case (
                AuthorityMissed()
                | StaleRead()
                | CaptureLagged()
                | BackfillThrottled()
                | GateRead()
                | ModelsSpanned()
            ):
                if self._debug:
                    self._log.debug(_NAMES[type(event)], **event._asdict())
            case BreakerMoved():
                self._log.warning("breaker.moved", **event._asdict())
            case SideUnavailable():
                self._warn("side.unavailable", **event._asdict())
            case StageMoved():
                self._log.info("stage.moved", **event._asdict())
            case StageRequested():
                self._log.info("stage.requested", **event._asdict())
            case StageHeld():
                self._warn("stage.held", **event._asdict())
            case GuardTripped() | FlagServiceMoved():
                self._log.warning(_NAMES[type(event)], **event._asdict())
            case ModelResumed():
                self._log.info("model.resumed", **event._asdict())
            case CanaryFellBack():
                self._warn("canary.fell_back", **event._asdict())
            case FlagRejected():
                self._log.warning("flag.rejected", **event._asdict())
            case ObserverFailed():
                self._warn("observer.failed", **event._asdict())
            case OperationFinished():
                self.observe(event)
            case _:
                assert_never(event)

    def _compare(self, name: str, event: ReadCompared | WriteCompared) -> None:
        model, action, verdict, differences, _ = event
        if verdict in (Verdict.MISMATCHED, Verdict.ERROR):
            self._warn(name, model=model, action=action, verdict=verdict, differences=_words(differences))
        elif self._debug:
            words = _words(differences)
            self._log.debug(name, model=model, action=action, verdict=verdict, differences=words)

    def _warn(self, name: str, **fields: Any) -> None:
        key = (name, tuple(fields.items()))
        if self._window is None:
            self._window = self._later(_WINDOW_SECONDS, self._end_window)
        if self._window is None:  # outside an event loop nothing can be put off
            self._log.warning(name, **fields)
        elif key in self._repeats:
            self._repeats[key] += 1
        elif len(self._repeats) < _MOST_KINDS:
            self._repeats[key] = 0
            self._log.warning(name, **fields)
        else:
            key = (name, (("more", "of other kinds"),))
            self._repeats[key] = self._repeats.get(key, 0) + 1

    def _end_window(self) -> None:
        self._window = None
        repeats, self._repeats = self._repeats, {}
        for (name, fields), count in repeats.items():
            if count:
                self._log.warning(name, **dict(fields), repeated=count)


_NAMES = {
    BackfillThrottled: "backfill.throttled",
    GateRead: "gate.read",
    GuardTripped: "guard.tripped",
    ModelsSpanned: "models.spanned",
    FlagServiceMoved: "flag_service.moved",
    ChunkCopied: "chunk.copied",
    ChunkFailed: "chunk.failed",
    ChunkVerified: "chunk.verified",
    RowsDiffered: "rows.differed",
    AuthorityMissed: "authority.missed",
    StaleRead: "read.stale",
    CaptureLagged: "capture.lagged",
}


def _words(differences: tuple[Difference, ...]) -> tuple[str, ...]:
    """What differs, as `email:value`, each once."""
    words = tuple(dict.fromkeys(f"{field or 'row'}:{kind}" for field, kind in differences))
    if len(words) <= _MOST_DIFFERENCES:
        return words
    return (*words[:_MOST_DIFFERENCES], f"and {len(words) - _MOST_DIFFERENCES} more")


def _call_later(seconds: float, call: Callable[[], None]) -> Handle | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop.call_later(seconds, call)
