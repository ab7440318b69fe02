"""The backfill: workers copy a row that they read some time ago, uncaptured, and check afterwards what they have done.

The row is a chunk of one. It is read in legacy, inserted into the target if that has none, and the chunk is noted as
landed in the same transaction. What was deleted from legacy meanwhile, and verified while the copy was not yet to be
seen, is a ghost in the target then: no entry tells of it. So a landed chunk is checked before it is done: by
new readings of both stores, one after the other, in either order. Any worker may do that, and any may die.

That a worker holds the chunk's lock is left out: two may have the same chunk in hand, and one may go on at any later
time. What is asked is whether noting the chunk in the transaction that inserts is enough.
"""

from __future__ import annotations

from .configuration import Configuration
from .explorer import Event, Kind, Successor
from .layout import ABSENT, BACKFILL, CHANGES, COPIED, LEGACY, TARGET, VALUE, WORKER
from .stores import Held, note, refuses_followers

PENDING, LANDED, DONE = 1, 2, 3
"""The states of the chunk."""

(
    IDLE,
    IN_HAND,
    INSERTED,
    LEGACY_LACKS,
    TARGET_HAS,
    SOUND,
    GHOST,
    TOO_EARLY_SOUND,
    TOO_EARLY_GHOST,
    TO_NOTE,
    TOO_LATE,
) = range(11)
"""How far a worker has come. Some are of rules that were removed: a chunk that is noted as landed after it has been
committed, a check that is made before that, a ghost that is noted after the chunk is done. In the last one, another
worker was faster, and it does not matter any more what this one has read."""
REGULAR = frozenset({IN_HAND, LEGACY_LACKS, TARGET_HAS, SOUND, GHOST, TOO_LATE})
"""Where a worker may stand while all rules are in force."""

_WHO = ("backfill 1", "backfill 2")
_Each = tuple[Event, ...]


def _each(text: str) -> _Each:
    return tuple(Event(f"{who}: {text}") for who in _WHO)


READ = _each("read legacy")
LAND = _each("insert what was read into target, if it is missing there; the chunk has landed")
INSERT = _each("insert what was read into target, if it is missing there")
NOTE_LANDED = _each("note that the chunk has landed")
DONE_FIRST = _each("check: the chunk is done, a row is still to be noted")
NOTE_GHOST = _each("check: note that the row is to be verified in target")
TAKEN = _each("find that another was faster, drop what it has read")
REFUSED = _each("is refused by target (XF002), drop the copy")
LEGACY_HAS_IT = _each("check: read legacy, the row is there")
LEGACY_LACKS_IT = _each("check: read legacy, the row is not there")
TARGET_HAS_IT = _each("check: read target, the row is there")
TARGET_LACKS_IT = _each("check: read target, the row is not there")
FINISH = _each("check: nothing to verify; the chunk is done")
FINISH_GHOST = _each("check: note that the row is to be verified in target; the chunk is done")
CRASHES = {
    status: tuple(Event(f"crash: {who} dies {when}", Kind.FAULT) for who in _WHO)
    for status, when in {
        IN_HAND: "with a copy in hand",
        INSERTED: "before it notes that the chunk has landed",
        LEGACY_LACKS: "in its check, having read legacy",
        TARGET_HAS: "in its check, having read target",
        SOUND: "in its check, with nothing to verify",
        GHOST: "in its check, having found a ghost",
        TOO_EARLY_SOUND: "having checked before the chunk lands",
        TOO_EARLY_GHOST: "having checked before the chunk lands",
        TO_NOTE: "before it notes the ghost",
        TOO_LATE: "after another was faster",
    }.items()
}


def is_backfilled(state: bytes, configuration: Configuration) -> bool:
    """Whether a move may begin."""
    return state[BACKFILL] in ({0, DONE} if configuration.rules.move_when_checked else {0, LANDED, DONE})


def at_rest(state: bytes) -> bool:
    """Whether the backfill has ended, or was never asked for."""
    return state[BACKFILL] in {0, DONE} and not state[WORKER] and not state[WORKER + 1]


def backfill(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What each worker may do next."""
    for worker in range(configuration.workers):
        status = state[WORKER + worker]
        if status == IDLE:
            _begin(state, worker, out)
            continue
        idle = bytearray(state)
        idle[WORKER + worker] = IDLE
        idle[COPIED + worker] = 0
        out.append((CRASHES[status][worker], idle))
        if status == TOO_LATE:
            out.append((TAKEN[worker], idle[:]))
        elif status in {IN_HAND, TOO_EARLY_SOUND, TOO_EARLY_GHOST}:
            _land(state, idle[:], configuration, worker, held, out)
        elif status == INSERTED:
            after = idle[:]
            after[BACKFILL] = LANDED
            out.append((NOTE_LANDED[worker], after))
        elif status == TO_NOTE:
            after = idle[:]
            note(after, CHANGES + TARGET)
            out.append((NOTE_GHOST[worker], after))
        elif status == LEGACY_LACKS:
            _read_target(state, worker, GHOST, out)
        elif status == TARGET_HAS:
            _read_legacy(state, worker, GHOST, out)
        else:
            _finish(state, idle[:], configuration, worker, out)


def _begin(state: bytes, worker: int, out: list[Successor]) -> None:
    if state[BACKFILL] == PENDING:
        after = bytearray(state)
        after[WORKER + worker] = IN_HAND
        after[COPIED + worker] = state[VALUE + LEGACY]
        out.append((READ[worker], after))
    elif state[BACKFILL] == LANDED:
        _read_legacy(state, worker, LEGACY_LACKS, out)
        _read_target(state, worker, TARGET_HAS, out)


def _read_legacy(state: bytes, worker: int, if_lacking: int, out: list[Successor]) -> None:
    """Read legacy's keys; if the row is there, no reading of the target makes a ghost of it."""
    after = bytearray(state)
    is_there = state[VALUE + LEGACY] != ABSENT
    after[WORKER + worker] = SOUND if is_there else if_lacking
    out.append(((LEGACY_HAS_IT if is_there else LEGACY_LACKS_IT)[worker], after))


def _read_target(state: bytes, worker: int, if_there: int, out: list[Successor]) -> None:
    after = bytearray(state)
    is_there = state[VALUE + TARGET] != ABSENT
    after[WORKER + worker] = if_there if is_there else SOUND
    out.append(((TARGET_HAS_IT if is_there else TARGET_LACKS_IT)[worker], after))


def _land(
    state: bytes,
    after: bytearray,
    configuration: Configuration,
    worker: int,
    held: Held,
    out: list[Successor],
) -> None:
    """Insert and commit. No repair's lock is in the way: a row that is not there cannot be locked."""
    rules, status = configuration.rules, state[WORKER + worker]
    if refuses_followers(state, TARGET):
        out.append((REFUSED[worker], after))
        return
    if held.tables[TARGET]:
        return
    if not rules.check_after_commit and status == IN_HAND:
        early = bytearray(state)
        is_ghost = state[COPIED + worker] != ABSENT and state[VALUE + LEGACY] == ABSENT
        early[WORKER + worker] = TOO_EARLY_GHOST if is_ghost else TOO_EARLY_SOUND
        out.append(((LEGACY_LACKS_IT if is_ghost else LEGACY_HAS_IT)[worker], early))
        return
    if after[VALUE + TARGET] == ABSENT:
        after[VALUE + TARGET] = state[COPIED + worker]
    if status == TOO_EARLY_GHOST:
        note(after, CHANGES + TARGET)
    if not rules.land_once:
        after[WORKER + worker] = INSERTED
        out.append((INSERT[worker], after))
        return
    after[BACKFILL] = LANDED if rules.check_landed and rules.check_after_commit else DONE
    _outrun(after, configuration, worker)
    out.append((LAND[worker], after))


def _finish(
    state: bytes, after: bytearray, configuration: Configuration, worker: int, out: list[Successor]
) -> None:
    """Note what was found and that the chunk is done, in one transaction."""
    after[BACKFILL] = DONE
    _outrun(after, configuration, worker)
    if state[WORKER + worker] != GHOST:
        out.append((FINISH[worker], after))
    elif configuration.rules.note_with_done:
        note(after, CHANGES + TARGET)
        out.append((FINISH_GHOST[worker], after))
    else:
        after[WORKER + worker] = TO_NOTE
        out.append((DONE_FIRST[worker], after))


def _outrun(after: bytearray, configuration: Configuration, worker: int) -> None:
    """The other worker can change nothing any more with what it has: it finds that the chunk's state is another."""
    other = 1 - worker
    if configuration.rules.land_once and after[WORKER + other]:
        after[WORKER + other] = TOO_LATE
        after[COPIED + other] = 0
