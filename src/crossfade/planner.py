"""Which moves and requests the relations between models permit. Every refusal names the models and the remedy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from crossfade.errors import StageMoveError
from crossfade.schema import Schema
from crossfade.stages import (
    MOVES,
    Side,
    Stage,
    Topology,
    has_begun,
    has_moved,
    is_final,
    is_forward,
    last_stage_of,
    moves_authority,
    next_step,
)


class Rule(StrEnum):
    """What requests must keep to, so that they can be met."""

    PARENTS = "parents"
    NEEDED = "needed"
    RELATED = "related"
    COHORT = "cohort"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Requests that cannot be met together: whose they are, why not, and what to ask for instead.

    `about` is the model, or the cohort, that breaks the `rule`.
    """

    rule: Rule
    about: str
    models: tuple[str, ...]
    text: str


class Planner:
    """Checks a step against where the related models stand.

    * A parent is written to both stores before its children are, and for as long as they are: a child's row cannot
      stand where its parent's is missing.
    * A store can only go by the rows that it has. So for as long as a model's authority has moved, whatever it refers
      to is kept on both sides, in a circle of references as well, and so are the models whose rows can forbid the
      deletion of its own.
    * A model is `complete` only when everything it is related to has at least reached `live`.

    In a shared store every row is there for both sides, so none of these holds: a model moves by itself.
    """

    def __init__(self, schema: Schema, topology: Topology = Topology.SEPARATE) -> None:
        self._schema = schema
        self._is_shared = topology is Topology.SHARED
        self._parents = {spec.name: _strict_parents(schema, spec.name) for spec in schema}
        self._children = {
            name: frozenset(child for child, parents in self._parents.items() if name in parents)
            for name in self._parents
        }
        self._needed = {spec.name: _needed(schema, spec.name) for spec in schema}

    def check_move(self, stages: Mapping[str, Stage], model: str, wanted: Stage) -> None:
        """Return when `model` may move to `wanted` now.

        Raises:
            UnknownModelError: there is no such model.
            StageMoveError: the move is more than one step, or a related model stands in the way.
        """
        self._schema.model(model)
        current = stages[model]
        if (current, wanted) not in MOVES:
            step = next_step(current, wanted)
            remedy = "it is there already" if step is None else f"move it to {step} first"
            raise StageMoveError(model, current, wanted, f"a model moves one step at a time; {remedy}")
        if self._is_shared:
            return
        blockers, remedy = self._blockers(stages, model, current, wanted)
        if blockers:
            names = ", ".join(f"{name} ({stages[name]})" for name in sorted(blockers))
            raise StageMoveError(model, current, wanted, f"of {names}; {remedy}")

    def check_requests(
        self, requests: Mapping[str, Stage], cohorts: Mapping[str, str | None] | None = None
    ) -> list[Refusal]:
        """Return what of `requests` cannot be met together; nothing where it all can.

        A model that is not among them is asked for `off`. `cohorts` names the cohort of each model that has one.

        Raises:
            UnknownModelError: a request is about no model of the schema.
        """
        for model in requests:
            self._schema.model(model)
        refusals = split_cohorts(requests, cohorts or {})
        if self._is_shared:
            return refusals
        asked = {spec.name: requests.get(spec.name, Stage.OFF) for spec in self._schema}
        for model, stage in asked.items():
            if has_begun(stage):
                refusals += self._refuse_beginning(asked, model)
            if has_moved(stage):
                refusals += self._refuse_moving(asked, model)
            if is_final(stage):
                refusals += self._refuse_ending(asked, model)
        return refusals

    def _refuse_beginning(self, asked: Mapping[str, Stage], model: str) -> list[Refusal]:
        absent = sorted(name for name in self._parents[model] if not has_begun(asked[name]))
        if not absent:
            return []
        text = (
            f"{_told(asked, [model])} refers to {_told(asked, absent)}, and its rows cannot stand where theirs are"
            f" missing: ask for {_listed(absent)} at {_FIRST} first, or for {model} at {_NONE}"
        )
        return [Refusal(Rule.PARENTS, model, (model, *absent), text)]

    def _refuse_moving(self, asked: Mapping[str, Stage], model: str) -> list[Refusal]:
        needed = self._needed[model] - self._parents[model]
        absent = sorted(name for name in needed if not has_begun(asked[name]))
        if not absent:
            return []
        text = (
            f"{_told(asked, [model])} moves the authority, and the new store must go by the rows of"
            f" {_told(asked, absent)}, which it does not have: ask for {_listed(absent)} at {_FIRST} first,"
            f" or for {model} at {last_stage_of(Side.PRISMA)} at most"
        )
        return [Refusal(Rule.NEEDED, model, (model, *absent), text)]

    def _refuse_ending(self, asked: Mapping[str, Stage], model: str) -> list[Refusal]:
        behind = sorted(name for name in self._schema.neighbours(model) if not has_moved(asked[name]))
        if not behind:
            return []
        before = [stage for stage in Stage if not is_final(stage)][-1]
        text = (
            f"{_told(asked, [model])} is related to {_told(asked, behind)}, written in the old store, which"
            f" {model} would not feed any more: ask for {_listed(behind)} at {_MOVED} first,"
            f" or for {model} at {before} at most"
        )
        return [Refusal(Rule.RELATED, model, (model, *behind), text)]

    def _blockers(
        self, stages: Mapping[str, Stage], model: str, current: Stage, wanted: Stage
    ) -> tuple[frozenset[str], str]:
        neighbours = self._schema.neighbours(model)
        blockers: frozenset[str] = frozenset()
        remedy = ""
        if not has_begun(current):
            blockers = frozenset(name for name in self._parents[model] if not has_begun(stages[name]))
            remedy = "move the models it refers to first"
        elif not has_begun(wanted):
            blockers = frozenset(name for name in self._children[model] if has_begun(stages[name]))
            remedy = "move the models that refer to it back first"
            if not blockers:
                blockers = frozenset(
                    name
                    for name, needed in self._needed.items()
                    if model in needed and has_moved(stages[name])
                )
                remedy = "as long as those have moved, its rows must be on both sides: move them back first"
        elif is_final(wanted):
            blockers = frozenset(name for name in neighbours if not has_moved(stages[name]))
            remedy = "bring every related model to live first"
        elif moves_authority(current, wanted) and is_forward(current, wanted):
            blockers = frozenset(name for name in self._needed[model] if not has_begun(stages[name]))
            remedy = (
                "what its store must go by has to be on both sides: bring those models to dualwrite first"
            )
        elif moves_authority(current, wanted):
            blockers = frozenset(name for name in neighbours if is_final(stages[name]))
            remedy = "move the related models back from complete first"
        return blockers, remedy


def split_cohorts(requests: Mapping[str, Stage], cohorts: Mapping[str, str | None]) -> list[Refusal]:
    """Return which cohorts are asked to stand on both sides of the authority. The relations need not be known."""
    members: dict[str, list[str]] = defaultdict(list)
    for model, cohort in sorted(cohorts.items()):
        if cohort is not None:
            members[cohort].append(model)
    refusals = []
    for cohort, models in members.items():
        asked = {model: requests.get(model, Stage.OFF) for model in models}
        moved = [model for model in models if has_moved(asked[model])]
        stay = [model for model in models if model not in moved]
        if moved and stay:
            text = (
                f"cohort {cohort!r} is split: {_told(asked, moved)} with the authority moved, {_told(asked, stay)}"
                f" without; single writes span them, so ask for all of them at {_MOVED} or later, or for all at"
                f" {last_stage_of(Side.PRISMA)} or earlier (`crossfade flip --cohort` asks for all at once)"
            )
            refusals.append(Refusal(Rule.COHORT, cohort, (*moved, *stay), text))
    return refusals


_NONE = next(stage for stage in Stage if not has_begun(stage))
_FIRST = next(stage for stage in Stage if has_begun(stage))
_MOVED = next(stage for stage in Stage if has_moved(stage))


def _told(asked: Mapping[str, Stage], models: Iterable[str]) -> str:
    return _listed(f"{model} ({asked[model]})" for model in models)


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _strict_parents(schema: Schema, model: str) -> frozenset[str]:
    """The models that `model` refers to and that do not, directly or through others, refer back to it."""
    return frozenset(name for name in schema.parents(model) if model not in _ancestors(schema, name))


def _ancestors(schema: Schema, model: str) -> frozenset[str]:
    found: set[str] = set()
    waiting = [model]
    while waiting:
        for parent in schema.parents(waiting.pop()) - found:
            found.add(parent)
            waiting.append(parent)
    return frozenset(found)


def _needed(schema: Schema, model: str) -> frozenset[str]:
    """The models by whose rows a store must go for `model`, and those without whose rows these cannot be there."""
    direct = schema.restricting(model) | {model}
    return frozenset[str]().union(direct, *(_ancestors(schema, name) for name in direct)) - {model}
