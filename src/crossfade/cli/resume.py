"""`crossfade resume`: let a model go forward again that the guard has walked back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption
from crossfade.stages import Side

if TYPE_CHECKING:
    from crossfade.cli.following import Standpoint
    from crossfade.schema import Schema


def resume(
    model: Annotated[str, typer.Argument(help="The model's name, as in schema.prisma.", show_default=False)],
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    reason: Annotated[str, typer.Option(help="What was done about it, for the history.")] = "looked into",
    by: Annotated[str | None, typer.Option(help="Who resumes; your user name by default.")] = None,
) -> None:
    """Let a model that the guard has walked back take steps forward again, and its cohort with it.

    What was seen before counts no more: its gates begin with nothing. Needs CROSSFADE_LEGACY_DSN and
    CROSSFADE_TARGET_DSN.
    """
    from crossfade.cli.following import load_models, user

    models = load_models(schema, flags)
    models.model(model)
    asyncio.run(_resume(models, model, by or user(), reason))


async def _resume(models: Schema, model: str, by: str, reason: str) -> None:
    from crossfade.cli.following import needed_followed_stores, standing_on

    async with standing_on(models, needed_followed_stores(models)) as at:
        records = at.view.records
        if not at.view.record(model).paused:
            typer.echo(f"{model} is not paused; it stands at {at.view.record(model).stage}")
            return
        names = [model, *(name for name in await _cohort(at, model) if name in records and name != model)]
        resumed = await at.mover.resume(names, by=by, reason=reason)
        for name in resumed:
            record = records[name]
            typer.echo(
                f"{name} may go forward again from {record.stage}, where it was held since"
                f" {record.since:%Y-%m-%d %H:%M:%S} UTC ({record.by}: {record.reason})"
            )


async def _cohort(at: Standpoint, model: str) -> list[str]:
    """The models that the authority of `model` moves with, as the leader has heard last."""
    from crossfade.store.requests import read_requests

    store = at.stores[Side.PRISMA]
    async with store.transaction() as connection:
        requests = await read_requests(connection, store)
    asked = requests.get(model)
    if asked is None or asked.cohort is None:
        return []
    return [name for name, other in requests.items() if other.cohort == asked.cohort]
