"""Visit every state that a system can reach, breadth first, and keep the shortest way to each.

The explorer knows nothing of stores and writers. A system hands it the states that may come next; the explorer asks
of each new one whether an invariant is broken. What it finds is shown as a trace: the events on the shortest way there.

A state is a string of bytes, one byte per field. `canonical` maps states that behave alike to one representative
(equal up to the numbering of versions, say), so that the unbounded becomes finite. A trace is replayed without it,
which is why the numbers in a trace grow as they would in life.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol


class Kind(Enum):
    """What sort of event it is; a system must be able to come to rest by progress alone."""

    WORK = auto()
    """Something new begins: a write, a move. Nobody has to."""
    PROGRESS = auto()
    """Something that has begun goes on."""
    FAULT = auto()
    """A crash, a timeout, a store that is lost."""


class Event(NamedTuple):
    """One atomic thing that an actor does."""

    text: str
    kind: Kind = Kind.PROGRESS


Successor = tuple[Event, bytearray]


class System(Protocol):
    """What can be explored."""

    @property
    def initial(self) -> bytes:
        """The state in which everything begins."""

    def successors(self, state: bytes) -> Iterable[Successor]:
        """Every event that may come next, and the state that it leads to."""

    def canonical(self, state: bytearray) -> bytes:
        """The representative of all states that behave like this one."""

    def broken(self, state: bytes) -> str | None:
        """Which invariant does not hold in this state, if any."""

    def at_rest(self, state: bytes) -> bool:
        """Whether nothing is under way."""

    def describe(self, state: bytes) -> str:
        """The state, for a person who reads a trace."""


class TraceLine(NamedTuple):
    """One event of a trace and the state after it."""

    event: str
    state: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The shortest way to a state that should not be."""

    problem: str
    lines: tuple[TraceLine, ...]

    def __str__(self) -> str:
        width = max(len(line.event) for line in self.lines)
        shown = [
            f"{number:3}. {line.event:{width}}  | {line.state}" for number, line in enumerate(self.lines)
        ]
        return "\n".join([self.problem, *shown])

    def events(self) -> tuple[str, ...]:
        """What happened, in order."""
        return tuple(line.event for line in self.lines[1:])


@dataclass(frozen=True, slots=True)
class Exploration:
    """What an exploration came to.

    `violation` leads to the first broken invariant, `stuck` to a state that cannot come to rest.
    """

    states: int
    transitions: int
    depth: int
    at_rest: int
    complete: bool
    events: frozenset[str]
    violation: Trace | None = None
    stuck: Trace | None = None

    def __str__(self) -> str:
        extent = "all" if self.complete else "bounded"
        return (
            f"{self.states:,} states ({extent}), {self.transitions:,} transitions, depth {self.depth}, "
            f"{self.at_rest:,} at rest"
        )


def explore(system: System, *, limit: int = 5_000_000, liveness: bool = True) -> Exploration:
    """Visit every reachable state, or stop at the first that breaks an invariant.

    Args:
        system: what to explore.
        limit: stop after this many states; the result says that it is not complete.
        liveness: also ask whether every state can come to rest by progress alone. Only a complete exploration can tell.
    """
    canonical, successors = system.canonical, system.successors
    first = canonical(bytearray(system.initial))
    index: dict[bytes, int] = {first: 0}
    order: list[bytes] = [first]
    parent = array("i", [-1])
    level = array("i", [0])
    resting: list[int] = []
    sources, targets = array("i"), array("i")
    texts: set[str] = set()
    transitions = here = 0

    def result(**found: Trace | None) -> Exploration:
        complete = here >= len(order)
        return Exploration(
            len(order), transitions, level[-1], len(resting), complete, frozenset(texts), **found
        )

    if problem := system.broken(first):
        return result(violation=_trace(system, [first], problem))
    if system.at_rest(first):
        resting.append(0)
    while here < len(order) <= limit:
        for event, raw in successors(order[here]):
            transitions += 1
            texts.add(event.text)
            state = canonical(raw)
            there = index.get(state)
            if there is None:
                there = index[state] = len(order)
                order.append(state)
                parent.append(here)
                level.append(level[here] + 1)
                if problem := system.broken(state):
                    return result(violation=_trace(system, _path(order, parent, there), problem))
                if system.at_rest(state):
                    resting.append(there)
            if liveness and event.kind is Kind.PROGRESS and there != here:
                sources.append(here)
                targets.append(there)
        here += 1
    if not liveness or here < len(order):
        return result()
    restless = _first_that_cannot_rest(len(order), resting, sources, targets)
    if restless is None:
        return result()
    problem = "from here the system cannot come to rest without a further fault"
    return result(stuck=_trace(system, _path(order, parent, restless), problem))


def _first_that_cannot_rest(
    count: int, resting: list[int], sources: array[int], targets: array[int]
) -> int | None:
    """Walk the progress edges backwards from the states at rest; name the first state that was not met."""
    start = array("i", bytes(4 * (count + 1)))
    for target in targets:
        start[target + 1] += 1
    for state in range(count):
        start[state + 1] += start[state]
    fill = start[:]
    incoming = array("i", bytes(4 * len(sources)))
    for source, target in zip(sources, targets, strict=True):
        incoming[fill[target]] = source
        fill[target] += 1
    good = bytearray(count)
    for state in resting:
        good[state] = 1
    pending = list(resting)
    while pending:
        state = pending.pop()
        for source in incoming[start[state] : start[state + 1]]:
            if not good[source]:
                good[source] = 1
                pending.append(source)
    missed = good.find(0)
    return None if missed < 0 else missed


def _path(order: list[bytes], parent: array[int], end: int) -> list[bytes]:
    path = []
    while end >= 0:
        path.append(order[end])
        end = parent[end]
    return path[::-1]


def _trace(system: System, path: list[bytes], problem: str) -> Trace:
    """Replay a path without canonical forms, so that the numbers in it grow as they would in life."""
    state = system.initial
    lines = [TraceLine("at first", system.describe(state))]
    for wanted in path[1:]:
        event, raw = next(
            (event, raw) for event, raw in system.successors(state) if system.canonical(raw) == wanted
        )
        state = bytes(raw)
        lines.append(TraceLine(event.text, system.describe(state)))
    return Trace(problem, tuple(lines))
