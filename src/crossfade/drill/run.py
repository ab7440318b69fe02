"""A run of drills: the stores and processes that all rounds share, the rounds, and what came of them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from crossfade.drill.board import Board
from crossfade.drill.drills import EPISODE_SECONDS, Drill
from crossfade.drill.episode import Result, forget, play_episode
from crossfade.drill.models import MODELS
from crossfade.drill.order import Part
from crossfade.drill.processes import Nursery, Process
from crossfade.drill.proxy import Proxy
from crossfade.drill.report import Report
from crossfade.drill.scene import Equipment, Scene
from crossfade.drill.stores import open_stores
from crossfade.dsn import Dsn
from crossfade.errors import EmbeddedError
from crossfade.flags.files import write_stage
from crossfade.moving import CRASH_POINTS
from crossfade.stages import Stage


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. `seconds` None takes what is usual."""

    drills: Sequence[Drill]
    rounds: int
    seconds: float | None
    seed: int
    databases: tuple[Dsn, Dsn] | None
    allowed: frozenset[str]
    keep: Path | None = None
    """Where the journals and logs of all rounds go; None keeps those of rounds that went wrong."""

    def seconds_of(self, drill: Drill) -> float:
        """How long the traffic of one round flows."""
        if self.seconds is not None:
            return self.seconds
        return drill.seconds if len(self.drills) == 1 and self.rounds == 1 else EPISODE_SECONDS


async def run_drills(options: Options, board: Board) -> Report:
    """Play every round of every drill, and say what came of them.

    Raises:
        OperatorError: a store cannot be used, or a part cannot be started.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    scenes: list[Scene] = []
    results: list[Result] = []
    kept = None
    with tempfile.TemporaryDirectory(prefix="crossfade-drill-") as name:
        directory = Path(name)
        async with _equipment(options, directory, scenes, board) as equipment:
            await _prepare(equipment, scenes, board)
            for number in range(1, options.rounds + 1):
                for drill in options.drills:
                    with board.round(drill, number, options.rounds):
                        seconds = options.seconds_of(drill)
                        result = await play_episode(equipment, drill, number, seconds, scenes)
                        if result.ok and options.keep is None:
                            forget(equipment, drill, number)
                    results.append(result)
                    board.show(result)
            crashed_at = {point: equipment.crashed_at[point] for point in equipment.crash_points}
        if options.keep is not None or not all(result.ok for result in results):
            kept = options.keep or Path(tempfile.mkdtemp(prefix="crossfade-drill-kept-"))
            for folder in ("journals", "logs"):
                await asyncio.to_thread(
                    shutil.copytree, directory / folder, kept / folder, dirs_exist_ok=True
                )
    return Report(options, results, crashed_at, kept)


@asynccontextmanager
async def _equipment(
    options: Options, directory: Path, scenes: list[Scene], board: Board
) -> AsyncIterator[Equipment]:
    for folder in ("flags", "journals", "logs"):
        (directory / folder).mkdir()
    for model in MODELS:
        write_stage(directory / "flags", model, Stage.OFF)

    def ended(process: Process) -> None:
        for scene in scenes:
            scene.ended(process)

    async with AsyncExitStack() as stack:
        with board.step("starting the stores"):
            stores = await stack.enter_async_context(open_stores(options.databases, options.allowed))
        with board.step("starting the processes"):
            nursery = await stack.enter_async_context(Nursery(directory, ended))
            proxy = await stack.enter_async_context(Proxy(directory))
        points = tuple(map(str, CRASH_POINTS))
        yield Equipment(stores, nursery, proxy, directory, options.seed, points)


async def _prepare(equipment: Equipment, scenes: list[Scene], board: Board) -> None:
    """Bring every model to `shadow`, from where each drill moves them."""
    with board.step("bringing the models to shadow"):
        scene = Scene(equipment, "prepare-", 0, 0.0)
        scenes[:] = [scene]
        await scene.start(Part.RECONCILER, "reconciler")
        await scene.start(Part.CONDUCTOR, "conductor")
        await scene.ready()
        await scene.gather_at(Stage.SHADOW, 60.0)
        await scene.stop_all(10.0)
        scenes.clear()
        if scene.failures:
            raise EmbeddedError("; ".join(scene.failures))
