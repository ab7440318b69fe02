"""The backfill: it copies a row that it read some time ago, if the target does not have one.

A worker may stop with a copy in its hand while another one finishes its chunk, and insert it at any later time.
"""

from __future__ import annotations

from .configuration import Configuration
from .explorer import Event, Kind, Successor
from .layout import ABSENT, BACKFILL, COPIED, LEGACY, TARGET, VALUE
from .stores import Held, follower_writes, refuses_followers

TO_DO, DONE = 1, 2
IN_HAND = 4

READ = Event("backfill: read legacy")
INSERT = Event("backfill: insert into target what was read, if it is missing")
REFUSED = Event("backfill: is refused by target (XF002), drop the copy")
COPY = Event("backfill: another worker reads legacy and inserts into target")
CRASH = Event("crash: the backfill, with a copy in hand", Kind.FAULT)


def to_do(state: bytes) -> bool:
    """Whether the row has still to be copied; no move begins before that."""
    return state[BACKFILL] & 3 == TO_DO


def at_rest(state: bytes) -> bool:
    """Whether the backfill has ended, or was never asked for."""
    return state[BACKFILL] in {0, DONE}


def backfill(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What the backfill may do next."""
    if to_do(state):
        after = bytearray(state)
        if not state[BACKFILL] & IN_HAND:
            after[BACKFILL] |= IN_HAND
            after[COPIED] = state[VALUE + LEGACY]
            out.append((READ, after))
        elif not held.waits(TARGET):
            after[BACKFILL] = DONE | IN_HAND
            _insert(after, configuration, state[VALUE + LEGACY])
            out.append((COPY, after))
    if state[BACKFILL] & IN_HAND:
        gone = bytearray(state)
        gone[BACKFILL] &= ~IN_HAND
        gone[COPIED] = 0
        out.append((CRASH, gone))
        after = gone[:]
        after[BACKFILL] = DONE
        if refuses_followers(state, TARGET):
            out.append((REFUSED, after))
        elif not held.waits(TARGET):
            _insert(after, configuration, state[COPIED])
            out.append((INSERT, after))


def _insert(after: bytearray, configuration: Configuration, version: int) -> None:
    if version != ABSENT and after[VALUE + TARGET] == ABSENT:
        follower_writes(after, configuration, TARGET, version)
