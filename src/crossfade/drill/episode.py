"""One round of one drill: cast, traffic while things break, drain, verdict.

Every phase has a deadline. What does not happen in time is named in the result and does not keep the run waiting.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter

from crossfade.drill.drills import Drill
from crossfade.drill.journal import CONFLICT, DONE, FENCED
from crossfade.drill.judge import Finding, Judge, Stored
from crossfade.drill.order import Part
from crossfade.drill.scene import COPIED, COPYING, NEVER, WRITING, Equipment, Scene
from crossfade.drill.stores import different_rows, read_moves, read_stored, unverified, writing
from crossfade.stages import Side

_SETTLE_SECONDS = 30.0
"""How long a move that is under way when the traffic ends may take to be completed or undone."""
_FINISH_SECONDS = 30.0
_DRAIN_SECONDS = 45.0
_END_SECONDS = 10.0
_SPARE_SECONDS = 120.0
"""What a play may take beyond its traffic before it is called off."""
_LOOK = 0.15
_SHOWN = 10


@dataclass(slots=True)
class Result:
    """What came of one round."""

    drill: str
    round: int
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    crashes: int = 0
    moves: int = 0
    fenced: int = 0
    conflicts: int = 0
    lost: int = 0
    different: int = 0
    seconds: float = 0.0
    drain_seconds: float = 0.0
    pauses: list[float] = field(default_factory=list)
    """How long each move held writers up, in seconds."""
    times: list[int] = field(default_factory=list)
    """How long each acknowledged write took, in microseconds."""
    usual: list[int] = field(default_factory=list)
    """Of these, the ones before a backfill."""
    copying: list[int] = field(default_factory=list)
    """The ones while it copied."""
    copied_rows: int = 0
    copy_seconds: float = 0.0
    problems: Counter[str] = field(default_factory=Counter)
    """Errors that callers saw and should not have seen."""
    failures: list[str] = field(default_factory=list)
    """What went wrong beside any write."""
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    """How a store contradicts the journals, by side."""
    rows: dict[str, list[str]] = field(default_factory=dict)
    """Keys of rows that differ between the stores, by model."""

    def contradictions(self) -> list[str]:
        """How the stores contradict the journals and each other, in words; a few examples of each kind."""
        lines = [
            f"{side}: {one.model} {one.key}: {one.loss}: expected {one.expected}, found {one.found}"
            for side, found in self.findings.items()
            for one in found[:_SHOWN]
        ]
        return lines + [
            f"{len(keys)} rows of {model} differ: {', '.join(keys[:_SHOWN])}"
            for model, keys in self.rows.items()
        ]

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, nothing differs, and nobody saw an error."""
        return not (self.lost or self.different or self.problems or self.failures)


async def play_episode(
    equipment: Equipment, drill: Drill, number: int, seconds: float, enter: list[Scene]
) -> Result:
    """Play one round of `drill`; return what came of it.

    `enter` holds the scene while it plays, for whoever hears of processes that end.
    """
    began = perf_counter()
    prefix = prefix_of(drill, number)
    result = Result(drill.name, number)
    scene = Scene(equipment, prefix, number, seconds)
    enter[:] = [scene]
    before = {side: await read_stored(equipment.stores, side, prefix) for side in Side}
    try:
        await drill.cast(scene)
        await scene.ready()
        scene.begin()
        await _play(drill, scene)
        await scene.stop_writers(_FINISH_SECONDS)
        await _settle(scene)
        await _drain(scene, result)
    finally:
        await scene.stop_all(_END_SECONDS)
        enter.clear()
    await _judge(scene, result, before)
    result.pauses, equipment.history = await read_moves(equipment.stores, equipment.history)
    result.moves = len(result.pauses)
    result.crashes = scene.crashes
    result.failures = scene.failures
    result.seconds = perf_counter() - began
    return result


async def _play(drill: Drill, scene: Scene) -> None:
    try:
        async with asyncio.timeout(scene.seconds + _SPARE_SECONDS):
            await drill.play(scene)
            await scene.sleep(scene.seconds)
    except TimeoutError:
        scene.failures.append(f"the play did not end within {_SPARE_SECONDS:g} s after its traffic")


async def _settle(scene: Scene) -> None:
    """Wait until no move is under way: a conductor completes or undoes what a dead one has left."""
    if not scene.running(Part.CONDUCTOR):
        await scene.start(Part.CONDUCTOR, "conductor")
    if not scene.running(Part.RECONCILER):
        await scene.start(Part.RECONCILER, "reconciler")
    # What is requested is what there is, or the conductor would go on moving models while the verdict is found. Once:
    # a request that runs after the record would chase it back and forth.
    for model, standing in (await scene.standings()).items():
        scene.request(model, standing.stage)
    loop = asyncio.get_running_loop()
    until = loop.time() + _SETTLE_SECONDS
    quiet_since = loop.time()
    last = None
    while True:
        standings = await scene.standings()
        moving = sorted(model for model, standing in standings.items() if standing.is_moving)
        if standings != last or moving:
            last, quiet_since = standings, loop.time()
        elif loop.time() - quiet_since > 4 * _LOOK and await writing(scene.equipment.stores) == 0:
            return
        if loop.time() > until:
            busy = await writing(scene.equipment.stores)
            reason = f"{', '.join(moving)} still moving" if moving else f"{busy} statements still running"
            scene.failures.append(f"nothing settled within {_SETTLE_SECONDS:g} s: {reason}")
            return
        await asyncio.sleep(_LOOK)


async def _drain(scene: Scene, result: Result) -> None:
    """Wait until every captured key has been verified."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while (left := await unverified(scene.equipment.stores))[0]:
        if loop.time() - began > _DRAIN_SECONDS:
            why = f" ({left[1]})" if left[1] else ""
            scene.failures.append(f"{left[0]} captured keys not verified within {_DRAIN_SECONDS:g} s{why}")
            break
        await asyncio.sleep(_LOOK)
    result.drain_seconds = loop.time() - began


async def _judge(scene: Scene, result: Result, before: dict[Side, Stored]) -> None:
    judge = Judge()
    for process in scene.processes:
        with suppress(FileNotFoundError):
            await asyncio.to_thread(judge.read, process.order.journal)
    result.acknowledged, result.refused, result.unknown = judge.acknowledged, judge.refused, judge.unknown
    result.problems, result.times = judge.problems, judge.times
    _split_times(scene, result, judge)
    result.fenced, result.conflicts = judge.marks[FENCED], judge.marks[CONFLICT]
    stores = scene.equipment.stores
    for side in Side:
        held = await read_stored(stores, side, scene.prefix)
        if found := judge.verify(held, before[side]):
            result.findings[side] = found
    result.lost = max((sum(one.writes for one in found) for found in result.findings.values()), default=0)
    result.rows = await different_rows(stores)
    result.different = sum(map(len, result.rows.values()))
    if not judge.marks[DONE]:
        scene.failures.append("no process ended as it should")
    if not judge.acknowledged:
        scene.failures.append("no write was acknowledged")


def _split_times(scene: Scene, result: Result, judge: Judge) -> None:
    """Tell the writes before a backfill from those while it copied."""
    if not (moments := scene.moments):
        return
    start, copies, end = (moments.get(name, NEVER) for name in (WRITING, COPYING, COPIED))
    result.copied_rows, result.copy_seconds = scene.copied_rows, (end - copies) / 1e6
    for began, time in zip(judge.began, judge.times, strict=True):
        if start <= began < copies:
            result.usual.append(time)
        elif copies <= began < end:
            result.copying.append(time)


def prefix_of(drill: Drill, number: int) -> str:
    """What the names of all processes of a round, and the keys of its rows, begin with."""
    return f"{drill.name}-{number}-"


def forget(equipment: Equipment, drill: Drill, number: int) -> None:
    """Remove the files of a round that was as it should be."""
    for folder in ("journals", "logs"):
        for file in (equipment.directory / folder).glob(f"{prefix_of(drill, number)}*"):
            file.unlink(missing_ok=True)
