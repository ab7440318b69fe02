"""What happens inside a store: who is refused, who waits, what is captured."""

from __future__ import annotations

from typing import NamedTuple

from . import capture
from .configuration import Configuration
from .layout import (
    ABSENT,
    ACKNOWLEDGED,
    AUTHORS_REFUSED,
    CHANGES,
    FENCE,
    FOLLOWERS_REFUSED,
    LEGACY,
    LIST,
    LOSS,
    PARENT,
    PARENT_CHANGES,
    PARENT_LIFE,
    STORES,
    TARGET,
    VALUE,
)

NOT_LOST, UP, DOWN, FORCED, RETURNED, FENCED, LISTED, JOINED = range(8)
"""Where the configuration with a lost store stands."""

BY_FORCE = frozenset({FORCED, RETURNED, FENCED, LISTED})
"""Legacy has been opened by force, and what never arrived there is not yet settled."""

CAPTURED_IN_LEGACY, OWED, OVERWRITTEN, MISSED, LISTED_IN_VAIN = (1 << bit for bit in range(5))
"""What is known of the row then: legacy had captured it; the target has a write that never arrived; legacy has written
it since, so that nobody can tell; and what was wrong with the list."""


class Held(NamedTuple):
    """Locks that somebody holds, by store: on the tables (by `open`), and on the row (by a repair)."""

    tables: tuple[bool, bool]
    row: tuple[bool, bool]

    def waits(self, store: int) -> bool:
        """Whether a write of the row waits."""
        return self.tables[store] or self.row[store]


def answers(state: bytes | bytearray, store: int) -> bool:
    """Whether the store can be reached."""
    return store != TARGET or state[LOSS] not in {DOWN, FORCED}


def refuses_authors(state: bytes | bytearray, store: int) -> bool:
    """Whether an author would get XF001."""
    return bool(state[FENCE + store] & AUTHORS_REFUSED)


def refuses_followers(state: bytes | bytearray, store: int) -> bool:
    """Whether a follower would get XF002."""
    return bool(state[FENCE + store] & FOLLOWERS_REFUSED)


def set_fence(
    state: bytearray, configuration: Configuration, store: int, *, authors: bool, followers: bool
) -> None:
    """Say whom the store refuses from now on; a fence that was removed from the rules refuses nobody."""
    rules = configuration.rules
    state[FENCE + store] = (AUTHORS_REFUSED if authors and rules.refuse_authors else 0) | (
        FOLLOWERS_REFUSED if followers and rules.refuse_followers else 0
    )


def author_writes(state: bytearray, configuration: Configuration, store: int, version: int) -> None:
    """An author's statement: it is captured and acknowledged."""
    state[VALUE + store] = version
    if state[LOSS] not in BY_FORCE or store == LEGACY:
        state[ACKNOWLEDGED] = version
    if state[LOSS] in BY_FORCE:
        if store == LEGACY:
            state[LIST] |= OVERWRITTEN
        if state[VALUE + LEGACY] == state[VALUE + TARGET]:
            state[LIST] &= ~OWED  # deleted in both: what was to arrive has come to be
        elif store == TARGET:
            state[LIST] |= OWED
    if configuration.rules.capture_authors:
        note(state, CHANGES + store)


def follower_writes(state: bytearray, configuration: Configuration, store: int, version: int) -> None:
    """A follower's statement: captured like any other."""
    state[VALUE + store] = version
    if configuration.rules.capture_followers:
        note(state, CHANGES + store)


def note(state: bytearray, field: int) -> None:
    """Capture one touch."""
    state[field] = capture.CAPTURED[state[field]]


def has_parent(state: bytes | bytearray, store: int) -> bool:
    """Whether the foreign key would be satisfied."""
    return not state[PARENT_LIFE] or bool(state[PARENT + store])


def add_parent(state: bytearray, store: int) -> None:
    """The parent's row comes to be in a store."""
    state[PARENT + store] = 1
    note(state, PARENT_CHANGES + store)


def remove_parent(state: bytearray, store: int) -> None:
    """The parent's row goes, and the server's own cascade takes the child: no fence judges it, capture sees it."""
    state[PARENT + store] = 0
    note(state, PARENT_CHANGES + store)
    if state[VALUE + store] != ABSENT:
        state[VALUE + store] = ABSENT
        note(state, CHANGES + store)


def nothing_captured(state: bytes | bytearray) -> bool:
    """Whether every captured entry of the row has been settled, in both stores."""
    return all(state[CHANGES + store] == capture.NONE for store in STORES)
