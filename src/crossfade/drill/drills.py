"""The nine drills: who takes part, and what is done to them. What must hold afterwards is the same for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from crossfade.drill.ballast import ballast_prefix, load
from crossfade.drill.copier import COPIED as ALL_COPIED
from crossfade.drill.copier import FAILED, VERIFIED
from crossfade.drill.journal import now, read_lines
from crossfade.drill.lane import Order
from crossfade.drill.models import MODELS
from crossfade.drill.network import Mode
from crossfade.drill.order import Part
from crossfade.drill.processes import Process
from crossfade.drill.scene import COPIED, COPYING, WRITING, Scene
from crossfade.stages import Side, Stage

EPISODE_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. `cast` starts its processes, `play` harms them while the traffic flows."""

    name: str
    summary: str
    cast: Callable[[Scene], Awaitable[None]]
    play: Callable[[Scene], Awaitable[None]]
    seconds: float = EPISODE_SECONDS
    """How long the traffic of one round flows when the drill is run alone."""
    crashes: int = 0
    """How many processes a round of `EPISODE_SECONDS` must see killed."""
    kills: int = 0
    """How many processes every round kills, however long it is."""
    moves: int = 0
    """How many authorities a run of the drill must see moved."""


async def _crew(scene: Scene, lines: Mapping[Side, str] | None = None, **how: float) -> None:
    """Whoever keeps the stores level and moves the models: one process each."""
    await scene.start(Part.RECONCILER, "reconciler", lines=lines, **how)
    await scene.start(Part.CONDUCTOR, "conductor", lines=lines)


async def _application(
    scene: Scene,
    name: str,
    rate: float,
    *,
    lines: Mapping[Side, str] | None = None,
    stands_by: bool = False,
    is_deaf: bool = False,
    skew: float = 0.0,
    shared: Order = Order.RANDOM,
) -> None:
    await scene.start(
        Part.APPLICATION,
        name,
        lines=lines,
        rate=rate,
        strands=6,
        stands_by=stands_by,
        is_deaf=is_deaf,
        skew=skew,
        shared=shared,
    )


async def _script(
    scene: Scene,
    name: str,
    rate: float,
    *,
    start: Side = Side.PRISMA,
    lines: Mapping[Side, str] | None = None,
    shared: Order = Order.RANDOM,
    skew: float = 0.0,
) -> None:
    await scene.start(
        Part.SCRIPT, name, lines=lines, rate=rate, strands=4, start=start, shared=shared, skew=skew
    )


async def _psql(scene: Scene, name: str, rate: float, *, start: Side = Side.PRISMA) -> None:
    if scene.equipment.stores.psql is not None:
        await scene.start(Part.PSQL, name, rate=rate, strands=1, start=start)


# --- kill ----------------------------------------------------------------------------------------------------------


async def _cast_kill(scene: Scene) -> None:
    await scene.start(Part.RECONCILER, "reconciler")
    await scene.start(Part.CONDUCTOR, "conductor", crash_at=next(scene.equipment.crashes_planned))
    await _application(scene, "app1", 25)
    await _application(scene, "app2", 25, stands_by=True)
    await _script(scene, "script", 50)
    await _psql(scene, "psql", 2)


async def _play_kill(scene: Scene) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(scene.flip(pause=0.3, models=1))
        group.create_task(_kill_at_random(scene))


async def _kill_at_random(scene: Scene) -> None:
    while True:
        await scene.sleep(scene.chance.uniform(0.25, 0.75))
        if scene.left <= 0:
            return
        # Conductors are killed at their steps, for the most part.
        victims = [one for one in scene.running() if one.order.part is not Part.CONDUCTOR]
        if scene.chance.random() < 0.1:
            victims = scene.running(Part.CONDUCTOR)
        if victims:
            victim = scene.chance.choice(victims)
            scene.kill(victim)
            scene.again(victim)


# --- stale ---------------------------------------------------------------------------------------------------------


async def _cast_stale(scene: Scene) -> None:
    await _crew(scene)
    await _application(scene, "awake", 25)
    await _application(scene, "asleep", 25)
    await _application(scene, "deaf", 25, is_deaf=True)
    await _script(scene, "script", 40)


async def _play_stale(scene: Scene) -> None:
    sleeper = next(one for one in scene.processes if one.order.name.endswith("-asleep"))
    while scene.left > 0:
        await scene.sleep(0.5)
        scene.pause(sleeper)
        at = await scene.standings()
        wanted = {
            model: Stage.SHADOW if at[model].stage is Stage.LIVE else Stage.LIVE
            for model in scene.chance.sample(MODELS, 3)
        }
        # A sleeper with a transaction open keeps a table from being frozen, so this may have to wait for it to wake.
        await scene.reach(wanted, min(2.5, scene.left))
        scene.wake(sleeper)


# --- follower-down, follower-slow ----------------------------------------------------------------------------------

_DIRECT: Final = MappingProxyType({Side.PRISMA: "legacy", Side.SQLALCHEMY: "target"})


async def _cast_follower(scene: Scene) -> None:
    await _crew(scene, _DIRECT)
    await scene.ready()
    # The follower is the target in one round and the legacy store in the next.
    await scene.gather_at(Stage.SHADOW if scene.round % 2 else Stage.LIVE)
    await _application(scene, "app1", 35, lines=_DIRECT)
    await _application(scene, "app2", 35, lines=_DIRECT, stands_by=True)
    start = Side.PRISMA if scene.round % 2 else Side.SQLALCHEMY
    await _script(scene, "script", 50, lines=_DIRECT, start=start)


def _follower_line(scene: Scene) -> str:
    return _DIRECT[Side.SQLALCHEMY if scene.round % 2 else Side.PRISMA]


async def _play_follower_down(scene: Scene) -> None:
    line = _follower_line(scene)
    mode = Mode.CUT if scene.round // 2 % 2 == 0 else Mode.STALLED
    try:
        await scene.sleep(scene.seconds * 0.15)
        await scene.equipment.proxy.set(line, mode)
        await scene.sleep(scene.seconds * 0.2)
        await _application(scene, "newcomer", 10, lines=_DIRECT)
        await scene.sleep(scene.seconds * 0.25)
        await scene.equipment.proxy.set(line)
        await scene.sleep(scene.seconds * 0.2)
        await scene.equipment.proxy.set(line, Mode.CUT)
        await scene.sleep(0.3)
    finally:
        await scene.equipment.proxy.set(line)
    await scene.sleep(scene.seconds)


async def _play_follower_slow(scene: Scene) -> None:
    line = _follower_line(scene)
    try:
        await scene.equipment.proxy.set(line, delay=0.1, jitter=0.1)
        await scene.sleep(scene.seconds * 0.7)
        await scene.equipment.proxy.set(line, delay=0.4, jitter=0.4)
        await scene.sleep(scene.seconds)
    finally:
        await scene.equipment.proxy.set(line)


# --- reorder -------------------------------------------------------------------------------------------------------

_SLOW_TARGET: Final = MappingProxyType({Side.SQLALCHEMY: "slow-target"})
_SLOW_LEGACY: Final = MappingProxyType({Side.PRISMA: "slow-legacy"})


async def _cast_reorder(scene: Scene) -> None:
    await _crew(scene)
    await _application(scene, "up", 30, lines=_SLOW_TARGET, shared=Order.ASCENDING)
    await _application(scene, "down", 30, lines=_SLOW_LEGACY, shared=Order.DESCENDING)
    await _script(scene, "script-up", 20, shared=Order.ASCENDING)
    await _script(scene, "script-down", 20, lines=_SLOW_TARGET, shared=Order.DESCENDING)


async def _play_reorder(scene: Scene) -> None:
    for line in ("slow-target", "slow-legacy"):
        await scene.equipment.proxy.set(line, jitter=0.06)
    try:
        await scene.flip(pause=1.0, models=2)
    finally:
        for line in ("slow-target", "slow-legacy"):
            await scene.equipment.proxy.set(line)


# --- rogue, flip-storm, clock ----------------------------------------------------------------------------------------


async def _cast_rogue(scene: Scene) -> None:
    await _crew(scene)
    await _application(scene, "app", 30)
    for side in Side:
        await _script(scene, f"script-{side}", 50, start=side)
        await _psql(scene, f"psql-{side}", 3, start=side)


async def _play_rogue(scene: Scene) -> None:
    await scene.flip(pause=0.8, models=2)


async def _cast_flip_storm(scene: Scene) -> None:
    await _crew(scene)
    for number in (1, 2):
        await _application(scene, f"app{number}", 75)
        await _script(scene, f"script{number}", 175)


async def _play_flip_storm(scene: Scene) -> None:
    await scene.flip(pause=0.1, models=len(MODELS))


async def _cast_clock(scene: Scene) -> None:
    await scene.start(Part.RECONCILER, "reconciler", skew=600.0)
    await scene.start(Part.CONDUCTOR, "conductor", skew=-240.0)
    await _application(scene, "early", 30, skew=-300.0)
    await _application(scene, "late", 30, skew=420.0)
    await _application(scene, "right", 30)
    await _script(scene, "script", 40)


async def _play_clock(scene: Scene) -> None:
    await scene.flip(pause=0.8, models=2)


# --- backfill --------------------------------------------------------------------------------------------------------

_WORKERS_KILLED: Final = 10
_COPY_RATE: Final = 12_000.0
_COPY_PATIENCE: Final = 90.0


async def _cast_backfill(scene: Scene) -> None:
    await _crew(scene)
    await scene.ready()
    # History is copied before a model starts in one round, and while it is written to both stores in the next.
    await scene.gather_at(Stage.OFF if scene.round % 2 else Stage.DUALWRITE)
    prefix = ballast_prefix(scene.prefix)
    scene.copied_rows = await load(scene.equipment.stores, prefix, next(scene.equipment.numbers))
    for number in (1, 2):
        await _application(scene, f"app{number}", 100)
    await _script(scene, "script", 200)
    await scene.start(Part.STIRRER, "stirrer", rate=100)


async def _play_backfill(scene: Scene) -> None:
    scene.moments[WRITING] = now()
    await asyncio.sleep(max(2.0, scene.seconds * 0.3))
    scene.moments[COPYING] = now()
    copier = await scene.start(Part.COPIER, "copier", rate=_COPY_RATE)
    loop = asyncio.get_running_loop()
    until = loop.time() + _COPY_PATIENCE
    killed = 0
    while (ended := _told(copier)) is None or killed < _WORKERS_KILLED:
        if killed < _WORKERS_KILLED:
            await asyncio.sleep(scene.chance.uniform(0.4, 1.2))
            scene.kill(copier)
            await copier.ended.wait()
            killed += 1
            copier = scene.again(copier)
        elif loop.time() > until:
            scene.failures.append(f"the history was not copied and verified within {_COPY_PATIENCE:g} s")
            return
        else:
            await asyncio.sleep(0.1)
    copied = [line[2] for line in read_lines(copier.order.journal) if line[:2] == ["m", ALL_COPIED]]
    scene.moments[COPIED] = max(copied, default=now())
    scene.failures += ended
    # The gates let them pass now, and the drills after this one begin there.
    await scene.gather_at(Stage.SHADOW)


def _told(copier: Process) -> list[str] | None:
    """None while a copier works; then what is wrong with what it has noted."""
    if not copier.is_ready:
        return None
    marks = [(line[1], line[3]) for line in read_lines(copier.order.journal) if line[0] == "m"]
    if failed := [detail for word, detail in marks if word == FAILED]:
        return failed
    verdicts = [detail for word, detail in marks if word == VERIFIED]
    if len(verdicts) < len(MODELS):
        return None
    return [f"verify says: {verdict}" for verdict in verdicts if not verdict.endswith(" clean")]


DRILLS: Final[Mapping[str, Drill]] = MappingProxyType(
    {
        drill.name: drill
        for drill in (
            Drill(
                "kill",
                "writers, reconcilers and conductors are killed at random and at every step of a move",
                _cast_kill,
                _play_kill,
                crashes=10,
            ),
            Drill(
                "stale",
                "processes sleep through moves, or never hear of them, and go on writing",
                _cast_stale,
                _play_stale,
            ),
            Drill(
                "follower-down",
                "the follower's database goes away and comes back",
                _cast_follower,
                _play_follower_down,
            ),
            Drill(
                "follower-slow", "the follower's database answers late", _cast_follower, _play_follower_slow
            ),
            Drill(
                "reorder", "writers come to the same rows in opposite orders", _cast_reorder, _play_reorder
            ),
            Drill(
                "rogue",
                "psql and cron jobs write to both stores beside the application",
                _cast_rogue,
                _play_rogue,
            ),
            Drill(
                "flip-storm",
                "every authority moves back and forth, without a pause, under load",
                _cast_flip_storm,
                _play_flip_storm,
                seconds=60.0,
                moves=100,
            ),
            Drill("clock", "the clocks of the processes are minutes apart", _cast_clock, _play_clock),
            Drill(
                "backfill",
                "history is copied under traffic, and whoever copies it is killed ten times",
                _cast_backfill,
                _play_backfill,
                seconds=20.0,
                kills=_WORKERS_KILLED,
            ),
        )
    }
)
"""Every drill by its name on the command line."""
