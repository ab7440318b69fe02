"""Random tables that refer to each other, random authorities, random writes on both sides: level in the end."""

from __future__ import annotations

import os
import random
from typing import Any

import asyncpg
import pytest
from twins import P, S, Twins, identifier, referred, refers, schema_of

from crossfade.events import ConflictSettled
from crossfade.schema import Schema
from small_schema import scalar

SEEDS = range(int(os.environ.get("CROSSFADE_RANDOM_SEEDS", "12")))
RULES = ("CASCADE", "SET NULL", "RESTRICT", "NO ACTION")
KEYS = 6


class World:
    """Tables of a schema made by chance, and writes to them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.names = [f"T{n}" for n in range(self.rng.randint(2, 5))]
        self.references: list[tuple[str, str, str, str, bool]] = []
        for place, name in enumerate(self.names):
            for number in range(self.rng.randint(0, 2)):
                to = self.rng.choice(self.names[: place + 1])
                required = to != name and self.rng.random() < 0.4
                rule = self.rng.choice(["CASCADE", "RESTRICT", "NO ACTION"] if required else RULES)
                self.references.append((name, f"r{number}", to, rule, required))

    def schema(self) -> Schema:
        """The models."""
        fields: dict[str, list[dict[str, Any]]] = {
            name: [identifier(), scalar("word", isRequired=False)] for name in self.names
        }
        for name, column, to, _, required in self.references:
            fields[name] += refers(column, to, f"{name}_{column}", required=required)
            fields[to].append(referred(f"{name}_{column}_back", name, f"{name}_{column}"))
        return schema_of(**fields)

    def ddl(self) -> str:
        """The tables; `word` is unique in the first of them."""
        parts = []
        for name in self.names:
            columns = [f"id integer PRIMARY KEY, word text {'UNIQUE' if name == 'T0' else ''}"]
            columns += [
                f'{column}_id integer {"NOT NULL" if required else ""} REFERENCES "{to}" ON DELETE {rule}'
                for table, column, to, rule, required in self.references
                if table == name
            ]
            parts.append(f'CREATE TABLE "{name}" ({", ".join(columns)});')
        return "\n".join(parts)

    def statement(self, table: str) -> str:
        """A write to `table`, which a foreign key may well refuse."""
        rng = self.rng
        key = rng.randrange(KEYS)
        columns = [column for name, column, *_ in self.references if name == table]
        values = [str(rng.randrange(KEYS)) if rng.random() < 0.8 else "NULL" for _ in columns]
        word = rng.choice(["'a'", "'b'", "'c'", "NULL"])
        names = ", ".join(["id", "word", *(f"{column}_id" for column in columns)])
        match rng.randrange(10):
            case 0 | 1 | 2 | 3 | 4:
                updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in names.split(", ")[1:])
                return (
                    f'INSERT INTO "{table}" ({names}) VALUES ({", ".join([str(key), word, *values])})'
                    f" ON CONFLICT (id) DO UPDATE SET {updates}"
                )
            case 5 | 6 | 7:
                return f'DELETE FROM "{table}" WHERE id = {key}'
            case 8:
                return f'UPDATE "{table}" SET word = {word} WHERE id = {key}'
            case _:
                return f'UPDATE "{table}" SET id = {rng.randrange(KEYS)} WHERE id = {key}'


@pytest.mark.parametrize("seed", SEEDS)
async def test_stores_are_level_whoever_has_the_authority_over_what(make: Any, seed: int) -> None:
    """Whatever was written where, and in whatever order it was looked at: no difference, and nothing is stuck."""
    world = World(seed)
    pair: Twins = await make(world.schema(), world.ddl())
    reconciler = pair.reconciler(backoff=0.001, longest_backoff=0.01)
    for _ in range(4):
        for name in world.names:
            if world.rng.random() < 0.5:
                await pair.give(world.rng.choice([P, S]), name)
        for _ in range(world.rng.randint(5, 60)):
            name = world.rng.choice(world.names)
            try:
                await pair.write(pair.authority[name], world.statement(name))
            except asyncpg.IntegrityConstraintViolationError:
                continue
            if world.rng.random() < 0.1:
                models = world.rng.sample(world.names, world.rng.randint(1, len(world.names)))
                await reconciler.run_once(models, settle=0)
        drained = await reconciler.drain(world.names, 20)
        assert drained, (await reconciler.problems(world.names), world.ddl(), pair.authority)
        await pair.assert_level()
    assert len(pair.observer.of(ConflictSettled)) == sum([len(await pair.conflicts(side)) for side in (P, S)])
