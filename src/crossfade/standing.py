"""Where the models stand in this process: what their stages mean, how new that is, and who their neighbours are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crossfade.errors import MixedAuthorityError
from crossfade.schema import ModelSpec, Schema
from crossfade.stages import PLANS, Plan, Side, Stage, Topology


@dataclass(slots=True)
class Standing:
    """One model's standing.

    `alone` is the model's name as the only one an operation touches. `epoch` is that of the record it follows. `reads`
    is the side that answers reads now, `candidate` the one that answers the canary's share of them: see `answering`.
    `straddles` is set while a neighbour's writes belong to the other side's store, `is_read_beside` while this or
    another process may read this model from the follower; `awaits` says that its writes wait for the follower.
    `restricted_by` are the models in the other store whose rows can forbid the deletion of one of this model's.
    """

    spec: ModelSpec
    plan: Plan
    alone: tuple[str, ...]
    reads: Side = field(init=False)
    candidate: Side | None = None
    epoch: int = 0
    sample: float = 1.0
    canary: float = 0.0
    is_recalled: bool = False
    straddles: bool = False
    is_read_beside: bool = False
    awaits: bool = False
    restricted_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.reads = self.plan.reads


class Standings:
    """The standing of every model; `stages` say where they stand until a record is placed."""

    def __init__(self, schema: Schema, topology: Topology, stages: Mapping[str, Stage]) -> None:
        self._schema = schema
        self.is_shared = topology is Topology.SHARED
        self._plans = PLANS[topology]
        at = {spec.name: Stage.OFF for spec in schema} | dict(stages)
        self.models = {
            name: Standing(schema.model(name), self._plans[stage], (name,)) for name, stage in at.items()
        }
        self._note_neighbours()

    def place(self, model: str, stage: Stage, epoch: int) -> Plan | None:
        """Note that the record places `model` at `stage`. An older record than the one that is known is passed over.

        Returns:
            What the stage before meant, if it was another one.
        """
        state = self.models[model]
        if epoch < state.epoch:
            return None
        state.epoch = epoch
        before = state.plan
        if before.stage is stage:
            return None
        state.plan = self._plans[stage]
        self._note_neighbours()
        return before

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
        if len(authorities) > 1 and self.is_shared:
            return Side.PRISMA
        if len(authorities) > 1:
            raise MixedAuthorityError(sorted(names))
        return authorities.pop()

    def reads_of(self, models: Sequence[str]) -> Side:
        """The side that answers a read of several models: SQLAlchemy only if it answers for each of them.

        A model that is recalled takes the others with it where Prisma's store is fed for all of them.
        """
        states = [self.models[name] for name in models]
        if any(state.plan.reads is not Side.SQLALCHEMY for state in states):
            return Side.PRISMA
        is_recalled = any(state.reads is Side.PRISMA for state in states)
        return Side.PRISMA if is_recalled and self.all_fed(models) else Side.SQLALCHEMY

    def all_fed(self, models: Sequence[str]) -> bool:
        """Whether the follower of each of `models` is written to as the authority is."""
        return all(self.models[name].plan.is_followed for name in models)

    def awaits(self, models: Iterable[str]) -> bool:
        """Whether a write to `models` waits for its follower."""
        return any(self.models[name].awaits for name in models)

    def read_beside(self, models: Iterable[str]) -> bool:
        """Whether any of `models` may be read from its follower."""
        return any(self.models[name].is_read_beside for name in models)

    def note_awaiting(self) -> None:
        """Tell from the rest which models' writes wait for their follower."""
        for name, state in self.models.items():
            state.awaits = state.straddles or state.is_read_beside or self._is_joined_beside(name)

    def _is_joined_beside(self, name: str) -> bool:
        """Whether a neighbour is recalled: what is read together with it is read from the follower, too."""
        others = (self.models[other] for other in self._schema.neighbours(name))
        return any(other.is_read_beside and other.is_recalled for other in others)

    def _note_neighbours(self) -> None:
        if self.is_shared:  # a row that one side has written is there for the other
            return
        for name, state in self.models.items():
            mine = state.plan.authority
            others = (self.models[other].plan.authority for other in self._schema.neighbours(name))
            state.straddles = any(authority is not mine for authority in others)
            state.restricted_by = tuple(
                child
                for child in self._schema.restricting(name)
                if self.models[child].plan.authority is not mine
            )
        self.note_awaiting()
