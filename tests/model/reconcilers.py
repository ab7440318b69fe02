"""Reconcilers: claim, read, compare, repair, delete what was claimed.

A reconciler works on the captured entries of one key in one store at a time, and may believe that either side has the
authority. It may crash between any two steps; the store then gives its claim back.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import capture
from .configuration import Configuration
from .events import by_actor
from .explorer import Event, Kind, Successor
from .layout import (
    ABSENT,
    CHANGES,
    CLAIM,
    LEGACY,
    PARENT,
    PARENT_CHANGES,
    RECONCILER,
    SEEN,
    SEEN_PARENT,
    STORES,
    TARGET,
    VALUE,
)
from .stores import (
    Held,
    add_parent,
    answers,
    follower_writes,
    has_parent,
    refuses_followers,
    remove_parent,
)

IDLE, CLAIMED, READ, DIFFERENT, LOCKED, SETTLED = range(6)

BELIEVED, IN, OF_PARENT = 1, (2, 4), 8
"""The parts of a claim: who is believed to have the authority, in which stores it is, and of which row."""


_WHO = ("reconciler 1", "reconciler 2")

CLAIM_ROW = by_actor(_WHO, "claim the entries in {}")
CLAIM_PARENT = by_actor(_WHO, "claim the parent's entries in {}")
READ_AUTHORITY = by_actor(_WHO, "read authority {}")
READ_FOLLOWER = by_actor(_WHO, "read follower {}")
NEWER = by_actor(_WHO, "find a newer entry in {} and leave the key to it")
LOCK = by_actor(_WHO, "lock the row in {}, read the authority again")
WRITE = by_actor(_WHO, "write {} as follower")
REFUSED = by_actor(_WHO, "is refused by {} (XF002), give the claim back")
PULL = by_actor(_WHO, "find no parent in {}, settle the parent first")
DELETE = by_actor(_WHO, "delete the entries seen in {}")
NO_ANSWER = by_actor(_WHO, "{} does not answer, give the claim back")
CRASHES = {
    status: tuple(Event(f"crash: {who} dies {when}; its claim is given back", Kind.FAULT) for who in _WHO)
    for status, when in {
        CLAIMED: "with a claim",
        READ: "having read the authority",
        DIFFERENT: "having found a difference",
        LOCKED: "holding the row's lock",
        SETTLED: "before it deletes the entries seen",
    }.items()
}


def repair_lock(state: bytes | bytearray, number: int) -> int | None:
    """The store in which a reconciler holds the lock of the row, if any."""
    if state[RECONCILER + number] != LOCKED or state[CLAIM + number] & OF_PARENT:
        return None
    return 1 - (state[CLAIM + number] & BELIEVED)


def reconcilers(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What each reconciler may do next."""
    for number in range(configuration.reconcilers):
        if state[RECONCILER + number] == IDLE:
            for believed in STORES:
                _claim(state, number, believed, out)
            if configuration.parent_authority is not None:
                _claim(state, number, OF_PARENT | configuration.parent_authority, out)
        else:
            _go_on(state, configuration, number, held, out)


def _claim(state: bytes, number: int, claim: int, out: list[Successor]) -> None:
    """Claim what nobody has claimed, in one store and then perhaps in the other."""
    field, events = (PARENT_CHANGES, CLAIM_PARENT) if claim & OF_PARENT else (CHANGES, CLAIM_ROW)
    for store in STORES:
        if capture.HAS_UNCLAIMED[state[field + store]] and not claim & IN[store] and answers(state, store):
            after = bytearray(state)
            after[field + store] = capture.CLAIMED[number + 1][state[field + store]]
            after[RECONCILER + number] = CLAIMED
            after[CLAIM + number] = claim | IN[store]
            out.append((events[number][store], after))


def _go_on(state: bytes, configuration: Configuration, number: int, held: Held, out: list[Successor]) -> None:
    status, claim = state[RECONCILER + number], state[CLAIM + number]
    rules, authority = configuration.rules, claim & BELIEVED
    values = PARENT if claim & OF_PARENT else VALUE
    seen, follower = _seen(claim, number), 1 - authority

    after = bytearray(state)
    after[seen] = 0
    released = after[:]
    _release(released, number)
    out.append((CRASHES[status][number], released))
    for store in _needed(status, claim):
        if not answers(state, store):
            out.append((NO_ANSWER[number][store], released[:]))
            return

    if status == CLAIMED:
        _claim(state, number, claim, out)
        after[RECONCILER + number] = READ
        after[seen] = state[values + authority]
        out.append((READ_AUTHORITY[number][authority], after))
    elif status == READ:
        equal = state[seen] == state[values + follower]
        after[RECONCILER + number] = SETTLED if equal else DIFFERENT
        if not equal and not rules.row_lock_in_repair:
            after[seen] = state[seen]
        out.append((READ_FOLLOWER[number][follower], after))
    elif status == DIFFERENT:
        _leave_to_newer(state, configuration, number, out)
        if not rules.row_lock_in_repair:
            after[seen] = state[seen]
            _repair(after, released, configuration, number, held, out)
        elif not (held.row[follower] or (rules.table_before_row and held.tables[follower])):
            if configuration.workers and state[values + authority] == state[values + follower] == ABSENT:
                # No row is locked and none is written, so the backfill may insert from here on.
                after[RECONCILER + number] = SETTLED
            else:
                after[RECONCILER + number] = LOCKED
                after[seen] = state[values + authority]
            out.append((LOCK[number][follower], after))
    elif status == LOCKED:
        after[seen] = state[seen]
        _repair(after, released, configuration, number, held, out)
    else:
        _delete(state, configuration, number, out)


def _seen(claim: int, number: int) -> int:
    """The field for what a reconciler has read."""
    return (SEEN_PARENT if claim & OF_PARENT else SEEN) + number


def _release(after: bytearray, number: int) -> None:
    field = PARENT_CHANGES if after[CLAIM + number] & OF_PARENT else CHANGES
    for store in STORES:
        after[field + store] = capture.RELEASED[number + 1][after[field + store]]
    after[RECONCILER + number] = after[CLAIM + number] = IDLE


def _delete(state: bytes, configuration: Configuration, number: int, out: list[Successor]) -> None:
    """Delete what was claimed, in one store after the other: two transactions."""
    claim = state[CLAIM + number]
    field = PARENT_CHANGES if claim & OF_PARENT else CHANGES
    for store in STORES:
        if claim & IN[store]:
            after = bytearray(state)
            deleted = capture.DELETED[number + 1][state[field + store]]
            after[field + store] = deleted if configuration.rules.delete_only_seen else capture.NONE
            after[CLAIM + number] = claim & ~IN[store]
            if not after[CLAIM + number] & (IN[LEGACY] | IN[TARGET]):
                after[RECONCILER + number] = after[CLAIM + number] = IDLE
            out.append((DELETE[number][store], after))


def _needed(status: int, claim: int) -> Iterator[int]:
    """The stores that must answer for the next step; a claim is lost with the connection that holds it."""
    authority = claim & BELIEVED
    for store in STORES:
        reads = store == authority if status == CLAIMED else store != authority
        if claim & IN[store] or (status != SETTLED and (reads or status in {DIFFERENT, LOCKED})):
            yield store


def _leave_to_newer(state: bytes, configuration: Configuration, number: int, out: list[Successor]) -> None:
    """Give up the entries that a newer one makes superfluous; the others are given back."""
    owner, claim = number + 1, state[CLAIM + number]
    field = PARENT_CHANGES if claim & OF_PARENT else CHANGES
    strict = configuration.rules.newer_in_same_store
    for store in STORES:
        if capture.HAS_NEWER[owner][state[field + store]]:
            after = bytearray(state)
            after[_seen(claim, number)] = 0
            for one in (store,) if strict else STORES:
                after[field + one] = capture.DELETED[owner][state[field + one]]
            _release(after, number)
            out.append((NEWER[number][store], after))


def _repair(
    after: bytearray,
    released: bytearray,
    configuration: Configuration,
    number: int,
    held: Held,
    out: list[Successor],
) -> None:
    """Write what was read to the follower, in a transaction of its own."""
    claim = after[CLAIM + number]
    seen, follower = _seen(claim, number), 1 - (claim & BELIEVED)
    version = after[seen]
    mine = repair_lock(after, number) is not None
    waits = held.tables[follower] or (held.row[follower] and not mine)
    after[seen] = 0
    after[RECONCILER + number] = SETTLED
    if claim & OF_PARENT:
        if version and not after[PARENT + follower]:
            add_parent(after, follower)
        elif not version and after[PARENT + follower]:
            if waits:
                return
            remove_parent(after, follower)
        out.append((WRITE[number][follower], after))
    elif refuses_followers(after, follower):
        out.append((REFUSED[number][follower], released[:]))
    elif waits:
        return
    elif version != ABSENT and not has_parent(after, follower):
        _pull(after, configuration, number, follower, held, out)
    else:
        follower_writes(after, configuration, follower, version)
        out.append((WRITE[number][follower], after))


def _pull(
    after: bytearray, configuration: Configuration, number: int, store: int, held: Held, out: list[Successor]
) -> None:
    """The foreign key failed: make the parent's follower row equal its authority's, then begin again."""
    after[RECONCILER + number] = CLAIMED
    if configuration.parent_authority == store:
        if after[PARENT + 1 - store]:
            if held.waits(1 - store):
                return
            remove_parent(after, 1 - store)
    elif after[PARENT + 1 - store]:
        add_parent(after, store)
    out.append((PULL[number][store], after))
