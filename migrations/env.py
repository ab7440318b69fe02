"""Alembic's environment for the new store; pyproject's `[tool.alembic]` points here.

The database is, in this order: the connection or the `Dsn` in `config.attributes` (a program that migrates), or
`CROSSFADE_TARGET_DSN` (a person at a shell). `alembic upgrade marketplace@head --sql` prints SQL and needs none.

There are two branches: `marketplace` makes the tables; `crossfade`, which comes with crossfade, its objects on them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, TypeDecorator

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.store.branch import ATTRIBUTE, BranchOptions
from marketplace.db import create_engine, target_dsn
from marketplace.models import metadata
from marketplace.setup import SCHEMA_FILE

# Tables of other owners that may lie in the same schema.
_FOREIGN = frozenset({"_prisma_migrations"})


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave the tables of others out of comparisons."""
    return kind != "table" or name not in _FOREIGN


def render_item(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Write the column type instead of a decorator of ours, so that old migrations never depend on later code."""
    if kind != "type" or not isinstance(item, TypeDecorator):
        return False
    column_type = item.impl_instance
    if type(column_type).__module__.startswith("sqlalchemy.dialects.postgresql"):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return f"postgresql.{column_type!r}"
    return f"sa.{column_type!r}"


def configure(**options: Any) -> None:
    """Configure the migration context and run what was asked for."""
    context.configure(
        target_metadata=metadata,
        compare_server_default=True,
        include_name=include_name,
        render_item=render_item,
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_on(connection: Connection) -> None:
    """Migrate through an open connection."""
    configure(connection=connection)


async def run_at(dsn: Dsn) -> None:
    """Connect, migrate and disconnect."""
    engine = create_engine(dsn)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(run_on)
    finally:
        await engine.dispose()


attributes = context.config.attributes
attributes.setdefault(ATTRIBUTE, BranchOptions(schema=lambda: load_schema(SCHEMA_FILE)))
if context.is_offline_mode():
    configure(dialect_name="postgresql", literal_binds=True)
elif "connection" in attributes:
    run_on(attributes["connection"])
else:
    asyncio.run(run_at(attributes.get("dsn") or target_dsn()))
