"""What PostgreSQL's catalog says about the tables of a database, as plain values that compare with `==`."""

from __future__ import annotations

from typing import Any

from crossfade.dsn import Dsn
from marketplace.db import connect

LEDGERS = ["_prisma_migrations", "alembic_version"]
"""Tables in which the two migration tools keep their books."""

_QUERIES = {
    "tables": """
        SELECT relname FROM pg_class
        WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname <> ALL ($1)
    """,
    "columns": """
        SELECT relname, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
               attcollation::regcollation::text, pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
        WHERE relkind = 'r' AND attnum > 0 AND NOT attisdropped
          AND relnamespace = current_schema()::regnamespace AND relname <> ALL ($1)
    """,
    "constraints": """
        SELECT relname, conname, contype, pg_get_constraintdef(pg_constraint.oid), condeferrable, convalidated
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE relnamespace = current_schema()::regnamespace AND relname <> ALL ($1) AND contype <> 'n'
    """,
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = current_schema() AND tablename <> ALL ($1)
    """,
    "enums": """
        SELECT typname, array_agg(enumlabel ORDER BY enumsortorder)
        FROM pg_type JOIN pg_enum ON enumtypid = pg_type.oid
        WHERE typnamespace = current_schema()::regnamespace AND typname <> ALL ($1) GROUP BY typname
    """,
    "sequences": """
        SELECT sequence.relname, owner.relname, attname, format_type(seqtypid, NULL), seqstart, seqincrement, seqmax
        FROM pg_sequence JOIN pg_class sequence ON sequence.oid = seqrelid
        JOIN pg_depend ON objid = seqrelid AND deptype = 'a'
        JOIN pg_class owner ON owner.oid = refobjid
        JOIN pg_attribute ON (attrelid, attnum) = (refobjid, refobjsubid)
        WHERE owner.relname <> ALL ($1)
    """,
}


async def read_catalog(dsn: Dsn) -> dict[str, set[str]]:
    """Return the description of everything in the database's own schema, kind by kind."""
    async with connect(dsn) as connection:
        return {
            kind: {_line(row.values()) for row in await connection.fetch(query, LEDGERS)}
            for kind, query in _QUERIES.items()
        }


def _line(values: Any) -> str:
    return " | ".join(str(value) for value in values)
