"""Where the models stand in this process: what their stages mean, how new that is, and who their neighbours are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from crossfade.errors import MixedAuthorityError
from crossfade.schema import ModelSpec, Schema
from crossfade.stages import PLANS, FollowerPart, Plan, Side, Stage, Topology


@dataclass(slots=True)
class Standing:
    """One model's standing.

    `alone` is the model's name as the only one an operation touches. `epoch` is that of the record it follows. `awaits`
    is set while the model straddles, that is, while a neighbour's writes belong to the other side's store;
    `restricted_by` are the models in the other store whose rows can forbid the deletion of one of this model's.
    """

    spec: ModelSpec
    plan: Plan
    alone: tuple[str, ...]
    epoch: int = 0
    sample: float = 1.0
    awaits: bool = False
    restricted_by: tuple[str, ...] = ()


class Standings:
    """The standing of every model; `stages` say where they stand until a record is placed."""

    def __init__(self, schema: Schema, topology: Topology, stages: Mapping[str, Stage]) -> None:
        self._schema = schema
        self._is_shared = topology is Topology.SHARED
        self._plans = PLANS[topology]
        at = {spec.name: Stage.OFF for spec in schema} | dict(stages)
        self.models = {
            name: Standing(schema.model(name), self._plans[stage], (name,)) for name, stage in at.items()
        }
        self._note_neighbours()

    def place(self, model: str, stage: Stage, epoch: int) -> None:
        """Note that the record places `model` at `stage`. An older record than the one that is known is passed over."""
        state = self.models[model]
        if epoch < state.epoch:
            return
        state.epoch = epoch
        if state.plan.stage is not stage:
            state.plan = self._plans[stage]
            self._note_neighbours()

    def stages(self) -> dict[str, Stage]:
        """The stage of every model."""
        return {name: model.plan.stage for name, model in self.models.items()}

    def authority_over(self, models: Iterable[str]) -> Side:
        """Return the side that has the authority over all of `models`.

        In a shared store either side can write to all of them; Prisma does until the last one has moved.

        Raises:
            MixedAuthorityError: they belong to different stores.
        """
        names = frozenset(models)
        authorities = {self.models[name].plan.authority for name in names}
        if len(authorities) > 1 and self._is_shared:
            return Side.PRISMA
        if len(authorities) > 1:
            raise MixedAuthorityError(sorted(names))
        return authorities.pop()

    def reads_of(self, models: Sequence[str]) -> Side:
        """The side that answers a read of several models: SQLAlchemy only if it answers for each of them."""
        on_sqlalchemy = all(self.models[name].plan.reads is Side.SQLALCHEMY for name in models)
        return Side.SQLALCHEMY if on_sqlalchemy else Side.PRISMA

    def all_fed(self, models: Sequence[str]) -> bool:
        """Whether the follower of each of `models` is written to as the authority is."""
        return all(self.models[name].plan.follower_part in _FED for name in models)

    def awaits(self, models: Iterable[str]) -> bool:
        """Whether any of `models` straddles."""
        return any(self.models[name].awaits for name in models)

    def _note_neighbours(self) -> None:
        if self._is_shared:  # a row that one side has written is there for the other
            return
        for name, state in self.models.items():
            mine = state.plan.authority
            others = (self.models[other].plan.authority for other in self._schema.neighbours(name))
            state.awaits = any(authority is not mine for authority in others)
            state.restricted_by = tuple(
                child
                for child in self._schema.restricting(name)
                if self.models[child].plan.authority is not mine
            )


_FED = (FollowerPart.APPLY, FollowerPart.READ_BACK)
