"""Sets the scene: the legacy store with its rows, a target store with empty tables, Prisma's engine, and the flags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.generate import generate_prisma_client
from crossfade.engine.launcher import EngineChoice, ensure_engine
from crossfade.engine.parser import load_schema
from crossfade.errors import ConfigurationError
from crossfade.schema import Schema
from crossfade.stores import check_reachable
from marketplace.db import connect
from marketplace.demo.desk import Desk, FileDesk, UnleashPlace
from marketplace.demo.options import Options
from marketplace.demo.thresholds import write_flags
from marketplace.seed import many_to_many, seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

Step: TypeAlias = Callable[[str], AbstractContextManager[Callable[[str], None]]]
"""Opens one step of the set-up by its title; the function that it gives takes details."""

Databases: TypeAlias = tuple[Dsn, Dsn]
"""The legacy store and the target store."""

_FLAGS = SCHEMA_FILE.parents[2] / "flags"
_LEDGERS = frozenset({"_prisma_migrations", "alembic_version"})


@dataclass(frozen=True, slots=True)
class Stores:
    """The scene. `server` is the embedded one, if there is one."""

    schema: Schema
    legacy: Dsn
    target: Dsn
    flags: Path
    engine: EngineChoice
    server: EmbeddedPostgres | None
    desk: Desk
    unleash: UnleashPlace | None


@asynccontextmanager
async def open_stores(
    options: Options, databases: Databases | None, directory: Path, step: Step
) -> AsyncIterator[Stores]:
    """Set everything up in `databases`, or in an embedded server that ends with the block.

    `directory` takes the copy of the flags.

    Raises:
        OperatorError: a store cannot be reached or is not empty, or a part cannot be installed.
    """
    async with AsyncExitStack() as stack:
        server: EmbeddedPostgres | None = None
        if databases is not None:
            legacy, target = databases
            with step("checking both databases"):
                await check_reachable(legacy, "the legacy store")
                await check_reachable(target, "the target store")
        else:
            with step("starting PostgreSQL") as detail:
                server = await stack.enter_async_context(EmbeddedPostgres())
                legacy = Dsn.parse(await server.create_database("marketplace_legacy"))
                target = Dsn.parse(await server.create_database("marketplace_target"))
                detail(f"port {server.port}")
        with step("finding Prisma's engine") as detail:
            engine = await asyncio.to_thread(ensure_engine, detail)
            detail(f"{engine.kind} {engine.version[:7]}")
        with step("reading schema.prisma") as detail:
            schema = await asyncio.to_thread(load_schema, SCHEMA_FILE, detail)
            detail(f"{len(schema.models)} models")
        with step("generating Prisma Client Python") as detail:
            await asyncio.to_thread(
                generate_prisma_client, SCHEMA_FILE, SCHEMA_FILE.parent / "prisma_client", detail
            )
        if server is None:
            await _demand_unused(legacy, schema)
            await _demand_unused(target, schema)
        with step("creating the tables: Prisma's migrations, Alembic's migrations"):
            await apply_legacy_schema(legacy)
            await upgrade_target(target)
        with step("seeding the legacy store") as detail:
            counts = await seed_legacy(legacy, options.rows, options.seed)
            detail(f"{sum(counts.values()):,} rows")
        flags = directory / "flags"
        written = await asyncio.to_thread(write_flags, _FLAGS, flags, schema, options.seconds)
        desk: Desk = FileDesk(flags)
        place = None
        if options.unleash:
            # It needs an extra, which the show without it does not.
            from marketplace.demo.features import UnleashDesk, open_unleash  # noqa: PLC0415

            own = EmbeddedPostgres() if server is None else server
            if server is None:
                await stack.enter_async_context(own)
            with step("starting Unleash") as detail:
                server_of_flags = open_unleash(await own.create_database("unleash"), detail)
                place = await stack.enter_async_context(server_of_flags)
                detail(place.url)
            with step("pushing the flags to Unleash"):
                features = await stack.enter_async_context(UnleashDesk(place, written))
                await features.push()
            desk = features
        yield Stores(schema, legacy, target, flags, engine, server, desk, place)


async def _demand_unused(dsn: Dsn, schema: Schema) -> None:
    """A store that holds anything but the demo's own, empty tables belongs to somebody."""
    ours = {spec.table for spec in schema} | {f"_{relation}" for relation in many_to_many(schema)}
    async with connect(dsn) as connection:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = coalesce($1, current_schema())", dsn.schema
        )
    strangers = sorted({row["tablename"] for row in tables} - ours - _LEDGERS)
    if strangers:
        named = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise ConfigurationError(
            f"the store at {dsn.where} already holds tables ({named}); give the demo an empty database"
        )
