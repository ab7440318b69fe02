"""What all who write have in common: their rows, and how they make up new ones."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any, Final

from .graph import Reference
from .journal import Journal, Row
from .world import World

REFUSED: Final = object()
"""What came of a call that the authority refused by its own rules."""


class Writer:
    """What authors and bystanders have in common: their rows, and how they make up new ones."""

    def __init__(self, name: str, world: World, journal: Journal, chance: random.Random) -> None:
        self.name = name
        self.world = world
        self.journal = journal
        self.chance = chance
        self._number = 0
        self.referred_codes = {
            each.parent
            for model in world.graph.models
            for each in world.graph.models[model].references
            if "code" in each.to
        }

    def mine(self, model: str | None = None) -> list[Row]:
        """My rows that are there, as far as I know."""
        return [
            row
            for row in self.journal.rows.values()
            if row.owner == self.name and not row.is_gone and model in (None, row.model)
        ]

    def new_row(self, model: str) -> tuple[Row, dict[str, Row | None]] | None:
        """A row to create, with its parents; None if a parent that it needs is not there yet."""
        spec = self.world.graph.models[model]
        parents: dict[str, Row | None] = {}
        for reference in spec.references:
            candidates = self.candidates(reference)
            if candidates and (not reference.is_optional or self.chance.random() < 0.75):
                parents[reference.name] = self.chance.choice(candidates)
            elif reference.is_optional:
                parents[reference.name] = None
            else:
                return None
        self._number += 1
        tag = f"{self.name}-{self._number}"
        values: dict[str, Any] = {"label": self.word(), "count": 0}
        if model in self.referred_codes or self.chance.random() < 0.5:
            values["code"] = self.word()
        else:
            values["code"] = None
        return Row(tag, model, self.name, self.new_key(model), values, {}), parents

    def candidates(self, reference: Reference) -> list[Row]:
        """Rows that may be referred to: the latest ones, where neighbours are not level yet."""
        rows = [
            row
            for row in self.journal.alive(reference.parent)
            if "code" not in reference.to or row.values["code"]
        ]
        return rows[-6:]

    def new_key(self, model: str) -> dict[str, Any]:
        """What a key is made of beside what its store mints and what it refers to."""
        match self.world.graph.models[model].kind:
            case "cuid":
                return {"id": self.word()}
            case "uuid":
                return {"id": str(uuid.UUID(int=self.chance.getrandbits(128), version=4))}
            case "pair":
                return {"left": self.chance.randint(1, 5), "right": self.word()}
            case "part":
                return {"name": self.word()}
            case _:
                return {}

    def another_key(self, row: Row) -> dict[str, Any]:
        """Another key for a row; what it refers to stays."""
        if self.world.graph.models[row.model].kind == "serial":
            return {"id": self.chance.randint(10**6, 10**8)}
        return self.new_key(row.model)

    def word(self) -> str:
        """A word that nobody has used."""
        return f"{self.chance.getrandbits(40):010x}"

    def held(self, reference: Reference, parent: Row | None) -> dict[str, Any]:
        """The values of a foreign key."""
        if parent is None:
            return dict.fromkeys(reference.fields)
        known = parent.values if reference.to == ("code",) else parent.key
        return {name: known[to] for name, to in zip(reference.fields, reference.to, strict=True)}

    def reference(self, model: str, name: str) -> Reference:
        """A foreign key by its name."""
        return next(each for each in self.world.graph.models[model].references if each.name == name)

    def fail(self, what: str, error: BaseException) -> None:
        """Note what nobody should have seen."""
        text = f"{self.name}: {what}: {type(error).__name__}: {error}"
        self.journal.failures.append(text)
        self.journal.note(text)

    async def work(self, calls: int) -> None:
        """Make so many calls."""
        for _ in range(calls):
            try:
                await self.act()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self.fail("act", error)

    async def act(self) -> None:
        """Make one call."""
        raise NotImplementedError


def tags(parents: Mapping[str, Row | None]) -> dict[str, str | None]:
    """What rows refer to, as the journal has it."""
    return {name: parent.tag if parent else None for name, parent in parents.items()}


def may_be_taken(code: str) -> bool:
    """Whether another row may get this code once its own is gone; by such a code nobody looks a row up."""
    return code < "8"
