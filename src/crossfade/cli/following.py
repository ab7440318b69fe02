"""What commands share that work on both stores: the stores that the environment names, and following a model there."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from crossfade.cli.mappings import mappings_of
from crossfade.cli.options import find_schema
from crossfade.errors import ConfigurationError, StoreUnavailableError
from crossfade.events import NullObserver, Observer
from crossfade.mapping import NO_MAPPINGS
from crossfade.moving import Mover
from crossfade.reconcile import Reconciler
from crossfade.schema import Schema
from crossfade.settings import Settings
from crossfade.stages import Side, Stage, Topology
from crossfade.store import Store
from crossfade.store.homes import HOME, homes_of
from crossfade.store.leadership import Leadership
from crossfade.store.record import read_history
from crossfade.store.requests import read_requests
from crossfade.store.view import RecordView

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Standpoint:
    """The stores, opened as far as they answer, and what works on them."""

    schema: Schema
    stores: Mapping[Side, Store]
    view: RecordView
    reconciler: Reconciler
    mover: Mover

    async def last_entry(self) -> int:
        """The number of the newest entry of the legacy store's history."""
        store = self.stores[Side.PRISMA]
        async with store.transaction() as connection:
            return int(await connection.fetchval(f"SELECT coalesce(max(id), 0) FROM {store.own('history')}"))  # noqa: S608

    async def follow(
        self, model: str, wanted: Stage, *, after: int, seconds: float, alone: bool = True
    ) -> str | None:
        """Print what becomes of `model` until it stands at `wanted`; return why it does not, when time is up.

        `after` is the entry of the history from which on everything is printed; `alone` says that this process does not
        conduct itself.
        """
        held = "nothing has moved it"
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if alone and not await Leadership(self.stores[Side.PRISMA]).is_taken():
            typer.echo("no process conducts now: the steps wait for one that does", err=True)
        while True:
            record = self.view.record(model)
            there = record.stage is wanted and record.moving_to is None
            settled = model not in self.view.unsettled()  # what it says now is in the history, too
            async with self.stores[Side.PRISMA].transaction() as connection:
                entries = await read_history(connection, self.stores[Side.PRISMA], model, after=after)
            for entry in entries:
                after = max(after, entry.id)
                pause = "" if entry.pause is None else f", writers waited {entry.pause * 1000:.0f} ms"
                moving = "" if entry.moving_to is None else f" → {entry.moving_to}, under way"
                typer.echo(
                    f"  {entry.at:%H:%M:%S}  {entry.stage}{moving}  ({entry.by}: {entry.reason}{pause})"
                )
                held = entry.reason
            if there and (settled or loop.time() >= until):
                return None
            if loop.time() >= until:
                why = await self._why_held(model, wanted) or held
                return f"{model} stands at {record.stage} after {seconds:g} s: {why}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def _why_held(self, model: str, wanted: Stage) -> str:
        """What the leader says now; the history has it once, perhaps from before."""
        store = self.stores[Side.PRISMA]
        async with store.transaction() as connection:
            request = (await read_requests(connection, store)).get(model)
        return request.held if request is not None and request.stage is wanted else ""


def stores_in_environment(schema: Schema) -> dict[Side, Store] | None:
    """The stores that the environment names, or None where it names none, or one for both sides.

    Raises:
        ConfigurationError: it contradicts itself, or the mappings that it names cannot be used.
    """
    settings = Settings.from_environment()
    legacy, target = settings.legacy_dsn, settings.target_dsn
    if legacy is None or target is None or settings.topology is Topology.SHARED:
        return None
    homes = homes_of(legacy, target)
    dsns = {Side.PRISMA: legacy, Side.SQLALCHEMY: target}
    # What is found by the catalog alone needs no mappings, whatever they have become.
    mappings = mappings_of(settings) if schema.models else NO_MAPPINGS
    return {side: Store(side, dsn, schema, home=homes[side], mappings=mappings) for side, dsn in dsns.items()}


def followed_stores(schema: Schema) -> dict[Side, Store] | None:
    """The stores that hold the record: both that the environment names, or the one that both sides share; or None.

    Raises:
        ConfigurationError: it contradicts itself, or the mappings that it names cannot be used.
    """
    settings = Settings.from_environment()
    if settings.topology is Topology.SHARED and settings.legacy_dsn is not None:
        return {Side.PRISMA: Store(Side.PRISMA, settings.legacy_dsn, schema, home=HOME)}
    return stores_in_environment(schema)


def named_stores(schema: Path | None, flags: Path) -> tuple[Schema, dict[Side, Store]] | None:
    """The models and both stores, or None where the environment does not name two; then the schema is not read.

    Raises:
        ConfigurationError: there is no schema, or what `stores_in_environment` raises.
    """
    settings = Settings.from_environment()
    if settings.legacy_dsn is None or settings.target_dsn is None:
        return None
    models = load_models(schema, flags)
    stores = stores_in_environment(models)
    return None if stores is None else (models, stores)


def load_models(schema: Path | None, flags: Path) -> Schema:
    """Read the schema, for a command that cannot do without.

    Raises:
        ConfigurationError: there is none.
    """
    from crossfade.engine.parser import load_schema

    found = find_schema(schema, flags)
    if found is None:
        raise ConfigurationError(f"no schema.prisma beside {flags}: give --schema")
    return load_schema(found, _announce)


def needed_stores(schema: Schema) -> dict[Side, Store]:
    """The stores that the environment names, for a command that cannot do without.

    Raises:
        ConfigurationError: it does not name two.
    """
    stores = stores_in_environment(schema)
    if stores is None:
        raise ConfigurationError(
            "this works on both stores: set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN"
        )
    return stores


def needed_followed_stores(schema: Schema) -> dict[Side, Store]:
    """The same for a command that only follows the record, so that one store is enough where both sides share it.

    Raises:
        ConfigurationError: the environment names none.
    """
    return followed_stores(schema) or needed_stores(schema)


@asynccontextmanager
async def standing_on(schema: Schema, stores: Mapping[Side, Store]) -> AsyncIterator[Standpoint]:
    """Open the stores that answer; the legacy store has to.

    Raises:
        StoreUnavailableError: it does not.
        InstallError: crossfade is not installed in a store that answers.
    """
    try:
        for side, store in stores.items():
            try:
                await store.open()
            except StoreUnavailableError:
                if side is Side.PRISMA:
                    raise
            else:
                await store.check_installed()
        async with RecordView(stores) as view:
            reconciler = Reconciler(stores, view.authority, NullObserver(), stale=view.refresh)
            mover = Mover(stores, reconciler, schema, NullObserver())
            yield Standpoint(schema, stores, view, reconciler, mover)
    finally:
        for store in stores.values():
            await store.close()


@asynccontextmanager
async def settling_on(
    schema: Schema, stores: Mapping[Side, Store], observer: Observer | None = None
) -> AsyncIterator[Standpoint]:
    """Open both stores, for a command that brings rows level: at `off` the legacy store has the authority.

    Keys of models that are final, forced or on the move are left alone.

    Raises:
        StoreUnavailableError: a store does not answer.
        InstallError: crossfade is not installed in one of them.
    """
    heard = observer or NullObserver()
    try:
        for store in stores.values():
            await store.open()
            await store.check_installed()
        async with RecordView(stores) as view:
            reconciler = Reconciler(stores, view.settling, heard, stale=view.refresh)
            yield Standpoint(schema, stores, view, reconciler, Mover(stores, reconciler, schema, heard))
    finally:
        for store in stores.values():
            await store.close()


def user() -> str:
    """Who runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "somebody"


def _announce(line: str) -> None:
    typer.echo(line, err=True)
