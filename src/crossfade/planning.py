"""What to move together, in which order, and how long it takes at the rates that were seen. Arithmetic: it asks nobody.

The order is one in which nothing waits for what comes after it: parents before children. Models of one cohort stand in
one place, because their authority changes in one step; where references go round in a circle, the circle is cut at the
model that comes first in the schema's own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from crossfade.gates.comparisons import keys_needed
from crossfade.schema import Schema
from crossfade.store.signals import Kind, Spanned
from crossfade.thresholds import GateThresholds


@dataclass(frozen=True, slots=True)
class Advice:
    """Models that single writes span and that no one cohort holds together."""

    models: tuple[str, ...]
    times: int
    seen: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """What one kind of operation lacks until its comparisons are proven.

    `keys` are distinct keys that must still be compared clean, None where no number would do. `seconds` is how long
    that takes at the rate at which keys have come, None where none has.
    """

    action: str
    keys: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Copying:
    """The rows of one model that are left to copy, and how long that takes at the rate seen; None where none was."""

    rows: int
    seconds: float | None


def declared_cohorts(cohorts: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Return the models of each cohort by its name."""
    found: dict[str, list[str]] = {}
    for model, cohort in sorted(cohorts.items()):
        if cohort is not None:
            found.setdefault(cohort, []).append(model)
    return {cohort: tuple(models) for cohort, models in sorted(found.items())}


def advise(spans: Iterable[Spanned], cohorts: Mapping[str, str | None]) -> list[Advice]:
    """Say which models should be one cohort, because single writes were seen that span them.

    Writes that share a model belong together, and so do the cohorts that they touch: otherwise there would be a time at
    which one of them spans two authorities and is refused.
    """
    groups: dict[str, frozenset[str]] = {}

    def join(models: Iterable[str]) -> None:
        together = frozenset[str]().union(*(groups.get(model, frozenset({model})) for model in models))
        groups.update(dict.fromkeys(together, together))

    for declared in declared_cohorts(cohorts).values():
        join(declared)
    loose = [
        span
        for span in spans
        if span.is_write and len({cohorts.get(model) or f"alone {model}" for model in span.models}) > 1
    ]
    for span in loose:
        join(span.models)
    advice = []
    for group in sorted({groups[span.models[0]] for span in loose}, key=sorted):
        within = [span for span in loose if span.models[0] in group]
        advice.append(
            Advice(
                tuple(sorted(group)), sum(span.times for span in within), max(span.seen for span in within)
            )
        )
    return advice


def in_order(schema: Schema, cohorts: Mapping[str, str | None]) -> list[tuple[str, ...]]:
    """Return the models, those of a cohort together, so that none waits for one that comes later."""
    position = {spec.name: place for place, spec in enumerate(schema.in_foreign_key_order())}
    group_of: dict[str, tuple[str, ...]] = {model: (model,) for model in position}
    for declared in declared_cohorts(cohorts).values():
        known = tuple(sorted((model for model in declared if model in position), key=position.__getitem__))
        group_of.update(dict.fromkeys(known, known))
    waiting = sorted(set(group_of.values()), key=lambda group: [position[model] for model in group])
    placed: list[tuple[str, ...]] = []
    while waiting:
        ready = [
            group
            for group in waiting
            if all(
                group_of[parent] in placed or group_of[parent] == group
                for model in group
                for parent in schema.parents(model)
            )
        ]
        placed.append((ready or waiting)[0])
        waiting.remove(placed[-1])
    return placed


def proofs(kinds: Sequence[Kind], thresholds: GateThresholds, seconds: float) -> list[Proof]:
    """Return what the comparisons of one model lack, after `seconds` at its stage; nothing if all is proven.

    A model that compares nothing yet lacks what any kind of operation would: that has no name.
    """
    if not kinds:
        unseen = keys_needed([Kind("", "", "", 0, 0, {"matched": 1})], thresholds)
        return [Proof("", keys, None) for keys in unseen.values()]
    compared = {kind.action: kind.compared for kind in kinds}
    found = []
    for action, keys in keys_needed(kinds, thresholds).items():
        rate = compared[action] / seconds if seconds > 0 else 0.0
        found.append(Proof(action, keys, keys / rate if keys is not None and rate else None))
    return found


def copying(rows: int, rate: float | None) -> Copying:
    """Return how long the rest takes."""
    return Copying(rows, 0.0 if rows <= 0 else None if not rate else rows / rate)
