"""Rows that stand in another's way: two rows that swap a unique value cannot be written one after the other.

Whoever holds a value that another row is about to get is moved aside first, within the same transaction: one column of
the index is set to NULL or to a value that nobody else has. Nobody outside ever sees it, because the row gets its
right values before the transaction ends.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

import random
import re
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from crossfade.reconcile.images import Image, Key, Row, across, unnested
from crossfade.store import StoredColumn
from crossfade.store.columns import base_type, from_text
from crossfade.store.tables import Connection, quoted

_INDEX = """
SELECT array(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k) AS expressions,
       coalesce((to_jsonb(i)->>'indnullsnotdistinct')::boolean, false) AS nulls_alike
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname = $2 AND c.relnamespace = $1::regnamespace
"""


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """What a unique index is over; `nulls_alike` is whether it takes two NULLs for the same."""

    expressions: tuple[str, ...]
    nulls_alike: bool

    def movable(self, image: Image) -> list[StoredColumn]:
        """The columns by which a row can be moved aside, the most harmless first."""
        referring = {name for reference in image.references for name in reference.columns}
        text = " ".join(self.expressions)
        columns = [
            column
            for name, column in image.table.columns.items()
            if name in image.columns
            and name not in image.key
            and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
        ]
        usable = [
            column
            for column in columns
            if self._nullable(column) or (column.name not in referring and aside(column) is not None)
        ]
        return sorted(usable, key=lambda column: (column.name in referring, not self._nullable(column)))

    def aside(self, column: StoredColumn) -> str | None:
        """The text of a value that is in nobody's way; None stands for NULL."""
        return None if self._nullable(column) else aside(column)

    def _nullable(self, column: StoredColumn) -> bool:
        return column.is_nullable and not self.nulls_alike


async def read_index(connection: Connection, schema: str, name: str) -> UniqueIndex | None:
    """Describe a unique index, or None if there is none of that name."""
    found = await connection.fetchrow(_INDEX, quoted(schema), name)
    return UniqueIndex(tuple(found["expressions"]), found["nulls_alike"]) if found else None


async def in_the_way(
    connection: Connection, image: Image, index: UniqueIndex, rows: Sequence[Row]
) -> dict[Key, Key]:
    """By the key of each of `rows` whose unique value another row of this store has: the key of that other row."""
    width = len(image.columns)
    incoming = ", ".join(
        [
            f"{from_text(image.table.columns[name], f'k.c{n}')} AS {quoted(name)}"
            for n, name in enumerate(image.columns)
        ]
        # What a row does not get from the other store, it has already.
        + [f"o.{quoted(name)}" for name in image.table.columns if name not in image.columns]
    )
    key = " AND ".join(
        f"o.{quoted(name)} = {from_text(image.table.columns[name], f'k.c{image.columns.index(name)}')}"
        for name in image.key
    )
    named = ", ".join(f"{text} AS crossfade_e{n}" for n, text in enumerate(index.expressions))
    equal = "IS NOT DISTINCT FROM" if index.nulls_alike else "="
    same = " AND ".join(f"t.crossfade_e{n} {equal} w.crossfade_e{n}" for n in range(len(index.expressions)))
    found = await connection.fetch(
        f"WITH incoming AS (SELECT k.n AS crossfade_n, {incoming} FROM {unnested(width)}"
        f" LEFT JOIN {image.table.quoted} o ON {key}),"
        f" wanted AS (SELECT crossfade_n, {named} FROM incoming)"
        f" SELECT w.crossfade_n AS n, {image.key_texts()} AS key FROM wanted w"
        f" JOIN (SELECT *, {named} FROM {image.table.quoted}) t ON {same}",
        *across([row.texts for row in rows]),
    )
    pairs = ((rows[row["n"] - 1].key, tuple(row["key"])) for row in found)
    return {key: other for key, other in pairs if key != other}


async def move_aside(
    connection: Connection, image: Image, index: UniqueIndex, column: StoredColumn, keys: Sequence[Key]
) -> None:
    """Give rows values in `column` that are in nobody's way."""
    values = [index.aside(column) for _ in keys]
    width = len(image.key)
    await connection.execute(
        f"UPDATE {image.table.quoted} t SET {quoted(column.name)} ="
        f" {from_text(column, f'k.c{width}')} FROM {unnested(width + 1)} WHERE {image.joined()}",
        *across([(*key, value) for key, value in zip(keys, values, strict=True)]),
    )


def aside(column: StoredColumn) -> str | None:
    """The text of a value of the column's type that no row is likely to have, or None if the type has none."""
    match base_type(column.type):
        case "text" | "character varying" | "citext" | "bpchar":
            length = re.search(r"\((\d+)\)", column.type)
            return f"crossfade:{secrets.token_hex(16)}"[-int(length[1]) :] if length else _word()
        case "uuid":
            return str(uuid.uuid4())
        case "smallint":
            return str(-random.randint(2**14, 2**15))  # noqa: S311
        case "integer":
            return str(-random.randint(2**30, 2**31))  # noqa: S311
        case "bigint":
            return str(-random.randint(2**62, 2**63))  # noqa: S311
        case "numeric":
            digits = re.search(r"\((\d+),(\d+)\)", column.type)
            whole = int(digits[1]) - int(digits[2]) if digits else 30
            return str(-random.randint(1, 10 ** max(whole, 1) - 1))  # noqa: S311
        case "real" | "double precision":
            return str(-random.random() * 1e30)  # noqa: S311
        case "date" | "timestamp without time zone" | "timestamp with time zone":
            moment = datetime(1, 1, 1, tzinfo=UTC) + timedelta(milliseconds=random.randrange(10**13))  # noqa: S311
            return moment.replace(tzinfo=None).isoformat(" ")
        case "bytea":
            return f"\\x{secrets.token_hex(16)}"
        case _:
            return None


def _word() -> str:
    return f"crossfade:{secrets.token_hex(16)}"
