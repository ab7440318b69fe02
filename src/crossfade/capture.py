"""What this process wrote: which keys, in what order of time, and which of them must still be verified.

Two writes of one key that overlap in time may reach two stores in opposite orders, and the caller's clock cannot
tell which order the authority chose. Instead of locking keys on the caller's path, overlaps are *noticed*: a write
carries the ticket it began with, and when it ends, any write of the same key that ended after that ticket overlapped
with it. Such a key is suspect and is verified, as is every key whose follower write failed, was dropped, or came to
another result.

This sees the writes of one process only. A capture inside the stores sees every writer; the reconciler does not
care which of the two names the keys.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from crossfade.events import Difference
from crossfade.keys import Key
from crossfade.operation import Action


@dataclass(slots=True)
class Suspicion:
    """Why a key must be verified. `blame` is set when a write that nothing disturbed came to different results."""

    since: float
    attempts: int = 0
    blame: tuple[Action, tuple[Difference, ...]] | None = None


@dataclass(slots=True)
class _ModelWrites:
    running: int = 0
    running_many: int = 0
    last_many_end: int = 0
    version: int = 0


@dataclass(slots=True)
class Capture:
    """The keys this process has touched. `remembered` bounds how many past writes are kept to notice overlaps."""

    remembered: int = 20_000
    suspects: OrderedDict[Key, Suspicion] = field(default_factory=OrderedDict)
    _models: dict[str, _ModelWrites] = field(default_factory=dict)
    _ends: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    _forgotten: int = 0
    _ticket: int = 0
    _suspects_by_model: Counter[str] = field(default_factory=Counter)

    def begin(self, model: str, *, many: bool) -> int:
        """Note that a write starts; return its ticket."""
        writes = self._models.get(model)
        if writes is None:
            writes = self._models[model] = _ModelWrites()
        writes.running += 1
        writes.running_many += many
        writes.version += 1
        self._ticket += 1
        return self._ticket

    def end(self, model: str, keys: Iterable[Key], ticket: int, *, many: bool) -> bool:
        """Note that a write has ended, whatever its outcome; return whether another one overlapped with it."""
        writes = self._models[model]
        writes.running -= 1
        writes.running_many -= many
        writes.version += 1
        self._ticket += 1
        overlapped = writes.running_many > 0 or writes.last_many_end > ticket
        if many:
            writes.last_many_end = self._ticket
        ends = self._ends
        for key in keys:
            overlapped = overlapped or ends.get(key, self._forgotten) > ticket
            ends[key] = self._ticket
            ends.move_to_end(key)
        while len(ends) > self.remembered:
            _, self._forgotten = ends.popitem(last=False)
        return overlapped

    def suspect(
        self, keys: Iterable[Key], now: float, *, blame: tuple[Action, tuple[Difference, ...]] | None = None
    ) -> None:
        """Put keys down for verification; a key that is already down waits anew."""
        for key in keys:
            known = self.suspects.get(key)
            if known is None:
                self.suspects[key] = Suspicion(now, blame=blame)
                self._suspects_by_model[key.model] += 1
            else:
                known.since = now
                known.blame = known.blame or blame

    def clear(self, key: Key) -> None:
        """Take a verified key off the list."""
        if self.suspects.pop(key, None) is not None:
            self._suspects_by_model[key.model] -= 1

    def pending(self, model: str) -> int:
        """How many keys of `model` wait for verification."""
        return self._suspects_by_model[model]

    def last_end(self, key: Key) -> int:
        """The ticket at which the last known write of `key` ended; 0 if none is remembered."""
        return self._ends.get(key, 0)

    def version(self, models: Iterable[str]) -> tuple[int, int]:
        """Return a stamp that changes when a write of `models` starts or ends, and how many are running now."""
        states = [self._models[model] for model in models if model in self._models]
        return sum(s.version for s in states), sum(s.running for s in states)
