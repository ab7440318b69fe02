"""Which rules of the protocol are in force, and who takes part."""

from __future__ import annotations

from dataclasses import dataclass, field

from .layout import LEGACY, TARGET


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the protocol, each of which can be removed to see what it is for."""

    refuse_authors: bool = True
    """A store that is not the authority refuses authors (XF001)."""
    refuse_followers: bool = True
    """A store that is the authority refuses followers (XF002)."""
    capture_authors: bool = True
    """What an author writes is captured: capture on the authority."""
    capture_followers: bool = True
    """What a follower or a repair writes is captured: capture on the follower."""
    delete_only_seen: bool = True
    """A reconciler deletes the entries that it saw before it read, not those that have come since."""
    drain_under_lock: bool = True
    """`open` drains once more, under the lock of the new authority's tables."""
    epoch_guard: bool = True
    """A leader's step takes effect only while the store's epoch is the one that the leader knows."""
    undo_new_first: bool = True
    """A next leader's undo raises the new side's epoch first, so that a late `open` of the move fails."""
    open_sees_claimed: bool = True
    """The drain inside `open` looks at entries that a reconciler has claimed, too."""
    newer_in_same_store: bool = True
    """A newer entry excuses from verifying the older ones of the same store, and only those."""
    entries_outlive_open: bool = True
    """The drain inside `open` leaves the old store's entries alone: its own transaction may yet be rolled back."""
    table_before_row: bool = True
    """A repair takes its lock on the table before it locks the row, so that it cannot wait for `open` in a ring."""
    list_both_captures: bool = True
    """The list after a forced rollback is made from the captured keys of both stores."""
    list_only_older: bool = True
    """Of legacy, only what was captured before it was opened by force."""
    fence_before_list: bool = True
    """The lost store refuses authors before the list is made."""
    epoch_with_fence: bool = True
    """The fence of the store that was lost comes with the new epoch, in one transaction."""
    check_landed: bool = True
    """The rows of a chunk that has landed are looked for in legacy once more: they were inserted uncaptured."""
    check_after_commit: bool = True
    """That check reads legacy after the chunk's commit, not before it."""
    land_once: bool = True
    """A chunk is noted as landed in the transaction that inserts its rows, and lands only if it is pending."""
    note_with_done: bool = True
    """What the check finds is noted in the transaction that says that the chunk is done."""
    move_when_checked: bool = True
    """No move begins before every chunk has been checked; that it has landed is not enough."""
    row_lock_in_repair: bool = True
    """A repair locks the follower's row and reads the authority again. For freshness, not for safety."""
    drain_before_lock: bool = True
    """The lock is taken when nothing is captured any more. For a short pause, not for safety."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who takes part. Writes and moves may come any number of times; the numbers say what is under way at once."""

    rules: Rules = field(default_factory=Rules)
    late_writes: int = 2
    """Follower writes that may be on their way at the same time."""
    reconcilers: int = 1
    moves: bool = True
    superseded_leader: bool = False
    """A leader may lose its lock, not know it, and go on later."""
    deletes: bool = False
    workers: int = 0
    """The row is in legacy alone at first, and so many workers of the backfill copy it."""
    parent_authority: int | None = None
    """The row is a child; its parent belongs to this store all the time."""
    loss: bool = False
    """The target has the authority, is lost, and legacy is opened by force."""


CONFIGURATIONS = {
    "one reconciler": Configuration(),
    "deletes": Configuration(late_writes=1, deletes=True),
    "two reconcilers": Configuration(late_writes=2, reconcilers=2, moves=False),
    "superseded leader": Configuration(late_writes=0, superseded_leader=True),
    "backfill": Configuration(late_writes=1, moves=False, deletes=True, workers=2),
    "backfill, moves": Configuration(late_writes=0, deletes=True, workers=2),
    "parent in legacy": Configuration(late_writes=0, parent_authority=LEGACY),
    "parent in target": Configuration(late_writes=0, parent_authority=TARGET),
    "lost store": Configuration(late_writes=1, moves=False, deletes=True, loss=True),
    "lost store, moves": Configuration(late_writes=0, loss=True),
}
"""Small enough to be explored whole whenever the tests run."""

LARGER = {
    "deletes, two late writes": Configuration(deletes=True),
    "two reconcilers, deletes": Configuration(reconcilers=2, moves=False, deletes=True),
    "two reconcilers, moves": Configuration(late_writes=0, reconcilers=2),
    "superseded leader, a late write": Configuration(late_writes=1, superseded_leader=True),
    "backfill, two reconcilers": Configuration(
        late_writes=0, reconcilers=2, moves=False, deletes=True, workers=2
    ),
    "backfill, moves, a late write": Configuration(late_writes=1, deletes=True, workers=2),
    "parent in legacy, a late write": Configuration(late_writes=1, parent_authority=LEGACY),
    "parent in target, a late write": Configuration(late_writes=1, parent_authority=TARGET),
    "parent in legacy, two reconcilers": Configuration(
        late_writes=1, reconcilers=2, moves=False, parent_authority=LEGACY
    ),
    "parent in target, two reconcilers": Configuration(
        late_writes=1, reconcilers=2, moves=False, parent_authority=TARGET
    ),
    "lost store, moves, a late write": Configuration(late_writes=1, loss=True),
}
"""Explored as far as a limit whenever the tests run, and whole on request."""
