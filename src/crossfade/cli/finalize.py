"""`crossfade finalize`: the end of a model's migration, and of the way back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption

if TYPE_CHECKING:
    from crossfade.schema import Schema


def finalize(
    model: Annotated[str, typer.Argument(help="The model's name, as in schema.prisma.", show_default=False)],
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "finalized",
    by: Annotated[str | None, typer.Option(help="Who asks; your user name by default.")] = None,
) -> None:
    """Remove what crossfade keeps for a model at `complete`. There is no way back after that."""
    from crossfade.cli.following import load_models, needed_stores, user

    models = load_models(schema, flags)
    models.model(model)
    needed_stores(models)
    asyncio.run(_check(models, model))
    if not yes:
        typer.confirm(
            f"{model}: remove its triggers and captured keys from both stores? It cannot be moved back then",
            abort=True,
        )
    asyncio.run(_finalize(models, model, by or user(), reason))
    typer.echo(f"{model} is final: the target store has it for good")


async def _check(models: Schema, model: str) -> None:
    from crossfade.cli.following import needed_stores, standing_on
    from crossfade.finalizing import check_finalizable

    async with standing_on(models, needed_stores(models)) as standpoint, standpoint.mover.lines() as lines:
        await check_finalizable(standpoint.mover, lines, model)


async def _finalize(models: Schema, model: str, by: str, reason: str) -> None:
    from crossfade.cli.following import needed_stores, standing_on
    from crossfade.finalizing import finalize as make_final

    async with standing_on(models, needed_stores(models)) as standpoint:
        await make_final(standpoint.mover, model, by=by, reason=reason)
