"""The flags of a demo: copies of the real ones, with thresholds that a run of seconds can meet.

The defaults are made for days of production traffic: to show a mismatch rate below 0.1 % takes thousands of different
keys for each kind of operation, and a demo makes a few dozen. The proof is weaker here, never left out: each kind that
is asked often must be compared without a mismatch, a few times in the shortest run and more in a longer one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from crossfade.flags import Flag
from crossfade.flags.files import read_flags
from crossfade.schema import Schema
from crossfade.stages import Stage

_MARGIN: Final = 20.0
"""The evidence that the comparisons gate asks for: the chance of an error is one in so many."""
_KEYS_PER_SECOND = 0.1
_FEWEST, _MOST = 2, 20

GUARD: Final[Mapping[str, float]] = {"errors": 0.25, "latency": 8.0, "least": 5.0, "window": 15.0}
"""A model has a few calls a second of each kind, so that fewer must do; with fewer calls the bounds must be wider."""


def gates(seconds: float) -> dict[str, float]:
    """When the gates of a run of `seconds` hold."""
    keys = min(max(round(seconds * _KEYS_PER_SECOND), _FEWEST), _MOST)
    # So many clean keys are just enough when half of the weight lies on "there are no mismatches".
    bound = 1 - (2 * _MARGIN) ** (-1 / keys)
    return {"comparisons": round(bound + 0.005, 2), "rare": 0.2, "latency": 20.0, "errors": 0.05, "lag": 10.0}


def notice(seconds: float) -> str:
    """Say in one line what was lowered, and why."""
    numbers = gates(seconds)
    return (
        f"the demo's flags have lower thresholds than the defaults, because {seconds:g} s of traffic cannot prove more:"
        f" mismatches below {numbers['comparisons']:.0%} for each kind of operation with a share of"
        f" {numbers['rare']:.0%} or more, p99 within {numbers['latency']:g} ×; the guard trips at"
        f" {GUARD['errors']:.0%} errors and {GUARD['latency']:g} × p99"
    )


def write_flags(
    source: Path, directory: Path, schema: Schema, seconds: float, guard: Mapping[str, float] = GUARD
) -> dict[str, Flag]:
    """Write the flags of `source` into a new directory, every model at `off`, and return them."""
    given: Mapping[str, Flag] = {}
    if source.is_dir():
        given = read_flags(source, schema.models)
    directory.mkdir()
    flags = {}
    for spec in schema:
        flag = given.get(spec.name) or Flag(spec.name)
        flags[spec.name] = replace(
            flag,
            stage=Stage.OFF,
            owner=flag.owner or "nobody yet",
            description=flag.description or "Made by the demo.",
            gates=gates(seconds),
            guard=guard,
            source=str(directory / f"{spec.name}.yaml"),
        )
        (directory / f"{spec.name}.yaml").write_text(_text(flags[spec.name]), encoding="utf-8")
    schema_file = source / "flag.schema.json"
    if schema_file.is_file():
        shutil.copy(schema_file, directory)
    return flags


def _text(flag: Flag) -> str:
    lines = [
        "# yaml-language-server: $schema=flag.schema.json",
        "# Stages in order: off, dualwrite, shadow, live, rampdown, complete. An edit takes effect at once.",
        f"model: {flag.model}",
        f"owner: {json.dumps(flag.owner)}",
        f"description: {json.dumps(flag.description, ensure_ascii=False)}",
        f"stage: {flag.stage}",
        f"sample: {flag.sample:g}",
    ]
    if flag.cohort:
        lines.append(f"cohort: {json.dumps(flag.cohort)}")
    lines.append("# Lower than the defaults, because a demo lasts seconds.")
    for name, numbers in (("gates", flag.gates), ("guard", flag.guard)):
        lines += [f"{name}:", *(f"  {key}: {value:g}" for key, value in numbers.items())]
    return "\n".join(lines) + "\n"
