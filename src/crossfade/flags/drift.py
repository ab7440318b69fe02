"""How the flag files and a flag service differ, and who has changed what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from crossfade.flags.feature import Feature
from crossfade.flags.flag import Flag

KEYS = ("stage", "sample", "canary", "cohort", "gates", "guard", "owner", "description")


class Standing(StrEnum):
    """How a model's file and its feature stand to each other; the value is how a person is told."""

    SAME = "in step"
    NEW = "not on the server yet"
    AHEAD = "changed in the file"
    DRIFTED = "changed on the server"
    UNKNOWN = "on the server alone"


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs, as text on both sides."""

    key: str
    server: str
    file: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How one model's file and feature differ. `problem` says why a file cannot say what the feature does."""

    model: str
    standing: Standing
    changes: tuple[Change, ...] = ()
    problem: str = ""

    @property
    def what(self) -> str:
        """What the server has that the file has not, in one phrase."""
        told = [f"{change.key} {change.server} there, {change.file} in the file" for change in self.changes]
        return ", ".join(([self.problem] if self.problem else []) + told) or "it is on the server alone"


def compare(flags: Mapping[str, Flag], features: Mapping[str, Feature]) -> list[Difference]:
    """Compare every model that has a file or a feature, by name. Flags without a file are passed over."""
    files = {model: flag for model, flag in flags.items() if flag.source}
    return [
        _difference(model, files.get(model), features.get(model)) for model in sorted({*files, *features})
    ]


def _difference(model: str, flag: Flag | None, feature: Feature | None) -> Difference:
    if flag is None:
        assert feature is not None
        return Difference(model, Standing.UNKNOWN, problem=feature.problem)
    if feature is None or feature.is_bare:
        return Difference(model, Standing.NEW, tuple(_changes(flag, None)))
    changes = tuple(_changes(flag, feature))
    if not changes and not feature.problem:
        return Difference(model, Standing.SAME)
    standing = Standing.DRIFTED if feature.has_drifted else Standing.AHEAD
    return Difference(model, standing, changes, feature.problem)


def _changes(flag: Flag, feature: Feature | None) -> list[Change]:
    if feature is not None and feature.flag is None:
        return []
    there = feature.flag if feature is not None else None
    changes = []
    for key in KEYS:
        ours, theirs = getattr(flag, key), getattr(there, key) if there is not None else None
        if ours == theirs or (there is None and not ours):
            continue
        told = "–" if there is None else shown(theirs)
        if key == "stage" and feature is not None and not feature.is_on:
            told += " (toggled off)"
        changes.append(Change(key, told, shown(ours)))
    return changes


def shown(value: Any) -> str:
    """A value of a flag as one short text."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {number:g}" for name, number in sorted(value.items())) + "}"
    return "–" if value is None or value == "" else str(value)
