"""Which rows of a staging table refer to what is not there: as SQL, for one table."""

# ruff: noqa: S608 - every name is the catalog's own and quoted; there are no values
from __future__ import annotations

from collections.abc import Mapping

from crossfade.store.columns import listed
from crossfade.store.tables import Connection, StoredReference, StoredTable, quoted

STAGING = "crossfade_staging"
IS_ORPHAN = "s.ctid = ANY(ARRAY(SELECT place::tid FROM orphan))"
"""The condition on rows `s` of the staging table, behind what `Orphans.find` begins."""


class Orphans:
    """The rows whose parents are missing.

    Args:
        table: the target's.
        parents: the names of the tables by their models, for SQL.
        landed: by column, the expression for the value that the target is to have.
    """

    def __init__(self, table: StoredTable, parents: Mapping[str, str], landed: Mapping[str, str]) -> None:
        self._table = table
        self._parents = parents
        self._landed = landed
        self._references = [
            one
            for one in table.references
            if set(one.columns) <= landed.keys()
            and (one.model != table.model or set(one.to_columns) <= landed.keys())
        ]
        self._own = [one for one in self._references if one.model == table.model]
        self.optional = self._find_optional()

    @property
    def may_be(self) -> bool:
        """Whether there is any reference by which a row can be one."""
        return bool(self._references)

    async def index(self, target: Connection) -> None:
        """Let rows of one chunk find each other, or each would look through all of them."""
        for names in {one.columns for one in self._own} | {one.to_columns for one in self._own}:
            await target.execute(f"CREATE INDEX ON {STAGING} ({listed(names)})")
        await target.execute(f"ANALYZE {STAGING}")

    def find(self) -> str:
        """The rows whose parents are neither in the target nor here, and those whose parents are such rows."""
        first = " OR ".join(
            f"({_given(reference)} AND NOT {self._has_parent(reference)}"
            f"{f' AND NOT {self._has_parent_here(reference)}' if reference in self._own else ''})"
            for reference in self._references
        )
        carried = listed(self._carried(), "s.")
        first = f"SELECT s.ctid::text AS place{carried and ', '}{carried} FROM {STAGING} s WHERE {first}"
        if not self._own:
            return f"WITH orphan AS ({first})"
        falls = " OR ".join(
            f"({_equal(reference, 's', 'o')} AND NOT {self._has_parent(reference)})"
            for reference in self._own
        )
        # OFFSET 0 keeps the planner from beginning at the other end: it takes what was found last for a few rows.
        return (
            f"WITH RECURSIVE orphan AS ({first} UNION SELECT f.* FROM orphan o CROSS JOIN LATERAL"
            f" (SELECT s.ctid::text, {carried} FROM {STAGING} s WHERE {falls} OFFSET 0) f)"
        )

    def _carried(self) -> tuple[str, ...]:
        """The columns by which rows of this table are referred to from this table."""
        return tuple(dict.fromkeys(name for one in self._own for name in one.to_columns))

    def _has_parent(self, reference: StoredReference) -> str:
        pairs = zip(reference.columns, reference.to_columns, strict=True)
        same = " AND ".join(f"p.{quoted(to)} = {self._landed[name]}" for name, to in pairs)
        return f"EXISTS (SELECT FROM {self._parents[reference.model]} p WHERE {same})"

    @staticmethod
    def _has_parent_here(reference: StoredReference) -> str:
        return f"EXISTS (SELECT FROM {STAGING} o WHERE {_equal(reference, 's', 'o')})"

    def _find_optional(self) -> tuple[str, ...]:
        """The columns of references that can be left out of a row."""
        table = self._table
        optional = [
            one for one in self._references if all(table.columns[name].is_nullable for name in one.columns)
        ]
        return tuple(dict.fromkeys(name for one in optional for name in one.columns if name not in table.key))


def _given(reference: StoredReference) -> str:
    return " AND ".join(f"s.{quoted(name)} IS NOT NULL" for name in reference.columns)


def _equal(reference: StoredReference, child: str, parent: str) -> str:
    pairs = zip(reference.columns, reference.to_columns, strict=True)
    return " AND ".join(f"{child}.{quoted(name)} = {parent}.{quoted(to)}" for name, to in pairs)
