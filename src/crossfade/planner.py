"""Which moves the relations between models permit. Every refusal names the models and the remedy."""

from __future__ import annotations

from collections.abc import Mapping

from crossfade.errors import StageMoveError
from crossfade.schema import Schema
from crossfade.stages import (
    MOVES,
    Stage,
    Topology,
    has_begun,
    has_moved,
    is_final,
    is_forward,
    moves_authority,
)


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
            raise StageMoveError(model, current, wanted, "a model moves one step at a time")
        if self._is_shared:
            return
        blockers, remedy = self._blockers(stages, model, current, wanted)
        if blockers:
            names = ", ".join(f"{name} ({stages[name]})" for name in sorted(blockers))
            raise StageMoveError(model, current, wanted, f"of {names}; {remedy}")

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
