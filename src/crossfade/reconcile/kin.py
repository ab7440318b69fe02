"""Which rows of one store hang together by its foreign keys: missing parents, and what a delete would take along."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crossfade.reconcile.images import Image, Key, Row, Texts, across, unnested
from crossfade.reconcile.pair import Child, Pair, Spot
from crossfade.stages import Side
from crossfade.store.columns import from_text
from crossfade.store.tables import Connection, StoredReference, quoted


async def missing_parents(
    connection: Connection, image: Image, parent: Image, reference: StoredReference, rows: Sequence[Row]
) -> set[Texts]:
    """The values by which `rows` refer to rows of `parent` that are not in this store."""
    values = {image.values_of(row, reference.columns) for row in rows}
    asked = sorted(value for value in values if None not in value)
    if not asked:
        return set()
    found = await connection.fetch(
        f"SELECT k.n FROM {unnested(len(reference.columns))}"
        f" JOIN {parent.table.quoted} t ON {_equals(parent, reference.to_columns)}",
        *across(asked),
    )
    return set(asked) - {asked[row["n"] - 1] for row in found}


async def keys_by(
    connection: Connection, image: Image, columns: tuple[str, ...], values: Iterable[Texts]
) -> dict[Texts, Key]:
    """The keys of the rows whose values, as the other store has them in its `columns`, are these."""
    asked = list(values)
    if columns == image.crossing.keys[image.side.other]:
        return {value: tuple(map(str, value)) for value in asked}
    crossed = image.crossing.named(image.side.other, columns)
    if not asked or crossed is None:
        return {}
    found = await connection.fetch(
        f"SELECT k.n, {image.key_texts()} AS key FROM {unnested(len(columns))}"
        f" JOIN {image.table.quoted} t ON {image.finding(crossed)}",
        *across(asked),
    )
    return {asked[row["n"] - 1]: tuple(row["key"]) for row in found}


async def falling(
    connection: Connection, pair: Pair, side: Side, model: str, keys: Sequence[Key]
) -> dict[str, set[Key]]:
    """The rows that this store would delete along with `keys`, themselves included, by model.

    They are locked, so that none that this does not find can be hung on them before they are deleted.
    """
    found: dict[str, set[Key]] = {model: set(keys)}
    waiting: list[tuple[str, list[Key]]] = [(model, list(keys))]
    while waiting:
        parent, parents = waiting.pop()
        image = pair.images[side][parent]
        await connection.execute(
            f"SELECT FROM {unnested(len(image.key))} JOIN {image.table.quoted} t ON {image.joined()}"
            " ORDER BY k.n FOR UPDATE OF t",
            *across(parents),
        )
        for child in pair.children[side][parent]:
            if child.follows_deletes:
                fresh = await _children(connection, pair, side, parent, parents, child)
                fresh -= found.setdefault(child.model, set())
                if fresh:
                    found[child.model] |= fresh
                    waiting.append((child.model, sorted(fresh)))
    return found


async def holding(
    connection: Connection, pair: Pair, side: Side, falls: Mapping[str, set[Key]]
) -> list[Spot]:
    """The rows that keep this store from deleting those in `falls`."""
    found: set[Spot] = set()
    for parent, keys in falls.items():
        for child in pair.children[side][parent]:
            if child.forbids_deletes and keys:
                holders = await _children(connection, pair, side, parent, sorted(keys), child)
                found |= {Spot(child.model, key) for key in holders - falls.get(child.model, set())}
    return sorted(found)


async def _children(
    connection: Connection, pair: Pair, side: Side, parent: str, keys: Sequence[Key], child: Child
) -> set[Key]:
    one, other, reference = pair.images[side][parent], pair.images[side][child.model], child.reference
    joined = " AND ".join(
        f"c.{quoted(name)} = t.{quoted(to)}"
        for name, to in zip(reference.columns, reference.to_columns, strict=True)
    )
    found = await connection.fetch(
        f"SELECT DISTINCT {other.key_texts('c')} AS key FROM {unnested(len(one.key))}"
        f" JOIN {one.table.quoted} t ON {one.joined()} JOIN {other.table.quoted} c ON {joined}",
        *across(keys),
    )
    return {tuple(row["key"]) for row in found}


def _equals(image: Image, columns: Sequence[str]) -> str:
    return " AND ".join(
        f"t.{quoted(name)} = {from_text(image.table.columns[name], f'k.c{n}')}"
        for n, name in enumerate(columns)
    )
