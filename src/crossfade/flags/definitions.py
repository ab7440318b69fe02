"""What an Unleash server says of the features `crossfade.<Model>`, checked before anything is done with it. Pure.

Rules:

* A document that is not what an Unleash server answers, or not for this environment, is refused as a whole.
* A feature has to come out the same in every process of a fleet, whoever asks. One that is given to a share of users,
  or looks at users, sessions or addresses, is refused; so is one that the client could not evaluate, because the
  client would then call it switched off.
* A feature that is switched off is off, whatever else is wrong with it. One without a strategy is not switched off but
  not set up: so is every feature that somebody has just made, and a server calls it disabled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from crossfade.errors import FlagError
from crossfade.flags.feature import PREFIX

_SHARED_FIELDS = ("appName", "environment", "currentTime")
"""What constraints may look at: the context fields that have the same value in the whole fleet."""
_OPERATORS = frozenset(
    {"IN", "NOT_IN", "STR_ENDS_WITH", "STR_STARTS_WITH", "STR_CONTAINS", "DATE_AFTER", "DATE_BEFORE"}
)
_SHARES = {
    "flexibleRollout": "rollout",
    "gradualRolloutRandom": "percentage",
    "gradualRolloutUserId": "percentage",
    "gradualRolloutSessionId": "percentage",
}
_DATES = frozenset({"DATE_AFTER", "DATE_BEFORE"})
_MARK = "crossfade-mark-"
_UNCLEAR = "the server's definition of it cannot be understood"


@dataclass(frozen=True, slots=True)
class Definitions:
    """The features of one answer, by model.

    `on` are the features that the client may evaluate, `off` those that are switched off, and `problems` says what is
    wrong with the others. `text` is the document for the client: the features `on`, written anew so that nothing in it
    can surprise the client, and one called `mark`, which has its own name for a payload. By that a client shows that it
    has read this document and can evaluate.
    """

    on: Mapping[str, Mapping[str, Any]]
    off: Mapping[str, Mapping[str, Any]]
    problems: Mapping[str, str]
    text: str
    mark: str
    revision: int
    """Counts up as people change features; 0 where the server does not tell."""
    body: str
    """What of the answer these definitions were read from, for the cache: no other team's features."""

    def __contains__(self, model: str) -> bool:
        return model in self.on or model in self.off or model in self.problems


def read_definitions(body: str, environment: str, source: str) -> Definitions:
    """Read what `/client/features` answered.

    Raises:
        FlagError: it is not what an Unleash server answers, or it is for another environment.
    """
    try:
        return _read(body, environment)
    except _NonsenseError as error:
        raise FlagError(source, str(error)) from None


class _NonsenseError(Exception):
    """Why a document is refused as a whole."""


def _read(body: str, environment: str) -> Definitions:
    document = _document(body)
    answered = document.get("query")
    answered_for = answered.get("environment") if isinstance(answered, Mapping) else None
    if isinstance(answered_for, str) and answered_for != environment:
        raise _NonsenseError(
            f"the server answers for the environment {answered_for!r}, not {environment!r}:"
            " take the token of that environment"
        )
    features: dict[str, Mapping[str, Any]] = {}
    for feature in document["features"]:
        if not isinstance(feature, Mapping) or not isinstance(feature.get("name"), str):
            raise _NonsenseError("a feature has no name: is this the URL of an Unleash server?")
        if not feature["name"].startswith(PREFIX):
            continue
        model = feature["name"].removeprefix(PREFIX)
        if model in features:
            raise _NonsenseError(f"the server answers {feature['name']} twice")
        features[model] = feature
    segments = document.get("segments")
    by_number = {
        segment["id"]: segment
        for segment in (segments if isinstance(segments, list) else ())
        if isinstance(segment, Mapping) and isinstance(segment.get("id"), int)
    }
    return _sorted_out(features, by_number, document)


def _document(body: str) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _NonsenseError(
            "the server answers what is not JSON: is this the URL of an Unleash server?"
        ) from None
    if (
        not isinstance(document, Mapping)
        or not isinstance(document.get("version"), int)
        or not isinstance(document.get("features"), list)
    ):
        raise _NonsenseError(
            "the server answers JSON without features: is this the URL of an Unleash server?"
        )
    return document


def _sorted_out(
    features: Mapping[str, Mapping[str, Any]],
    segments: Mapping[Any, Mapping[str, Any]],
    document: Mapping[str, Any],
) -> Definitions:
    on: dict[str, Mapping[str, Any]] = {}
    off: dict[str, Mapping[str, Any]] = {}
    problems: dict[str, str] = {}
    rewritten = []
    for model, feature in features.items():
        if feature.get("enabled") is False and feature.get("strategies"):
            off[model] = feature
            continue
        try:
            rewritten.append(_rewritten(feature, segments))
        except _UnusableError as error:
            problems[model] = str(error)
        else:
            on[model] = feature
    kept = {
        "version": document["version"],
        "features": list(features.values()),
        "segments": list(segments.values()),
    }
    body = json.dumps(kept, sort_keys=True)
    mark = _MARK + hashlib.sha256(body.encode()).hexdigest()[:16]
    meta = document.get("meta")
    revision = meta.get("revisionId") if isinstance(meta, Mapping) else None
    return Definitions(
        on=MappingProxyType(on),
        off=MappingProxyType(off),
        problems=MappingProxyType(problems),
        text=json.dumps({"version": 2, "features": [*rewritten, _marker(mark)]}),
        mark=mark,
        revision=revision if isinstance(revision, int) else 0,
        body=body,
    )


def _marker(mark: str) -> Mapping[str, Any]:
    variant = {"name": "flag", "weight": 1000, "payload": {"type": "string", "value": mark}}
    return _feature(mark, [_strategy("default", {}, [], [variant])], [])


# --- a feature, written anew with what the client needs and nothing else -----------------------------------------


class _UnusableError(Exception):
    """Why a feature that is switched on cannot be used."""


def _rewritten(feature: Mapping[str, Any], segments: Mapping[Any, Mapping[str, Any]]) -> Mapping[str, Any]:
    if feature.get("enabled") is False:
        raise _UnusableError(
            "it has no strategy, so it was never set up or was cleared; to ask for `off`, switch off one that has"
        )
    if feature.get("enabled") is not True:
        raise _UnusableError(_UNCLEAR)
    if feature.get("dependencies"):
        raise _UnusableError(
            "it depends on another feature, which may come out differently in two processes: remove the dependency"
        )
    strategies = [
        _rewritten_strategy(strategy, segments)
        for strategy in _mappings(feature.get("strategies"))
        if not strategy.get("disabled")
    ]
    return _feature(feature["name"], strategies, _variants(feature))


def _feature(name: str, strategies: list[Any], variants: list[Any]) -> Mapping[str, Any]:
    return {
        "name": name,
        "type": "operational",
        "project": "default",
        "enabled": True,
        "strategies": strategies,
        "variants": variants,
    }


def _strategy(name: str, parameters: Any, constraints: list[Any], variants: list[Any]) -> Mapping[str, Any]:
    return {"name": name, "parameters": parameters, "constraints": constraints, "variants": variants}


def _rewritten_strategy(
    strategy: Mapping[str, Any], segments: Mapping[Any, Mapping[str, Any]]
) -> Mapping[str, Any]:
    name, parameters = str(strategy.get("name")), strategy.get("parameters") or {}
    kept = {}
    if name in _SHARES:
        share = _number(parameters.get(_SHARES[name]) if isinstance(parameters, Mapping) else None)
        if share not in (0, 100):
            raise _UnusableError(
                f"its strategy {name} gives it to a share of users, which would split the fleet: set it to 0 or 100 %;"
                " the canary in the payload is for a share of keys"
            )
        kept = {"rollout": f"{share:g}", "stickiness": "default", "groupId": "crossfade"}
    elif name != "default":
        raise _UnusableError(
            f"its strategy {name!r} may come out differently in two processes: use a gradual rollout to 0 or 100 %"
        )
    constraints = _constraints(strategy)
    for number in _listed(strategy.get("segments")):
        if not isinstance(number, int) or number not in segments:
            raise _UnusableError(f"its segment {number} is not part of the answer")
        constraints += _constraints(segments[number])
    return _strategy("flexibleRollout" if kept else "default", kept, constraints, _variants(strategy))


def _constraints(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [_constraint(constraint) for constraint in _mappings(holder.get("constraints") or [])]


def _constraint(constraint: Mapping[str, Any]) -> Mapping[str, Any]:
    field, operator = str(constraint.get("contextName")), str(constraint.get("operator"))
    value, values = constraint.get("value"), _listed(constraint.get("values"))
    if field not in _SHARED_FIELDS:
        raise _UnusableError(
            f"a constraint looks at {field}, which would split the fleet; constraints may look at"
            f" {', '.join(_SHARED_FIELDS)}"
        )
    if operator not in _OPERATORS:
        raise _UnusableError(
            f"a constraint has the operator {operator}; operators are {', '.join(sorted(_OPERATORS))}"
        )
    if operator in _DATES and not _is_date(value):
        raise _UnusableError(f"a constraint compares with {value!r}, which is not a time")
    if operator not in _DATES and not (values and all(isinstance(one, str) for one in values)):
        raise _UnusableError("a constraint has no values")
    switches = {name: constraint.get(name) or False for name in ("inverted", "caseInsensitive")}
    if not all(isinstance(switch, bool) for switch in switches.values()):
        raise _UnusableError(_UNCLEAR)
    compared = {"value": value} if operator in _DATES else {"values": values}
    return {"contextName": field, "operator": operator, **compared, **switches}


def _variants(holder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The one variant that a feature or a strategy hands out, if any."""
    variants = [variant for variant in _mappings(holder.get("variants") or []) if variant.get("weight") != 0]
    if len(variants) > 1:
        raise _UnusableError(
            "it hands out several variants, which would split the fleet: leave one, with all the weight"
        )
    rewritten: list[Mapping[str, Any]] = []
    for variant in variants:
        payload = variant.get("payload")
        if isinstance(payload, Mapping):
            if not isinstance(payload.get("value"), str):
                raise _UnusableError(_UNCLEAR)
            rewritten.append(
                {"name": "flag", "weight": 1000, "payload": {"type": "string", "value": payload["value"]}}
            )
    return rewritten


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise _UnusableError(_UNCLEAR)
    return values


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise _UnusableError(_UNCLEAR)
    return values


def _is_date(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def payload_in(feature: Mapping[str, Any]) -> str | None:
    """The payload of a feature that is switched off, where there is only one: for all that it says but the stage."""
    values = set()
    try:
        for holder in (*_mappings(feature.get("strategies")), feature):
            values |= {variant["payload"]["value"] for variant in _variants(holder)}
    except _UnusableError:
        return None
    return values.pop() if len(values) == 1 else None
