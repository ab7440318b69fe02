"""Which step has which gates, over the whole table of moves."""

from __future__ import annotations

from itertools import product, takewhile
from pathlib import Path

import pytest

from crossfade.gates.applying import applying
from crossfade.gates.bounds import still_needed
from crossfade.gates.gate import Gate, GateName, NoGates
from crossfade.stages import MOVES, PLANS, Side, Stage, Topology, is_forward
from crossfade.thresholds import GateThresholds

DOCS = Path(__file__).parents[2] / "docs" / "gates.md"

FORWARD = sorted(move for move in MOVES if is_forward(*move))
BACK = sorted(move for move in MOVES if not is_forward(*move))

SEPARATE = {
    Stage.DUALWRITE: "captured indexed",
    Stage.SHADOW: "captured indexed backfilled verified lag errors",
    Stage.LIVE: "captured indexed backfilled verified lag errors comparisons latency sequences",
    Stage.RAMPDOWN: "captured indexed backfilled verified lag errors comparisons latency",
    Stage.COMPLETE: "captured indexed backfilled verified lag errors settled",
}
SHARED = {
    Stage.DUALWRITE: "",
    Stage.SHADOW: "errors",
    Stage.LIVE: "errors comparisons latency",
    Stage.RAMPDOWN: "errors comparisons latency",
    Stage.COMPLETE: "errors",
}
TABLES = {Topology.SEPARATE: SEPARATE, Topology.SHARED: SHARED}


@pytest.mark.parametrize(("topology", "move"), list(product(Topology, FORWARD)))
def test_each_step_forward_has_its_gates(topology: Topology, move: tuple[Stage, Stage]) -> None:
    """This is the table that the documentation shows."""
    current, wanted = move

    assert set(TABLES[topology][wanted].split()) == applying(topology, current, wanted)


@pytest.mark.parametrize(("topology", "move"), list(product(Topology, BACK)))
def test_the_way_back_is_open(topology: Topology, move: tuple[Stage, Stage]) -> None:
    """The one step back that leaves a store without writes waits out a lease; nothing else is asked."""
    leaves = topology is Topology.SEPARATE and move == (Stage.DUALWRITE, Stage.OFF)

    assert ({GateName.SETTLED} if leaves else set()) == applying(topology, *move)


@pytest.mark.parametrize(("topology", "stage"), list(product(Topology, Stage)))
def test_staying_needs_nothing(topology: Topology, stage: Stage) -> None:
    """A model that is where it is asked to be has no gate before it."""
    assert frozenset() == applying(topology, stage, stage)


@pytest.mark.parametrize(("topology", "move"), list(product(Topology, FORWARD)))
def test_comparisons_are_asked_for_exactly_where_there_are_some(
    topology: Topology, move: tuple[Stage, Stage]
) -> None:
    """A gate that cannot be fed would never open, and a shadow that is not judged would be for nothing."""
    shadow = PLANS[topology][move[0]].shadow

    assert (shadow is not None) is (GateName.COMPARISONS in applying(topology, *move))


@pytest.mark.parametrize(("topology", "move"), list(product(Topology, FORWARD)))
def test_who_answers_next_has_been_seen_to_answer(topology: Topology, move: tuple[Stage, Stage]) -> None:
    """Before the new side answers callers for the first time, its answers, times and failures have been judged."""
    before, after = (PLANS[topology][stage] for stage in move)
    if before.reads is Side.PRISMA and after.reads is Side.SQLALCHEMY:
        assert {GateName.COMPARISONS, GateName.LATENCY, GateName.ERRORS} <= applying(topology, *move)


def test_every_gate_is_asked_somewhere() -> None:
    """And none is without words for where it does not hold."""
    asked = frozenset[GateName]().union(*(applying(Topology.SEPARATE, *move) for move in MOVES))

    assert set(GateName) == asked
    for name in GateName:
        why = Gate("Book", name, "3 of 4", "wait").why
        assert why.startswith("it")
        assert why.endswith(": 3 of 4; wait")


async def test_without_gates_everything_passes() -> None:
    """For whoever wants none."""
    assert [] == await NoGates().unmet(["Book"], Stage.SHADOW, Stage.LIVE)
    assert {"Book": []} == await NoGates().read(["Book"])


def rows(title: str) -> list[list[str]]:
    """The rows of the documentation's table that begins with a title."""
    lines = DOCS.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {title} |"))
    table = takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table]


def test_the_documentation_has_the_table_of_steps() -> None:
    """Step by step, and no gate too many."""
    told = {step: set(gates.split(", ")) for step, gates in rows("step to")}

    assert {str(stage): set(gates.split()) for stage, gates in SEPARATE.items()} == {
        step: gates for step, gates in told.items() if step in set(Stage)
    }
    assert {"settled"} == told["back to off"]


def test_the_documentation_has_every_gate_and_every_threshold() -> None:
    """With the defaults that are in force."""
    table = rows("gate")

    assert list(GateName) == list(dict.fromkeys(GateName(row[0]) for row in table))
    assert {f"gates.{name}": getattr(GateThresholds(), name) for name in GateThresholds.names()} == {
        name: float(default) for _, _, name, default in table if name != "–"
    }


def test_the_documentation_says_how_many_keys_it_takes() -> None:
    """As it is computed."""
    for bound, *needed in rows("bound"):
        assert [int(number.replace(",", "")) for number in needed] == [
            bad + still_needed(bad, bad, float(bound)) for bad in (0, 1, 3, 10)
        ]
