"""A flag as a feature of an Unleash server: what is written there, and what a feature says that a file can say. Pure.

The feature `crossfade.<Model>` has, in each environment, one strategy that admits everybody, with one variant whose
payload is the flag (`crossfade.flags.payload`). Its description is the file's, its owner a tag of the type `owner`.
Toggled off, it asks for `off`, whatever its payload says.

A tag of the type `crossfade` keeps, for each environment, the fingerprint of what was pushed or pulled last. As long as
the feature has that fingerprint nobody else has changed it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crossfade.errors import FlagError
from crossfade.flags.flag import Flag
from crossfade.flags.payload import from_payload, to_payload
from crossfade.stages import Stage

PREFIX = "crossfade."
OWNER_TAG = "owner"
PUSHED_TAG = "crossfade"
TAG_TYPES: Mapping[str, str] = {
    OWNER_TAG: "The team that looks after a feature.",
    PUSHED_TAG: "What crossfade has pushed or pulled last, for each environment.",
}
TAG_LENGTHS = range(2, 51)
"""How long an Unleash server lets a tag be."""
_FULL_SHARE = ("", "100")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a feature."""

    type: str
    value: str


@dataclass(frozen=True, slots=True)
class Feature:
    """What a server has for one model in one environment.

    `flag` is what it asks for; None where a file cannot say that, and then `problem` says why. `payload_stage` is what
    the payload asks for, if it can be read, toggled off or not. `fingerprint` stands for everything that matters of it,
    `pushed` is the fingerprint that was noted last.
    """

    model: str
    environment: str
    flag: Flag | None
    problem: str
    payload_stage: Stage | None
    is_on: bool
    is_connected: bool
    fingerprint: str
    pushed: str | None
    strategies: tuple[str, ...]
    tags: frozenset[Tag]

    @property
    def has_drifted(self) -> bool:
        """Whether somebody has changed it since it was pushed or pulled last, or it never was."""
        return self.pushed != self.fingerprint

    @property
    def is_bare(self) -> bool:
        """Whether nothing was ever set up in this environment."""
        return not self.strategies and not self.is_on and self.pushed is None


def name_of(model: str) -> str:
    """The name of a model's feature."""
    return PREFIX + model


def strategy_of(flag: Flag) -> dict[str, Any]:
    """The strategy that admits everybody and hands out `flag`."""
    return {
        "name": "flexibleRollout",
        "title": "crossfade",
        "parameters": {"rollout": "100", "stickiness": "default", "groupId": name_of(flag.model)},
        "constraints": [],
        "segments": [],
        "variants": [
            {
                "name": "flag",
                "weight": 1000,
                "weightType": "variable",
                "stickiness": "default",
                "payload": {"type": "json", "value": to_payload(flag)},
            }
        ],
    }


def read_feature(found: Mapping[str, Any], tags: Iterable[Tag], environment: str, where: str) -> Feature:
    """Read a feature as the admin API describes it; `where` names the server in `Flag.source`."""
    model = found["name"].removeprefix(PREFIX)
    place: Mapping[str, Any] = next(
        (one for one in found.get("environments", ()) if one["name"] == environment), {}
    )
    strategies: list[Mapping[str, Any]] = list(place.get("strategies") or ())
    variants: list[Mapping[str, Any]] = list(place.get("variants") or ())
    kept = frozenset(tags)
    flag, problem = _flag(model, strategies, variants, f"{where} {found['name']} in {environment}")
    is_on = bool(place.get("enabled"))
    stage = flag.stage if flag else None
    if not is_on:
        flag, problem = replace(flag or Flag(model), stage=Stage.OFF), ""
    if flag is not None:
        owner = ", ".join(sorted(tag.value for tag in kept if tag.type == OWNER_TAG))
        flag = replace(flag, owner=owner, description=(found.get("description") or "").strip())
    start = _pushed_prefix(environment)
    pushed = sorted(
        tag.value.removeprefix(start)
        for tag in kept
        if tag.type == PUSHED_TAG and tag.value.startswith(start)
    )
    return Feature(
        model=model,
        environment=environment,
        flag=flag,
        problem=problem,
        payload_stage=stage,
        is_on=is_on,
        is_connected=bool(place),
        fingerprint=_fingerprint(found.get("description"), kept, strategies, variants, is_on=is_on),
        pushed=pushed[0] if len(pushed) == 1 else None,
        strategies=tuple(strategy.get("id", "") for strategy in strategies),
        tags=kept,
    )


def pushed_tag(environment: str, fingerprint: str) -> Tag:
    """The tag that keeps a fingerprint."""
    return Tag(PUSHED_TAG, _pushed_prefix(environment) + fingerprint)


def is_pushed_tag(tag: Tag, environment: str) -> bool:
    """Whether a tag keeps a fingerprint for `environment`."""
    return tag.type == PUSHED_TAG and tag.value.startswith(_pushed_prefix(environment))


def owner_tag(flag: Flag) -> Tag:
    """The tag that names the owner.

    Raises:
        FlagError: the owner is too short or too long for one.
    """
    if len(flag.owner) not in TAG_LENGTHS:
        raise FlagError(
            flag.source or name_of(flag.model),
            f"owner {flag.owner!r} must have from {TAG_LENGTHS[0]} to {TAG_LENGTHS[-1]} characters to be a tag in"
            " Unleash",
        )
    return Tag(OWNER_TAG, flag.owner)


def export(flags: Iterable[Flag], environment: str, project: str) -> dict[str, Any]:
    """The document that an Unleash server imports: every feature, on, as a push would leave it.

    Raises:
        FlagError: an owner cannot be a tag.
    """
    ordered = sorted(flags, key=lambda flag: flag.model)
    tags = [(flag, tag) for flag in ordered for tag in (owner_tag(flag), _tag_after_push(flag, environment))]
    return {
        "features": [
            {
                "name": name_of(flag.model),
                "description": flag.description,
                "type": "operational",
                "project": project,
                "stale": False,
                "impressionData": False,
                "archived": False,
            }
            for flag in ordered
        ],
        "featureStrategies": [{"featureName": name_of(flag.model)} | strategy_of(flag) for flag in ordered],
        "featureEnvironments": [
            {
                "enabled": True,
                "featureName": name_of(flag.model),
                "environment": environment,
                "variants": [],
                "name": name_of(flag.model),
            }
            for flag in ordered
        ],
        "contextFields": [],
        "featureTags": [
            {"featureName": name_of(flag.model), "tagType": tag.type, "tagValue": tag.value}
            for flag, tag in tags
        ],
        "segments": [],
        "tagTypes": [{"name": name, "description": text, "icon": "#"} for name, text in TAG_TYPES.items()],
        "dependencies": [],
    }


def _tag_after_push(flag: Flag, environment: str) -> Tag:
    tags = frozenset({owner_tag(flag)})
    return pushed_tag(environment, _fingerprint(flag.description, tags, [strategy_of(flag)], [], is_on=True))


def _flag(
    model: str, strategies: list[Mapping[str, Any]], variants: list[Mapping[str, Any]], source: str
) -> tuple[Flag | None, str]:
    """What strategies and variants ask for, or why a file cannot say it."""
    if len(strategies) != 1:
        return None, "it has no strategy" if not strategies else f"it has {len(strategies)} strategies"
    only = strategies[0]
    if only.get("disabled"):
        return None, "its strategy is disabled"
    if only.get("constraints") or only.get("segments"):
        return None, "its strategy has constraints or segments"
    parameters = only.get("parameters") or {}
    if (
        only["name"] not in ("default", "flexibleRollout")
        or str(parameters.get("rollout", "")) not in _FULL_SHARE
    ):
        share = parameters.get("rollout")
        return (
            None,
            f"its strategy {only['name']!r} does not admit everybody{(share and f' but {share} %') or ''}",
        )
    handed = list(only.get("variants") or ()) or variants
    if len(handed) != 1:
        return None, f"it has {len(handed)} variants instead of one with the payload"
    try:
        return from_payload(model, str((handed[0].get("payload") or {}).get("value", "")), source), ""
    except FlagError as error:
        return None, error.problem


def _fingerprint(
    description: str | None,
    tags: frozenset[Tag],
    strategies: list[Mapping[str, Any]],
    variants: list[Mapping[str, Any]],
    *,
    is_on: bool,
) -> str:
    kept: dict[str, Any] = {
        "on": is_on,
        "description": (description or "").strip(),
        "owner": sorted(tag.value for tag in tags if tag.type == OWNER_TAG),
        "strategies": [
            {
                "name": strategy["name"],
                "disabled": bool(strategy.get("disabled")),
                "constraints": strategy.get("constraints") or [],
                "segments": strategy.get("segments") or [],
                "parameters": {
                    key: str(value)
                    for key, value in (strategy.get("parameters") or {}).items()
                    if key in ("rollout", "stickiness")
                },
                "variants": [_handed(variant) for variant in strategy.get("variants") or ()],
            }
            for strategy in strategies
        ],
        "variants": [_handed(variant) for variant in variants],
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _handed(variant: Mapping[str, Any]) -> list[Any]:
    payload = variant.get("payload") or {}
    return [variant.get("weight"), payload.get("type"), payload.get("value")]


def _pushed_prefix(environment: str) -> str:
    if len(environment) <= 32:
        return f"{environment}:"
    return f"{hashlib.sha256(environment.encode()).hexdigest()[:16]}:"
