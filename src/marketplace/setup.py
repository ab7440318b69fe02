"""Bring a database to the marketplace's schema: the legacy store by Prisma's migrations, the new one by Alembic's."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError
from marketplace.db import Database, connect

SCHEMA_FILE: Final = Path(str(files("marketplace"))) / "schema.prisma"
"""The schema that both stores have."""

_PRISMA_MIGRATIONS = SCHEMA_FILE.parent / "prisma_migrations"

# Prisma's own table, in Prisma's own words, so that `prisma migrate status` finds what it expects.
_PRISMA_LEDGER = """
CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                      VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum                VARCHAR(64) NOT NULL,
    finished_at             TIMESTAMPTZ,
    migration_name          VARCHAR(255) NOT NULL,
    logs                    TEXT,
    rolled_back_at          TIMESTAMPTZ,
    started_at              TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count     INTEGER NOT NULL DEFAULT 0
)
"""
_PRISMA_LOCK = 72707369
"""The key of the advisory lock that `prisma migrate` takes."""


async def apply_legacy_schema(dsn: Dsn) -> list[str]:
    """Apply the Prisma migrations that the database does not have yet, and record them as Prisma does.

    Returns:
        The names of the migrations that were applied now.

    Raises:
        ConfigurationError: a migration in the database has another text than the file of that name.
        StoreUnavailableError: the database does not answer.
    """
    async with connect(dsn) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _PRISMA_LOCK)
        if dsn.schema is not None:
            name = await connection.fetchval("SELECT quote_ident($1)", dsn.schema)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name}")
        await connection.execute(_PRISMA_LEDGER)
        known = {
            row["migration_name"]: row["checksum"]
            for row in await connection.fetch(
                "SELECT migration_name, checksum FROM _prisma_migrations WHERE finished_at IS NOT NULL"
            )
        }
        applied = []
        for migration in _prisma_migrations():
            script = migration.read_bytes()
            checksum = hashlib.sha256(script).hexdigest()
            name = migration.parent.name
            if name not in known:
                await _apply(connection, name, checksum, script.decode())
                applied.append(name)
            elif known[name] != checksum:
                raise ConfigurationError(
                    f"the legacy store at {dsn.where} was made by another version of migration {name};"
                    " use an empty database"
                )
        return applied


def _prisma_migrations() -> Iterator[Path]:
    return iter(sorted(_PRISMA_MIGRATIONS.glob("*/migration.sql")))


async def _apply(
    connection: asyncpg.Connection[asyncpg.Record], name: str, checksum: str, script: str
) -> None:
    await connection.execute(script)
    await connection.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)"
        " VALUES ($1, $2, $3, clock_timestamp(), 1)",
        str(uuid.uuid4()),
        checksum,
        name,
    )


async def upgrade_target(dsn: Dsn, revision: str = "marketplace@head") -> None:
    """Bring the new store up to a revision of its Alembic migrations.

    By default that makes its tables. `heads` puts crossfade's objects on them as well; from then on the store takes
    no writes but those of crossfade, until the authority moves.

    Raises:
        ConfigurationError: the migrations are not installed.
        InstallError: crossfade's objects cannot be installed.
    """
    await _migrate(dsn, lambda config: command.upgrade(config, revision))


async def downgrade_target(dsn: Dsn, revision: str = "base") -> None:
    """Take the new store back to a revision; `base` removes every table, `crossfade@base` crossfade's objects alone.

    Raises:
        ConfigurationError: the migrations are not installed.
    """
    await _migrate(dsn, lambda config: command.downgrade(config, revision))


def alembic_config(*, with_crossfade: bool = False) -> Config:
    """The configuration that Alembic's commands need, without a file of its own.

    Args:
        with_crossfade: whether the branch `crossfade` belongs to it, beside the branch `marketplace`.

    Raises:
        ConfigurationError: the migrations are not installed.
    """
    # In a checkout they lie at the top; a wheel carries them inside this package.
    for folder in (SCHEMA_FILE.parent / "migrations", SCHEMA_FILE.parents[2] / "migrations"):
        if (folder / "env.py").is_file():
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            if with_crossfade:
                # Of branches that do not depend on each other, Alembic takes the one that it has read last first.
                places = (Path(str(files("crossfade.store.versions"))), folder / "versions")
                config.set_main_option(
                    "version_locations", os.pathsep.join(map(str, places)).replace("%", "%%")
                )
            return config
    raise ConfigurationError("the marketplace's Alembic migrations are not installed")


async def _migrate(dsn: Dsn, step: Callable[[Config], None]) -> None:
    config = alembic_config(with_crossfade=True)

    def run(connection: Connection) -> None:
        config.attributes["connection"] = connection
        step(config)

    async with Database(dsn) as database:
        await database.healthcheck()
        async with database.connection() as connection:
            await connection.run_sync(run)
