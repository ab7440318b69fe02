"""The circuit breaker."""

from crossfade.breaker import Breaker
from crossfade.errors import ConnectionLostError, UniqueViolationError
from crossfade.events import BreakerMoved
from crossfade.stages import Side
from crossfade.testing import RecordingObserver


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(threshold: int = 2) -> tuple[Breaker, Clock, RecordingObserver]:
    """A breaker that has seen enough outages."""
    clock, observer = Clock(), RecordingObserver()
    breaker = Breaker(Side.PRISMA, observer, threshold=threshold, cooldown=1.0, clock=clock)
    for _ in range(threshold):
        breaker.failed(ConnectionLostError("gone"))
    return breaker, clock, observer


def test_it_opens_after_outages_in_a_row() -> None:
    """And turns requests away until the cooldown is over."""
    breaker, _, _ = opened()

    assert breaker.is_open
    assert not breaker.allows()


def test_it_lets_one_probe_through_per_cooldown() -> None:
    """The second request must wait for what the first one finds."""
    breaker, clock, _ = opened()
    clock.now = 1.0

    assert [True, False] == [breaker.allows(), breaker.allows()]


def test_an_answer_closes_it_and_every_move_is_reported() -> None:
    """open, half_open, closed."""
    breaker, clock, observer = opened()
    clock.now = 1.0
    breaker.allows()
    breaker.succeeded()

    assert not breaker.is_open
    assert ["open", "half_open", "closed"] == [event.state for event in observer.of(BreakerMoved)]


def test_a_refused_row_is_an_answer() -> None:
    """A constraint that says no proves that the store is there."""
    breaker, _, _ = opened(threshold=3)
    healthy = Breaker(Side.PRISMA, RecordingObserver(), threshold=2)
    for error in (TimeoutError(), UniqueViolationError("x"), TimeoutError()):
        healthy.failed(error)

    assert breaker.is_open
    assert not healthy.is_open
