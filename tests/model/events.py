"""Events of one text that happen in either store, or to one of two actors of a kind."""

from __future__ import annotations

from .explorer import Event, Kind
from .layout import NAMES

ByStore = tuple[Event, Event]


def by_store(text: str, kind: Kind = Kind.PROGRESS) -> ByStore:
    """One event for each store; `{}` in the text is its name."""
    legacy, target = NAMES
    return Event(text.format(legacy), kind), Event(text.format(target), kind)


def by_actor(actors: tuple[str, str], text: str, kind: Kind = Kind.PROGRESS) -> tuple[ByStore, ByStore]:
    """One event for each of two actors in each store; a fault begins with what it is."""
    prefixes = [f"crash: {actor} " if kind is Kind.FAULT else f"{actor}: " for actor in actors]
    return by_store(prefixes[0] + text, kind), by_store(prefixes[1] + text, kind)
