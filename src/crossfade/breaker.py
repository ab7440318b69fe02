"""A circuit breaker: stops asking a side that does not answer, and asks again after a while.

Only faults of the side itself count (no connection, no answer in time). A row that the store refuses says nothing
about its health.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from crossfade.errors import ConnectionLostError, CrossfadeError, EngineError, StoreUnavailableError
from crossfade.events import BreakerMoved, Observer
from crossfade.stages import Side

OUTAGES: tuple[type[BaseException], ...] = (
    ConnectionLostError,
    StoreUnavailableError,
    EngineError,
    TimeoutError,
    OSError,
)
"""What counts as a fault of a side, rather than of a request."""

FAILURES: tuple[type[BaseException], ...] = (CrossfadeError, *OUTAGES)
"""Every way in which a request to a side is known to fail."""


class Breaker:
    """Opens after `threshold` outages in a row; lets one request through again after `cooldown` seconds."""

    def __init__(
        self,
        side: Side,
        observer: Observer,
        *,
        threshold: int = 5,
        cooldown: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._side = side
        self._observer = observer
        self._threshold = threshold
        self._cooldown = cooldown
        self._clock = clock
        self._failures = 0
        self._retry_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests are being turned away."""
        return self._retry_at is not None

    def allows(self) -> bool:
        """Whether to send a request now; when open, True once per cooldown, for the probe."""
        if self._retry_at is None:
            return True
        now = self._clock()
        if now < self._retry_at:
            return False
        self._retry_at = now + self._cooldown
        self._observer.observe(BreakerMoved(self._side, "half_open"))
        return True

    def succeeded(self) -> None:
        """The side has answered, be it with a refusal."""
        self._failures = 0
        if self._retry_at is not None:
            self._retry_at = None
            self._observer.observe(BreakerMoved(self._side, "closed"))

    def failed(self, error: BaseException) -> None:
        """A request has failed; an outage counts, anything else is an answer."""
        if not isinstance(error, OUTAGES):
            self.succeeded()
            return
        self._failures += 1
        if self._retry_at is None and self._failures >= self._threshold:
            self._retry_at = self._clock() + self._cooldown
            self._observer.observe(BreakerMoved(self._side, "open"))
