"""Which gates a step has, in one table. Nothing else decides that."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from crossfade.gates.gate import GateName
from crossfade.stages import (
    PLANS,
    Stage,
    Topology,
    has_begun,
    is_forward,
    moves_authority,
    reads_target,
    stops_feeding,
)

_Condition = Callable[[Topology, Stage, Stage], bool]


def _fills(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """A second store takes part in more than before."""
    return topology is Topology.SEPARATE and is_forward(current, wanted)


def _reads(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """It is read, so history must be there."""
    return _fills(topology, current, wanted) and reads_target(wanted)


def _follows(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """It is being kept up to date, so that it can be seen how well."""
    return _fills(topology, current, wanted) and has_begun(current)


def _works(_: Topology, current: Stage, wanted: Stage) -> bool:
    """The new side is at work, so that it can be seen whether it fails."""
    return is_forward(current, wanted) and has_begun(current)


def _compares(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """Both sides answer reads and the answers are compared."""
    return is_forward(current, wanted) and PLANS[topology][current].shadow is not None


def _numbers(topology: Topology, current: Stage, wanted: Stage) -> bool:
    """It is to number rows from now on."""
    return _fills(topology, current, wanted) and moves_authority(current, wanted)


_CONDITIONS: Mapping[GateName, _Condition] = {
    GateName.CAPTURED: _fills,
    GateName.INDEXED: _fills,
    GateName.BACKFILLED: _reads,
    GateName.VERIFIED: _reads,
    GateName.LAG: _follows,
    GateName.COMPARISONS: _compares,
    GateName.LATENCY: _compares,
    GateName.ERRORS: _works,
    GateName.SEQUENCES: _numbers,
    GateName.SETTLED: stops_feeding,
}


def applying(topology: Topology, current: Stage, wanted: Stage) -> frozenset[GateName]:
    """Return the gates of the step from `current` to `wanted`. Back, only `settled` is asked, if anything."""
    return frozenset(name for name in GateName if _CONDITIONS[name](topology, current, wanted))
