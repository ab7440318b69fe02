"""A flag as the JSON payload of a flag service's variant, and what is wrong with one.

`{"stage": "shadow", "sample": 0.5, "canary": 0.1, "cohort": "money", "gates": {"lag": 2}, "guard": {"errors": 0.1}}`

Only the stage must be given. Read as strictly as a flag file: an unknown key, a number that is none or a threshold that
does not exist is an error that names it, because a flag that is half understood would move production traffic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from crossfade.errors import ConfigurationError, FlagError, UnknownStageError
from crossfade.flags.flag import Flag
from crossfade.stages import Stage
from crossfade.thresholds import GateThresholds, GuardThresholds

KEYS = ("stage", "sample", "canary", "cohort", "gates", "guard")
_MOST_CHARACTERS = 64 * 1024


def to_payload(flag: Flag) -> str:
    """Return the JSON text for a flag: always the same for the same flag. Owner and description are not part of it."""
    values: dict[str, Any] = {
        "stage": str(flag.stage),
        "sample": _plain(flag.sample),
        "canary": _plain(flag.canary),
    }
    if flag.cohort is not None:
        values["cohort"] = flag.cohort
    for key, given in (("gates", flag.gates), ("guard", flag.guard)):
        if given:
            values[key] = {name: _plain(given[name]) for name in sorted(given)}
    return json.dumps(values, ensure_ascii=False)


def from_payload(model: str, text: str, source: str) -> Flag:
    """Read the flag of `model` from a payload; `source` names the place in errors and in the flag.

    Raises:
        FlagError: it cannot be used.
    """
    try:
        values = _load(text)
        return Flag(
            model=model,
            stage=_stage(values),
            sample=_share(values, "sample", 1.0),
            canary=_share(values, "canary", 0.0),
            cohort=_text(values, "cohort") if values.get("cohort") is not None else None,
            gates=_thresholds(values, "gates", GateThresholds),
            guard=_thresholds(values, "guard", GuardThresholds),
            source=source,
        )
    except _UnusableError as error:
        raise FlagError(source, f"the payload cannot be used: {error}") from None


class _UnusableError(Exception):
    """What is wrong with a payload."""


def _plain(number: float) -> float | int:
    exact = float(number)
    return int(exact) if exact.is_integer() else exact


def _load(text: str) -> Mapping[str, Any]:
    if len(text) > _MOST_CHARACTERS:
        raise _UnusableError(f"it is longer than {_MOST_CHARACTERS // 1024} KiB")
    try:
        values = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else ""
        raise _UnusableError(f"it is not JSON{what and f' ({what})'}") from None
    if not isinstance(values, Mapping):
        raise _UnusableError('it must be an object like {"stage": "shadow"}')
    unknown = [key for key in values if key not in KEYS]
    if unknown:
        raise _UnusableError(f"unknown key {unknown[0]!r}; keys are {', '.join(KEYS)}")
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _UnusableError(f"{key!r} is given twice")
        values[key] = value
    return values


def _no_number(text: str) -> float:
    raise _UnusableError(f"{text} is no number")


def _text(values: Mapping[str, Any], key: str) -> str:
    text = values[key]
    if not isinstance(text, str) or not text.strip():
        raise _UnusableError(f"{key} must be text, not {_shown(text)}")
    return text.strip()


def _stage(values: Mapping[str, Any]) -> Stage:
    if "stage" not in values:
        raise _UnusableError("stage must be given")
    try:
        return Stage.parse(_text(values, "stage"))
    except UnknownStageError as error:
        raise _UnusableError(str(error)) from None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnusableError(f"{name} must be a number, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _UnusableError(f"{name} must be a number, not one so large")
    return number


def _share(values: Mapping[str, Any], key: str, default: float) -> float:
    if key not in values:
        return default
    share = _number(key, values[key])
    if not 0 <= share <= 1:
        raise _UnusableError(f"{key} must be from 0 to 1, not {share:g}")
    return share


def _thresholds(
    values: Mapping[str, Any], key: str, kind: type[GateThresholds | GuardThresholds]
) -> Mapping[str, float]:
    if key not in values:
        return MappingProxyType({})
    given = values[key]
    if not isinstance(given, Mapping):
        raise _UnusableError(f'{key} must be an object like {{"{kind.names()[0]}": 5}}, not {_shown(given)}')
    numbers = {name: _number(f"{key}.{name}", value) for name, value in given.items()}
    try:
        kind.of(numbers)
    except ConfigurationError as error:
        raise _UnusableError(f"{key}: {error}") from None
    return MappingProxyType(numbers)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
