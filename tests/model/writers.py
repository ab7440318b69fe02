"""Authors and their follower writes.

A writer may believe at any moment that either side has the authority: however stale its view, that is one of the two.
So beliefs need not be kept in the state; a refused write (XF001) changes nothing and is not shown. The follower write
of an author comes later, in any order with others, or never.
"""

from __future__ import annotations

from .configuration import Configuration
from .events import by_store
from .explorer import Event, Kind, Successor
from .layout import (
    ABSENT,
    FOLLOW,
    LATE,
    LATE_VALUE,
    PARENT,
    PARENT_BORN,
    PARENT_DIED,
    PARENT_LIFE,
    STORES,
    VALUE,
    fresh,
)
from .stores import (
    Held,
    add_parent,
    answers,
    author_writes,
    follower_writes,
    has_parent,
    refuses_authors,
    refuses_followers,
    remove_parent,
)

WRITE = by_store("an author writes to {}", Kind.WORK)
DELETE = by_store("an author deletes from {}", Kind.WORK)
LANDS = by_store("a late follower write reaches {}")
REFUSED = by_store("a late follower write is refused by {} (XF002)")
FOREIGN_KEY = by_store("a late follower write fails in {}: no parent")
NEVER_COMES = by_store("crash: a follower write never comes to {}", Kind.FAULT)
BORN = by_store("an author creates the parent in {}", Kind.WORK)
DIED = by_store("an author deletes the parent from {}, and the child there goes with it", Kind.WORK)
PARENT_LANDS = by_store("a late follower write of the parent reaches {}")

UNBORN, ALIVE, DEAD = 1, 2, 3


def writers(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What authors may do, and the follower writes that they have left behind."""
    for store in STORES:
        if answers(state, store) and not refuses_authors(state, store) and not held.waits(store):
            if has_parent(state, store):
                _write(state, configuration, store, fresh(state), WRITE[store], out)
            if configuration.deletes and state[VALUE + store] != ABSENT:
                _write(state, configuration, store, ABSENT, DELETE[store], out)
    if configuration.parent_authority is not None:
        _parent(state, configuration, configuration.parent_authority, held, out)
    for slot in (0, 1):
        if state[LATE + slot]:
            _late(state, configuration, slot, held, out)


def _write(
    state: bytes, configuration: Configuration, store: int, version: int, event: Event, out: list[Successor]
) -> None:
    after = bytearray(state)
    author_writes(after, configuration, store, version)
    _leave(after, configuration, FOLLOW, 1 - store, version)
    out.append((event, after))


def _leave(after: bytearray, configuration: Configuration, kind: int, store: int, version: int = 0) -> None:
    """Leave a follower write on its way, if one more may be; the writer has crashed otherwise."""
    for slot in range(configuration.late_writes):
        if not after[LATE + slot]:
            after[LATE + slot] = 1 + 2 * kind + store
            after[LATE_VALUE + slot] = version
            return


def _late(state: bytes, configuration: Configuration, slot: int, held: Held, out: list[Successor]) -> None:
    kind, store = divmod(state[LATE + slot] - 1, 2)
    version = state[LATE_VALUE + slot]
    gone = bytearray(state)
    gone[LATE + slot] = gone[LATE_VALUE + slot] = 0
    out.append((NEVER_COMES[store], gone))
    if not answers(state, store):
        return
    after = gone[:]
    if kind == PARENT_BORN:
        if not state[PARENT + store]:
            add_parent(after, store)
        out.append((PARENT_LANDS[store], after))
    elif kind == PARENT_DIED:
        if not held.waits(store):
            if state[PARENT + store]:
                remove_parent(after, store)
            out.append((PARENT_LANDS[store], after))
    elif refuses_followers(state, store):
        out.append((REFUSED[store], after))
    elif held.waits(store):
        pass
    elif version != ABSENT and not has_parent(state, store):
        out.append((FOREIGN_KEY[store], after))
    else:
        follower_writes(after, configuration, store, version)
        out.append((LANDS[store], after))


def _parent(state: bytes, configuration: Configuration, store: int, held: Held, out: list[Successor]) -> None:
    """The parent lives once: it is created and deleted by authors of its own authority."""
    if state[PARENT_LIFE] == UNBORN:
        after = bytearray(state)
        add_parent(after, store)
        after[PARENT_LIFE] = ALIVE
        _leave(after, configuration, PARENT_BORN, 1 - store)
        out.append((BORN[store], after))
    elif state[PARENT_LIFE] == ALIVE and not held.waits(store):
        after = bytearray(state)
        remove_parent(after, store)
        after[PARENT_LIFE] = DEAD
        _leave(after, configuration, PARENT_DIED, 1 - store)
        out.append((DIED[store], after))
