"""The leader: it moves the authority, and the next one completes or undoes what a dead one has begun.

At most one leader holds the lock. One that has lost it without knowing may go on at any later time; what keeps it from
doing harm is that every step of a leader checks the epoch in the store where it takes effect.
"""

from __future__ import annotations

from typing import NamedTuple

from . import capture
from .backfill import is_backfilled
from .configuration import Configuration
from .events import by_actor, by_store
from .explorer import Event, Kind, Successor
from .layout import (
    ABSENT,
    AUTHORITY,
    CHANGES,
    EPOCH,
    EPOCH_JOINING,
    EPOCH_LEAVING,
    LEADER,
    LEAVING,
    LEGACY,
    LOSS,
    MOVING,
    PLANNED,
    STORES,
    TARGET,
    VALUE,
)
from .stores import BY_FORCE, Held, answers, follower_writes, has_parent, nothing_captured, set_fence

STEPS = ("announce", "catch_up", "freeze", "drain", "sequences", "open", "close")
"""The steps of a move, named as in the code."""

(
    NOBODY,
    ANNOUNCE,
    ANNOUNCED_IN_OLD,
    CATCH_UP,
    FREEZE,
    DRAIN,
    SEQUENCES,
    OPEN,
    OPEN_LOCKED,
    OPEN_COPIES,
    OPEN_EQUAL,
    CLOSE,
    UNDO,
    UNDO_IN_OLD,
    WITHDRAW,
    WITHDRAW_IN_NEW,
) = range(16)

HOLDS_LOCK = frozenset({OPEN_LOCKED, OPEN_COPIES, OPEN_EQUAL})
MAY_GIVE_UP = frozenset(range(ANNOUNCED_IN_OLD, CLOSE))
"""Announced and not decided: the leader of the move knows that, and may withdraw."""

_WHO = ("leader", "superseded leader")

BEGINS = by_store("leader: begin to move the authority away from {}", Kind.WORK)
UNDOES = by_store("next leader: the record in force says of a move away from {}, undo it")
LEVELS = by_store("next leader: the record in {} is not the one in force, bring it level")
ANNOUNCES = by_actor(_WHO, "announce, in {}")
CATCHES_UP = by_actor(_WHO, "catch_up, away from {}")
FREEZES = by_actor(_WHO, "freeze {}")
DRAINS = by_actor(_WHO, "drain, away from {}")
RAISES = by_actor(_WHO, "sequences of {}")
LOCKS = by_actor(_WHO, "open {}: lock its tables")
READS = by_actor(_WHO, "open {}: drain under the lock")
ROLLS_BACK = by_actor(_WHO, "open {}: the parent is missing there, roll back at once")
COMMITS = by_actor(_WHO, "open {}: swap the fence, write the record, commit")
CLOSES = by_actor(_WHO, "close {}")
UNDO_NEW = by_actor(_WHO, "undo, first in {}")
UNDO_OLD = by_actor(_WHO, "undo, let {} take authors again")
WITHDRAW_OLD = by_actor(_WHO, "withdraw, let {} take authors again at once")
WITHDRAW_NEW = by_actor(_WHO, "withdraw, in {}")
STEPS_DOWN = by_actor(_WHO, "the epoch in {} has changed, step down")
GIVES_UP = tuple(by_store(f"timeout: the {who} gives the move away from {{}} up", Kind.FAULT) for who in _WHO)
SUPERSEDED = Event("fault: the leader loses its lock and does not know it", Kind.FAULT)
CRASHES = {
    status: by_actor(_WHO, f"dies {when}, on the way from {{}}", Kind.FAULT)
    for status, when in {
        ANNOUNCE: "before announce",
        ANNOUNCED_IN_OLD: "in announce, having written one record",
        CATCH_UP: "before catch_up",
        FREEZE: "before freeze",
        DRAIN: "before drain",
        SEQUENCES: "before sequences",
        OPEN: "before open",
        OPEN_LOCKED: "in open, holding the lock",
        OPEN_COPIES: "in open, having drained",
        OPEN_EQUAL: "in open, having found nothing to drain",
        CLOSE: "before close",
        UNDO: "before undo",
        UNDO_IN_OLD: "in undo, having written the new side's record",
        WITHDRAW: "before it withdraws",
        WITHDRAW_IN_NEW: "in withdrawing, having written the old side's record",
    }.items()
}


def lose(after: bytearray, store: int) -> None:
    """The store is gone, and with it the transaction of a leader that was opening it."""
    for leader in (0, 1):
        if table_lock(after, leader) == store:
            after[LEADER + leader] = WITHDRAW
            after[PLANNED + leader] = 0


def table_lock(state: bytes | bytearray, leader: int) -> int | None:
    """The store whose tables a leader has locked, if any."""
    return 1 - state[LEAVING + leader] if state[LEADER + leader] in HOLDS_LOCK else None


def conductor(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What the leader may do next, and one that should no longer be."""
    if state[LEADER] == NOBODY:
        _next_leader(state, configuration, out)
    for leader in (0, 1):
        if state[LEADER + leader] != NOBODY:
            _go_on(state, configuration, leader, held, out)
    if configuration.superseded_leader and state[LEADER] != NOBODY and state[LEADER + 1] == NOBODY:
        after = bytearray(state)
        for field in (LEADER, LEAVING, PLANNED, EPOCH_LEAVING, EPOCH_JOINING):
            after[field + 1] = after[field]
        _leave(after, 0)
        out.append((SUPERSEDED, after))


def _leave(after: bytearray, leader: int) -> None:
    for field in (LEADER, LEAVING, PLANNED, EPOCH_LEAVING, EPOCH_JOINING):
        after[field + leader] = 0


def _next_leader(state: bytes, configuration: Configuration, out: list[Successor]) -> None:
    """Take the lock, read both records, and go on from there; the one with the higher epoch is in force."""
    if state[LOSS] in BY_FORCE or not answers(state, TARGET):
        return
    after = bytearray(state)
    standing = LEGACY if state[EPOCH + LEGACY] >= state[EPOCH + TARGET] else TARGET
    old = state[AUTHORITY + standing]
    if state[MOVING + standing]:
        after[LEADER] = UNDO if configuration.rules.undo_new_first else WITHDRAW
        event = UNDOES[old]
    elif state[EPOCH + LEGACY] != state[EPOCH + TARGET]:
        after[LEADER] = UNDO_IN_OLD if old != standing else CLOSE
        old = 1 - standing
        event = LEVELS[old]
    elif not is_backfilled(state, configuration):
        return
    else:
        after[LEADER] = ANNOUNCE
        event = BEGINS[old]
    after[LEAVING] = old
    after[EPOCH_LEAVING] = state[EPOCH + old]
    after[EPOCH_JOINING] = state[EPOCH + 1 - old]
    out.append((event, after))


def _go_on(state: bytes, configuration: Configuration, leader: int, held: Held, out: list[Successor]) -> None:
    step, old = state[LEADER + leader], state[LEAVING + leader]
    after = bytearray(state)
    _leave(after, leader)
    out.append((CRASHES[step][leader][old], after))
    if step in MAY_GIVE_UP:
        after = bytearray(state)
        after[LEADER + leader] = WITHDRAW
        after[PLANNED + leader] = 0
        out.append((GIVES_UP[leader][old], after))
    after = bytearray(state)
    event = _DO[step](after, Turn(configuration, held, leader, old, 1 - old))
    if event is not None:
        out.append((event, after))


class Turn(NamedTuple):
    """Whose step it is, and where."""

    configuration: Configuration
    held: Held
    leader: int
    old: int
    new: int

    def waits(self, after: bytearray, store: int) -> bool:
        """Whether the leader cannot change a store's record or fence: somebody else has a lock, or it is down."""
        if not answers(after, store):
            return True
        repair = self.configuration.rules.table_before_row and self.held.row[store]
        return repair or table_lock(after, 1 - self.leader) == store

    def superseded(self, after: bytearray, store: int) -> bool:
        """Whether the store's epoch is not the one that the leader knows."""
        known = after[(EPOCH_LEAVING if store == self.old else EPOCH_JOINING) + self.leader]
        return self.configuration.rules.epoch_guard and after[EPOCH + store] != known

    def step_down(self, after: bytearray, store: int) -> Event:
        """End without having changed anything."""
        _leave(after, self.leader)
        return STEPS_DOWN[self.leader][store]


def _announce(after: bytearray, turn: Turn) -> Event | None:
    leader, old, new = turn.leader, turn.old, turn.new
    if turn.waits(after, old):
        return None
    if turn.superseded(after, old):
        return turn.step_down(after, old)
    after[EPOCH + old] = after[EPOCH_LEAVING + leader] = _next_epoch(after, leader)
    after[MOVING + old] = 1 + new
    after[LEADER + leader] = ANNOUNCED_IN_OLD
    return ANNOUNCES[leader][old]


def _announce_in_new(after: bytearray, turn: Turn) -> Event | None:
    leader, new = turn.leader, turn.new
    if turn.waits(after, new):
        return None
    if turn.superseded(after, new):
        return turn.step_down(after, new)
    after[EPOCH + new] = after[EPOCH_JOINING + leader] = after[EPOCH_LEAVING + leader]
    after[MOVING + new] = 1 + new
    after[LEADER + leader] = CATCH_UP
    return ANNOUNCES[leader][new]


def _catch_up(after: bytearray, turn: Turn) -> Event | None:
    after[LEADER + turn.leader] = FREEZE
    return CATCHES_UP[turn.leader][turn.old]


def _freeze(after: bytearray, turn: Turn) -> Event | None:
    if turn.waits(after, turn.old):
        return None
    if turn.superseded(after, turn.old):
        return turn.step_down(after, turn.old)
    set_fence(after, turn.configuration, turn.old, authors=True, followers=True)
    after[LEADER + turn.leader] = DRAIN
    return FREEZES[turn.leader][turn.old]


def _drain(after: bytearray, turn: Turn) -> Event | None:
    if not all(answers(after, store) for store in STORES):
        return None
    if turn.configuration.rules.drain_before_lock and not nothing_captured(after):
        return None
    after[LEADER + turn.leader] = SEQUENCES
    return DRAINS[turn.leader][turn.old]


def _sequences(after: bytearray, turn: Turn) -> Event | None:
    after[LEADER + turn.leader] = OPEN
    return RAISES[turn.leader][turn.new]


def _open(after: bytearray, turn: Turn) -> Event | None:
    if turn.waits(after, turn.new):
        return None
    if turn.superseded(after, turn.new):
        return turn.step_down(after, turn.new)
    after[LEADER + turn.leader] = OPEN_LOCKED if turn.configuration.rules.drain_under_lock else OPEN_EQUAL
    return LOCKS[turn.leader][turn.new]


def _drain_under_lock(after: bytearray, turn: Turn) -> Event | None:
    leader, old, new = turn.leader, turn.old, turn.new
    if not answers(after, old):
        return None
    if turn.configuration.rules.open_sees_claimed:
        nothing = nothing_captured(after)
    else:
        nothing = not any(capture.HAS_UNCLAIMED[after[CHANGES + store]] for store in STORES)
    if nothing or after[VALUE + old] == after[VALUE + new]:
        after[LEADER + leader] = OPEN_EQUAL
    elif turn.held.row[new]:
        return None
    elif after[VALUE + old] != ABSENT and not has_parent(after, new):
        after[LEADER + leader] = WITHDRAW
        return ROLLS_BACK[leader][new]
    else:
        after[LEADER + leader] = OPEN_COPIES
        after[PLANNED + leader] = after[VALUE + old]
        if not turn.configuration.rules.entries_outlive_open:
            after[CHANGES + old] = capture.WITHOUT_UNCLAIMED[after[CHANGES + old]]
    return READS[leader][new]


def _commit(after: bytearray, turn: Turn) -> Event | None:
    leader, new = turn.leader, turn.new
    if after[LEADER + leader] == OPEN_COPIES:
        follower_writes(after, turn.configuration, new, after[PLANNED + leader])
        after[PLANNED + leader] = 0
    set_fence(after, turn.configuration, new, authors=False, followers=True)
    after[EPOCH_JOINING + leader] += 1
    after[EPOCH + new] = after[EPOCH_JOINING + leader]
    after[AUTHORITY + new] = new
    after[MOVING + new] = 0
    after[LEADER + leader] = CLOSE
    return COMMITS[leader][new]


def _close(after: bytearray, turn: Turn) -> Event | None:
    leader, old, new = turn.leader, turn.old, turn.new
    if turn.waits(after, old):
        return None
    if turn.superseded(after, old):
        return turn.step_down(after, old)
    set_fence(after, turn.configuration, old, authors=True, followers=False)
    after[EPOCH + old] = after[EPOCH_JOINING + leader]
    after[AUTHORITY + old] = new
    after[MOVING + old] = 0
    _leave(after, leader)
    return CLOSES[leader][old]


def _undo(after: bytearray, turn: Turn) -> Event | None:
    """The new side first: from then on, a late `open` of this move fails."""
    leader, new = turn.leader, turn.new
    if turn.waits(after, new):
        return None
    if turn.superseded(after, new):
        return turn.step_down(after, new)
    after[EPOCH + new] = after[EPOCH_JOINING + leader] = _next_epoch(after, leader)
    after[MOVING + new] = 0
    after[LEADER + leader] = UNDO_IN_OLD
    return UNDO_NEW[leader][new]


def _undo_in_old(after: bytearray, turn: Turn) -> Event | None:
    leader, old = turn.leader, turn.old
    if turn.waits(after, old):
        return None
    if turn.superseded(after, old):
        return turn.step_down(after, old)
    set_fence(after, turn.configuration, old, authors=False, followers=True)
    after[EPOCH + old] = after[EPOCH_JOINING + leader]
    after[MOVING + old] = 0
    _leave(after, leader)
    return UNDO_OLD[leader][old]


def _withdraw(after: bytearray, turn: Turn) -> Event | None:
    """The old side first, whose writers wait. Only the leader of the move may: it knows that it does not open."""
    leader, old = turn.leader, turn.old
    if turn.waits(after, old):
        return None
    if turn.superseded(after, old):
        return turn.step_down(after, old)
    set_fence(after, turn.configuration, old, authors=False, followers=True)
    after[EPOCH + old] = after[EPOCH_LEAVING + leader] = _next_epoch(after, leader)
    after[MOVING + old] = 0
    after[LEADER + leader] = WITHDRAW_IN_NEW
    return WITHDRAW_OLD[leader][old]


def _withdraw_in_new(after: bytearray, turn: Turn) -> Event | None:
    leader, new = turn.leader, turn.new
    if turn.waits(after, new):
        return None
    if turn.superseded(after, new):
        return turn.step_down(after, new)
    after[EPOCH + new] = after[EPOCH_LEAVING + leader]
    after[MOVING + new] = 0
    _leave(after, leader)
    return WITHDRAW_NEW[leader][new]


def _next_epoch(after: bytearray, leader: int) -> int:
    return max(after[EPOCH_LEAVING + leader], after[EPOCH_JOINING + leader]) + 1


_DO = {
    ANNOUNCE: _announce,
    ANNOUNCED_IN_OLD: _announce_in_new,
    CATCH_UP: _catch_up,
    FREEZE: _freeze,
    DRAIN: _drain,
    SEQUENCES: _sequences,
    OPEN: _open,
    OPEN_LOCKED: _drain_under_lock,
    OPEN_COPIES: _commit,
    OPEN_EQUAL: _commit,
    CLOSE: _close,
    UNDO: _undo,
    UNDO_IN_OLD: _undo_in_old,
    WITHDRAW: _withdraw,
    WITHDRAW_IN_NEW: _withdraw_in_new,
}
