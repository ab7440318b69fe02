"""How long captured keys have waited in one store: the oldest of each model, by the store's own clock."""

# ruff: noqa: S608 - every name is the store's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Collection

from crossfade.store.store import Store
from crossfade.store.tables import Connection


async def read_lags(connection: Connection, store: Store, models: Collection[str]) -> dict[str, float]:
    """Return how old the oldest captured key of each model is, in seconds; 0 where none waits.

    Keys of many-to-many tables count for the model that owns them.
    """
    owners = {table.model: table.owner for table in store.tables.of(list(models))}
    found = dict.fromkeys(models, 0.0)
    for row in await connection.fetch(
        "SELECT m.model, extract(epoch FROM clock_timestamp() - c.at)::float8 AS age"
        " FROM unnest($1::text[]) AS m(model) CROSS JOIN LATERAL"
        f" (SELECT at FROM {store.own('change')} WHERE model = m.model ORDER BY id LIMIT 1) c",
        list(owners),
    ):
        owner = owners[row["model"]]
        found[owner] = max(found[owner], row["age"])
    return found
