"""What the caller feels when the second side stalls: p99 of reads at `shadow` and of writes at `dualwrite`.

The authority answers after 2 ms. The second side answers at once, or is stalled by 200 ms. Calls start at a fixed rate,
whatever the earlier ones do; the two conditions alternate, window by window, and the figure is the median over the
windows of the difference of their p99. LaunchDarkly's migrator runs the same windows for comparison.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ldclient import Config, Context, LDClient
from ldclient.impl.util import Result
from ldclient.integrations.test_data import TestData
from ldclient.migrations import MigratorBuilder
from ldclient.migrations import Stage as LdStage
from ldclient.migrations.types import ExecutionOrder
from prometheus_client import CollectorRegistry

from bench.figures import Figure, arguments, report
from bench.overhead import ReadyPath, new_row
from crossfade.client import DatabaseClient
from crossfade.metrics import PrometheusObserver
from crossfade.operation import Operation
from crossfade.repository import Repository
from crossfade.stages import Side, Stage
from small_schema import SMALL

RATE = 100  # calls per second
WINDOW = 2.0  # seconds
ANSWER = 0.002
STALL = 0.2


class SlowPath(ReadyPath):
    """Answers after `delay` seconds, which may change at any time."""

    def __init__(self, side: Side, delay: float) -> None:
        super().__init__(side, new_row())
        self.delay = delay

    async def execute(self, operation: Operation) -> Any:
        await asyncio.sleep(self.delay)
        return self._row


async def window(call: Callable[[], Awaitable[Any]]) -> float:
    """Call at `RATE` for `WINDOW` seconds and return the p99 of the time until the call returns, in ms."""
    times: list[float] = []

    async def one() -> None:
        started = perf_counter()
        await call()
        times.append(perf_counter() - started)

    loop = asyncio.get_running_loop()
    begin = loop.time()
    tasks = []
    for number in range(int(RATE * WINDOW)):
        await asyncio.sleep(max(0.0, begin + number / RATE - loop.time()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    return statistics.quantiles(times, n=100)[98] * 1000


async def movement(call: Callable[[], Awaitable[Any]], second: SlowPath, rounds: int) -> list[float]:
    """How far p99 moves when `second` stalls, window by window, in ms."""
    moved = []
    for _ in range(rounds):
        second.delay = 0.0
        calm = await window(call)
        second.delay = STALL
        moved.append(await window(call) - calm)
    second.delay = 0.0
    return moved


def threaded_migrator(second: SlowPath) -> tuple[LDClient, Any]:
    """LaunchDarkly's migrator, whose sides are called in threads: the second side's delay is slept there."""
    data = TestData.data_source()
    for index, name in enumerate(("shadow", "dualwrite")):
        data.update(data.flag(name).variations("shadow", "dualwrite").variation_for_all(index))
    client = LDClient(Config("offline", update_processor_class=data, send_events=False))
    row = new_row()

    def first(_payload: Any) -> Result:
        sleep(ANSWER)
        return Result.success(row)

    def other(_payload: Any) -> Result:
        sleep(second.delay)
        return Result.success(row)

    builder = MigratorBuilder(client)
    builder.read_execution_order(ExecutionOrder.PARALLEL)
    builder.read(first, other, lambda old, new: bool(old == new))
    builder.write(first, other)
    return client, builder.build()


async def launchdarkly_movement(stage: Stage, second: SlowPath) -> list[float]:
    """The same for LaunchDarkly's migrator at the same stage, with a thread at hand for every call."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(128))
    client, migrator = threaded_migrator(second)
    context = Context.create("bench")
    run = migrator.read if stage is Stage.SHADOW else migrator.write

    async def call() -> Any:
        return await asyncio.to_thread(run, stage.value, context, LdStage(stage.value), None)

    try:
        return await movement(call, second, 2)
    finally:
        client.close()


async def main() -> int:
    options = arguments(__doc__ or "")
    logging.getLogger("ldclient").setLevel(logging.ERROR)
    rounds = max(3, options.rounds // 3)
    where, data = {"id": "a1"}, {"id": "a1", "email": "a@b.c"}
    moved: dict[str, list[float]] = {}
    for kind, stage in (("read", Stage.SHADOW), ("write", Stage.DUALWRITE)):
        second = SlowPath(Side.SQLALCHEMY, 0.0)
        paths = {Side.PRISMA: SlowPath(Side.PRISMA, ANSWER), Side.SQLALCHEMY: second}
        observer = PrometheusObserver.for_schema(SMALL, CollectorRegistry())
        async with Repository(SMALL, paths, stages={"Author": stage}, observer=observer) as repo:
            author = DatabaseClient(repo).model("Author")
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "read": lambda author=author: author.find_unique(where=where),
                "write": lambda author=author: author.create(data=data),
            }
            moved[kind] = await movement(calls[kind], second, rounds)
        moved[f"LaunchDarkly {kind}"] = await launchdarkly_movement(stage, second)
    for name, values in moved.items():
        print(
            f"{name:20} p99 moved by {statistics.median(values):8.2f} ms (windows: {[round(v, 2) for v in values]})"
        )
    figures = [
        Figure.at_most(f"{kind}: p99 moved by, ms", statistics.median(moved[kind]), 1.0)
        for kind in ("read", "write")
    ]
    return report("The second side stalled by 200 ms", figures, options.json)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
