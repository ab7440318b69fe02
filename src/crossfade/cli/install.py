"""`crossfade install` and `crossfade uninstall`: capture, fence and record in the two stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, BackupsOption, FlagsOption, SchemaOption
from crossfade.errors import ConfigurationError, InstallError
from crossfade.stages import Side

if TYPE_CHECKING:
    from crossfade.schema import Schema
    from crossfade.store import Store
    from crossfade.store.install import Done

SideOption = Annotated[
    Side | None,
    typer.Option("--side", help="Only the store of this side; both by default.", show_default=False),
]


def install(
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    side: SideOption = None,
    deadline: Annotated[
        float,
        typer.Option(min=0.0, help="Seconds to try for the locks of live tables, which are held briefly."),
    ] = 30.0,
    by: Annotated[str | None, typer.Option(help="Who does it; your user name by default.")] = None,
    backups: BackupsOption = None,
    backup_age: Annotated[
        float, typer.Option(min=0.0, help="Hours that a backup may be old to count as one.")
    ] = 24.0,
    without_backup: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Do without a backup; NAME answers for it and is recorded."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; say what capture and fence do not see at the moment."),
    ] = False,
) -> None:
    """Put capture, fence and record into the stores, or complete them. Tables stay in use meanwhile.

    CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN name the stores; their roles must own the tables. From then on the
    target store refuses writes other than crossfade's until a model moves there. A store that crossfade has never been
    in, and that is not embedded, needs a recent backup (`crossfade backup`).
    """
    from crossfade.cli.following import load_models, user

    models = load_models(schema, flags)
    if check:
        asyncio.run(_check(_stores(models, side)))
    else:
        who = by or user()
        if without_backup is not None:
            who = f"{who}; without a backup: {without_backup}"
        asyncio.run(_install(models, side, who, deadline, _requirement(backups, backup_age, without_backup)))


def uninstall(
    side: SideOption = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even though models have left `off`: both stores then take any write."),
    ] = False,
    deadline: Annotated[
        float, typer.Option(min=0.0, help="Seconds to try for the locks of live tables.")
    ] = 30.0,
) -> None:
    """Remove everything that `install` has put into the stores, captured keys and history included."""
    from crossfade.schema import Schema

    asyncio.run(_uninstall(_stores(Schema({}, {}), side), deadline, force=force))


def _requirement(
    directory: Path | None, max_age_hours: float, waived_by: str | None
) -> Callable[[Iterable[Store]], Awaitable[None]]:
    """What has to hold of stores before anything is put into them."""

    async def check(stores: Iterable[Store]) -> None:
        if waived_by is None:
            from crossfade.backup import default_directory, require_backups

            await require_backups(stores, directory or default_directory(), max_age_hours=max_age_hours)

    return check


async def _install(
    schema: Schema,
    side: Side | None,
    by: str,
    deadline: float,
    require: Callable[[Iterable[Store]], Awaitable[None]],
) -> None:
    from crossfade.settings import Settings
    from crossfade.stages import Topology
    from crossfade.store.crossing import check_crossings
    from crossfade.store.install import install as install_in
    from crossfade.store.install import obstacles

    is_shared = Settings.from_environment().topology is Topology.SHARED
    stores = _stores(schema, side)
    try:
        standing = {store: await obstacles(store, core_only=is_shared) for store in stores.values()}
        refused = [
            InstallError(store.where, problem) for store, found in standing.items() for problem in found
        ]
        if refused:
            raise ExceptionGroup("nothing was changed", refused)
        if len(stores) == 2:
            for store in stores.values():
                await store.open()
            await check_crossings(stores)
        await require(stores.values())
        for store in stores.values():
            done = await install_in(store, by=by, deadline=deadline, core_only=is_shared)
            _report(store, done, "complete already; nothing to do")
    finally:
        await _close(stores.values())


async def _check(stores: Mapping[Side, Store]) -> None:
    from crossfade.store.problems import installed_problems

    try:
        found = {store: await installed_problems(store) for store in stores.values()}
    finally:
        await _close(stores.values())
    for store, problems in found.items():
        typer.echo(f"{store.side} at {store.where}, schema {store.home}")
        for problem in problems or ["capture and fence are whole"]:
            typer.echo(f"  {problem}")
    if any(found.values()):
        raise typer.Exit(1)


async def _uninstall(stores: Mapping[Side, Store], deadline: float, *, force: bool) -> None:
    from crossfade.store.install import check_unused
    from crossfade.store.install import uninstall as uninstall_from

    try:
        for store in stores.values():
            if not force:
                await check_unused(store)
        for store in stores.values():
            _report(
                store, await uninstall_from(store, force=force, deadline=deadline), "nothing was installed"
            )
    finally:
        await _close(stores.values())


def _stores(schema: Schema, wanted: Side | None) -> dict[Side, Store]:
    from crossfade.cli.following import followed_stores
    from crossfade.settings import Settings
    from crossfade.stages import Topology

    is_shared = Settings.from_environment().topology is Topology.SHARED
    stores = followed_stores(schema)
    if stores is None and is_shared:
        raise ConfigurationError("set CROSSFADE_LEGACY_DSN to the store that both sides share")
    if stores is None:
        raise ConfigurationError("set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN to the two stores")
    if is_shared and wanted is Side.SQLALCHEMY:
        raise ConfigurationError("CROSSFADE_TOPOLOGY=shared has one store: leave --side out")
    return {side: store for side, store in stores.items() if wanted in (None, side)}


def _report(store: Store, done: Iterable[Done], nothing: str) -> None:
    typer.echo(f"{store.side} at {store.where}, schema {store.home}")
    lines = [
        (entry.model or entry.table or "beside", "; ".join(entry.steps)) for entry in done if entry.steps
    ]
    width = max((len(name) for name, _ in lines), default=0)
    for name, steps in lines:
        typer.echo(f"  {name:<{width}}  {steps}")
    if not lines:
        typer.echo(f"  {nothing}")


async def _close(stores: Iterable[Store]) -> None:
    for store in stores:
        await store.close()
