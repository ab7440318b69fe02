"""`crossfade rollback`: back to Prisma, step by step and drained, or at once and by force."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption
from crossfade.errors import ConfigurationError
from crossfade.stages import Side, Stage, Topology

if TYPE_CHECKING:
    from crossfade.cli.following import Standpoint
    from crossfade.forcing import Forced
    from crossfade.schema import Schema


def rollback(
    model: Annotated[str, typer.Argument(help="The model's name, as in schema.prisma.", show_default=False)],
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Open the legacy store without a drain, and list what that loses.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "rollback",
    lost: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where --force lists the keys that never reached the legacy store; named after the model by default.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="How many seconds to follow it.")] = 60.0,
    by: Annotated[str | None, typer.Option(help="Who asks; your user name by default.")] = None,
) -> None:
    """Take a model back to Prisma. Needs CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN to follow it, or to force it.

    Without --force nothing is lost: `off` is asked for in the flag file, and the model walks back step by step. Where
    no process conducts, this one does.
    """
    from crossfade.cli.following import followed_stores, load_models, needed_stores, user
    from crossfade.flags.files import write_stage

    who = by or user()
    models = load_models(schema, flags)
    models.model(model)
    if lost is not None and not force:
        raise ConfigurationError("--lost is for --force: without it nothing is lost")
    if force:
        file = lost or Path(f"crossfade-lost-{model}-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl")
        needed_stores(models)  # said before anything changes
        asyncio.run(_force(models, model, flags, who, reason, file))
        return
    stores = followed_stores(models)
    before, _ = write_stage(flags, model, Stage.OFF)
    typer.echo(f"{model}: {before} → off, asked for by {who} in {flags / f'{model}.yaml'}")
    if stores is None:
        typer.echo("running processes notice by themselves")
        return
    asyncio.run(_walk_back(models, model, who, wait))


async def _walk_back(models: Schema, model: str, by: str, seconds: float) -> None:
    from crossfade.cli.following import needed_followed_stores, standing_on
    from crossfade.store.leadership import Leadership

    async with standing_on(models, needed_followed_stores(models)) as standpoint:
        after = await standpoint.last_entry()
        if await Leadership(standpoint.stores[Side.PRISMA]).is_taken():
            why = await standpoint.follow(model, Stage.OFF, after=after, seconds=seconds)
        else:
            why = await _conduct(standpoint, model, by, after, seconds)
    if why is not None:
        typer.echo(f"crossfade: {why}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{model} is at off")


async def _conduct(standpoint: Standpoint, model: str, by: str, after: int, seconds: float) -> str | None:
    """Walk the model back as the leader, since nobody else does."""
    from crossfade.conductor import Conductor
    from crossfade.events import NullObserver
    from crossfade.gates import AllGates
    from crossfade.planner import Planner

    typer.echo("no process conducts now: this one does until the model is at off", err=True)
    at = standpoint
    is_shared = len(at.stores) == 1
    planner = Planner(at.schema, Topology.SHARED if is_shared else Topology.SEPARATE)
    gates = AllGates(
        at.stores, at.schema, lambda _: None
    )  # back there is one: a store is fed until a lease is over
    async with (
        nullcontext() if is_shared else at.reconciler,
        Conductor(at.mover, at.view, planner, NullObserver(), at.stores, gates=gates) as conductor,
    ):
        conductor.request(model, Stage.OFF, by=by)
        return await at.follow(model, Stage.OFF, after=after, seconds=seconds, alone=False)


async def _force(models: Schema, model: str, flags: Path, by: str, reason: str, file: Path) -> None:
    from crossfade.cli.following import needed_stores, standing_on
    from crossfade.flags.files import load_flags, write_stage
    from crossfade.forcing import check_forcible, force_back

    found, _ = load_flags(flags, frozenset(models.models))
    cohort = found[model].cohort
    names = [name for name, flag in found.items() if name == model or (cohort and flag.cohort == cohort)]
    async with standing_on(models, needed_stores(models)) as standpoint:
        view = standpoint.view
        check_forcible(view.records, [model])
        names = [name for name in names if name == model or view.record(name).authority is not Side.PRISMA]
        for name in names:  # first, or else the conductor would lead the model forward again
            write_stage(flags, name, Stage.OFF)
        forced = await force_back(standpoint.mover, names, by=by, reason=reason, file=file)
    _tell(forced)


def _tell(forced: Forced) -> None:
    names = ", ".join(forced.models)
    typer.echo(
        f"{names}: {forced.stage}, by force; the legacy store takes the writes now, and `off` is asked for"
    )
    if forced.lost is None:
        typer.echo(
            f"crossfade: the target store could not be read ({forced.why}), so nobody can say yet which keys never"
            f" reached the legacy store. {names} will not be reconciled until that is known: run this again when the"
            " store is back, and the list is made then",
            err=True,
        )
        raise typer.Exit(1)
    if forced.lost:
        keys = "1 key" if forced.lost == 1 else f"{forced.lost} keys"
        typer.echo(
            f"{keys} never reached the legacy store; both images of each are in {forced.file}."
            " It holds rows: only you can read it. From here on the legacy store's rows win"
        )
    else:
        forced.file.unlink(missing_ok=True)
        typer.echo("every key had reached the legacy store; nothing is lost")
