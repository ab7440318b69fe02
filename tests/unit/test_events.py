"""Observers in company."""

from crossfade.events import Event, ObserverFailed, Observers, RowReconciled
from crossfade.testing import RecordingObserver


class Broken:
    """Raises at every fact."""

    def observe(self, event: Event) -> None:
        raise ZeroDivisionError


def test_an_observer_that_raises_keeps_nothing_from_the_others() -> None:
    """They hear the fact, and that one of them failed; the one who reported it hears nothing."""
    first, last = RecordingObserver(), RecordingObserver()
    fact = RowReconciled("Author", "equal")
    Observers(first, Broken(), last).observe(fact)

    failure = ObserverFailed("Broken", "ZeroDivisionError")
    assert [fact, failure] == first.events
    assert [failure, fact] == last.events
