"""The protocol as a system to explore: all actors together, and the invariants."""

from __future__ import annotations

from . import backfill, layout, lost_store
from .conductor import conductor, table_lock
from .configuration import Configuration
from .explorer import Successor
from .layout import (
    ABSENT,
    ACKNOWLEDGED,
    AUTHORITY,
    AUTHORS_REFUSED,
    BACKFILL,
    CHANGES,
    EPOCH,
    FENCE,
    LATE,
    LEADER,
    LEGACY,
    LIST,
    LOSS,
    MOVING,
    NAMES,
    PARENT,
    PARENT_CHANGES,
    PARENT_LIFE,
    RECONCILER,
    SIZE,
    STORES,
    TARGET,
    VALUE,
)
from .reconcilers import reconcilers, repair_lock
from .stores import BY_FORCE, DOWN, LISTED_IN_VAIN, MISSED, NOT_LOST, UP, Held, set_fence
from .writers import DEAD, UNBORN, writers


class Protocol:
    """Two stores, and everybody who works on them, in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.initial = self._initial()

    def _initial(self) -> bytes:
        configuration = self.configuration
        state = bytearray(SIZE)
        owner = TARGET if configuration.loss else LEGACY
        if configuration.parent_authority is not None:
            state[PARENT_LIFE] = UNBORN
        else:
            state[VALUE] = state[VALUE + 1] = state[ACKNOWLEDGED] = 1
        if configuration.workers:
            state[VALUE + TARGET] = ABSENT
            state[BACKFILL] = backfill.PENDING
        for store in STORES:
            set_fence(state, configuration, store, authors=store != owner, followers=store == owner)
            state[AUTHORITY + store] = owner
            state[EPOCH + store] = 1
        state[LOSS] = UP if configuration.loss else NOT_LOST
        return bytes(state)

    def successors(self, state: bytes) -> list[Successor]:
        """Every event that may come next."""
        held = _held(state)
        out: list[Successor] = []
        writers(state, self.configuration, held, out)
        reconcilers(state, self.configuration, held, out)
        if self.configuration.moves:
            conductor(state, self.configuration, held, out)
        if state[BACKFILL]:
            backfill.backfill(state, self.configuration, held, out)
        if state[LOSS]:
            lost_store.lost_store(state, self.configuration, held, out)
        return out

    def canonical(self, state: bytearray) -> bytes:
        """The representative of all states that behave alike."""
        return layout.canonical(state)

    def describe(self, state: bytes) -> str:
        """The state in one line."""
        return layout.describe(state)

    def at_rest(self, state: bytes) -> bool:
        """Nothing captured, nothing on its way, nobody at work, no move begun."""
        return not (
            state[CHANGES] or state[CHANGES + 1] or state[LATE] or state[LATE + 1]
            or state[RECONCILER] or state[RECONCILER + 1] or state[LEADER] or state[LEADER + 1]
            or state[MOVING] or state[MOVING + 1] or state[PARENT_CHANGES] or state[PARENT_CHANGES + 1]
            or not backfill.at_rest(state) or state[LOSS] in {DOWN, *BY_FORCE}
        )  # fmt: skip

    def broken(self, state: bytes) -> str | None:
        """The first invariant that does not hold."""
        split = state[LOSS] in BY_FORCE
        if self.configuration.rules.refuse_authors and not split:
            open_stores = [store for store in STORES if not state[FENCE + store] & AUTHORS_REFUSED]
            if len(open_stores) > 1:
                return "both stores take authors"
            if open_stores and not state[PARENT_LIFE]:
                store = open_stores[0]
                if state[VALUE + store] != state[ACKNOWLEDGED]:
                    return f"{NAMES[store]} takes authors and does not hold the last acknowledged write"
        if state[LIST] & MISSED:
            return "a write that never arrived is not listed"
        if state[LIST] & LISTED_IN_VAIN:
            return "a write that had arrived is listed"
        one, other = (
            (state[EPOCH + store], state[AUTHORITY + store], state[MOVING + store]) for store in STORES
        )
        if one != other and one[0] == other[0] and not split:
            return "two records of one epoch say different things"
        return self._broken_at_rest(state) if self.at_rest(state) else None

    def _broken_at_rest(self, state: bytes) -> str | None:
        legacy, target = state[VALUE : VALUE + 2]
        if state[PARENT] != state[PARENT + 1]:
            return "at rest, the stores do not hold the same parent"
        if legacy != target:
            return "at rest, the stores do not hold the same row"
        expected = ABSENT if state[PARENT_LIFE] == DEAD else state[ACKNOWLEDGED]
        if legacy != expected:
            return "at rest, the last acknowledged write is lost"
        owner = state[AUTHORITY]
        if state[AUTHORITY + 1] != owner:
            return "at rest, the records name different authorities"
        doors = bytearray(SIZE)
        for store in STORES:
            set_fence(doors, self.configuration, store, authors=store != owner, followers=store == owner)
            if state[FENCE + store] != doors[FENCE + store]:
                return f"at rest, {NAMES[store]} refuses the wrong ones"
        return None


def _held(state: bytes) -> Held:
    tables, row = [False, False], [False, False]
    for number in (0, 1):
        if (store := table_lock(state, number)) is not None:
            tables[store] = True
        if (store := repair_lock(state, number)) is not None:
            row[store] = True
    return Held((tables[0], tables[1]), (row[0], row[1]))
