"""What the flag files ask for together, for the commands that look before somebody leaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from crossfade.cli.options import find_schema
from crossfade.errors import EngineError
from crossfade.stages import is_forward

if TYPE_CHECKING:
    from crossfade.flags.flag import Flag
    from crossfade.planner import Refusal

Check: TypeAlias = "Callable[[Mapping[str, Flag]], list[Refusal]]"
"""Returns what flags ask for that cannot be met together."""


def check_of(schema: Path | None, directory: Path) -> Check:
    """Return how to check flags.

    Without a schema, or a parser to read it, nothing is known of the relations; then only cohorts are looked at.

    Raises:
        ConfigurationError: the environment contradicts itself.
        SchemaError: the schema is not valid.
    """
    from crossfade.engine.parser import load_schema
    from crossfade.planner import Planner, split_cohorts
    from crossfade.settings import Settings

    def only_cohorts(flags: Mapping[str, Flag]) -> list[Refusal]:
        requests = {model: flag.stage for model, flag in flags.items()}
        return split_cohorts(requests, {model: flag.cohort for model, flag in flags.items()})

    found = find_schema(schema, directory)
    if found is None:
        return only_cohorts
    try:
        models = load_schema(found)
    except EngineError:
        if schema is not None:
            raise
        return only_cohorts
    planner = Planner(models, Settings.from_environment().topology)

    def everything(flags: Mapping[str, Flag]) -> list[Refusal]:
        known = {model: flag for model, flag in flags.items() if model in models.models}
        requests = {model: flag.stage for model, flag in known.items()}
        return planner.check_requests(requests, {model: flag.cohort for model, flag in known.items()})

    return everything


def judge(
    check: Check, before: Mapping[str, Flag], after: Mapping[str, Flag]
) -> tuple[list[Refusal], list[Refusal]]:
    """Return what is to be refused of a change from `before` to `after`, and what is only to be told.

    Refused is what a step forward has brought about, or takes further. The way back is always open, and so is a step
    that leaves something as it was, because the way out may lead through it.
    """
    changed = {model for model, flag in after.items() if before.get(model) != flag}
    forward = {
        model
        for model in changed
        if model not in before or is_forward(before[model].stage, after[model].stage)
    }
    known = {(refusal.rule, refusal.about) for refusal in check(before)}
    refused: list[Refusal] = []
    told: list[Refusal] = []
    for refusal in check(after):
        if changed.isdisjoint(refusal.models):
            continue
        is_new = (refusal.rule, refusal.about) not in known
        advances = not forward.isdisjoint(refusal.models)
        (refused if advances and (is_new or refusal.about in forward) else told).append(refusal)
    return refused, told
