"""What the repository costs per call, over paths that do nothing, beside two layers of the same kind.

CPU per call, same process, interleaved rounds, medians. All three run a call that returns a ready value:

* crossfade: `db.author.find_unique` / `create` through client, repository and the Prometheus observer;
* LaunchDarkly's migrator, sync and serial (its cheapest form), flags from its offline test data, no events sent;
* `laboratory`, with one control and one candidate, and for `off` also with the experiment switched off.

At `shadow` two figures are given: the caller's own time (until the call returns) and all of it, the work done after
the call included.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import process_time
from typing import Any

import laboratory
from ldclient import Config, Context, LDClient
from ldclient.impl.util import Result
from ldclient.integrations.test_data import TestData
from ldclient.migrations import MigratorBuilder
from ldclient.migrations import Stage as LdStage
from ldclient.migrations.types import ExecutionOrder
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, arguments, cpu_per_call, median_ratio, report
from crossfade.client import DatabaseClient
from crossfade.events import OperationFinished, Role
from crossfade.metrics import PrometheusObserver
from crossfade.operation import Action, Operation
from crossfade.repository import Repository
from crossfade.stages import Side, Stage
from crossfade.tally import Tally
from crossfade.testing import record_classes
from small_schema import SMALL

CALLS = 2_000
AUTHORS = record_classes(SMALL)["Author"]
FINISHED = OperationFinished("Author", Action.FIND_UNIQUE, Side.PRISMA, Role.AUTHORITY, 0.001, None)


class ReadyPath:
    """Returns a ready row for every operation."""

    def __init__(self, side: Side, row: Any) -> None:
        self.side = side
        self._row = row

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def execute(self, operation: Operation) -> Any:
        return self._row

    async def reserve(self, model: str, field: str, count: int) -> list[int]:
        return list(range(count))

    async def sequence_value(self, model: str, field: str) -> int:
        return 0

    async def advance_sequence(self, model: str, field: str, value: int) -> None: ...


def new_row() -> Any:
    spec = SMALL.models["Author"]
    return AUTHORS.build(
        dict.fromkeys((*spec.fields, *spec.relations)) | {"id": "a1", "email": "a@b.c", "score": 1}
    )


def ours(stage: Stage) -> Repository:
    paths = {side: ReadyPath(side, new_row()) for side in Side}
    return Repository(
        SMALL,
        paths,
        stages={"Author": stage},
        observer=PrometheusObserver.for_schema(SMALL, CollectorRegistry()),
    )


def launchdarkly(stages: dict[str, str]) -> tuple[LDClient, Any]:
    data = TestData.data_source()
    for name in stages:
        data.update(data.flag(name).variations(*stages.values()).variation_for_all(list(stages).index(name)))
    client = LDClient(Config("offline", update_processor_class=data, send_events=False))
    row = new_row()

    def ready(_payload: Any) -> Result:
        return Result.success(row)

    def compare(old: Any, new: Any) -> bool:
        return bool(old == new)

    builder = MigratorBuilder(client)
    builder.read_execution_order(ExecutionOrder.SERIAL)
    builder.read(ready, ready, compare)
    builder.write(ready, ready)
    return client, builder.build()


class Quiet(laboratory.Experiment):
    """Publishes nothing, as both others do."""

    def publish(self, result: Any) -> None: ...


class SwitchedOff(Quiet):
    def enabled(self) -> bool:
        return False


def laboratory_run(kind: type[Quiet]) -> Callable[[int], Awaitable[None]]:
    row = new_row()

    def ready() -> Any:
        return row

    async def run(calls: int) -> None:
        for _ in range(calls):
            experiment = kind()
            experiment.control(ready)
            experiment.candidate(ready)
            experiment.conduct()

    return run


def repeat_sync(call: Callable[[], Any]) -> Callable[[int], Awaitable[None]]:
    async def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run


def repeat(call: Callable[[], Awaitable[Any]]) -> Callable[[int], Awaitable[None]]:
    async def run(calls: int) -> None:
        for _ in range(calls):
            await call()

    return run


async def finish(repository: Repository) -> None:
    await repository.queue.settle(repository.schema.models)
    await repository.shadow.drain()


def with_rest(repository: Repository, call: Callable[[], Awaitable[Any]]) -> Callable[[int], Awaitable[None]]:
    """The same, with the work that the calls left behind."""

    async def run(calls: int) -> None:
        for start in range(0, calls, 50):
            for _ in range(min(50, calls - start)):
                await call()
            await finish(repository)

    return run


async def caller_time(
    repository: Repository, call: Callable[[], Awaitable[Any]], other: Callable[[], Any], rounds: int
) -> tuple[list[float], list[float]]:
    """Microseconds of CPU until the call returns, and of the other layer's call, in bursts of 50, round by round."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds + 1):
        total = reference = 0.0
        for _ in range(CALLS // 50):
            started = process_time()
            for _ in range(50):
                await call()
            total += process_time() - started
            await finish(repository)
            started = process_time()
            for _ in range(50):
                other()
            reference += process_time() - started
        mine.append(total / CALLS * 1e6)
        theirs.append(reference / CALLS * 1e6)
    return mine[1:], theirs[1:]  # the first round warms up


async def main() -> int:
    options = arguments(__doc__ or "")
    logging.getLogger("ldclient").setLevel(logging.ERROR)
    client, migrator = launchdarkly({"off": "off", "shadow": "shadow", "dualwrite": "dualwrite"})
    context = Context.create("bench")
    figures: list[Figure] = []
    tally = Tally(SMALL, lambda _: 1)
    where = {"id": "a1"}
    data = {"id": "a1", "email": "a@b.c", "name": "A", "score": 1}

    def ld_read(key: str, stage: LdStage) -> Callable[[], Any]:
        return lambda: migrator.read(key, context, stage, None)

    def ld_write(key: str, stage: LdStage) -> Callable[[], Any]:
        return lambda: migrator.write(key, context, stage, None)

    async with ours(Stage.OFF) as off, ours(Stage.SHADOW) as shadow, ours(Stage.DUALWRITE) as dual:
        off_db, shadow_db, dual_db = DatabaseClient(off), DatabaseClient(shadow), DatabaseClient(dual)
        off_author, shadow_author, dual_author = (db.model("Author") for db in (off_db, shadow_db, dual_db))
        times = await cpu_per_call(
            {
                "crossfade off: read": repeat(lambda: off_author.find_unique(where=where)),
                "crossfade off: write": repeat(lambda: off_author.create(data=data)),
                "crossfade shadow: read, all work": with_rest(
                    shadow, lambda: shadow_author.find_unique(where=where)
                ),
                "crossfade dualwrite: write, all work": with_rest(
                    dual, lambda: dual_author.create(data=data)
                ),
                "LaunchDarkly off: read": repeat_sync(ld_read("off", LdStage.OFF)),
                "LaunchDarkly off: write": repeat_sync(ld_write("off", LdStage.OFF)),
                "LaunchDarkly shadow: read": repeat_sync(ld_read("shadow", LdStage.SHADOW)),
                "LaunchDarkly dualwrite: write": repeat_sync(ld_write("dualwrite", LdStage.DUALWRITE)),
                "laboratory": laboratory_run(Quiet),
                "laboratory, switched off": laboratory_run(SwitchedOff),
                "signals: a fact": repeat_sync(lambda: tally.observe(FINISHED)),
            },
            calls=CALLS,
            rounds=options.rounds,
        )
        read, ld_shadow = await caller_time(
            shadow,
            lambda: shadow_author.find_unique(where=where),
            ld_read("shadow", LdStage.SHADOW),
            options.rounds,
        )
        write, ld_dual = await caller_time(
            dual,
            lambda: dual_author.create(data=data),
            ld_write("dualwrite", LdStage.DUALWRITE),
            options.rounds,
        )
    client.close()
    for name, values in times.items():
        print(f"{name:40} {statistics.median(values):7.2f} µs CPU per call")
    print(f"{'crossfade shadow: read, caller':40} {statistics.median(read):7.2f} µs CPU per call")
    print(f"{'crossfade dualwrite: write, caller':40} {statistics.median(write):7.2f} µs CPU per call")
    for kind in ("read", "write"):
        mine = times[f"crossfade off: {kind}"]
        figures.append(
            Figure.at_most(
                f"off, {kind} / LaunchDarkly", median_ratio(mine, times[f"LaunchDarkly off: {kind}"]), 0.25
            )
        )
        figures.append(
            Figure.at_most(f"off, {kind} / laboratory", median_ratio(mine, times["laboratory"]), 1.0)
        )
    figures.append(Figure.at_most("signals, µs for a fact", statistics.median(times["signals: a fact"]), 1.5))
    figures.append(Figure.at_most("shadowed read, caller / LaunchDarkly", median_ratio(read, ld_shadow), 1.0))
    figures.append(Figure.at_most("followed write, caller / LaunchDarkly", median_ratio(write, ld_dual), 1.0))
    return report("Cost of the layer per call", figures, options.json)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
