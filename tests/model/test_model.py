"""The protocol holds in every reachable state, and no longer holds when one of its rules is removed.

By default the larger configurations are explored as far as `LIMIT` states; `MODEL=whole` in the environment explores
them whole. `pytest -rP tests/model` shows how many states there were.
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from . import backfill
from .conductor import CRASHES, STEPS
from .configuration import CONFIGURATIONS, LARGER, Configuration, Rules
from .explorer import Exploration, Trace, explore
from .protocol import Protocol

LIMIT = 40_000
WHOLE = os.environ.get("MODEL") == "whole"
PAGE = Path(__file__).parents[2] / "docs" / "model.md"

ONE = Configuration(late_writes=1)
TWO = Configuration(late_writes=1, reconcilers=2, moves=False)
SUPERSEDED = Configuration(late_writes=0, superseded_leader=True)
LOST = Configuration(loss=True, moves=False)
BACKFILL = Configuration(late_writes=0, moves=False, deletes=True, workers=2)

REMOVALS = {
    "refuse_authors": ONE,
    "refuse_followers": ONE,
    "capture_authors": ONE,
    "capture_followers": ONE,
    "delete_only_seen": ONE,
    "drain_under_lock": ONE,
    "epoch_guard": SUPERSEDED,
    "undo_new_first": SUPERSEDED,
    "open_sees_claimed": ONE,
    "newer_in_same_store": TWO,
    "list_both_captures": LOST,
    "list_only_older": LOST,
    "fence_before_list": LOST,
    "epoch_with_fence": Configuration(late_writes=0, loss=True),
    "check_landed": BACKFILL,
    "check_after_commit": BACKFILL,
    "land_once": BACKFILL,
    "note_with_done": BACKFILL,
    "move_when_checked": replace(BACKFILL, moves=True),
}
"""Rules that the promise rests on, and a configuration in which the lack of each shows."""

HAPPENS = {
    "one reconciler": {
        "a late follower write is refused by legacy (XF002)",
        "reconciler 1: is refused by target (XF002), give the claim back",
        "reconciler 1: find a newer entry in legacy and leave the key to it",
        "next leader: the record in legacy is not the one in force, bring it level",
        "next leader: the record in force says of a move away from legacy, undo it",
        *(crash[0][store].text for crash in CRASHES.values() for store in (0, 1)),
    },
    "deletes": {"an author deletes from target"},
    "two reconcilers": {"reconciler 2: find a newer entry in target and leave the key to it"},
    "superseded leader": {
        "superseded leader: the epoch in target has changed, step down",
        "superseded leader: the epoch in legacy has changed, step down",
        "superseded leader: open target: swap the fence, write the record, commit",
    },
    "backfill": {
        *(crash[0].text for status, crash in backfill.CRASHES.items() if status in backfill.REGULAR),
        *(event[0].text for event in (backfill.FINISH, backfill.FINISH_GHOST, backfill.TAKEN)),
        "reconciler 1: find a newer entry in target and leave the key to it",
    },
    "backfill, moves": {
        backfill.FINISH_GHOST[0].text,
        "leader: open target: swap the fence, write the record, commit",
        "crash: backfill 1 dies after another was faster",
    },
    "parent in legacy": {"reconciler 1: find no parent in target, settle the parent first"},
    "parent in target": {
        "reconciler 1: find no parent in target, settle the parent first",
        "leader: open target: the parent is missing there, roll back at once",
    },
    "lost store": {"reconciler 1: target does not answer, give the claim back"},
    "lost store, moves": {
        "rollback --force: target follows from now on",
        "leader: the epoch in legacy has changed, step down",
    },
}
"""Events without which a configuration would prove nothing: an invariant may hold because nothing ever goes wrong."""


def protocol(configuration: Configuration, *removed: str) -> Protocol:
    """The protocol without the rules that are named."""
    return Protocol(replace(configuration, rules=Rules(**dict.fromkeys(removed, False))))


def tell(name: str, found: Exploration) -> None:
    """Show what came out, and where something is wrong, how it comes to that."""
    print(f"{name}: {found}")  # noqa: T201 - the figures of docs/model.md
    for trace in (found.violation, found.stuck):
        if trace is not None:
            print(trace)  # noqa: T201


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_in_any_reachable_state(name: str) -> None:
    """Every state is visited, every invariant holds in it, and it can come to rest; the page tells the same number."""
    found = explore(protocol(CONFIGURATIONS[name]))
    tell(name, found)

    assert found.violation is None
    assert found.stuck is None
    assert found.complete
    assert 40_000 < found.states
    assert HAPPENS[name] <= found.events
    assert f"{found.states:,}" == figure(name)


@pytest.mark.parametrize("name", LARGER)
def test_nothing_is_lost_in_larger_configurations(name: str) -> None:
    """The same, as far as the limit goes; whole on request."""
    found = explore(protocol(LARGER[name]), limit=10_000_000 if WHOLE else LIMIT, liveness=WHOLE)
    tell(name, found)

    assert found.violation is None
    assert found.stuck is None
    assert LIMIT < found.states
    if WHOLE:
        assert found.complete
        assert f"{found.states:,}" == figure(name)


def figure(name: str) -> str:
    """How many states of a configuration the page tells of."""
    row = re.search(
        rf"^\| {re.escape(name)} \|.*\| ([\d,]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert row is not None, f"{PAGE.name} has no row for {name}"
    return row[1]


@pytest.mark.parametrize("rule", REMOVALS)
def test_every_rule_is_needed(rule: str) -> None:
    """Without it, some invariant breaks, and the trace tells in the words of the code how that comes about."""
    found = explore(protocol(REMOVALS[rule], rule), liveness=False)
    tell(f"without {rule}", found)

    assert found.violation is not None
    assert reads_like_a_story(found.violation)
    assert f"`{rule}`" in PAGE.read_text(encoding="utf-8")


def reads_like_a_story(trace: Trace) -> bool:
    """Whether every line of a trace says who does what, and to what state of both stores that leads."""
    who = (
        "an author ",
        "a late follower write ",
        "reconciler ",
        "leader: ",
        "next leader: ",
        "superseded leader: ",
    )
    what = (
        *who,
        "crash: ",
        "timeout: ",
        "fault: ",
        "rollback --force: ",
        "target answers again",
        "backfill ",
    )
    states = all("legacy " in state and "target " in state for _, state in trace.lines)
    return states and all(event.startswith(what) for event in trace.events())


def test_every_rule_is_either_removed_or_known_not_to_matter_for_safety() -> None:
    """No switch is left untried."""
    elsewhere = {"row_lock_in_repair", "drain_before_lock", "table_before_row", "entries_outlive_open"}

    assert set(Rules.__dataclass_fields__) == REMOVALS.keys() | elsewhere


@pytest.mark.parametrize("rule", ["row_lock_in_repair", "drain_before_lock"])
@pytest.mark.parametrize("configuration", [ONE, TWO], ids=["moves", "two reconcilers"])
def test_rules_for_freshness_and_a_short_pause_are_not_needed_for_safety(
    rule: str, configuration: Configuration
) -> None:
    """The row lock in a repair and the drain before the lock save work and waiting; nothing is lost without them."""
    found = explore(protocol(configuration, rule))
    tell(f"without {rule}", found)

    assert found.complete
    assert found.violation is None
    assert found.stuck is None


def test_a_repair_that_locks_the_row_before_the_table_waits_for_open_in_a_ring() -> None:
    """Nothing is lost, but both wait for each other until one of them has waited too long."""
    found = explore(protocol(ONE, "table_before_row"))
    tell("without table_before_row", found)

    assert found.violation is None
    assert found.stuck is not None
    assert "leader: open target: lock its tables" == found.stuck.events()[-1]


def test_the_fence_refuses_a_copy_that_comes_after_a_move() -> None:
    """Chunks land as followers: even if one could land after it is done, it would not where the authority is now."""
    found = explore(protocol(replace(BACKFILL, moves=True, deletes=False), "land_once"), liveness=False)
    tell("without land_once, nothing is deleted", found)

    assert found.complete
    assert found.violation is None
    assert backfill.REFUSED[0].text in found.events


def test_entries_of_the_old_store_outlive_a_drain_that_may_be_rolled_back() -> None:
    """Deleting them inside `open` is harmless only as long as the drain before it has left none."""
    assert explore(protocol(ONE, "entries_outlive_open"), liveness=False).violation is None

    found = explore(protocol(ONE, "entries_outlive_open", "drain_before_lock"), liveness=False)
    tell("without entries_outlive_open and drain_before_lock", found)
    assert found.violation is not None


def test_steps_are_named_as_in_the_code() -> None:
    """The model moves by the same steps as the mover, in the same order, and dies before each of them."""
    from crossfade.moving import Step

    assert tuple(step.value for step in Step) == STEPS
    found = explore(protocol(ONE), liveness=False)
    for step in STEPS:
        assert any(re.match(rf"leader: {step}\b", event) for event in found.events)
        assert any(event.startswith(f"crash: leader dies before {step},") for event in found.events)


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *LARGER])
def test_states_with_one_canonical_form_behave_alike(name: str) -> None:
    """On random walks: what a state can come to is what its canonical form can come to, up to who is called first."""
    system, chance = protocol({**CONFIGURATIONS, **LARGER}[name]), random.Random(name)

    def future(state: bytes) -> set[tuple[str, bytes]]:
        return {
            (re.sub(r"(reconciler|backfill) \d", r"\1", event.text), system.canonical(after))
            for event, after in system.successors(state)
        }

    for _ in range(30):
        state = system.initial
        for _ in range(60):
            assert future(system.canonical(bytearray(state))) == future(state)
            after = [after for _, after in system.successors(state) if max(after) < 250]
            if not after:  # nothing can happen any more, or the next number would not fit
                break
            state = bytes(chance.choice(after))
