"""`crossfade conduct`: a process that does nothing but lead, or wait for its turn to lead."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, MetricsPortOption, SchemaOption
from crossfade.stages import Side, Topology

if TYPE_CHECKING:
    from crossfade.conductor import Conductor
    from crossfade.events import Observer
    from crossfade.flags import Flag, FlagProvider
    from crossfade.reconcile import Reconciler
    from crossfade.schema import Schema
    from crossfade.settings import Settings
    from crossfade.store import Store
    from crossfade.store.record import Record
    from crossfade.store.view import RecordView

_LAG_SECONDS = 1.0


def conduct(
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    metrics_port: MetricsPortOption = None,
    guard: Annotated[
        bool, typer.Option("--guard/--no-guard", help="Walk models back by itself that do not do well.")
    ] = True,
    name: Annotated[
        str | None,
        typer.Option(help="What `crossfade status` calls this process; its host and process id by default."),
    ] = None,
) -> None:
    """Walk the models towards what their flags ask for, until Ctrl-C. Any number may run; one of them leads.

    The environment names the stores (CROSSFADE_LEGACY_DSN, CROSSFADE_TARGET_DSN, CROSSFADE_TOPOLOGY) and where the
    flags are: an Unleash server (CROSSFADE_UNLEASH_URL, CROSSFADE_UNLEASH_TOKEN), or else the flag files.
    """
    from crossfade.cli.following import load_models, needed_followed_stores
    from crossfade.logs import configure_logging
    from crossfade.settings import Settings

    settings = replace(Settings.from_environment(), flags_dir=flags)
    models = load_models(schema, flags)
    stores = needed_followed_stores(models)
    configure_logging(level=settings.log_level)
    port = settings.metrics_port if metrics_port is None else metrics_port
    asyncio.run(_conduct(settings, models, stores, port, guards=guard, name=name))


async def _conduct(
    settings: Settings,
    models: Schema,
    stores: Mapping[Side, Store],
    port: int | None,
    *,
    guards: bool,
    name: str | None,
) -> None:
    from crossfade.events import Observers
    from crossfade.flags.choice import provider_from
    from crossfade.logs import StructlogObserver
    from crossfade.metrics import PrometheusObserver, serve
    from crossfade.readiness import judge
    from crossfade.signals import Signals
    from crossfade.store.view import LEASE_SECONDS, RecordView

    metrics, logs = PrometheusObserver.for_schema(models), StructlogObserver()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with AsyncExitStack() as stack:
        stack.callback(logs.close)
        for store in stores.values():
            stack.push_async_callback(store.close)
            await _open(store)
        view = await stack.enter_async_context(RecordView(stores))
        signals = Signals(stores[Side.PRISMA], models, view, name=name, leads=lambda: conductor.leads)
        observer = Observers(metrics, logs, signals)
        provider = await stack.enter_async_context(
            provider_from(settings, frozenset(models.models), observer)
        )
        changes = provider.changes()
        reconciler = await _reconciler(stack, stores, view, observer)
        conductor = _conductor(models, stores, view, provider, reconciler, observer, guards=guards)

        def place(record: Record) -> None:
            metrics.place(record.model, record.stage)

        view.on_change(place)
        for record in view.records.values():
            place(record)
        if port is not None:
            ready = lambda: judge(age=view.age(), lease=LEASE_SECONDS, recorded=view.stages(), placed={})  # noqa: E731
            address = stack.enter_context(serve(port, metrics.registry, ready=ready))
            typer.echo(f"serving {address}", err=True)
        await stack.enter_async_context(signals)
        await stack.enter_async_context(conductor)
        for flag in provider.current().values():
            _request(conductor, models, flag)
        tasks = [asyncio.create_task(_follow(conductor, models, changes), name="flags")]
        if reconciler is not None:
            tasks.append(asyncio.create_task(_watch_lag(reconciler, view, observer), name="capture-lag"))
        stack.push_async_callback(_stop, tasks)
        typer.echo(f"conducting {len(models.models)} models as {signals.name} (Ctrl-C ends it)", err=True)
        await ended.wait()


async def _open(store: Store) -> None:
    """Open a store; the target may be away: a model that needs nothing of it can be walked back meanwhile.

    Raises:
        StoreUnavailableError: the legacy store does not answer.
        InstallError: crossfade is not installed there.
    """
    from crossfade.errors import StoreUnavailableError

    try:
        await store.open()
        await store.check_installed()
    except StoreUnavailableError:
        if store.side is Side.PRISMA:
            raise


async def _reconciler(
    stack: AsyncExitStack, stores: Mapping[Side, Store], view: RecordView, observer: Observer
) -> Reconciler | None:
    """What keeps the stores level; none where there is one."""
    from crossfade.reconcile import Reconciler

    if len(stores) == 1:
        return None
    reconciler = Reconciler(stores, view.authority, observer, stale=view.refresh)
    return await stack.enter_async_context(reconciler)


def _conductor(
    models: Schema,
    stores: Mapping[Side, Store],
    view: RecordView,
    provider: FlagProvider,
    reconciler: Reconciler | None,
    observer: Observer,
    *,
    guards: bool,
) -> Conductor:
    from crossfade.conductor import Conductor
    from crossfade.gates import AllGates
    from crossfade.guard import FleetWitness
    from crossfade.moving import Mover, NothingToCarry
    from crossfade.planner import Planner
    from crossfade.thresholds import GuardThresholds

    def thresholds(model: str) -> GuardThresholds:
        flag = provider.current().get(model)
        return GuardThresholds.of({} if flag is None else flag.guard)

    return Conductor(
        Mover(stores, reconciler or NothingToCarry(), models, observer),
        view,
        Planner(models, Topology.SHARED if len(stores) == 1 else Topology.SEPARATE),
        observer,
        stores,
        gates=AllGates(stores, models, lambda model: provider.current().get(model)),
        witness=FleetWitness(stores) if guards else None,
        thresholds=thresholds,
    )


def _request(conductor: Conductor, models: Schema, flag: Flag) -> None:
    if flag.model in models.models:
        conductor.request(
            flag.model, flag.stage, by=flag.owner or "flag", cohort=flag.cohort, confirmed=flag.confirmed
        )


async def _follow(conductor: Conductor, models: Schema, changes: AsyncIterator[Flag]) -> None:
    async for flag in changes:
        _request(conductor, models, flag)


async def _watch_lag(reconciler: Reconciler, view: RecordView, observer: Observer) -> None:
    """Tell, each second, how much is captured and not verified yet."""
    from crossfade.errors import StoreUnavailableError
    from crossfade.events import CaptureLagged

    while True:
        with suppress(StoreUnavailableError):
            begun = [name for name in view.records if view.authority(name) is not None]
            for name, lag in (await reconciler.pending(begun)).items():
                observer.observe(CaptureLagged(name, lag.keys, lag.oldest))
        await asyncio.sleep(_LAG_SECONDS)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
