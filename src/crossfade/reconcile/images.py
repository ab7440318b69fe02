"""The SQL that reads and writes rows of one model by their keys, for each of the two stores.

A key is a tuple of texts, as capture notes it. Statements take one array of texts for each key column and answer with
the position of the key that a row belongs to. The texts are cast to the key's own types, so that its index is used.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crossfade.stages import Side
from crossfade.store import Store, StoredTable
from crossfade.store.columns import from_text, is_exact, listed
from crossfade.store.crossing import Crossing, read_crossings
from crossfade.store.tables import Connection, quoted

Key: TypeAlias = tuple[str, ...]
Texts: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it can be copied: the text of every column that both stores have, and what it is compared by."""

    key: Key
    digest: str
    texts: Texts


@dataclass(frozen=True, slots=True)
class Image:
    """How the rows of one model are read and written in one store. `columns` are those that both stores have."""

    table: StoredTable
    columns: tuple[str, ...]
    key: tuple[str, ...]
    digests_sql: str
    locked_sql: str
    rows_sql: str
    upsert_sql: str
    add_sql: str
    delete_sql: str
    rename_sql: str
    documents_sql: str

    @property
    def model(self) -> str:
        """The model whose rows these are."""
        return self.table.model

    @property
    def owner(self) -> str:
        """The model whose stage decides about these rows."""
        return self.table.owner

    def key_of(self, noted: Sequence[str]) -> Key:
        """The key that this store's capture noted, in the order that both stores are worked with."""
        own = self.table.key
        return tuple(noted) if own == self.key else tuple(noted[own.index(name)] for name in self.key)

    def noted(self, key: Key) -> list[str]:
        """The opposite of `key_of`."""
        return [key[self.key.index(name)] for name in self.table.key]

    async def digests(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
        """What each row that exists is compared by."""
        return {keys[n - 1]: digest for n, digest in await connection.fetch(self.digests_sql, *across(keys))}

    async def lock(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
        """The same of those that nobody else has locked, and keep other writers from them; in the order of `keys`."""
        return {keys[n - 1]: digest for n, digest in await connection.fetch(self.locked_sql, *across(keys))}

    async def rows(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Row]:
        """Each row that exists, as it can be copied."""
        found = await connection.fetch(self.rows_sql, *across(keys))
        return {keys[n - 1]: Row(keys[n - 1], digest, tuple(texts)) for n, digest, texts in found}

    async def upsert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write rows over whatever is there."""
        await connection.execute(self.upsert_sql, *across([row.texts for row in rows]))

    async def add(self, connection: Connection, rows: Sequence[Row], without: tuple[str, ...] = ()) -> None:
        """Insert those rows that are not there, with NULL in the columns `without`."""
        columns = across([row.texts for row in rows])
        for name in without:
            columns[self.columns.index(name)] = [None] * len(rows)
        await connection.execute(self.add_sql, *columns)

    async def rename(self, connection: Connection, pairs: Sequence[tuple[Key, Key]]) -> None:
        """Give rows other keys, old and new in pairs; the foreign keys have those that refer to them follow."""
        await connection.execute(self.rename_sql, *across([(*new, *old) for old, new in pairs]))

    async def delete(self, connection: Connection, keys: Sequence[Key]) -> None:
        """Delete rows by key."""
        await connection.execute(self.delete_sql, *across(keys))

    async def documents(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
        """Each row that exists as a JSON document, for a person to read."""
        return {
            keys[n - 1]: document for n, document in await connection.fetch(self.documents_sql, *across(keys))
        }

    def joined(self, alias: str = "t", keys: str = "k") -> str:
        """The condition that joins this table to unnested key texts."""
        return _joined(self.table, self.key, alias, keys)

    def key_texts(self, alias: str = "t") -> str:
        """The SQL expression for the key as texts, in the order that both stores are worked with."""
        return "ARRAY[" + ", ".join(f"{alias}.{quoted(name)}::text" for name in self.key) + "]"

    def values_of(self, row: Row, columns: Sequence[str]) -> Texts:
        """The texts of some of a row's columns."""
        return tuple(row.texts[self.columns.index(name)] for name in columns)


def across(keys: Sequence[Sequence[str | None]]) -> list[list[str | None]]:
    """One list per column, of rows that are given one by one; there must be one row at least."""
    return [list(column) for column in zip(*keys, strict=True)]


def unnested(columns: int, alias: str = "k", start: int = 1) -> str:
    """A FROM item of `columns` arrays of texts with their position `n`."""
    arrays = ", ".join(f"${start + n}::text[]" for n in range(columns))
    names = ", ".join(f"c{n}" for n in range(columns))
    return f"unnest({arrays}) WITH ORDINALITY AS {alias}({names}, n)"


def read_images(stores: Mapping[Side, Store]) -> dict[Side, dict[str, Image]]:
    """Describe every model's rows in both stores, parents before children.

    Raises:
        InstallError: the two stores have different keys for a model.
    """
    crossings = read_crossings(stores)
    return {side: {model: _image(crossing, side) for model, crossing in crossings.items()} for side in stores}


def _image(crossing: Crossing, side: Side) -> Image:
    table, key, columns = crossing.tables[side], crossing.keys[side], crossing.names(side)
    digest = f"md5({crossing.image(side)})"
    texts = ", ".join(column.sent(side) for column in crossing.columns)
    source = f"FROM {unnested(len(key))} JOIN {table.quoted} t ON {_joined(table, key, 't', 'k')}"
    values = ", ".join(from_text(table.columns[name], f"k.c{n}") for n, name in enumerate(columns))
    insert = (
        f"INSERT INTO {table.quoted} ({listed(columns)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {values} FROM {unnested(len(columns))} ORDER BY k.n"
    )
    changed = [name for name in columns if name not in key or not is_exact(table.columns[name])]
    assigned = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in changed)
    renamed = ", ".join(
        f"{quoted(name)} = {from_text(table.columns[name], f'k.c{n}')}" for n, name in enumerate(key)
    )
    had = " AND ".join(
        f"t.{quoted(name)} = {from_text(table.columns[name], f'k.c{n}')}"
        for n, name in enumerate(key, len(key))
    )
    on_conflict = f"ON CONFLICT ({listed(key)}) DO " + (f"UPDATE SET {assigned}" if assigned else "NOTHING")
    return Image(
        table=table,
        columns=columns,
        key=key,
        digests_sql=f"SELECT k.n, {digest} {source}",
        locked_sql=f"SELECT k.n, {digest} {source} ORDER BY k.n FOR NO KEY UPDATE OF t SKIP LOCKED",
        rows_sql=f"SELECT k.n, {digest}, ARRAY[{texts}] {source}",
        upsert_sql=f"{insert} {on_conflict}",
        add_sql=f"{insert} ON CONFLICT ({listed(key)}) DO NOTHING",
        delete_sql=f"DELETE FROM {table.quoted} t USING {unnested(len(key))} WHERE {_joined(table, key, 't', 'k')}",
        rename_sql=f"UPDATE {table.quoted} t SET {renamed} FROM {unnested(2 * len(key))} WHERE {had}",
        documents_sql=f"SELECT k.n, to_jsonb(t)::text {source}",
    )


def _joined(table: StoredTable, key: tuple[str, ...], alias: str, keys: str) -> str:
    return " AND ".join(
        f"{alias}.{quoted(name)} = {from_text(table.columns[name], f'{keys}.c{n}')}"
        for n, name in enumerate(key)
    )
