"""The captured entries of one store: taking some in hand, giving them up, putting them off.

Entries are claimed with row locks that end with the transaction: whoever dies gives them back, and whoever else looks
meanwhile passes over them. Only entries that were claimed before the rows were read are ever deleted, so whatever is
written later leaves an entry of its own behind.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import asyncpg

from crossfade.reconcile.images import Image, Key, across, unnested
from crossfade.reconcile.settings import Lag, Problem
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.tables import Connection, literal, quoted

_MOST_COUNTED = 1_000_000


class Entry(NamedTuple):
    """One captured key, or a whole model if `key` is None. `place` is where the entry lies while it is claimed."""

    side: Side
    model: str
    id: int
    key: Key | None
    op: bytes
    place: tuple[int, int]


class Claims:
    """The entries of one store. `images` say how its keys are noted."""

    def __init__(self, store: Store, images: Mapping[str, Image]) -> None:
        self._side = store.side
        self._images = images
        change = store.own("change")
        due = (
            "at <= clock_timestamp() - $3::float8 * interval '1 second'"
            " AND ($4::boolean OR retry_at IS NULL OR retry_at <= clock_timestamp())"
        )
        self._claim_sql = (
            "SELECT c.* FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL"
            f" (SELECT model, id, key, op, ctid FROM {change} WHERE model = m.model AND {due}"
            " ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) c"
        )
        self._forget_sql = f"DELETE FROM {change} WHERE ctid = ANY($1::tid[])"
        self._put_off_sql = (
            f"UPDATE {change} c SET problem = p.problem,"
            " attempts = CASE WHEN p.problem IS NULL THEN attempts ELSE least(attempts + 1, 32000) END,"
            " retry_at = clock_timestamp() + least($4::float8 * 2.0 ^ CASE WHEN p.problem IS NULL THEN 0"
            " ELSE least(attempts, 20) END, $5::float8) * interval '1 second'"
            " FROM unnest($1::text[], $2::bigint[], $3::text[]) AS p(model, id, problem)"
            " WHERE c.model = p.model AND c.id = p.id"
        )
        self._due_sql = (
            "SELECT m.model, d.at FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL"
            " (SELECT extract(epoch FROM min(greatest(at + $2::float8 * interval '1 second', retry_at))"
            f" - clock_timestamp())::float8 AS at FROM {change} WHERE model = m.model) d WHERE d.at IS NOT NULL"
        )
        self._newer_sql = f"SELECT id, key FROM {change} WHERE model = $1 AND id > $2 ORDER BY id LIMIT 5000"
        self._keep_sql = (
            f"SELECT id FROM {change} WHERE model = $1 AND id = ANY($2::bigint[]) FOR UPDATE SKIP LOCKED"
        )
        self._all_sql = (
            f"SELECT model, id, key, op, ctid FROM {change}"
            " WHERE model = ANY($1::text[]) AND NOT id = ANY($2::bigint[]) ORDER BY model, id LIMIT $3"
        )
        self._lag_sql = (
            "SELECT m.model, l.entries, coalesce(l.oldest, 0) FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL"
            " (SELECT count(*) AS entries, extract(epoch FROM clock_timestamp() - min(f.at))::float8 AS oldest"
            f" FROM (SELECT at FROM {change} WHERE model = m.model LIMIT {_MOST_COUNTED}) f) l"
        )
        self._problems_sql = (
            f"SELECT model, count(*), problem FROM {change}"
            " WHERE model = ANY($1::text[]) AND problem IS NOT NULL GROUP BY model, problem ORDER BY 1, 2 DESC, 3"
        )
        self._stuck_sql = (
            "SELECT count(*), count(*) FILTER (WHERE problem IS NULL)"
            f" FROM {change} WHERE model = ANY($1::text[])"
        )
        self._ops_sql = {
            model: f"SELECT c.key, c.op FROM {change} c JOIN {unnested(len(image.key))}"
            f" ON c.key = ARRAY[{', '.join(f'k.c{n}' for n in range(len(image.key)))}]"
            f" WHERE c.model = {literal(model)}"
            for model, image in images.items()
        }
        self._renamed_sql = f"SELECT was, key FROM {change} WHERE model = $1 AND was IS NOT NULL ORDER BY id"
        self._expand_sql = {
            model: f"INSERT INTO {change} (model, key, op) SELECT {literal(model)},"
            f" ARRAY[{', '.join(f't.{quoted(name)}::text' for name in image.table.key)}], 'V'"
            f" FROM {image.table.quoted} t"
            for model, image in images.items()
        }

    async def claim(
        self,
        connection: Connection,
        models: Sequence[str],
        limit: int,
        settle: float,
        *,
        put_off_too: bool = False,
    ) -> list[Entry]:
        """Lock up to `limit` entries of each model that have rested for `settle` seconds and nobody else has."""
        rows = await connection.fetch(self._claim_sql, models, limit, settle, put_off_too)
        return [self._entry(row) for row in rows]

    async def forget(self, connection: Connection, entries: Collection[Entry]) -> None:
        """Delete claimed entries, in the transaction that has claimed them."""
        if entries:
            await connection.execute(self._forget_sql, [entry.place for entry in entries])

    async def put_off(
        self,
        connection: Connection,
        problems: Sequence[tuple[Entry, str | None]],
        *,
        backoff: float,
        longest: float,
    ) -> None:
        """Leave claimed entries for later. A problem makes each wait longer; None is a row that was only locked."""
        if problems:
            await connection.execute(
                self._put_off_sql,
                [entry.model for entry, _ in problems],
                [entry.id for entry, _ in problems],
                [problem for _, problem in problems],
                backoff,
                longest,
            )

    async def due(self, connection: Connection, models: Sequence[str], settle: float) -> dict[str, float]:
        """In how many seconds something of each model falls due that has any entry; 0 or less: now."""
        rows = await connection.fetch(self._due_sql, models, settle)
        return {row["model"]: row["at"] for row in rows}

    async def newer(self, connection: Connection, model: str, last: int, keys: Collection[Key]) -> set[Key]:
        """Which of `keys` have an entry that came after the one numbered `last` and is there when this one is gone.

        An entry that somebody else has in hand does not count: he may have read the rows before the last write, and
        forget it now. The others are kept until the transaction ends.
        """
        image = self._images[model]
        rows = await connection.fetch(self._newer_sql, model, last)
        found = {row["id"]: image.key_of(row["key"]) for row in rows if row["key"] is not None}
        found = {id_: key for id_, key in found.items() if key in keys}
        kept = await connection.fetch(self._keep_sql, model, list(found)) if found else []
        return {found[row["id"]] for row in kept}

    async def all(
        self, connection: Connection, models: Sequence[str], known: Collection[int], limit: int
    ) -> list[Entry]:
        """Every entry but those numbered in `known`, whoever has it in hand; it is not claimed."""
        rows = await connection.fetch(self._all_sql, models, list(known), limit)
        return [self._entry(row) for row in rows]

    async def lag(self, connection: Connection, models: Sequence[str]) -> dict[str, Lag]:
        """How much waits, by model."""
        rows = await connection.fetch(self._lag_sql, models)
        return {model: Lag(entries, oldest) for model, entries, oldest in rows}

    async def problems(self, connection: Connection, models: Sequence[str]) -> list[Problem]:
        """What stands in the way of which models, as far as it has been tried."""
        return [Problem(*row) for row in await connection.fetch(self._problems_sql, models)]

    async def left(self, connection: Connection, models: Sequence[str]) -> tuple[int, int]:
        """How many entries there are, whoever has them in hand, and how many of them have no known problem."""
        total, sound = (await connection.fetch(self._stuck_sql, models))[0]
        return total, sound

    async def ops(self, connection: Connection, model: str, keys: Sequence[Key]) -> dict[Key, set[bytes]]:
        """What was noted about some keys and is still there."""
        image = self._images[model]
        noted = across([image.noted(key) for key in keys])
        found: dict[Key, set[bytes]] = {}
        for key, op in await connection.fetch(self._ops_sql[model], *noted):
            found.setdefault(image.key_of(key), set()).add(op)
        return found

    async def renamed(self, connection: Connection, model: str) -> list[list[Key]]:
        """The keys that rows have had since they were verified, one after the other; the last is the one they have."""
        image = self._images[model]
        found: dict[Key, list[Key]] = {}
        for was, key in await connection.fetch(self._renamed_sql, model):
            old, new = image.key_of(was), image.key_of(key)
            found[new] = [*found.pop(old, [old]), new]
        return list(found.values())

    async def expand(self, connection: Connection, model: str) -> None:
        """Note every row of a model that this store has, to be verified one by one."""
        await connection.execute(self._expand_sql[model])

    def _entry(self, row: asyncpg.Record) -> Entry:
        model, id_, key, op, place = row
        noted = None if key is None else self._images[model].key_of(key)
        return Entry(self._side, model, id_, noted, op, place)
