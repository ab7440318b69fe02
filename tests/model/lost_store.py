"""The target has the authority and is lost; `rollback --force` opens legacy without it.

What was written to the target last and never arrived cannot be saved by anybody. The promise is that it is listed: once
the target answers again it is fenced first, and then the captured keys of both stores are compared.
"""

from __future__ import annotations

from . import capture
from .conductor import lose
from .configuration import Configuration
from .explorer import Event, Kind, Successor
from .layout import (
    ACKNOWLEDGED,
    AUTHORITY,
    CHANGES,
    EPOCH,
    EPOCHS,
    LEGACY,
    LIST,
    LOSS,
    MOVING,
    TARGET,
    VALUE,
)
from .stores import (
    CAPTURED_IN_LEGACY,
    DOWN,
    FENCED,
    FORCED,
    JOINED,
    LISTED,
    LISTED_IN_VAIN,
    MISSED,
    OVERWRITTEN,
    OWED,
    RETURNED,
    UP,
    Held,
    set_fence,
)

LOST = Event("fault: target is lost", Kind.FAULT)
BACK = Event("target answers again")
FORCE = Event("rollback --force: open legacy without target", Kind.WORK)
BACK_AFTER_FORCE = Event("target answers again, after legacy was opened by force")
FENCE_TARGET = Event("rollback --force: target refuses authors")
MAKE_LIST = Event("rollback --force: list the keys that never arrived")
JOIN = Event("rollback --force: target follows from now on")


def lost_store(state: bytes, configuration: Configuration, held: Held, out: list[Successor]) -> None:
    """What may become of the target."""
    loss = state[LOSS]
    after = bytearray(state)
    if loss == UP:
        after[LOSS] = DOWN
        lose(after, TARGET)
        out.append((LOST, after))
    elif loss == DOWN:
        after[LOSS] = UP
        out.append((BACK, after))
        plain = state[AUTHORITY + LEGACY] == LEGACY and not state[MOVING + LEGACY]
        if not plain and not held.waits(LEGACY):
            out.append((FORCE, _force(bytearray(state), configuration)))
    elif loss == FORCED:
        after[LOSS] = RETURNED
        out.append((BACK_AFTER_FORCE, after))
    elif loss == RETURNED and configuration.rules.fence_before_list:
        if not held.waits(TARGET):
            set_fence(after, configuration, TARGET, authors=True, followers=True)
            if configuration.rules.epoch_with_fence:
                _adopt_epoch(after)
            after[LOSS] = FENCED
            out.append((FENCE_TARGET, after))
    elif loss in {RETURNED, FENCED}:
        _list(after, configuration)
        out.append((MAKE_LIST, after))
    elif loss == LISTED and not held.waits(TARGET):
        _join(after, configuration)
        out.append((JOIN, after))


def _force(after: bytearray, configuration: Configuration) -> bytearray:
    set_fence(after, configuration, LEGACY, authors=False, followers=True)
    after[EPOCH + LEGACY] = max(after[EPOCHS]) + 2  # far ahead of whatever the target may say
    after[AUTHORITY + LEGACY] = LEGACY
    after[MOVING + LEGACY] = 0
    after[LOSS] = FORCED
    after[ACKNOWLEDGED] = after[VALUE + LEGACY]
    after[LIST] = CAPTURED_IN_LEGACY if after[CHANGES + LEGACY] != capture.NONE else 0
    if after[AUTHORITY + TARGET] == TARGET and after[VALUE + TARGET] != after[VALUE + LEGACY]:
        after[LIST] |= OWED
    return after


def _adopt_epoch(after: bytearray) -> None:
    after[EPOCH + TARGET] = after[EPOCH + LEGACY]
    after[MOVING + TARGET] = 0


def _list(after: bytearray, configuration: Configuration) -> None:
    """List the key, or not; then say whether that was right."""
    known = after[LIST]
    captured = after[CHANGES + TARGET] != capture.NONE
    in_question = captured or bool(known & CAPTURED_IN_LEGACY)
    if configuration.rules.list_both_captures:
        captured = in_question
    if not configuration.rules.list_only_older:
        captured = captured or after[CHANGES + LEGACY] != capture.NONE
    was_authority = after[AUTHORITY + TARGET] == TARGET
    listed = was_authority and captured and after[VALUE + TARGET] != after[VALUE + LEGACY]
    after[LIST] = 0
    after[LOSS] = LISTED
    if known & OWED and not listed:
        after[LIST] = MISSED
    elif listed and not known & OWED and not (in_question and known & OVERWRITTEN):
        after[LIST] = LISTED_IN_VAIN


def _join(after: bytearray, configuration: Configuration) -> None:
    """The target follows legacy; what came to it after the list was made has been missed."""
    after[LIST] = MISSED if after[LIST] & OWED else 0
    set_fence(after, configuration, TARGET, authors=True, followers=False)
    _adopt_epoch(after)
    after[AUTHORITY + TARGET] = LEGACY
    after[LOSS] = JOINED
