"""What each stage means, in tables. Nothing outside this module asks `if stage == …`.

A `Stage` says where one model stands. A `Plan` says what that means for a call: which side answers reads, which
side is asked in the shadow, which side has the authority over writes, and what the follower does. The same six
stages serve both topologies; only the follower's part differs.

Two rules hold for every row and every permitted move, and the tests check them over the whole table:

* a side never follows or shadows itself;
* whatever a stage reads was already being written in the stage before it, in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType

from crossfade.errors import UnknownStageError


class Side(StrEnum):
    """One of the two paths, with the store behind it."""

    PRISMA = "prisma"
    SQLALCHEMY = "sqlalchemy"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.SQLALCHEMY if self is Side.PRISMA else Side.PRISMA


class Topology(StrEnum):
    """Whether the two sides have a store each, or share one."""

    SEPARATE = "separate"
    SHARED = "shared"


class Stage(StrEnum):
    """Where one model stands on the way from Prisma to SQLAlchemy, in order."""

    OFF = "off"
    DUALWRITE = "dualwrite"
    SHADOW = "shadow"
    LIVE = "live"
    RAMPDOWN = "rampdown"
    COMPLETE = "complete"

    @classmethod
    def parse(cls, text: str) -> Stage:
        """Return the stage of that name.

        Raises:
            UnknownStageError: no stage is called `text`.
        """
        try:
            return cls(text)
        except ValueError:
            raise UnknownStageError(text, [str(stage) for stage in cls]) from None


class FollowerPart(StrEnum):
    """What the follower does for a write that the authority has accepted."""

    NONE = "none"
    """Nothing at all."""
    CAPTURE = "capture"
    """No write on the caller's heels. Where capture is set up, the touched keys are kept, so that the other store can
    be brought level; where it is not, this is the same as `NONE`."""
    APPLY = "apply"
    """The same operation on the other store."""
    READ_BACK = "read_back"
    """The row is read through the other client, from the same store, and compared."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one stage means for one call."""

    stage: Stage
    reads: Side
    shadow: Side | None
    authority: Side
    follower_part: FollowerPart
    candidate: Side | None
    """The side that answers reads in the next stage, where this stage asks it in the shadow: it may answer a share."""
    recalled: Side
    """The side that answers reads once a flag asks for `off`: Prisma, as long as it is kept up to date."""
    is_followed: bool
    """Whether the follower has its part in every write, at once."""

    @property
    def follower(self) -> Side:
        """The side that is not the authority."""
        return self.authority.other


_ORDER: tuple[Stage, ...] = tuple(Stage)

_P, _S = Side.PRISMA, Side.SQLALCHEMY

#                 reads  shadow  authority
_SIDES: Mapping[Stage, tuple[Side, Side | None, Side]] = {
    Stage.OFF:       (_P, None, _P),
    Stage.DUALWRITE: (_P, None, _P),
    Stage.SHADOW:    (_P, _S, _P),
    Stage.LIVE:      (_S, _P, _S),
    Stage.RAMPDOWN:  (_S, None, _S),
    Stage.COMPLETE:  (_S, None, _S),
}  # fmt: skip

_PARTS: Mapping[Topology, Mapping[Stage, FollowerPart]] = {
    Topology.SEPARATE: {
        Stage.OFF: FollowerPart.CAPTURE,
        Stage.DUALWRITE: FollowerPart.APPLY,
        Stage.SHADOW: FollowerPart.APPLY,
        Stage.LIVE: FollowerPart.APPLY,
        Stage.RAMPDOWN: FollowerPart.APPLY,
        Stage.COMPLETE: FollowerPart.CAPTURE,
    },
    Topology.SHARED: {
        Stage.OFF: FollowerPart.NONE,
        Stage.DUALWRITE: FollowerPart.READ_BACK,
        Stage.SHADOW: FollowerPart.READ_BACK,
        Stage.LIVE: FollowerPart.READ_BACK,
        Stage.RAMPDOWN: FollowerPart.READ_BACK,
        Stage.COMPLETE: FollowerPart.NONE,
    },
}


def _plan(stage: Stage, part: FollowerPart) -> Plan:
    reads, shadow, authority = _SIDES[stage]
    after = _ORDER[min(position(stage) + 1, len(_ORDER) - 1)]
    candidate = shadow if shadow is _SIDES[after][0] else None
    is_followed = part in (FollowerPart.APPLY, FollowerPart.READ_BACK)
    recalled = Side.PRISMA if is_followed else authority
    return Plan(stage, reads, shadow, authority, part, candidate, recalled, is_followed)


def position(stage: Stage) -> int:
    """How many steps `stage` is away from `off`: 0 to 5."""
    return _ORDER.index(stage)


PLANS: Mapping[Topology, Mapping[Stage, Plan]] = MappingProxyType(
    {
        topology: MappingProxyType({stage: _plan(stage, parts[stage]) for stage in Stage})
        for topology, parts in _PARTS.items()
    }
)
"""The one table: a `Plan` for every topology and stage."""

MOVES: frozenset[tuple[Stage, Stage]] = frozenset(
    move for one, two in pairwise(_ORDER) for move in ((one, two), (two, one))
)
"""Every permitted move: one step, forward or back."""


def next_step(current: Stage, requested: Stage) -> Stage | None:
    """Return the neighbour of `current` on the way to `requested`, or None when it is reached."""
    here, there = position(current), position(requested)
    if here == there:
        return None
    return _ORDER[here + (1 if there > here else -1)]


def moves_authority(current: Stage, wanted: Stage) -> bool:
    """Whether going from `current` to `wanted` hands the write authority to the other side."""
    return _SIDES[current][2] is not _SIDES[wanted][2]


def stops_feeding(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """Whether going from `current` to `wanted` leaves a store without the writes that it got until then.

    Whoever still believes an earlier stage may read there, so one lease must have passed before. A store that both
    sides share always gets them.
    """
    return topology is not Topology.SHARED and not _fed(topology, current) <= _fed(topology, wanted)


def _fed(topology: Topology, stage: Stage) -> frozenset[Side]:
    """The sides whose stores get every write at once at `stage`."""
    plan = PLANS[topology][stage]
    return frozenset({plan.authority, plan.follower} if plan.is_followed else {plan.authority})


def has_begun(stage: Stage) -> bool:
    """Whether a model at `stage` has left its starting point."""
    return stage is not Stage.OFF


def has_moved(stage: Stage) -> bool:
    """Whether SQLAlchemy has the write authority at `stage`."""
    return _SIDES[stage][2] is Side.SQLALCHEMY


def reads_target(stage: Stage) -> bool:
    """Whether SQLAlchemy answers reads at `stage`, for the caller or for comparison, so that history must be there."""
    reads, shadow, _ = _SIDES[stage]
    return Side.SQLALCHEMY in (reads, shadow)


def is_final(stage: Stage) -> bool:
    """Whether `stage` is the end of the way, where the old side is no longer written to directly."""
    return stage is Stage.COMPLETE


def is_forward(current: Stage, wanted: Stage) -> bool:
    """Whether going from `current` to `wanted` leads away from `off`."""
    return position(wanted) > position(current)


def last_stage_of(side: Side) -> Stage:
    """The stage furthest from `off` at which `side` has the write authority."""
    return [stage for stage in Stage if _SIDES[stage][2] is side][-1]
