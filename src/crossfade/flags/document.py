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

from crossfade.errors import FlagError, UnknownModelError, UnknownStageError
from crossfade.flags.flag import Flag
from crossfade.stages import Stage

_KEYS = ("model", "owner", "description", "stage", "sample", "cohort", "gates")
_REQUIRED = ("model", "owner", "description", "stage")
_NULL = "tag:yaml.org,2002:null"


class _Entry(NamedTuple):
    line: int
    value: yaml.Node


def parse_flag(path: Path, content: bytes | str | None, known_models: Collection[str] | None) -> Flag:
    """Read one file's content; a text instead of bytes says why there is none, and None that the file is gone.

    Raises:
        FlagError: it cannot be used.
    """
    return _parse_text(path, _decode(path, content), known_models)


def with_stage(path: Path, content: bytes | str, stage: Stage) -> tuple[Stage, str]:
    """Return the stage a file asks for, and its text with `stage` there and nothing else changed.

    Raises:
        FlagError: it cannot be used.
    """
    text = _decode(path, content)
    before = _parse_text(path, text, None).stage
    span = _entries(path, text)["stage"].value
    edited = text[: span.start_mark.index] + str(stage) + text[span.end_mark.index :]
    if _parse_text(path, edited, None).stage is not stage:
        raise FlagError(str(path), "the stage is not written as one plain word; edit it by hand")
    return before, edited


def _decode(path: Path, content: bytes | str | None) -> str:
    if content is None:
        raise FlagError(str(path), "the file is gone; the last stage it asked for stays")
    if isinstance(content, str):
        raise FlagError(str(path), content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FlagError(f"{path}:{line}", "is not UTF-8 text") from None


def _parse_text(path: Path, text: str, known_models: Collection[str] | None) -> Flag:
    entries = _entries(path, text)
    for key, entry in entries.items():
        if key not in _KEYS:
            raise FlagError(f"{path}:{entry.line}", f"unknown key {key!r}; keys are {', '.join(_KEYS)}")
    missing = [key for key in _REQUIRED if key not in entries]
    if missing:
        raise FlagError(str(path), f"{' and '.join(missing)} must be given")
    return Flag(
        model=_model(path, entries["model"], known_models),
        stage=_stage(path, entries["stage"]),
        sample=_sample(path, entries.get("sample")),
        owner=_text(path, "owner", entries["owner"]),
        description=_text(path, "description", entries["description"]),
        cohort=_text(path, "cohort", entries["cohort"]) if "cohort" in entries else None,
        gates=_gates(path, entries.get("gates")),
        source=str(path),
    )


def _entries(path: Path, text: str) -> dict[str, _Entry]:
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
    return _mapping(path, root)


def _mapping(path: Path, node: yaml.MappingNode) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise FlagError(f"{path}:{line}", "a key must be one word")
        if key.value in entries:
            raise FlagError(f"{path}:{line}", f"{key.value!r} is given twice")
        entries[key.value] = _Entry(line, value)
    return entries


def _text(path: Path, key: str, entry: _Entry) -> str:
    if not isinstance(entry.value, yaml.ScalarNode):
        raise FlagError(f"{path}:{entry.line}", f"{key} must be text")
    text: str = entry.value.value.strip()
    if not text or entry.value.tag == _NULL:
        raise FlagError(f"{path}:{entry.line}", f"{key} is empty")
    return text


def _model(path: Path, entry: _Entry, known_models: Collection[str] | None) -> str:
    model = _text(path, "model", entry)
    if known_models is not None and model not in known_models:
        raise FlagError(f"{path}:{entry.line}", str(UnknownModelError(model, list(known_models))))
    if path.name != f"{model}.yaml":
        raise FlagError(f"{path}:{entry.line}", f"the flag of {model} must be in a file called {model}.yaml")
    return model


def _stage(path: Path, entry: _Entry) -> Stage:
    try:
        return Stage.parse(_text(path, "stage", entry))
    except UnknownStageError as error:
        raise FlagError(f"{path}:{entry.line}", str(error)) from None


def _number(path: Path, key: str, entry: _Entry) -> float:
    text = _text(path, key, entry)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FlagError(f"{path}:{entry.line}", f"{key} must be a number, not {text!r}")
    return number


def _sample(path: Path, entry: _Entry | None) -> float:
    if entry is None:
        return 1.0
    sample = _number(path, "sample", entry)
    if not 0 <= sample <= 1:
        raise FlagError(f"{path}:{entry.line}", f"sample must be from 0 to 1, not {sample:g}")
    return sample


def _gates(path: Path, entry: _Entry | None) -> Mapping[str, float]:
    if entry is None:
        return MappingProxyType({})
    if not isinstance(entry.value, yaml.MappingNode):
        raise FlagError(f"{path}:{entry.line}", "gates must hold `name: number` lines")
    gates = _mapping(path, entry.value)
    return MappingProxyType({name: _number(path, f"gates.{name}", gate) for name, gate in gates.items()})
