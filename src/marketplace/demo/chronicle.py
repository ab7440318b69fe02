"""What the stores themselves say of a run: who moved what, what was captured, and which conflicts there were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from crossfade.schema import Schema
from crossfade.stages import Side, Stage
from crossfade.store import Store
from marketplace.demo.tally import Move


@dataclass(frozen=True, slots=True)
class Chronicle:
    """`moves` of each model, in order; `captured` keys and `conflicts` of both stores together."""

    moves: Mapping[str, list[Move]] = field(default_factory=dict)
    captured: int = 0
    conflicts: int = 0


async def read_chronicle(
    schema: Schema, stores: Mapping[Side, Store], began: datetime | None = None
) -> Chronicle:
    """Read both stores, which need not be open. A move that one has not heard of is taken from the other.

    Times are seconds since `began`, or since the first entry.
    """
    found: dict[tuple[str, int], tuple[datetime, Stage, float | None]] = {}
    captured = conflicts = 0
    for store in stores.values():
        async with store, store.transaction() as connection:
            history = await connection.fetch(
                f"SELECT model, epoch, stage, pause, at FROM {store.own('history')}"  # noqa: S608
                " WHERE moving_to IS NULL ORDER BY id"
            )
            captured += await connection.fetchval(
                "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence($1, 'id')::regclass), 0)",
                store.own("change"),
            )
            conflicts += await connection.fetchval(f"SELECT count(*) FROM {store.own('conflict')}")  # noqa: S608
        for row in history:
            key = row["model"], row["epoch"]
            known = found.get(key)
            if known is None or known[2] is None:
                found[key] = (known or (row["at"],))[0], Stage(row["stage"]), row["pause"]
    moves: dict[str, list[Move]] = {spec.name: [] for spec in schema}
    stages = dict.fromkeys(moves, Stage.OFF)
    began = began or min((at for at, _, _ in found.values()), default=None)
    for (model, _), (at, stage, pause) in sorted(found.items()):
        if model in moves and stage is not stages[model]:
            assert began is not None
            moves[model].append(Move((at - began).total_seconds(), stages[model], stage, pause or 0.0))
            stages[model] = stage
    return Chronicle(moves, captured, conflicts)
