"""What the processes of a fleet have seen, read from the legacy store; `publishing` is how it came there.

Everything about a model belongs to the `entered` of its record: what was seen before does not count. How long calls
took is kept in `BOUNDS`: an upper bound in seconds for each bucket, and a last bucket for all that took longer. A step
is a fifth of the value, which is how exact a percentile is.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from operator import add
from uuid import UUID

from crossfade.events import Role
from crossfade.stages import Side
from crossfade.store.store import Store
from crossfade.store.tables import Connection

BOUNDS: tuple[float, ...] = tuple(1e-4 * 2 ** (step / 4) for step in range(64))
BUCKETS = len(BOUNDS) + 1
_LONGEST = 1e-4 * 2 ** (len(BOUNDS) / 4)
_DEPARTED = UUID(int=0)
"""Whose rows the sums of processes are added to that are no more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a side took over an action on a model, in one role; sums over the fleet.

    `failures` of the `calls` were the side's own fault. `buckets` have all of them, by `BOUNDS`.
    """

    model: str
    action: str
    side: Side
    role: Role
    calls: int
    failures: int
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """What comparisons of one kind (`read` or `write`) of an action on a model came to; sums over the fleet.

    `compared` and `mismatched` are distinct keys: one that was compared often counts once, and one that was ever
    mismatched is in both. `verdicts` are how often, whatever the key.
    """

    model: str
    kind: str
    action: str
    compared: int
    mismatched: int
    verdicts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the fleet: the epochs of the records that it acts by, and when it was last heard of.

    `age` is how many seconds ago that was, by the store's clock.
    """

    id: UUID
    name: str
    leads: bool
    epochs: Mapping[str, int]
    started: datetime
    seen: datetime
    age: float


@dataclass(frozen=True, slots=True)
class Spanned:
    """Models that single operations touch together, in alphabetical order."""

    models: tuple[str, ...]
    is_write: bool
    times: int
    seen: datetime


def bucket(seconds: float) -> int:
    """The index of the bucket that `seconds` falls into."""
    return bisect_left(BOUNDS, seconds)


def percentile(buckets: Sequence[int], share: float) -> float:
    """The upper bound, in seconds, of the bucket in which `share` of the calls are reached; 0 where there are none.

    What took longer than the last bound is given as one step more.
    """
    sums = list(accumulate(buckets))
    if not sums or not sums[-1]:
        return 0.0
    place = bisect_left(sums, max(share * sums[-1], 1))
    return BOUNDS[place] if place < len(BOUNDS) else _LONGEST


async def read_timings(connection: Connection, store: Store, entered: Mapping[str, int]) -> list[Timing]:
    """Read how long calls took, for the models in `entered` since the epoch with which they came to their stage."""
    rows = await connection.fetch(
        "SELECT model, action, side, role, calls, failures, buckets"  # noqa: S608
        f" FROM {store.own('timing')} JOIN {_ENTERED} USING (model, entered)",
        list(entered),
        list(entered.values()),
    )
    # The leader asks every second, and for PostgreSQL it would be several times the work to add arrays up.
    sums: dict[tuple[str, str, str, str], tuple[int, int, list[int]]] = {}
    for model, action, side, role, calls, failures, buckets in rows:
        kind = model, action, side, role
        known = sums.get(kind, (0, 0, [0] * BUCKETS))
        sums[kind] = known[0] + calls, known[1] + failures, list(map(add, known[2], buckets))
    return [
        Timing(model, action, Side(side), Role(role), calls, failures, tuple(buckets))
        for (model, action, side, role), (calls, failures, buckets) in sorted(sums.items())
    ]


async def read_kinds(connection: Connection, store: Store, entered: Mapping[str, int]) -> list[Kind]:
    """Read what comparisons came to, for the models in `entered` since they came to their stage."""
    since = (list(entered), list(entered.values()))
    verdicts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for row in await connection.fetch(
        "SELECT model, kind, action, verdict, sum(compared)::bigint AS times"  # noqa: S608
        f" FROM {store.own('comparison')} JOIN {_ENTERED} USING (model, entered)"
        " GROUP BY model, kind, action, verdict ORDER BY verdict",
        *since,
    ):
        verdicts[row["model"], row["kind"], row["action"]][row["verdict"]] = row["times"]
    ones = _COUNT_BITS if connection.get_server_version().major >= _COUNTS_BITS else _COUNT_ONES
    keys = {
        (row["model"], row["kind"], row["action"]): (row["compared"], row["mismatched"])
        for row in await connection.fetch(
            f"SELECT model, kind, action, sum({ones.format('compared')})::bigint AS compared,"  # noqa: S608
            f" sum({ones.format('mismatched')})::bigint AS mismatched"
            f" FROM {store.own('evidence')} JOIN {_ENTERED} USING (model, entered)"
            " GROUP BY model, kind, action",
            *since,
        )
    }
    return [
        Kind(*kind, *keys.get(kind, (0, 0)), verdicts.get(kind, {})) for kind in sorted({*keys, *verdicts})
    ]


async def read_processes(connection: Connection, store: Store) -> list[Process]:
    """Read which processes there are, those included that were killed and have not been heard of since."""
    rows = await connection.fetch(
        "SELECT id, name, leads, epochs, started, seen,"  # noqa: S608
        " extract(epoch FROM clock_timestamp() - seen)::float8 AS age"
        f" FROM {store.own('process')} ORDER BY name, started, id"
    )
    return [Process(**dict(row) | {"epochs": json.loads(row["epochs"])}) for row in rows]


async def read_spanned(connection: Connection, store: Store) -> list[Spanned]:
    """Read which models single operations touch together, what is seen most first."""
    rows = await connection.fetch(
        f"SELECT models, is_write, times, seen FROM {store.own('spanned')} ORDER BY times DESC, models, is_write"  # noqa: S608
    )
    return [Spanned(tuple(row["models"]), row["is_write"], row["times"], row["seen"]) for row in rows]


_ENTERED = "unnest($1::text[], $2::bigint[]) AS entries (model, entered)"


_COUNTS_BITS = 14
"""The oldest PostgreSQL that counts bits by itself."""
_COUNT_BITS = "bit_count({})"
_COUNT_ONES = "length(replace({}::text, '0', ''))"


async def prune(connection: Connection, store: Store, entered: Mapping[str, int]) -> None:
    """Throw away what was seen before the models came to their stages; for the leader, now and then.

    Processes that were not heard of for an hour are forgotten. What processes have seen that are no more is added up,
    so that a stage that is kept for weeks has not a row for every process there ever was. All in one transaction.
    """
    await connection.execute(
        f"DELETE FROM {store.own('process')} WHERE seen < clock_timestamp() - interval '1 hour'"  # noqa: S608
    )
    since = (list(entered), list(entered.values()))
    for table in ("timing", "comparison", "evidence"):
        # Rows that somebody is writing to are left for the next time rather than waited for.
        await connection.execute(
            f"DELETE FROM {store.own(table)} WHERE ctid = ANY (ARRAY("  # noqa: S608
            f"SELECT t.ctid FROM {store.own(table)} AS t JOIN {_ENTERED} USING (model)"
            " WHERE t.entered < entries.entered FOR UPDATE OF t SKIP LOCKED))",
            *since,
        )
    unknown = f"process <> $1 AND NOT EXISTS (SELECT FROM {store.own('process')} AS p WHERE p.id = t.process)"
    await connection.execute(
        f"WITH departed AS (DELETE FROM {store.own('comparison')} AS t WHERE {unknown} RETURNING t.*)"  # noqa: S608
        f" INSERT INTO {store.own('comparison')} AS c"
        " (process, model, entered, kind, action, verdict, compared)"
        " SELECT $1, model, entered, kind, action, verdict, sum(compared) FROM departed"
        " GROUP BY model, entered, kind, action, verdict"
        " ON CONFLICT (model, entered, process, kind, action, verdict) DO UPDATE"
        " SET compared = c.compared + excluded.compared",
        _DEPARTED,
    )
    await connection.execute(
        f"WITH departed AS (DELETE FROM {store.own('timing')} AS t WHERE {unknown} RETURNING t.*)"  # noqa: S608
        f" INSERT INTO {store.own('timing')} AS t"
        " (process, model, entered, action, side, role, calls, failures, buckets)"
        " SELECT $1, model, entered, action, side, role, max(calls), max(failures), array_agg(n ORDER BY place)"
        " FROM (SELECT model, entered, action, side, role, place, sum(calls) AS calls, sum(failures) AS failures,"
        " sum(n)::bigint AS n FROM departed, unnest(buckets) WITH ORDINALITY AS cells (n, place)"
        " GROUP BY model, entered, action, side, role, place) AS sums"
        " GROUP BY model, entered, action, side, role"
        " ON CONFLICT (model, entered, process, action, side, role) DO UPDATE"
        " SET calls = t.calls + excluded.calls, failures = t.failures + excluded.failures, buckets = ARRAY("
        "SELECT mine + theirs FROM unnest(t.buckets, excluded.buckets)"
        " WITH ORDINALITY AS cells (mine, theirs, place) ORDER BY place)",
        _DEPARTED,
    )
