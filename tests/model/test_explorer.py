"""The explorer finds what there is to find, by the shortest way, in a system that everybody knows to be broken."""

from __future__ import annotations

from dataclasses import dataclass

from .explorer import Event, Kind, Successor, explore

READ = (Event("one reads", Kind.WORK), Event("two reads", Kind.WORK))
WRITE = (Event("one writes what it read, plus one"), Event("two writes what it read, plus one"))
STOLEN = (Event("one is stopped", Kind.FAULT), Event("two is stopped", Kind.FAULT))

TOTAL = 0
DONE = 1  # two bytes: how far each of two clerks has come
HELD = 3  # and what each has read


@dataclass(frozen=True)
class Clerks:
    """Two clerks add one each to a total, and read it before."""

    take_turns: bool
    initial: bytes = bytes(5)

    def successors(self, state: bytes) -> list[Successor]:
        """Who may do what."""
        out: list[Successor] = []
        for clerk in (0, 1):
            after = bytearray(state)
            if state[DONE + clerk] == 0 and not (self.take_turns and state[DONE + 1 - clerk] == 1):
                after[DONE + clerk], after[HELD + clerk] = 1, state[TOTAL]
                out.append((READ[clerk], after))
            elif state[DONE + clerk] == 1:
                stolen = after[:]
                after[DONE + clerk], after[HELD + clerk], after[TOTAL] = 2, 0, state[HELD + clerk] + 1
                out.append((WRITE[clerk], after))
                stolen[DONE + clerk] = 3
                out.append((STOLEN[clerk], stolen))
        return out

    def canonical(self, state: bytearray) -> bytes:
        """The clerks do not differ."""
        clerks = sorted([(state[DONE], state[HELD]), (state[DONE + 1], state[HELD + 1])])
        return bytes([state[TOTAL], clerks[0][0], clerks[1][0], clerks[0][1], clerks[1][1]])

    def broken(self, state: bytes) -> str | None:
        """Whether an addition is lost."""
        return "one is lost" if (state[DONE], state[DONE + 1], state[TOTAL]) == (2, 2, 1) else None

    def at_rest(self, state: bytes) -> bool:
        """Whether nobody has read and not yet written."""
        return not {state[DONE], state[DONE + 1]} & {1, 3}

    def describe(self, state: bytes) -> str:
        """The total."""
        return f"total {state[TOTAL]}"


def test_the_shortest_way_to_a_broken_invariant_is_told() -> None:
    """The lost update, in the four events that it takes."""
    found = explore(Clerks(take_turns=False))

    assert found.violation is not None
    assert tuple(event.text for event in (*READ, *WRITE)) == found.violation.events()
    assert str(found.violation).startswith("one is lost\n  0. at first")
    assert str(found.violation).endswith("| total 1")


def test_a_sound_system_is_explored_whole() -> None:
    """Turns: nothing is lost, and states that differ in names alone count once."""
    found = explore(Clerks(take_turns=True), liveness=False)

    assert found.violation is None
    assert found.complete
    assert {event.text for pair in (READ, WRITE, STOLEN) for event in pair} == found.events
    assert 10 == found.states


def test_a_state_that_cannot_come_to_rest_is_told() -> None:
    """A clerk that was stopped in the middle never goes on."""
    found = explore(Clerks(take_turns=True))

    assert found.stuck is not None
    assert (READ[0].text, STOLEN[0].text) == found.stuck.events()


def test_a_limit_ends_the_exploration_and_says_so() -> None:
    """What was not explored whole does not claim to be."""
    found = explore(Clerks(take_turns=True), limit=3)

    assert not found.complete
    assert found.stuck is None
