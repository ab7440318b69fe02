"""Who writes to a store with bare SQL."""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import asyncpg

from crossfade.stages import Side

from .journal import Journal, Row, Span
from .world import World
from .writer import REFUSED, Writer, tags


class Bystander(Writer):
    """Writes to one store with bare SQL, and knows nothing of crossfade."""

    def __init__(
        self,
        side: Side,
        connection: asyncpg.Connection,
        world: World,
        journal: Journal,
        chance: random.Random,
    ) -> None:
        super().__init__(f"bare-{side}", world, journal, chance)
        self.side = side
        self.connection = connection

    async def _run(self, what: str, statement: str, *values: Any) -> tuple[Any, Span]:
        start = perf_counter()
        result: Any = REFUSED
        try:
            result = await self.connection.fetch(statement, *values)
            outcome = "acknowledged"
        except asyncpg.PostgresError as error:
            outcome = {"XF001": "fenced", "40P01": "deadlock"}.get(str(error.sqlstate), "")
            if not outcome and (error.sqlstate or "")[:2] == "23":
                outcome = "refused"
            if not outcome:
                self.fail(what, error)
        self.journal.outcomes[f"bare {outcome}"] += 1
        if result is REFUSED:
            self.journal.note(f"refused {what}: {outcome} by {self.name} (since {start:.4f})")
        return result, Span(start, perf_counter())

    def _model(self) -> str:
        """Mostly one that this store has the authority over."""
        names = list(self.world.graph.models)
        ours = [name for name in names if self.world.authority(name) is self.side]
        return self.chance.choice(ours if ours and self.chance.random() < 0.9 else names)

    async def act(self) -> None:
        """One statement."""
        actions: list[tuple[int, Callable[[str], Awaitable[None]]]] = [
            (40, self.insert),
            (15, self.label),
            (8, self.rebind),
            (4, self.rename),
            (15, self.delete),
            (4 if self.world.graph.links else 0, self.link),
        ]
        weights, makers = zip(*actions, strict=True)
        await self.chance.choices(makers, weights)[0](self._model())

    def _key(self, model: str) -> tuple[str, ...]:
        return self.world.schema.models[model].primary_key

    def _learn(self, row: Row, found: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: str(found[name]) if isinstance(found[name], uuid.UUID) else found[name]
            for name in self._key(row.model)
        }

    async def insert(self, model: str) -> None:
        """Insert a row."""
        made = self.new_row(model)
        if made is None:
            return
        row, parents = made
        data = {"tag": row.tag, **row.key, **row.values}
        for name, parent in parents.items():
            data |= self.held(self.reference(model, name), parent)
        columns = ", ".join(f'"{name}"' for name in data)
        places = ", ".join(f"${n}" for n in range(1, len(data) + 1))
        found, span = await self._run(
            f"insert {row.tag} {data}",
            f'INSERT INTO "{model}" ({columns}) VALUES ({places}) RETURNING *',
            *data.values(),
        )
        if found is not REFUSED:
            row.key = self._learn(row, found[0])
            self.journal.created(row, tags(parents), span)

    async def label(self, model: str) -> None:
        """Update several rows at once."""
        rows = self.mine(model)[-3:]
        label = self.word()
        found, span = await self._run(
            f"update {[row.tag for row in rows]}",
            f'UPDATE "{model}" SET "label" = $1, "count" = "count" + 1 WHERE "tag" = ANY ($2) RETURNING "tag"',
            label,
            [row.tag for row in rows],
        )
        if found is not REFUSED:
            for row in rows:
                self.journal.changed(row, {"label": label, "count": row.values["count"] + 1}, {}, {}, span)
            self._miss(rows, found)

    def _miss(self, rows: Sequence[Row], found: Sequence[Mapping[str, Any]]) -> None:
        seen = {row["tag"] for row in found}
        for row in rows:
            if row.tag not in seen:
                row.is_gone = True

    async def _change(
        self, row: Row, what: str, data: Mapping[str, Any], parents: Mapping[str, Row | None]
    ) -> None:
        assigned = ", ".join(f'"{name}" = ${n}' for n, name in enumerate(data, 2))
        found, span = await self._run(
            f"{what} {row.tag} {dict(data)}",
            f'UPDATE "{row.model}" SET {assigned} WHERE "tag" = $1 RETURNING *',
            row.tag,
            *data.values(),
        )
        if found is REFUSED:
            return
        if not found:
            row.is_gone = True
            return
        self.journal.changed(row, {}, tags(parents), self._learn(row, found[0]), span)

    async def rebind(self, model: str) -> None:
        """Have a row refer to another."""
        rows, references = self.mine(model), self.world.graph.models[model].references
        if not rows or not references:
            return
        row, reference = self.chance.choice(rows), self.chance.choice(references)
        candidates = [each for each in self.candidates(reference) if each.tag != row.tag]
        if candidates:
            parent = self.chance.choice(candidates)
            await self._change(row, "rebind", self.held(reference, parent), {reference.name: parent})

    async def rename(self, model: str) -> None:
        """Give a row another primary key."""
        rows = self.mine(model)
        if rows:
            row = self.chance.choice(rows)
            start = perf_counter()
            await self._change(row, "rename", self.another_key(row), {})
            row.renamed.append(Span(start, perf_counter()))

    async def delete(self, model: str) -> None:
        """Delete some rows."""
        rows = self.mine(model)
        rows = self.chance.sample(rows, min(len(rows), self.chance.randint(1, 2)))
        found, span = await self._run(
            f"delete {[row.tag for row in rows]}",
            f'DELETE FROM "{model}" WHERE "tag" = ANY ($1) RETURNING "tag"',
            [row.tag for row in rows],
        )
        if found is not REFUSED:
            for row in rows:
                self.journal.deleted(row, span)

    async def link(self, _: str) -> None:
        """Link two rows."""
        link = self.world.graph.links[0]
        ones, others = self.journal.alive(link.one), self.journal.alive(link.other)
        if not ones or not others:
            return
        one, other = self.chance.choice(ones[-6:]), self.chance.choice(others[-6:])
        found, span = await self._run(
            f"link {one.tag} {other.tag}",
            f'INSERT INTO "_{link.name}" VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1',
            *one.key.values(),
            *other.key.values(),
        )
        if found is not REFUSED:
            self.journal.linked(link.name, one, other, span)
