"""What a lane asks for, executed on a store of dictionaries, is what its journal vouches for."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from crossfade.drill.application import operation
from crossfade.drill.bare import statements
from crossfade.drill.journal import JournalFile, Outcome, What
from crossfade.drill.judge import Judge, Stored
from crossfade.drill.lane import FOREIGN_KEY, UNIQUE, Abilities, Lane, Order, Verb, Write
from crossfade.drill.models import MODELS, SCHEMA, SHARED
from crossfade.operation import Action

EVERYTHING = Abilities(refusals=True, swaps=True)
START = Stored({}, dict.fromkeys((("Account", key) for key in SHARED), 0), {})


def lane(abilities: Abilities = EVERYTHING, seed: int = 1) -> Lane:
    """A lane on its own."""
    return Lane("w-1", random.Random(seed), abilities, itertools.count())


class Rows:
    """A store that applies what a journal says, as a sound one would."""

    def __init__(self) -> None:
        self.stored = Stored({}, dict(START.counters), {})

    def apply(self, write: Write) -> None:
        """Apply the effects of one write."""
        for effect in write.effects:
            row = (effect.model, effect.key)
            match effect.what:
                case What.PUT:
                    self.stored.own[row] = tuple(effect.value)
                case What.DELETE:
                    assert row in self.stored.own, "only rows that are there are deleted"
                    del self.stored.own[row]
                case What.ADD:
                    self.stored.counters[row] += effect.value
                case What.SET:
                    self.stored.fields[row] = effect.value


def test_a_sound_store_is_found_sound(tmp_path: Path) -> None:
    """Whatever is refused or remains unknown, the journal and a store that keeps its word agree."""
    rows, chance, one = Rows(), random.Random(7), lane()
    with JournalFile(tmp_path / "one.jsonl") as journal:
        for _ in range(3000):
            write = one.next()
            number = journal.begin(write.effects)
            if write.refused or chance.random() < 0.05:
                journal.end(number, Outcome.REFUSED)
            elif chance.random() < 0.05:
                if chance.random() < 0.5:
                    rows.apply(write)
                journal.end(number, Outcome.UNKNOWN)
                one.unknown(write)
            else:
                rows.apply(write)
                journal.end(number, Outcome.ACKNOWLEDGED)
                one.acknowledged()
    judge = Judge()
    judge.read(tmp_path / "one.jsonl")

    assert [] == judge.verify(rows.stored, START)
    assert judge.acknowledged > 2000


def test_a_lane_comes_to_every_kind_of_write() -> None:
    """Every verb on every model that it fits, and both refusals."""
    one, seen, refused = lane(), set(), set()
    for _ in range(2000):
        write = one.next()
        seen.add((write.verb, write.model))
        refused.add(write.refused)
        if not write.refused:
            one.acknowledged()

    assert {verb for verb, _ in seen} == set(Verb)
    assert {model for _, model in seen} == set(MODELS)
    assert refused == {None, FOREIGN_KEY, UNIQUE}


@pytest.mark.parametrize(("order", "expected"), [(Order.ASCENDING, SHARED), (Order.DESCENDING, SHARED[::-1])])
def test_a_lane_with_an_order_writes_shared_rows_only(order: Order, expected: tuple[str, ...]) -> None:
    """Two such lanes meet on every row from opposite ends."""
    one = lane(Abilities(order=order))

    assert list(expected) == [one.next().effects[0].key.partition("/")[0] for _ in SHARED]


def test_every_write_is_a_call_and_a_statement() -> None:
    """A repository and plain SQL can both execute it, with the parameters that it needs."""
    one = lane()
    for _ in range(500):
        write = one.next()
        for statement in statements(write, "drill"):
            assert all(f"${number}" in statement.sql for number in range(1, len(statement.values) + 1))
        if write.verb is not Verb.SWAP:
            call = operation(write)
            assert call.action in set(Action)
            where: Any = call.arguments.get("where")
            single = write.verb in (Verb.UPDATE, Verb.UPSERT, Verb.DELETE)
            assert not single or set(where) <= set(SCHEMA.model(write.model).uniques)
        if not write.refused:
            one.acknowledged()
