"""All the gates of models' steps, read from both stores.

The figures about how a model does are those of its *stint*: the time since it came to its stage, or was resumed there.
What was seen before that was seen under other conditions, by another version perhaps, and proves nothing about now. So
every step, forward or back, begins anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.flags.flag import Flag
from crossfade.gates import evidence
from crossfade.gates.applying import applying
from crossfade.gates.comparisons import comparisons
from crossfade.gates.coverage import COVERAGE, Coverage
from crossfade.gates.gate import Gate, GateName
from crossfade.gates.sequences import Numbered, Place, read_numbered, sequences
from crossfade.schema import Schema
from crossfade.stages import PLANS, Side, Stage, Topology, next_step
from crossfade.store import Store
from crossfade.store.record import Record, read_records
from crossfade.store.signals import Kind, Timing, read_kinds, read_timings
from crossfade.store.tables import Connection, StoredTable
from crossfade.store.view import LEASE_SECONDS
from crossfade.thresholds import GateThresholds

_SIGNALS = frozenset({GateName.COMPARISONS, GateName.LATENCY, GateName.ERRORS})
_TARGET = frozenset({GateName.LAG, GateName.SEQUENCES})
"""Those that the target store has to be asked about."""
_WAITING = """
SELECT m.model, l.entries, coalesce(l.oldest, 0) AS oldest FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL
    (SELECT count(*) AS entries, extract(epoch FROM clock_timestamp() - min(f.at))::float8 AS oldest FROM
        (SELECT at FROM {change} WHERE model = m.model ORDER BY id LIMIT $2) f) l
"""


@dataclass(slots=True)
class _Seen:
    """What the stores say, by model."""

    records: Mapping[str, Record]
    now: datetime
    timings: Mapping[str, list[Timing]] = field(default_factory=dict)
    kinds: Mapping[str, list[Kind]] = field(default_factory=dict)
    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)
    numbered: dict[Side, Mapping[Place, Numbered]] = field(default_factory=dict)


class AllGates:
    """Every gate there is. The stores need not be open.

    Args:
        stores: both, or that of Prisma alone where both sides share it.
        schema: the models.
        flags: the flag of a model, for its thresholds; the defaults hold where there is none.
        lease: how long, in seconds, a process may act by what it knows of the record.
    """

    def __init__(
        self,
        stores: Mapping[Side, Store],
        schema: Schema,
        flags: Callable[[str], Flag | None],
        *,
        lease: float = LEASE_SECONDS,
    ) -> None:
        self._stores = stores
        self._schema = schema
        self._flags = flags
        self._lease = lease
        self._topology = Topology.SEPARATE if len(stores) > 1 else Topology.SHARED
        self._coverage = Coverage(stores)

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        """Return the gates that do not hold for a step of `models`: see `Gates.unmet`."""
        found = await self.step(models, current, wanted)
        return [gate for model in models for gate in found[model] if not gate.holds]

    async def step(self, models: Sequence[str], current: Stage, wanted: Stage) -> dict[str, list[Gate]]:
        """Return every gate of a step of `models` from `current` to `wanted`, whether it holds or not.

        Raises:
            StoreUnavailableError: a store that has to be asked does not answer.
        """
        return await self._read(models, dict.fromkeys(models, (current, wanted)))

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        """Return every gate of each model's next step: see `Gates.read`."""
        return await self._read(models, None, wanted or {})

    async def _read(
        self,
        models: Sequence[str],
        steps: Mapping[str, tuple[Stage, Stage]] | None,
        wanted: Mapping[str, Stage] | None = None,
    ) -> dict[str, list[Gate]]:
        store = self._stores[Side.PRISMA]
        try:
            async with store.transaction() as connection:
                now: datetime = await connection.fetchval("SELECT clock_timestamp()")
                records = await read_records(connection, store, models)
                steps = steps or _next_steps(models, records, wanted or {})
                asked = {model: applying(self._topology, *step) for model, step in steps.items()}
                seen = _Seen(records, now)
                await self._hear(connection, seen, asked)
                await self._look(connection, store, seen, asked)
            if _any(asked, _TARGET):
                store = self._stores[Side.SQLALCHEMY]
                async with store.transaction() as connection:
                    await self._look(connection, store, seen, asked)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise StoreUnavailableError(store.where, str(error) or type(error).__name__) from error
        covering = _any(asked, COVERAGE)
        covered = await self._coverage.read(covering) if covering else {}
        return {
            model: [gate for gate in covered.get(model, ()) if gate.name in asked[model]]
            + self._gates(model, steps[model], asked[model], seen)
            for model in steps
        }

    async def _hear(
        self, connection: Connection, seen: _Seen, asked: Mapping[str, frozenset[GateName]]
    ) -> None:
        """Read what the fleet has seen of the models for which that matters."""
        legacy = self._stores[Side.PRISMA]
        entered = {
            model: seen.records[model].entered for model in _any(asked, _SIGNALS) if model in seen.records
        }
        if not entered:
            return
        timings, kinds = defaultdict[str, list[Timing]](list), defaultdict[str, list[Kind]](list)
        for timing in await read_timings(connection, legacy, entered):
            timings[timing.model].append(timing)
        for kind in await read_kinds(connection, legacy, entered):
            kinds[kind.model].append(kind)
        seen.timings, seen.kinds = timings, kinds

    async def _look(
        self, connection: Connection, store: Store, seen: _Seen, asked: Mapping[str, frozenset[GateName]]
    ) -> None:
        """Read how far one store is: what is captured there, and how it numbers rows."""
        if lagging := store.tables.of(_any(asked, {GateName.LAG})):
            owners = {table.model: table.owner for table in lagging}
            for row in await connection.fetch(
                _WAITING.format(change=store.own("change")), list(owners), evidence.MOST_COUNTED
            ):
                entries, oldest = seen.waiting.get(owners[row["model"]], (0, 0.0))
                seen.waiting[owners[row["model"]]] = (entries + row["entries"], max(oldest, row["oldest"]))
        if numbering := store.tables.of(_any(asked, {GateName.SEQUENCES})):
            seen.numbered[store.side] = await read_numbered(connection, numbering)

    def _gates(
        self, model: str, step: tuple[Stage, Stage], asked: frozenset[GateName], seen: _Seen
    ) -> list[Gate]:
        """The gates of one model but those of coverage, in the order of `GateName`."""
        flag = self._flags(model)
        thresholds = GateThresholds.of({} if flag is None else flag.gates)
        current = step[0]
        record = seen.records.get(model) or Record(model)
        timings, kinds = seen.timings.get(model, []), seen.kinds.get(model, [])
        read: Mapping[GateName, Callable[[], Gate]] = {
            GateName.LAG: lambda: evidence.lag(model, *seen.waiting.get(model, (0, 0.0)), thresholds),
            GateName.COMPARISONS: lambda: comparisons(
                model, kinds, thresholds, PLANS[self._topology][current].shadow
            ),
            GateName.LATENCY: lambda: evidence.latency(model, timings, thresholds),
            GateName.ERRORS: lambda: evidence.errors(model, timings, thresholds),
            GateName.SEQUENCES: lambda: sequences(
                model, self._tables(model), *(seen.numbered.get(side, {}) for side in Side)
            ),
            GateName.SETTLED: lambda: evidence.settled(
                model, record.stage, (seen.now - record.since).total_seconds(), self._lease
            ),
        }
        return [read[name]() for name in GateName if name in asked and name not in COVERAGE]

    def _tables(self, model: str) -> list[StoredTable]:
        return self._stores[Side.PRISMA].tables.of([model])


def _next_steps(
    models: Sequence[str], records: Mapping[str, Record], wanted: Mapping[str, Stage]
) -> dict[str, tuple[Stage, Stage]]:
    """From where to where each model goes next; one that is at its end stays there."""
    steps = {}
    for model in models:
        current = (records.get(model) or Record(model)).stage
        step = next_step(current, wanted.get(model, current)) or next_step(current, Stage.COMPLETE)
        steps[model] = (current, step or current)
    return steps


def _any(asked: Mapping[str, frozenset[GateName]], names: frozenset[GateName] | set[GateName]) -> list[str]:
    """The models that have one of the gates `names` before them."""
    return [model for model, gates in asked.items() if gates & names]
