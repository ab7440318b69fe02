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
from crossfade.stages import Stage

if TYPE_CHECKING:
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
    flags: FlagsOption = DEFAULT_FLAGS,
    schema: SchemaOption = None,
    metrics: Annotated[
        str | None, typer.Option(help="A running process's metrics address, to show what it does.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Show every model: the stage its flag asks for, and who owns it.

    Where CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN name the stores: also where the record says that it stands, and
    whether it was backfilled and verified.
    """
    from crossfade.flags.files import load_flags

    found, problems = load_flags(flags, models_of_schema(schema, flags))
    activity = None if metrics is None else _activity(metrics)
    standings = asyncio.run(_standings(schema, flags))
    ordered = [found[model] for model in sorted(found)]
    broken = {re.sub(r"\.ya?ml(:\d+)?$", "", Path(problem.source).name) for problem in problems}
    if json:
        rows = [_row(flag, flag.model in broken, activity, standings) for flag in ordered]
        listed = [{"source": problem.source, "problem": problem.problem} for problem in problems]
        typer.echo(json_format.dumps({"models": rows, "problems": listed}, indent=2))
    elif ordered:
        _print_table(ordered, broken, activity, standings)
    if problems:
        raise ExceptionGroup("flags", problems)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the stores say about one model. `gates` has a word for each gate: `yes`, or why not."""

    stage: str
    gates: dict[str, str]


async def _standings(schema: Path | None, flags: Path) -> dict[str, Standing] | None:
    """Ask the stores that the environment names; None where it names none."""
    from crossfade.cli.following import named_stores, standing_on
    from crossfade.gates import Coverage

    if (named := named_stores(schema, flags)) is None:
        return None
    models, stores = named
    async with standing_on(models, stores) as at:
        gates = await Coverage(stores).read(list(models.models))
        return {
            model: Standing(
                str(at.view.record(model).stage),
                {str(gate.name): "yes" if gate.holds else gate.figure for gate in found},
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
        row |= {"record": standings[flag.model].stage, "gates": standings[flag.model].gates}
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

    from crossfade.gates import GateName

    table = Table()
    for title in ("model", "requested", "sample", "owner", "cohort"):
        table.add_column(title, no_wrap=True)
    if standings is not None:
        table.add_column("record", no_wrap=True)
        for title in GateName:
            table.add_column(title)
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
            cells += [standing.stage, *(standing.gates.get(name, "–") for name in GateName)]
        if activity is not None:
            seen = activity.get(flag.model, Activity())
            mismatched = f"[red]{seen.mismatched:,}[/]" if seen.mismatched else "0"
            cells += [seen.stage or "–", f"{seen.operations:,}", f"{seen.matched:,}", mismatched]
        table.add_row(*cells)
    # A file or a pipe has no width; rich would assume 80 columns and cut names.
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
