"""What preflight reads of a table from the catalog of either store, beside what everything else needs of it.

Expressions of the target's constraints are kept as PostgreSQL writes them: they name the target's columns, and are
evaluated in the legacy store over rows that have been given that shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossfade.store.tables import Connection, StoredColumn, quoted


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column. `plain_type` is its type with domains taken off, modifiers kept; `labels` are those of an enum."""

    name: str
    type: str
    plain_type: str
    category: str
    is_required: bool
    is_generated: bool
    has_default: bool
    labels: tuple[str, ...] = ()
    domain_checks: tuple[str, ...] = ()

    def as_stored(self) -> StoredColumn:
        """The same as the rest of crossfade knows it."""
        return StoredColumn(self.name, self.type, self.category, not self.is_required, self.is_generated)


@dataclass(frozen=True, slots=True)
class UniqueFacts:
    """A unique index. `columns` holds None where `expressions` holds one that is no column."""

    name: str
    is_primary: bool
    are_nulls_equal: bool
    columns: tuple[str | None, ...]
    expressions: tuple[str, ...]
    predicate: str | None


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """A check constraint. One that is not `is_validated` holds for new rows alone."""

    name: str
    expression: str
    columns: tuple[str, ...]
    is_validated: bool


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """A foreign key to the table `parent`, given by schema and name."""

    name: str
    columns: tuple[str, ...]
    parent: tuple[str, str]
    to_columns: tuple[str, ...]
    is_validated: bool


@dataclass(frozen=True, slots=True)
class TriggerFacts:
    """A trigger or rule that is not crossfade's. `writes` are the statements that its function's text speaks of."""

    name: str
    function: str
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """One table. Of constraints there are those that a row of it has to satisfy; `kind` is the catalog's `relkind`."""

    schema: str
    name: str
    kind: str
    is_unlogged: bool
    has_row_security: bool
    hides_rows: bool
    columns: Mapping[str, ColumnFacts]
    uniques: tuple[UniqueFacts, ...]
    checks: tuple[CheckFacts, ...]
    references: tuple[ReferenceFacts, ...]
    exclusions: tuple[str, ...]
    triggers: tuple[TriggerFacts, ...]

    @property
    def quoted(self) -> str:
        """The table's name for SQL, with its schema."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"


_RELATION = """
SELECT c.oid::int8 AS oid, c.relkind::text AS kind, c.relpersistence = 'u' AS is_unlogged,
       c.relrowsecurity AS has_row_security, row_security_active(c.oid) AS hides_rows
FROM pg_class c WHERE c.oid = to_regclass($1)
"""
_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type, format_type(b.oid, b.mod) AS plain_type,
       bt.typcategory::text AS category, a.attnotnull OR b.is_required AS is_required,
       a.attgenerated <> '' AS is_generated, a.atthasdef OR a.attidentity <> '' OR b.has_default AS has_default,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e
             WHERE e.enumtypid = CASE WHEN bt.typcategory = 'A' THEN bt.typelem ELSE bt.oid END
             ORDER BY e.enumsortorder) AS labels,
       ARRAY(SELECT pg_get_expr(c.conbin, 0) FROM pg_constraint c WHERE c.contypid = ANY (b.domains) AND c.contype = 'c'
             ORDER BY c.conname) AS domain_checks
FROM pg_attribute a
CROSS JOIN LATERAL (
    WITH RECURSIVE unwrapped(oid, mod, depth) AS (
        SELECT a.atttypid, a.atttypmod, 0
        UNION ALL SELECT t.typbasetype, t.typtypmod, depth + 1
        FROM unwrapped u JOIN pg_type t ON t.oid = u.oid AND t.typtype = 'd')
    SELECT (array_agg(u.oid ORDER BY depth DESC))[1] AS oid, (array_agg(u.mod ORDER BY depth DESC))[1] AS mod,
           bool_or(t.typnotnull) AS is_required, bool_or(t.typdefault IS NOT NULL) AS has_default,
           array_agg(u.oid) FILTER (WHERE t.typtype = 'd') AS domains
    FROM unwrapped u JOIN pg_type t ON t.oid = u.oid) b
JOIN pg_type bt ON bt.oid = b.oid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUES = """
SELECT ic.relname::text AS name, i.indisprimary AS is_primary,
       coalesce((to_jsonb(i)->>'indnullsnotdistinct')::bool, false) AS are_nulls_equal,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
             WHERE k.place <= i.indnkeyatts ORDER BY k.place) AS columns,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, place, true) FROM generate_series(1, i.indnkeyatts::int) AS place
             ORDER BY place) AS expressions,
       pg_get_expr(i.indpred, i.indrelid) AS predicate
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid ORDER BY i.indisprimary DESC, ic.relname
"""
_CONSTRAINTS = """
SELECT c.conname::text AS name, c.contype::text AS kind, c.convalidated AS is_validated,
       CASE WHEN c.contype = 'c' THEN pg_get_expr(c.conbin, c.conrelid) END AS expression,
       ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum ORDER BY k.place) AS columns,
       pn.nspname::text AS parent_schema, p.relname::text AS parent_name,
       ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum ORDER BY k.place) AS to_columns
FROM pg_constraint c LEFT JOIN pg_class p ON p.oid = c.confrelid LEFT JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.conrelid = $1 AND c.contype IN ('c', 'f', 'x') AND c.conparentid = 0
      AND coalesce((to_jsonb(c)->>'conenforced')::bool, true)
ORDER BY c.conname
"""
_TRIGGERS = """
SELECT t.tgname::text AS name, format('%I.%I', n.nspname, p.proname) AS function,
       ARRAY(SELECT DISTINCT upper(m[1])
             FROM regexp_matches(p.prosrc,
                                 '\\m(insert\\s+into|update|delete\\s+from|merge\\s+into|truncate)\\M', 'gi') m
             ORDER BY 1) AS writes
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE t.tgrelid = $1 AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND n.nspname !~ '^crossfade(_|$)'
UNION ALL
SELECT r.rulename::text, 'a rule', ARRAY['REWRITES WRITES'] FROM pg_rewrite r WHERE r.ev_class = $1 AND r.ev_type <> '1'
ORDER BY 1
"""


async def read_facts(connection: Connection, schema: str, name: str) -> TableFacts | None:
    """Read everything about one table, or None if there is no such relation."""
    row = await connection.fetchrow(_RELATION, f"{quoted(schema)}.{quoted(name)}")
    if row is None:
        return None
    oid = row["oid"]
    columns = [
        ColumnFacts(
            **{**entry, "labels": tuple(entry["labels"]), "domain_checks": tuple(entry["domain_checks"])}
        )
        for entry in _dicts(await connection.fetch(_COLUMNS, oid))
    ]
    uniques = tuple(
        UniqueFacts(
            **{**entry, "columns": tuple(entry["columns"]), "expressions": tuple(entry["expressions"])}
        )
        for entry in _dicts(await connection.fetch(_UNIQUES, oid))
    )
    constraints = _dicts(await connection.fetch(_CONSTRAINTS, oid))
    triggers = tuple(
        TriggerFacts(entry["name"], entry["function"], tuple(entry["writes"]))
        for entry in await connection.fetch(_TRIGGERS, oid)
    )
    return TableFacts(
        schema=schema,
        name=name,
        kind=row["kind"],
        is_unlogged=row["is_unlogged"],
        has_row_security=row["has_row_security"],
        hides_rows=row["hides_rows"],
        columns={column.name: column for column in columns},
        uniques=uniques,
        checks=tuple(
            CheckFacts(entry["name"], entry["expression"], tuple(entry["columns"]), entry["is_validated"])
            for entry in constraints
            if entry["kind"] == "c"
        ),
        references=tuple(
            ReferenceFacts(
                entry["name"],
                tuple(entry["columns"]),
                (entry["parent_schema"], entry["parent_name"]),
                tuple(entry["to_columns"]),
                entry["is_validated"],
            )
            for entry in constraints
            if entry["kind"] == "f"
        ),
        exclusions=tuple(entry["name"] for entry in constraints if entry["kind"] == "x"),
        triggers=triggers,
    )


def _dicts(rows: list[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in rows]
