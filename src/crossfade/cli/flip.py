"""`crossfade flip`: ask for another stage by changing a model's flag file."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption, models_of_schema
from crossfade.errors import ConfigurationError, UnknownModelError
from crossfade.stages import (
    PLANS,
    FollowerPart,
    Plan,
    Side,
    Stage,
    Topology,
    moves_authority,
    next_step,
)

if TYPE_CHECKING:
    from crossfade.schema import Schema

_NAMES = {Side.PRISMA: "Prisma", Side.SQLALCHEMY: "SQLAlchemy"}


def flip(
    model: Annotated[str, typer.Argument(help="The model's name, as in schema.prisma.", show_default=False)],
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(Stage)}.", show_default=False)],
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    by: Annotated[str | None, typer.Option(help="Who asks; your user name by default.")] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Follow the record until the model is there, for so long at most; exit code 1 if it is not.",
            show_default=False,
        ),
    ] = None,
    cohort: Annotated[
        bool, typer.Option("--cohort", help="Ask the same of every model of its cohort, at once.")
    ] = False,
) -> None:
    """Ask for a stage: write it to the model's flag file. Running processes notice by themselves.

    A step forward that what is asked of other models rules out is refused; the way back is always open.
    """
    from crossfade.flags.files import write_stage

    wanted = Stage.parse(stage)
    known = _known_models(schema, flags)
    if model not in known:
        raise UnknownModelError(model, sorted(known))
    models_asked, warnings = _checked(model, wanted, schema, flags, whole_cohort=cohort)
    if wait is not None:
        from crossfade.cli.following import load_models, needed_followed_stores

        models = load_models(schema, flags)
        needed_followed_stores(models)  # said before anything changes
    for name in models_asked:
        before, after = write_stage(flags, name, wanted)
        where = flags / f"{name}.yaml"
        if before is after:
            typer.echo(f"{name}: {where} asks for {after} already; nothing to do.")
        else:
            typer.echo(f"{name}: {before} → {after}, asked for by {by or _user()} in {where}")
            for number, (step, text) in enumerate(_steps(before, after), start=1):
                typer.echo(f"  {number}. {step:<9} {text}")
            for why in asyncio.run(_in_the_way(schema, flags, name, before, after)):
                typer.echo(f"  it will wait, because {why}")
    for text in warnings:
        typer.echo(f"  it will be held as long as this is asked for: {text}")
    if os.environ.get("CROSSFADE_UNLEASH_URL"):
        typer.echo("the fleet asks the Unleash server: send the file there with `crossfade flags push`")
    if wait is not None:
        asyncio.run(_follow(models, model, wanted, wait))


def _checked(
    model: str, wanted: Stage, schema: Path | None, flags: Path, *, whole_cohort: bool
) -> tuple[list[str], list[str]]:
    """Return the models whose files are to ask for `wanted`, and what then cannot be met all the same.

    Raises:
        FlagError: a model on the way forward has a file that cannot be used.
        RequestError: the request cannot be met beside what is asked of other models.
    """
    from crossfade.cli.requests import check_of, judge
    from crossfade.errors import RequestError
    from crossfade.flags.files import load_flags
    from crossfade.flags.flag import Flag

    found, problems = load_flags(flags, models_of_schema(schema, flags))
    found.setdefault(model, Flag(model))
    cohort = found[model].cohort
    asked = [model]
    if whole_cohort and cohort is not None:
        asked = sorted(name for name, flag in found.items() if flag.cohort == cohort)
    changed = {name: replace(found[name], stage=wanted) for name in asked}
    refused, told = judge(check_of(schema, flags), found, found | changed)
    broken = {Path(re.sub(r":\d+$", "", problem.source)).stem: problem for problem in problems}
    for name in sorted({name for refusal in refused for name in refusal.models} & broken.keys()):
        raise broken[name]
    if refused:
        raise RequestError(asked, str(wanted), [refusal.text for refusal in refused])
    return asked, [refusal.text for refusal in told]


async def _follow(models: Schema, model: str, wanted: Stage, seconds: float) -> None:
    from crossfade.cli.following import needed_followed_stores, standing_on

    async with standing_on(models, needed_followed_stores(models)) as standpoint:
        # Entries of before the request are of no interest; one that came right after it may be missed, the record not.
        after = await standpoint.last_entry()
        why = await standpoint.follow(model, wanted, after=after, seconds=seconds)
    if why is not None:
        typer.echo(f"crossfade: {why}", err=True)
        raise typer.Exit(1)
    typer.echo(f"{model} is at {wanted}")


async def _in_the_way(schema: Path | None, flags: Path, model: str, before: Stage, after: Stage) -> list[str]:
    """Why the conductor will not take every step yet, as far as the stores that the environment names tell."""
    from crossfade.cli.following import named_stores
    from crossfade.errors import OperatorError
    from crossfade.gates import Coverage

    if (named := named_stores(schema, flags)) is None:
        return []
    _, stores = named
    try:
        return [gate.why for gate in await Coverage(stores).unmet([model], before, after)]
    except OperatorError:  # the flag is written; whoever conducts will say what is wrong with a store
        return []
    finally:
        for store in stores.values():
            await store.close()


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
