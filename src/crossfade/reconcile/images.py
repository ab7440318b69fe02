"""The SQL that reads and writes rows of one model by their keys, for each of the two stores.

A key is a tuple of texts, as capture notes it. Statements take one array of texts for each key column and answer with
the position of the key that a row belongs to. The texts are cast to the key's own types, so that its index is used.

Names of columns are always those of the image's own store, and the texts of a row are in the form that the store takes
which receives it: a column may have another name and another form in the other one.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from crossfade.stages import Side
from crossfade.store import Store, StoredTable
from crossfade.store.columns import from_key_text, from_text, is_exact, is_text, listed
from crossfade.store.crossing import CrossedColumn, Crossing, read_crossings
from crossfade.store.tables import Connection, StoredReference, quoted

Key: TypeAlias = tuple[str, ...]
Texts: TypeAlias = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as the other store takes it: the text of each of that one's columns, and what it is compared by."""

    key: Key
    digest: str
    texts: Texts


@dataclass(frozen=True, slots=True)
class Image:
    """How the rows of one model are read and written in one store. `columns` are those that it takes from the other.

    `references` are the foreign keys over such columns; those over others are the store's own affair. `digests_sql` is
    by the store that is to follow: a column that it does not take is not compared for it.
    """

    crossing: Crossing
    side: Side
    columns: tuple[str, ...]
    references: tuple[StoredReference, ...]
    digests_sql: Mapping[Side, str]
    locked_sql: str
    rows_sql: str
    upsert_sql: str
    add_sql: str
    delete_sql: str
    rename_sql: str
    documents_sql: str

    @property
    def table(self) -> StoredTable:
        """The table that has these rows."""
        return self.crossing.tables[self.side]

    @property
    def key(self) -> tuple[str, ...]:
        """The key's columns, in the order that both stores are worked with."""
        return self.crossing.keys[self.side]

    @property
    def model(self) -> str:
        """The model whose rows these are."""
        return self.table.model

    @property
    def owner(self) -> str:
        """The model whose stage decides about these rows."""
        return self.table.owner

    @property
    def may_be_unreadable(self) -> bool:
        """Whether reading a row may fail by what is in it: where a value is converted, or has to be of a type."""
        return any(
            column.conversion is not None
            or is_text(column.legacy) is not is_text(column.target)
            or (column.is_key and column.legacy.type != column.target.type)
            for column in self.crossing.columns
        )

    def key_of(self, noted: Sequence[str]) -> Key:
        """The key that this store's capture noted, in the order that both stores are worked with."""
        own = self.table.key
        return tuple(noted) if own == self.key else tuple(noted[own.index(name)] for name in self.key)

    def noted(self, key: Key) -> list[str]:
        """The opposite of `key_of`."""
        return [key[self.key.index(name)] for name in self.table.key]

    async def digests(self, connection: Connection, keys: Sequence[Key], follower: Side) -> dict[Key, str]:
        """What each row that exists is compared by, if the store of `follower` is the one to be made equal."""
        found = await connection.fetch(self.digests_sql[follower], *across(keys))
        return {keys[n - 1]: digest for n, digest in found}

    async def lock(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, str]:
        """The same, as a follower, of rows that nobody else has locked; others are kept from them. In key order."""
        return {keys[n - 1]: digest for n, digest in await connection.fetch(self.locked_sql, *across(keys))}

    async def rows(self, connection: Connection, keys: Sequence[Key]) -> dict[Key, Row]:
        """Each row that exists, as the other store takes it."""
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

    def finding(self, columns: Sequence[CrossedColumn], alias: str = "t", keys: str = "k") -> str:
        """The condition that joins this table to unnested texts of `columns`, in the form that it sends them in."""
        return " AND ".join(
            f"{alias}.{quoted(column.on(self.side).name)} = {from_text(column.on(self.side), f'{keys}.c{n}')}"
            if column.conversion is None
            else f"{column.sent(self.side, alias)} = {keys}.c{n}"
            for n, column in enumerate(columns)
        )

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
        InstallError: the tables of the two stores do not match; everything that does not is listed.
    """
    crossings = read_crossings(stores)
    return {side: {model: _image(crossing, side) for model, crossing in crossings.items()} for side in stores}


def _image(crossing: Crossing, side: Side) -> Image:
    table, key = crossing.tables[side], crossing.keys[side]
    columns = tuple(column.on(side).name for column in crossing.reaching(side))
    digests = {follower: f"md5({crossing.image(side, towards=follower)})" for follower in Side}
    texts = ", ".join(column.sent(side) for column in crossing.reaching(side.other))
    source = f"FROM {unnested(len(key))} JOIN {table.quoted} t ON {_joined(table, key, 't', 'k')}"
    values = ", ".join(
        from_key_text(column.on(side), column.on(side.other), f"k.c{n}")
        if column.on(side).name in key
        else from_text(column.on(side), f"k.c{n}")
        for n, column in enumerate(crossing.reaching(side))
    )
    insert = (
        f"INSERT INTO {table.quoted} ({listed(columns)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {values} FROM {unnested(len(columns))} ORDER BY k.n"
    )
    changed = [name for name in columns if name not in key or not is_exact(table.columns[name])]
    assigned = ", ".join(f"{quoted(name)} = EXCLUDED.{quoted(name)}" for name in changed)
    renamed = ", ".join(
        f"{quoted(one.name)} = {from_key_text(one, other, f'k.c{n}')}"
        for n, (one, other) in enumerate(
            zip(crossing.key_columns(side), crossing.key_columns(side.other), strict=True)
        )
    )
    had = " AND ".join(
        f"t.{quoted(name)} = {from_text(table.columns[name], f'k.c{n}')}"
        for n, name in enumerate(key, len(key))
    )
    on_conflict = f"ON CONFLICT ({listed(key)}) DO " + (f"UPDATE SET {assigned}" if assigned else "NOTHING")
    return Image(
        crossing=crossing,
        side=side,
        columns=columns,
        references=tuple(reference for reference in table.references if _crosses(reference, table, columns)),
        digests_sql={follower: f"SELECT k.n, {digest} {source}" for follower, digest in digests.items()},
        locked_sql=f"SELECT k.n, {digests[side]} {source} ORDER BY k.n FOR NO KEY UPDATE OF t SKIP LOCKED",
        rows_sql=f"SELECT k.n, {digests[side.other]}, ARRAY[{texts}] {source}",
        upsert_sql=f"{insert} {on_conflict}",
        add_sql=f"{insert} ON CONFLICT ({listed(key)}) DO NOTHING",
        delete_sql=f"DELETE FROM {table.quoted} t USING {unnested(len(key))} WHERE {_joined(table, key, 't', 'k')}",
        rename_sql=f"UPDATE {table.quoted} t SET {renamed} FROM {unnested(2 * len(key))} WHERE {had}",
        documents_sql=f"SELECT k.n, to_jsonb(t)::text {source}",
    )


def _crosses(reference: StoredReference, table: StoredTable, columns: tuple[str, ...]) -> bool:
    needed = {*reference.columns, *(reference.to_columns if reference.model == table.model else ())}
    return needed <= set(columns)


def _joined(table: StoredTable, key: tuple[str, ...], alias: str, keys: str) -> str:
    return " AND ".join(
        f"{alias}.{quoted(name)} = {from_text(table.columns[name], f'{keys}.c{n}')}"
        for n, name in enumerate(key)
    )
