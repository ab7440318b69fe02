"""The text of one flag file, and what is wrong with it.

Read strictly: an unknown key, a stage that does not exist or a name that is not the model's is an error with a line
number, because a flag that is half understood would move production traffic.

Scalars are taken as they are written and not as YAML 1.1 resolves them: `stage: off` means `off`, not `false`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import yaml

from crossfade.errors import ConfigurationError, FlagError, UnknownModelError, UnknownStageError
from crossfade.flags.flag import Flag
from crossfade.stages import Stage
from crossfade.thresholds import GateThresholds, GuardThresholds

KEYS = ("model", "owner", "description", "stage", "sample", "canary", "cohort", "gates", "guard")
REQUIRED = ("model", "owner", "description", "stage")
_NULL = "tag:yaml.org,2002:null"


class Entry(NamedTuple):
    """One `key: value` of a file: where the key stands, and the value."""

    line: int
    key: yaml.ScalarNode
    value: yaml.Node


def parse_flag(path: Path, content: bytes | str | None, known_models: Collection[str] | None) -> Flag:
    """Read one file's content; a text instead of bytes says why there is none, and None that the file is gone.

    Raises:
        FlagError: it cannot be used.
    """
    return parse_text(path, decode(path, content), known_models)


def decode(path: Path, content: bytes | str | None) -> str:
    """Return a file's text; a text instead of bytes says why there is none.

    Raises:
        FlagError: there is none, or it is not UTF-8.
    """
    if content is None:
        raise FlagError(str(path), "the file is gone; the last stage it asked for stays")
    if isinstance(content, str):
        raise FlagError(str(path), content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FlagError(f"{path}:{line}", "is not UTF-8 text") from None


def parse_text(path: Path, text: str, known_models: Collection[str] | None) -> Flag:
    """Read a file's text.

    Raises:
        FlagError: it cannot be used.
    """
    entries = entries_of(path, text)
    for key, entry in entries.items():
        if key not in KEYS:
            raise FlagError(f"{path}:{entry.line}", f"unknown key {key!r}; keys are {', '.join(KEYS)}")
    missing = [key for key in REQUIRED if key not in entries]
    if missing:
        raise FlagError(str(path), f"{' and '.join(missing)} must be given")
    return Flag(
        model=_model(path, entries["model"], known_models),
        stage=_stage(path, entries["stage"]),
        sample=_share(path, "sample", entries.get("sample"), 1.0),
        canary=_share(path, "canary", entries.get("canary"), 0.0),
        owner=_text(path, "owner", entries["owner"]),
        description=_text(path, "description", entries["description"]),
        cohort=_text(path, "cohort", entries["cohort"]) if "cohort" in entries else None,
        gates=_thresholds(path, "gates", entries.get("gates"), GateThresholds),
        guard=_thresholds(path, "guard", entries.get("guard"), GuardThresholds),
        source=str(path),
    )


def entries_of(path: Path, text: str) -> dict[str, Entry]:
    """Return what stands in a text under each key, with its place.

    Raises:
        FlagError: it is not YAML, or not made of keys and values.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise FlagError(where, f"is not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError):
        raise FlagError(str(path), "is not valid YAML") from None
    if root is None:
        raise FlagError(str(path), "is empty")
    if not isinstance(root, yaml.MappingNode):
        raise FlagError(str(path), "must hold `key: value` lines")
    return mapping_of(path, root)


def mapping_of(path: Path, node: yaml.MappingNode) -> dict[str, Entry]:
    """Return what stands under each key of a mapping, with its place.

    Raises:
        FlagError: a key is none, or is given twice.
    """
    entries: dict[str, Entry] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise FlagError(f"{path}:{line}", "a key must be one word")
        if key.value in entries:
            raise FlagError(f"{path}:{line}", f"{key.value!r} is given twice")
        entries[key.value] = Entry(line, key, value)
    return entries


def _text(path: Path, key: str, entry: Entry) -> str:
    if not isinstance(entry.value, yaml.ScalarNode):
        raise FlagError(f"{path}:{entry.line}", f"{key} must be text")
    text: str = entry.value.value.strip()
    if not text or entry.value.tag == _NULL:
        raise FlagError(f"{path}:{entry.line}", f"{key} is empty")
    return text


def _model(path: Path, entry: Entry, known_models: Collection[str] | None) -> str:
    model = _text(path, "model", entry)
    if known_models is not None and model not in known_models:
        raise FlagError(f"{path}:{entry.line}", str(UnknownModelError(model, list(known_models))))
    if path.name != f"{model}.yaml":
        raise FlagError(f"{path}:{entry.line}", f"the flag of {model} must be in a file called {model}.yaml")
    return model


def _stage(path: Path, entry: Entry) -> Stage:
    try:
        return Stage.parse(_text(path, "stage", entry))
    except UnknownStageError as error:
        raise FlagError(f"{path}:{entry.line}", str(error)) from None


def _number(path: Path, key: str, entry: Entry) -> float:
    text = _text(path, key, entry)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FlagError(f"{path}:{entry.line}", f"{key} must be a number, not {text!r}")
    return number


def _share(path: Path, key: str, entry: Entry | None, default: float) -> float:
    if entry is None:
        return default
    share = _number(path, key, entry)
    if not 0 <= share <= 1:
        raise FlagError(f"{path}:{entry.line}", f"{key} must be from 0 to 1, not {share:g}")
    return share


def _thresholds(
    path: Path, key: str, entry: Entry | None, kind: type[GateThresholds | GuardThresholds]
) -> Mapping[str, float]:
    if entry is None:
        return MappingProxyType({})
    if not isinstance(entry.value, yaml.MappingNode):
        raise FlagError(f"{path}:{entry.line}", f"{key} must hold `name: number` lines")
    numbers: dict[str, float] = {}
    for name, threshold in mapping_of(path, entry.value).items():
        try:
            numbers[name] = _number(path, f"{key}.{name}", threshold)
            kind.of({name: numbers[name]})
        except ConfigurationError as error:
            raise FlagError(f"{path}:{threshold.line}", f"{key}: {error}") from None
    return MappingProxyType(numbers)
