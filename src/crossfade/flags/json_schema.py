"""The JSON schema of a flag file, for editors: completion, and a red line under what would be refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from crossfade.flags.document import REQUIRED
from crossfade.stages import PLANS, FollowerPart, Stage, Topology
from crossfade.thresholds import GateThresholds, GuardThresholds

_GATES = {
    "lag": "How old, in seconds, the oldest captured key may be that is not verified yet.",
    "comparisons": "What the share of mismatches must be shown to lie below, for each kind of operation, at 95 %"
    " confidence.",
    "rare": "A kind of operation with a smaller share of the model's comparisons than this may stay unproven.",
    "latency": "How many times the old side's p99 the new side's may be.",
    "errors": "What share of calls may fail on the new side.",
}
_GUARD = {
    "mismatches": "The share of comparisons in the window that may come out as mismatched.",
    "errors": "The share of calls to the new side that may fail in the window.",
    "latency": "How many times the old side's p99 the new side's may be in the window.",
    "lag": "How old, in seconds, the oldest captured key may be that is not verified yet.",
    "least": "How many calls a share, or a percentile, is at least taken of.",
    "window": "How many seconds back the guard looks.",
}


def flag_schema() -> dict[str, Any]:
    """Return the schema; it says what `crossfade.flags.document` accepts, but for what needs the other files."""
    text = {"type": "string", "minLength": 1, "pattern": r"\S"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A crossfade flag file",
        "description": "flags/<Model>.yaml: which stage a model is asked to be at. Made by `crossfade flags schema`.",
        "type": "object",
        "additionalProperties": False,
        "required": list(REQUIRED),
        "properties": {
            "model": text | {"description": "The model, as in schema.prisma; the file has its name."},
            "owner": text | {"description": "The team that looks after it."},
            "description": text | {"description": "What the model is, in a sentence."},
            "stage": {
                "description": "The stage that is asked for; it is reached step by step.",
                "enum": [str(stage) for stage in Stage],
                "markdownEnumDescriptions": [_meaning(stage) for stage in Stage],
            },
            "sample": _share("The share of reads that are compared.", 1),
            "canary": _share(
                "The share of keys whose reads the next side answers while the model is at shadow.", 0
            ),
            "cohort": text | {"description": "The models of one cohort change authority together."},
            "gates": _thresholds(
                "When the model may take a step forward, where that differs from the defaults.",
                GateThresholds,
                _GATES,
            ),
            "guard": _thresholds(
                "When the model is walked back, where that differs from the defaults.",
                GuardThresholds,
                _GUARD,
            ),
        },
    }


def _share(text: str, default: float) -> dict[str, Any]:
    return {"description": text, "type": "number", "minimum": 0, "maximum": 1, "default": default}


def _thresholds(
    text: str, kind: type[GateThresholds | GuardThresholds], texts: Mapping[str, str]
) -> dict[str, Any]:
    bounds = kind.bounds()
    return {
        "description": text,
        "type": "object",
        "additionalProperties": False,
        "properties": {
            field.name: {
                "description": texts[field.name],
                "type": "number",
                "minimum": bounds[field.name][0],
                "maximum": bounds[field.name][1],
                "default": field.default,
            }
            for field in fields(kind)
        },
    }


def _meaning(stage: Stage) -> str:
    plan = PLANS[Topology.SEPARATE][stage]
    shadow = "" if plan.shadow is None else f", compared with {plan.shadow}"
    follower = f", followed by {plan.follower}" if plan.follower_part is FollowerPart.APPLY else ""
    return f"{plan.reads} answers reads{shadow}; {plan.authority} takes writes{follower}"
