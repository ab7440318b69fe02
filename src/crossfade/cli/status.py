"""`crossfade status`: what the flag files ask for and, given an endpoint, what a process does."""

from __future__ import annotations

import asyncio
import json as json_format
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.cli.options import DEFAULT_FLAGS, FlagsOption, SchemaOption, models_of_schema
from crossfade.stages import Side, Stage

if TYPE_CHECKING:
    from crossfade.errors import FlagError
    from crossfade.flags.flag import Flag

_WIDTH_OF_A_FILE = 160


@dataclass(slots=True)
class Activity:
    """What one process reports about one model."""

    stage: str | None = None
    operations: int = 0
    matched: int = 0
    mismatched: int = 0


def status(
    model: Annotated[
        str | None, typer.Argument(help="One model, to see why it stands where it does.", show_default=False)
    ] = None,
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    metrics: Annotated[
        str | None, typer.Option(help="A running process's metrics address, to show what it does.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show every model: the stage its flag asks for, and who owns it.

    Where CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN name the stores: also where the record says that it stands, and
    whether it was backfilled and verified. With MODEL: why that one stands there, what would move it, its gates with
    their figures, the processes of the fleet and the stage that they go by.
    """
    from crossfade.flags.files import load_flags

    if model is not None:
        _explain(model, schema, flags, json=json)
        return
    found, problems = load_flags(flags, models_of_schema(schema, flags))
    activity = None if metrics is None else _activity(metrics)
    standings = asyncio.run(_standings(schema, flags))
    ordered = [found[model] for model in sorted(found)]
    broken = {_model_of(problem) for problem in problems}
    if json:
        rows = [_row(flag, flag.model in broken, activity, standings) for flag in ordered]
        listed = [{"source": problem.source, "problem": problem.problem} for problem in problems]
        typer.echo(json_format.dumps({"models": rows, "problems": listed}, indent=2))
    elif ordered:
        _print_table(ordered, broken, activity, standings)
    if problems:
        raise ExceptionGroup("flags", problems)


def _explain(model: str, schema: Path | None, flags: Path, *, json: bool) -> None:
    from crossfade.cli.following import load_models, needed_followed_stores
    from crossfade.cli.model_status import as_json, read_facts, tell
    from crossfade.flags.files import load_flags

    models = load_models(schema, flags)
    models.model(model)
    stores = needed_followed_stores(models)
    found, problems = load_flags(flags, frozenset(models.models))
    facts = asyncio.run(read_facts(model, models, stores, found))
    if json:
        typer.echo(as_json(facts))
    else:
        tell(facts)
    if broken := [problem for problem in problems if _model_of(problem) == model]:
        raise ExceptionGroup("flags", broken)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the stores say about one model. `gates` has a word for each gate: `yes`, or why not."""

    stage: str
    gates: dict[str, str]
    is_paused: bool = False
    shut: tuple[str, ...] = ()
    """Gates of the next step that the leader has found shut."""


async def _standings(schema: Path | None, flags: Path) -> dict[str, Standing] | None:
    """Ask the stores that the environment names; None where it names none."""
    from crossfade.cli.following import named_stores, standing_on
    from crossfade.gates import Coverage
    from crossfade.store.leadership import Leadership
    from crossfade.store.requests import read_requests

    if (named := named_stores(schema, flags)) is None:
        return None
    models, stores = named
    async with standing_on(models, stores) as at:
        gates = await Coverage(stores).read(list(models.models))
        legacy = stores[Side.PRISMA]
        shut: dict[str, tuple[str, ...]] = {}
        if await Leadership(legacy).is_taken():
            async with legacy.transaction() as connection:
                requests = await read_requests(connection, legacy)
            shut = {
                model: tuple(gate.name for gate in request.gates if not gate.holds)
                for model, request in requests.items()
            }
        return {
            model: Standing(
                str(at.view.record(model).stage),
                {str(gate.name): "yes" if gate.holds else gate.figure for gate in found},
                at.view.record(model).paused,
                shut.get(model, ()),
            )
            for model, found in gates.items()
        }


def _activity(url: str) -> dict[str, Activity]:
    from crossfade.metrics import scrape

    stages = list(Stage)
    seen: dict[str, Activity] = defaultdict(Activity)
    for name, labels, value in scrape(url):
        model = labels.get("model")
        if model is None:
            continue
        if name == "crossfade_stage_position":
            seen[model].stage = str(stages[int(value)])
        elif name == "crossfade_operation_seconds_count" and labels["role"] == "authority":
            seen[model].operations += int(value)
        elif name == "crossfade_comparisons_total" and labels["verdict"] == "matched":
            seen[model].matched += int(value)
        elif name == "crossfade_comparisons_total" and labels["verdict"] == "mismatched":
            seen[model].mismatched += int(value)
    return seen


def _model_of(problem: FlagError) -> str:
    return re.sub(r"\.ya?ml(:\d+)?$", "", Path(problem.source).name)


def _row(
    flag: Flag, broken: bool, activity: dict[str, Activity] | None, standings: dict[str, Standing] | None
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": flag.model,
        "requested": None if broken else str(flag.stage),
        "sample": flag.sample,
        "owner": flag.owner or None,
        "cohort": flag.cohort,
        "source": flag.source or None,
    }
    if standings is not None and flag.model in standings:
        standing = standings[flag.model]
        row |= {"record": standing.stage, "paused": standing.is_paused, "gates": standing.gates}
        row |= {"shut": list(standing.shut)}
    if activity is not None:
        seen = activity.get(flag.model, Activity())
        row |= {
            "stage": seen.stage,
            "operations": seen.operations,
            "matched": seen.matched,
            "mismatched": seen.mismatched,
        }
    return row


def _print_table(
    flags: list[Flag],
    broken: set[str],
    activity: dict[str, Activity] | None,
    standings: dict[str, Standing] | None,
) -> None:
    from rich.console import Console
    from rich.table import Table

    from crossfade.gates.coverage import COVERAGE
    from crossfade.gates.gate import GateName

    titles = [name for name in GateName if name in COVERAGE]
    table = Table()
    for title in ("model", "requested", "sample", "owner", "cohort"):
        table.add_column(title, no_wrap=True)
    if standings is not None:
        table.add_column("record", no_wrap=True)
        for name in titles:
            table.add_column(name)
        table.add_column("next step waits for")
    if activity is not None:
        table.add_column("stage", no_wrap=True)
        for title in ("operations", "matched", "mismatched"):
            table.add_column(title, justify="right")
    for flag in flags:
        requested = (
            "unusable file"
            if flag.model in broken
            else flag.stage
            if flag.source
            else f"{flag.stage} (no file)"
        )
        cells = [flag.model, requested, f"{flag.sample:.0%}", flag.owner or "–", flag.cohort or "–"]
        if standings is not None:
            standing = standings.get(flag.model, Standing("–", {}))
            stage = f"{standing.stage} (paused)" if standing.is_paused else standing.stage
            cells += [stage, *(standing.gates.get(name, "–") for name in titles)]
            cells.append(", ".join(standing.shut) or "–")
        if activity is not None:
            seen = activity.get(flag.model, Activity())
            mismatched = f"[red]{seen.mismatched:,}[/]" if seen.mismatched else "0"
            cells += [seen.stage or "–", f"{seen.operations:,}", f"{seen.matched:,}", mismatched]
        table.add_row(*cells)
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
