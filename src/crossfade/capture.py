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

from crossfade.keys import Key
from crossfade.operation import Action


@dataclass(slots=True)
class Suspicion:
    """Why a key must be verified.

    `blame` is the action of a write that nothing disturbed and that came to different results. `tainted` is set when
    something else happened to the key since, so that a difference proves nothing about that write any more. `shakes`
    names the models whose rows change by themselves when this one is deleted, as it may have been on one side only.
    """

    since: float
    attempts: int = 0
    blame: Action | None = None
    vague: bool = False
    tainted: bool = False
    shakes: frozenset[str] = frozenset()


@dataclass(slots=True)
class _ModelWrites:
    running: int = 0
    running_many: int = 0
    running_unnamed: int = 0
    last_many_end: int = 0
    version: int = 0

    def shake(self, change: int) -> None:
        """Count a write of another model that reaches this one's rows."""
        self.running += change
        self.version += 1


@dataclass(slots=True)
class Capture:
    """The keys this process has touched.

    `remembered` bounds how many past writes are kept to notice overlaps, `limit` how many keys may wait for
    verification. Beyond that, keys are forgotten and counted in `forgotten`, by model: such a model cannot be brought
    level by keys any more, only by copying it again.
    """

    remembered: int = 20_000
    limit: int = 200_000
    forgotten: Counter[str] = field(default_factory=Counter)
    suspects: OrderedDict[Key, Suspicion] = field(default_factory=OrderedDict)
    _models: dict[str, _ModelWrites] = field(default_factory=dict)
    _ends: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    _running: Counter[Key] = field(default_factory=Counter)
    _forgotten: int = 0
    _ticket: int = 0
    _suspects_by_model: Counter[str] = field(default_factory=Counter)
    _vague: Counter[str] = field(default_factory=Counter)
    _shaken: Counter[str] = field(default_factory=Counter)

    def begin(self, model: str, key: Key | None, *, many: bool, shakes: frozenset[str] = frozenset()) -> int:
        """Note that a write starts, of the row of `key` if the primary key is known; return its ticket.

        `shakes` names the other models whose rows the store changes by itself in the course of this write.
        """
        for other in shakes:
            self._writes_of(other).shake(1)
        writes = self._writes_of(model)
        writes.running += 1
        writes.running_many += many
        if key is None:
            writes.running_unnamed += 1
        else:
            self._running[key] += 1
        writes.version += 1
        self._ticket += 1
        return self._ticket

    def end(
        self,
        model: str,
        key: Key | None,
        keys: Iterable[Key],
        ticket: int,
        *,
        many: bool,
        shakes: frozenset[str] = frozenset(),
    ) -> bool:
        """Note that a write has ended, whatever its outcome; return whether another one overlapped with it.

        `key` and `shakes` are what `begin` was given, `keys` are the rows that the write has turned out to touch.
        """
        for other in shakes:
            self._writes_of(other).shake(-1)
        writes = self._models[model]
        if key is None:
            writes.running_unnamed -= 1
        else:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]
        writes.running -= 1
        writes.running_many -= many
        writes.version += 1
        self._ticket += 1
        overlapped = writes.running_many > 0 or writes.last_many_end > ticket
        if many:
            writes.last_many_end = self._ticket
        ends = self._ends
        for touched in keys:
            overlapped = overlapped or ends.get(touched, self._forgotten) > ticket
            ends[touched] = self._ticket
            ends.move_to_end(touched)
        while len(ends) > self.remembered:
            _, self._forgotten = ends.popitem(last=False)
        return overlapped

    def crossed(self, model: str, ticket: int) -> list[Key]:
        """Return the keys of `model` whose writes ended after `ticket`: a write of many rows may concern them too.

        Where it executed before them on one side and after them on the other, they differ, and it did not see them.
        """
        found = []
        for key, ended in reversed(self._ends.items()):
            if ended <= ticket:
                break
            if key.model == model:
                found.append(key)
        return found

    def suspect(
        self,
        keys: Iterable[Key],
        now: float,
        *,
        blame: Action | None = None,
        vague: bool = False,
        shakes: frozenset[str] = frozenset(),
    ) -> None:
        """Put keys down for verification; a key that is already down waits anew.

        `vague` says that the keys are not primary keys, `shakes` what their deletion changes beside them.
        """
        for key in keys:
            known = self.suspects.get(key)
            if known is None and len(self.suspects) >= self.limit:
                self.forgotten[key.model] += 1
                continue
            if known is None:
                self.suspects[key] = Suspicion(now, blame=blame, vague=vague)
                self._suspects_by_model[key.model] += 1
                self._vague[key.model] += vague
            else:
                known.since = now
                known.tainted = True
            if shakes and not self.suspects[key].shakes:
                self.suspects[key].shakes = shakes
                self._shaken.update(shakes)

    def clear(self, key: Key) -> None:
        """Take a verified key off the list."""
        suspicion = self.suspects.pop(key, None)
        if suspicion is not None:
            self._suspects_by_model[key.model] -= 1
            self._vague[key.model] -= suspicion.vague
            self._shaken.subtract(suspicion.shakes)

    def pending(self, model: str) -> int:
        """How many keys of `model` wait for verification."""
        return self._suspects_by_model[model]

    def is_shaken(self, model: str) -> bool:
        """Whether rows of `model` may still change by themselves, because of rows that were deleted elsewhere."""
        return self._shaken[model] > 0

    def disturbed(self, model: str, keys: Iterable[Key]) -> bool:
        """Whether rows of `keys` may differ already, for a reason that is known and being seen to.

        A suspect that is named by anything but a primary key may be any row of its model.
        """
        return any(key in self.suspects for key in keys) or self._vague[model] > 0

    def is_quiet(self, key: Key) -> bool:
        """Whether no write that is under way can concern the row of `key`."""
        writes = self._models.get(key.model)
        return key not in self._running and (writes is None or not writes.running_unnamed)

    def last_end(self, key: Key) -> int:
        """The ticket at which the last known write of `key` ended; 0 if none is remembered."""
        return self._ends.get(key, 0)

    def version(self, models: Iterable[str]) -> tuple[int, int]:
        """Return a stamp that changes when a write of `models` starts or ends, and how many are running now."""
        states = [self._models[model] for model in models if model in self._models]
        return sum(s.version for s in states), sum(s.running for s in states)

    def _writes_of(self, model: str) -> _ModelWrites:
        writes = self._models.get(model)
        if writes is None:
            writes = self._models[model] = _ModelWrites()
        return writes
