"""What stands in the way of an installation, all of it, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crossfade.stages import Side
from crossfade.store.catalog import installation
from crossfade.store.objects import VERSION, targets
from crossfade.store.tables import Connection, StoredTable, quoted

_STORE = """
SELECT current_user::text AS role, current_database()::text AS database, pg_is_in_recovery() AS is_standby,
       to_regnamespace($1) IS NOT NULL AS has_home,
       CASE WHEN to_regnamespace($1) IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(to_regnamespace($1)::oid, 'CREATE') END AS may_create,
       has_language_privilege('plpgsql', 'USAGE') AS has_language,
       (SELECT string_agg(DISTINCT pg_get_userbyid(o.owner)::text, ', ')
        FROM (SELECT relnamespace AS namespace, relowner AS owner FROM pg_class
              UNION SELECT pronamespace, proowner FROM pg_proc) o
        WHERE o.namespace = to_regnamespace($1)::oid AND NOT pg_has_role(o.owner, 'USAGE')) AS owners
"""
_TABLES = """
SELECT w.target, pg_get_userbyid(c.relowner)::text AS owner, pg_has_role(c.relowner, 'USAGE') AS is_own,
       c.relkind::text AS kind, c.relpersistence::text AS persistence,
       (c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)) AS has_heirs,
       (SELECT string_agg(DISTINCT s.subname::text, ', ') FROM pg_subscription_rel r
        JOIN pg_stat_subscription s ON s.subid = r.srsubid WHERE r.srrelid = c.oid) AS subscriptions
FROM unnest($1::text[]) AS w(target) JOIN pg_class c ON c.oid = w.target::regclass
"""


async def refusals(connection: Connection, home: str, side: Side, tables: Iterable[StoredTable]) -> list[str]:
    """Say of everything that stands in the way what it is and what would help; empty if nothing does."""
    return [
        *await _of_store(connection, home, side),
        *await unseen(connection, [target for table in tables for target in targets(table)], ownership=True),
    ]


async def _of_store(connection: Connection, home: str, side: Side) -> list[str]:
    row = await connection.fetchrow(_STORE, quoted(home))
    assert row is not None
    role, found = row["role"], []
    if row["is_standby"]:
        found.append("it is a standby, which takes no writes; give the URL of its primary")
    if not row["may_create"]:
        found.append(
            f"role {role} may not create objects in its schema {home}; GRANT CREATE ON SCHEMA {home} TO {role}"
            if row["has_home"]
            else f"role {role} may not create the schema {home};"
            f" GRANT CREATE ON DATABASE {row['database']} TO {role}, or create the schema for it"
        )
    if not row["has_language"]:
        found.append(f"role {role} may not use PL/pgSQL; GRANT USAGE ON LANGUAGE plpgsql TO {role}")
    if row["owners"]:
        found.append(f"its schema {home} has objects of {row['owners']}; install as that role")
        return found  # they may not even be read
    present = await installation(connection, home)
    if present is not None:
        version, other = present
        if version > VERSION:
            found.append(
                f"it has version {version} of crossfade's objects, and this crossfade knows {VERSION};"
                " install with the newer crossfade"
            )
        if other != side:
            found.append(
                f"its schema {home} serves the side {other} already; two sides in one database need"
                " their tables in two schemas, named in the two URLs"
            )
    return found


async def unseen(connection: Connection, names: Sequence[str], *, ownership: bool = False) -> list[str]:
    """Say which of the tables `names` can be changed without triggers noticing, or belong to somebody else."""
    found = []
    for row in await connection.fetch(_TABLES, list(names)):
        table = row["target"]
        if ownership and not row["is_own"]:
            found.append(
                f"{table} belongs to {row['owner']}, and only its owner can put triggers on it; install as that role"
            )
        if row["kind"] == "f":
            found.append(f"{table} is a foreign table, whose rows change unseen; detach it")
        if row["persistence"] == "u":
            found.append(
                f"{table} is unlogged, and a crash empties it unseen; ALTER TABLE {table} SET LOGGED"
            )
        if row["has_heirs"]:
            found.append(
                f"tables inherit from {table}, and writes to those are not seen; make it partitioned"
            )
        if row["subscriptions"]:
            found.append(
                f"{table} is fed by the logical replication subscription {row['subscriptions']}, which fires no"
                " statement triggers; drop the subscription"
            )
    return found
