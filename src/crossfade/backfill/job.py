"""What all workers of one process have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from crossfade.backfill.chunks import Chunks
from crossfade.backfill.copying import Copier
from crossfade.backfill.frontiers import Frontiers
from crossfade.backfill.pace import Pace
from crossfade.backfill.plan import parents_of
from crossfade.backfill.settings import BackfillSettings
from crossfade.events import Observer
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import have_same_order
from crossfade.store.tables import Connection


class CopyPoint(StrEnum):
    """The places at which a worker may die, in the order in which it passes them for each chunk."""

    CUT = "cut"
    """The chunk is claimed and nothing has been read."""
    READ = "read"
    """Its rows lie in the staging table."""
    INSERTED = "inserted"
    """They are in the target, in a transaction that has not been committed."""
    LANDED = "landed"
    """That is committed, and the check is owed."""
    CHECKED = "checked"
    """The check is committed, too."""


At: TypeAlias = Callable[[CopyPoint, str], Awaitable[None]]
"""Awaited at each point, with the table's model."""


async def nowhere(point: CopyPoint, model: str) -> None:
    """Do nothing at any point."""


@dataclass(slots=True)
class Job:
    """The tables to be copied, parents first, and the means."""

    stores: Mapping[Side, Store]
    crossings: Mapping[str, Crossing]
    models: Sequence[str]
    settings: BackfillSettings
    observer: Observer
    pace: Pace
    at: At = nowhere
    checked: bool = True
    """Whether chunks are checked after they have landed; only a test that shows what for does without."""
    sizes: dict[str, int] = field(default_factory=dict)
    """How many rows the next chunk of a table should have, as far as this process has measured it."""
    chunks: Chunks = field(init=False)
    frontiers: Frontiers = field(init=False)
    copiers: dict[str, Copier] = field(init=False)
    earlier: dict[str, frozenset[str]] = field(init=False)
    """The tables that are copied before one, because its rows refer to theirs."""
    _orders: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare what depends on the tables alone."""
        target = self.stores[Side.SQLALCHEMY]
        self.chunks = Chunks(target)
        self.frontiers = Frontiers(target, self.chunks)
        self.copiers = {model: Copier(self.crossings[model], target) for model in self.models}
        self.earlier = {
            model: frozenset(parents_of(self.crossings[model]).intersection(self.models[:place]))
            for place, model in enumerate(self.models)
        }

    async def is_ordered_alike(self, model: str, legacy: Connection, target: Connection) -> bool:
        """Whether both stores have the same keys in a range."""
        if model not in self._orders:
            self._orders[model] = await have_same_order(self.crossings[model], legacy, target)
        return self._orders[model]

    def adapt(self, model: str, rows: int, seconds: float) -> None:
        """Choose the size of the next chunk by the time that one of so many rows took."""
        settings = self.settings
        size = self.sizes.get(model, settings.first_chunk)
        if rows * 2 < size:  # the end of a table, or what a deletion has left of a range
            return
        factor = min(max(settings.chunk_seconds / max(seconds, 0.001), 0.5), 2.0)
        self.sizes[model] = round(min(max(rows * factor, settings.smallest_chunk), settings.largest_chunk))
