"""The captured entries of one key in one store, abstracted to what the protocol can tell apart.

An entry is unclaimed, or claimed by one of two reconcilers. Only the order of the *last* entry of each kind matters:
entries of one kind are claimed, given back and deleted together, and "is there a newer entry than mine?" asks for the
last. So the entries are a sequence without repetition, and a sequence is a number: its place in `SEQUENCES`.
"""

from __future__ import annotations

from itertools import permutations

UNCLAIMED, FIRST, SECOND = 0, 1, 2
OWNERS = ("new", "claimed by 1", "claimed by 2")

Sequence = tuple[int, ...]

SEQUENCES: tuple[Sequence, ...] = tuple(
    sequence for length in range(4) for sequence in permutations((UNCLAIMED, FIRST, SECOND), length)
)
_CODE = {sequence: code for code, sequence in enumerate(SEQUENCES)}

NONE = _CODE[()]


def _code(owners: list[int]) -> int:
    last_of_each = [owner for place, owner in enumerate(owners) if owner not in owners[place + 1 :]]
    return _CODE[tuple(last_of_each)]


def _renamed(sequence: Sequence, owner: int, to: int) -> int:
    return _code([to if each == owner else each for each in sequence])


def _without(sequence: Sequence, owner: int) -> int:
    return _code([each for each in sequence if each != owner])


CAPTURED = tuple(_code([*sequence, UNCLAIMED]) for sequence in SEQUENCES)
"""After one more entry."""

HAS_UNCLAIMED = tuple(UNCLAIMED in sequence for sequence in SEQUENCES)
"""Whether there is an entry that nobody has claimed."""

OWNED_BY = (FIRST, SECOND)

CLAIMED = {owner: tuple(_renamed(each, UNCLAIMED, owner) for each in SEQUENCES) for owner in OWNED_BY}
"""After an owner has claimed what is unclaimed."""

RELEASED = {owner: tuple(_renamed(each, owner, UNCLAIMED) for each in SEQUENCES) for owner in OWNED_BY}
"""After an owner has given back what it has."""

DELETED = {owner: tuple(_without(each, owner) for each in SEQUENCES) for owner in OWNED_BY}
"""After an owner has deleted what it has."""

HAS_NEWER = {owner: tuple(owner in each[:-1] for each in SEQUENCES) for owner in OWNED_BY}
"""Whether an owner's entries are followed by another's or by an unclaimed one."""

WITHOUT_UNCLAIMED = tuple(_without(each, UNCLAIMED) for each in SEQUENCES)
"""After what is unclaimed has been deleted."""

SWAPPED = tuple(_code([(UNCLAIMED, SECOND, FIRST)[owner] for owner in each]) for each in SEQUENCES)
"""When the reconcilers swap places."""
