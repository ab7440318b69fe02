"""What a state is made of: one byte per field, and the form in which states that behave alike are the same.

Two abstractions keep an unbounded system finite, and neither loses a behaviour:

* *Versions.* The protocol never looks into a value, it only asks whether two are equal. So versions are renumbered
  in the order in which they stand in the state; a new write takes the next free number. Any number of writes is
  covered.
* *Epochs.* They are compared, and the next one is the highest plus one. So only their order, and whether two
  are neighbours, can matter. Any number of moves is covered.

Actors of a kind are interchangeable: late follower writes and workers are sorted, and two reconcilers may swap places.
"""

from __future__ import annotations

from . import capture

LEGACY, TARGET = 0, 1
STORES = (LEGACY, TARGET)
NAMES = ("legacy", "target")
ABSENT = 0

# Versions of the row, first the ones in the stores. Fields that stand for both stores take two bytes, legacy first.
VALUE = 0
ACKNOWLEDGED = 2  # what the last acknowledged write made of the row
LATE_VALUE = 3  # two follower writes that are still to come
SEEN = 5  # what each of two reconcilers has read
PLANNED = 7  # what each of two leaders copies when it opens
COPIED = 9  # what each of two backfill workers has in hand
VERSIONS = slice(0, 11)

# A child in the store, whether it is there at all; used by the configuration with relations.
PARENT = 11
PARENT_LIFE = 13
PARENT_CHANGES = 14
SEEN_PARENT = 16  # what each of two reconcilers has read of it

LATE = 18  # 0: none; else 1 + 2 * kind + store
CHANGES = 20  # captured entries of the row, see `capture`
FENCE = 22  # AUTHORS_REFUSED | FOLLOWERS_REFUSED
AUTHORITY = 24  # the record: which store's side has the authority
MOVING = 26  # the record: 0, or 1 + the side the authority is moving to
RECONCILER = 28
CLAIM = 30  # what each of them has claimed, see `reconcilers`
LEADER = 32  # the leader, and one that has lost the lock and does not know it
LEAVING = 34  # the old side of the leader's move
BACKFILL = 36  # the chunk that the row is
WORKER = 37  # two workers of the backfill
LOSS = 39
LIST = 40

EPOCH = 41
EPOCH_LEAVING = 43  # the leader's idea of the epoch in the old store
EPOCH_JOINING = 45  # and in the new one
EPOCHS = slice(41, 47)
SIZE = 47

AUTHORS_REFUSED, FOLLOWERS_REFUSED = 1, 2

FOLLOW, PARENT_BORN, PARENT_DIED = 0, 1, 2
"""Kinds of late follower writes."""

_versions: dict[bytes, bytes] = {}
_epochs: dict[bytes, bytes] = {}


def canonical(state: bytearray) -> bytes:
    """The representative of all states that behave like `state`."""
    late, other_late = state[LATE], state[LATE + 1]
    mine = state[RECONCILER], state[CLAIM]
    others = state[RECONCILER + 1], state[CLAIM + 1]
    if late < other_late:
        state = _with_late_swapped(state)
    if mine < others:
        state = _with_reconcilers_swapped(state)
    if state[WORKER] < state[WORKER + 1]:
        state = _with_workers_swapped(state)
    both_copy = state[COPIED] != state[COPIED + 1] and state[WORKER] == state[WORKER + 1]
    if not (late and late == other_late) and not (mine[0] and mine == others) and not both_copy:
        return _numbered(state)
    alike = [state]
    if both_copy:
        alike.append(_with_workers_swapped(state))
    if late and late == other_late:
        alike += [_with_late_swapped(each) for each in alike]
    if mine[0] and mine == others:
        alike += [_with_reconcilers_swapped(each) for each in alike]
    return min(map(_numbered, alike))


def _with_late_swapped(state: bytearray) -> bytearray:
    return _swapped(state, LATE, LATE_VALUE)


def _with_workers_swapped(state: bytearray) -> bytearray:
    return _swapped(state, WORKER, COPIED)


def _with_reconcilers_swapped(state: bytearray) -> bytearray:
    swapped = _swapped(state, RECONCILER, CLAIM, SEEN, SEEN_PARENT)
    for field in (CHANGES, CHANGES + 1, PARENT_CHANGES, PARENT_CHANGES + 1):
        swapped[field] = capture.SWAPPED[swapped[field]]
    return swapped


def _swapped(state: bytearray, *fields: int) -> bytearray:
    swapped = state[:]
    for field in fields:
        swapped[field], swapped[field + 1] = state[field + 1], state[field]
    return swapped


def _numbered(state: bytearray) -> bytes:
    versions, epochs = bytes(state[VERSIONS]), bytes(state[EPOCHS])
    renumbered = _versions.get(versions)
    if renumbered is None:
        renumbered = _versions[versions] = _renumber(versions)
    ranked = _epochs.get(epochs)
    if ranked is None:
        ranked = _epochs[epochs] = _rank(epochs)
    return renumbered + state[VERSIONS.stop : EPOCHS.start] + ranked


def _renumber(versions: bytes) -> bytes:
    names = {ABSENT: ABSENT}
    return bytes(names.setdefault(version, len(names)) for version in versions)


def _rank(epochs: bytes) -> bytes:
    ranks, rank, before = {0: 0}, 0, 0
    for epoch in sorted(set(epochs) - {0}):
        rank += min(epoch - before, 2) if before else 1
        ranks[epoch], before = rank, epoch
    return bytes(ranks[epoch] for epoch in epochs)


def fresh(state: bytes) -> int:
    """A version that no part of the state has seen."""
    return max(state[VERSIONS]) + 1


def shown(version: int) -> str:
    """A version in a trace."""
    return f"v{version}" if version else "-"


def describe(state: bytes) -> str:
    """The state in one line."""
    parts = [
        f"{name} {shown(state[VALUE + store])}{_entries(state[CHANGES + store])} {_doors(state[FENCE + store])}"
        f" e{state[EPOCH + store]}{'*' if state[MOVING + store] else ''}"
        for store, name in enumerate(NAMES)
    ]
    parts.append(f"acknowledged {shown(state[ACKNOWLEDGED])}")
    late = [
        f"{('', 'parent born ', 'parent died ')[(state[LATE + slot] - 1) // 2]}{shown(state[LATE_VALUE + slot])}"
        f" to {NAMES[(state[LATE + slot] - 1) % 2]}"
        for slot in (0, 1)
        if state[LATE + slot]
    ]
    if late:
        parts.append(f"on the way: {', '.join(late)}")
    in_hand = [shown(version) for version in state[COPIED : COPIED + 2] if version]
    if state[BACKFILL]:
        copies = f", in hand {' and '.join(in_hand)}" if in_hand else ""
        parts.append(f"chunk {('', 'pending', 'landed', 'done')[state[BACKFILL]]}{copies}")
    if state[PARENT_LIFE]:
        parents = "/".join(
            ("-", "there")[state[PARENT + store]] + _entries(state[PARENT_CHANGES + store])
            for store in STORES
        )
        parts.append(f"parent {parents}")
    return "; ".join(parts)


def _entries(code: int) -> str:
    shown_entries = capture.SEQUENCES[code]
    return f" [{' '.join(capture.OWNERS[owner] for owner in shown_entries)}]" if shown_entries else ""


def _doors(fence: int) -> str:
    return ("takes all", "takes followers", "takes authors", "takes none")[fence]
