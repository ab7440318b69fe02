"""`crossfade flip`: ask for another stage by changing a model's flag file."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption, models_of_schema
from crossfade.errors import ConfigurationError, UnknownModelError
from crossfade.stages import PLANS, FollowerPart, Plan, Side, Stage, Topology, moves_authority, next_step

_NAMES = {Side.PRISMA: "Prisma", Side.SQLALCHEMY: "SQLAlchemy"}


def flip(
    model: Annotated[str, typer.Argument(help="The model's name, as in schema.prisma.", show_default=False)],
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(Stage)}.", show_default=False)],
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    by: Annotated[str | None, typer.Option(help="Who asks; your user name by default.")] = None,
) -> None:
    """Ask for a stage: write it to the model's flag file. Running processes notice by themselves."""
    from crossfade.flags.files import write_stage

    wanted = Stage.parse(stage)
    known = _known_models(schema, flags)
    if model not in known:
        raise UnknownModelError(model, sorted(known))
    before, after = write_stage(flags, model, wanted)
    where = flags / f"{model}.yaml"
    if before is after:
        typer.echo(f"{model}: {where} asks for {after} already; nothing to do.")
        return
    typer.echo(f"{model}: {before} → {after}, asked for by {by or _user()} in {where}")
    for number, (step, text) in enumerate(_steps(before, after), start=1):
        typer.echo(f"  {number}. {step:<9} {text}")


def _known_models(schema: Path | None, flags: Path) -> frozenset[str]:
    known = models_of_schema(schema, flags)
    if known is None:
        from crossfade.flags.files import load_flags

        known = frozenset(load_flags(flags, None)[0])
    if not known:
        raise ConfigurationError(
            f"no schema.prisma beside {flags} and no flag file in it: give --schema or --flags"
        )
    return known


def _steps(before: Stage, after: Stage) -> list[tuple[Stage, str]]:
    steps = []
    here = before
    while (step := next_step(here, after)) is not None:
        text = _meaning(PLANS[Topology.SEPARATE][step])
        if moves_authority(here, step):
            text += " (the write authority moves)"
        steps.append((step, text))
        here = step
    return steps


def _meaning(plan: Plan) -> str:
    parts = [f"{_NAMES[plan.reads]} answers reads and takes writes"]
    if plan.follower_part in (FollowerPart.APPLY, FollowerPart.READ_BACK):
        parts.append(f"{_NAMES[plan.follower]} follows")
    if plan.shadow is not None:
        parts.append(f"reads are compared with {_NAMES[plan.shadow]}")
    return ", ".join(parts)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "somebody"
