"""The ten models of the marketplace, moved one by one in three orders under load, there and back.

In each order every model goes from `shadow` to `live`, one after the other, and then back in the same order, so that
every two related models stand in every combination of authorities for a while. Meanwhile the workload reads and writes
all of them, in transactions and batches too, and a script writes plain SQL. After each order the traffic stops, and
everything that was acknowledged is asked of both stores, and every row of one is compared with the other's.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, report
from crossfade.covering import cover
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.engine.generate import generate_prisma_client
from crossfade.engine.launcher import ensure_engine
from crossfade.engine.parser import load_schema
from crossfade.events import AuthorityMissed, ReadCompared, StageHeld, StageMoved, Verdict, WriteCompared
from crossfade.flags.files import write_stage
from crossfade.migration import Migration
from crossfade.schema import Schema
from crossfade.stages import Side, Stage, moves_authority
from crossfade.store.install import install
from crossfade.testing import RecordingObserver
from marketplace.bystanders import SqlScript
from marketplace.calls import Account
from marketplace.client import Front, MarketplaceClient
from marketplace.demo.application import Application
from marketplace.demo.chronicle import read_chronicle
from marketplace.demo.rows import compare_stores, read_noted
from marketplace.demo.thresholds import write_flags
from marketplace.journal import Journal
from marketplace.population import Population
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target
from marketplace.workload import Workload

FLAGS = Path(__file__).parents[2] / "flags"
_PATIENCE = 180.0
_SCRIPT_SHARE = 0.1
_PROVES = 20.0
"""Seconds of traffic after which the gates have seen enough: what is measured here is not how long that takes."""

ORDERS: Mapping[str, Callable[[Schema], Sequence[str]]] = {
    "alphabetical": lambda schema: sorted(schema.models),
    "parents first": lambda schema: [spec.name for spec in schema.in_foreign_key_order()],
    "children first": lambda schema: [spec.name for spec in reversed(schema.in_foreign_key_order())],
}


@dataclass
class Outcome:
    """What came of one order."""

    order: str
    calls: int = 0
    acknowledged: int = 0
    refused: int = 0
    failures: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    lost: int = 0
    different: int = 0
    mismatched: int = 0
    conflicts: int = 0
    sent_on: int = 0
    held: int = 0
    pauses: list[float] = field(default_factory=list)
    unvisited: set[tuple[str, str]] = field(default_factory=set)

    def line(self) -> str:
        """Everything in one line."""
        pauses = sorted(self.pauses)
        return (
            f"{self.order}: {len(pauses)} moves, pause p50 {statistics.median(pauses) * 1000:.0f} ms,"
            f" longest {pauses[-1] * 1000:.0f} ms; {self.calls} calls, {self.acknowledged} writes acknowledged,"
            f" {self.refused} refused as they should be, {self.sent_on} sent on, {self.held} moves tried again;"
            f" failed {sum(self.failures.values())}, lost {self.lost}, different {self.different},"
            f" mismatched {self.mismatched}, conflicts {self.conflicts}"
        )


@dataclass(frozen=True)
class Load:
    """How much goes on, and for how long (seconds) after each move."""

    rows: int = 4000
    rate: float = 60.0
    rest: float = 1.5
    seed: int = 7


async def run_orders(legacy: Dsn, target: Dsn, directory: Path, load: Load) -> list[Outcome]:
    """Move the models of two fresh databases in every order; `directory` takes the flags."""
    schema = load_schema(SCHEMA_FILE)
    await asyncio.to_thread(ensure_engine)
    await asyncio.to_thread(generate_prisma_client, SCHEMA_FILE, SCHEMA_FILE.parent / "prisma_client")
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    await seed_legacy(legacy, load.rows, load.seed)
    flags = directory / "flags"
    write_flags(FLAGS, flags, schema, _PROVES)
    application = Application(schema, legacy, target, flags)
    stores = application.stores()
    for store in stores.values():
        await install(store, by="bench")
    await cover(stores, by="bench")
    for store in stores.values():
        await store.close()
    journal = Journal(await read_noted(legacy, schema))
    observer = RecordingObserver()
    async with application.migration(application.prisma(), observer) as migration:
        mover = _Moves(application, migration, load)
        for spec in schema.in_foreign_key_order():
            await mover.reach(spec.name, Stage.SHADOW)
        outcomes = []
        for share, (name, order) in enumerate(ORDERS.items()):
            outcome = Outcome(name)
            await mover.run(outcome, order(schema), journal, observer, share)
            outcomes.append(outcome)
    return outcomes


class _Moves:
    def __init__(self, application: Application, migration: Migration, load: Load) -> None:
        self._application = application
        self._migration = migration
        self._load = load
        schema = application.schema
        self._pairs = {
            (parent, spec.name) for spec in schema for parent in schema.parents(spec.name) - {spec.name}
        }

    async def reach(self, model: str, stage: Stage) -> None:
        """Ask for a stage by the flag, and wait until it is in force."""
        write_stage(self._application.flags, model, stage)
        async with asyncio.timeout(_PATIENCE):
            while self._migration.repository.plan(model).stage is not stage:
                await asyncio.sleep(0.01)

    async def run(
        self,
        outcome: Outcome,
        order: Sequence[str],
        journal: Journal,
        observer: RecordingObserver,
        share: int,
    ) -> None:
        """Move every model there and back in `order` under load, and judge."""
        application, schema, load = self._application, self._application.schema, self._load
        repository = self._migration.repository
        observer.events.clear()
        account = Account()
        before = journal.acknowledged
        stop = asyncio.Event()
        front = Front(MarketplaceClient(repository))
        known = [
            Population(random.Random(load.seed + n), journal.start, journal, n) for n in (share, 8 + share)
        ]
        workload = Workload(schema, front, known[0], journal, rate=load.rate, account=account)
        script = SqlScript(
            schema,
            {Side.PRISMA: application.legacy, Side.SQLALCHEMY: application.target},
            known[1],
            journal,
            account,
        )
        visited: set[tuple[str, str, Any, Any]] = set()
        async with asyncio.TaskGroup() as group:
            group.create_task(workload.run(stop))
            group.create_task(script.run(stop, load.rate * _SCRIPT_SHARE))
            try:
                for stage in (Stage.LIVE, Stage.SHADOW):
                    for model in order:
                        await self.reach(model, stage)
                        await asyncio.sleep(load.rest)
                        visited |= {
                            (one, two, repository.plan(one).authority, repository.plan(two).authority)
                            for one, two in self._pairs
                        }
            finally:
                stop.set()
        if not await repository.drain():
            problems = await self._migration.reconciler.problems(schema.models)
            raise AssertionError(f"not level in time: {problems}")
        await repository.shadow.drain()
        tables = await compare_stores(schema, application.legacy, application.target)
        outcome.different = sum(table.different for table in tables.values())
        for dsn in (application.legacy, application.target):
            outcome.lost += sum(finding.writes for finding in journal.verify(await read_noted(dsn, schema)))
        chronicle = await read_chronicle(schema, application.stores())
        outcome.conflicts = chronicle.conflicts
        outcome.calls = account.reads + account.writes
        outcome.acknowledged = journal.acknowledged - before
        outcome.refused = account.refusals.total()
        outcome.failures = account.failures
        compared = (*observer.of(ReadCompared), *observer.of(WriteCompared))
        outcome.mismatched = sum(event.verdict is Verdict.MISMATCHED for event in compared)
        outcome.sent_on = len(observer.of(AuthorityMissed))
        outcome.held = len(observer.of(StageHeld))
        outcome.pauses = [
            move.pause for move in observer.of(StageMoved) if moves_authority(move.before, move.after)
        ]
        outcome.unvisited = {
            pair
            for pair in self._pairs
            if sum(combination[:2] == pair for combination in visited) < len(Side) ** 2
        }


async def main(options: argparse.Namespace) -> int:
    """Run every order on an embedded server, and report."""
    load = Load(rate=options.rate, rest=options.rest, seed=options.seed)
    began = monotonic()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(EmbeddedPostgres())
        legacy, target = [Dsn.parse(await server.create_database(name)) for name in ("legacy", "target")]
        outcomes = await run_orders(legacy, target, directory, load)
    for outcome in outcomes:
        print(outcome.line())
        for (model, call, error), count in outcome.failures.items():
            print(f"  {model}: {count} × {call} failed with {error}")
    pauses = sorted(pause for outcome in outcomes for pause in outcome.pauses)
    print(f"{len(pauses)} moves of the authority in {monotonic() - began:.0f} s")
    none = {
        "requests that failed": sum(sum(outcome.failures.values()) for outcome in outcomes),
        "acknowledged writes that were lost": sum(outcome.lost for outcome in outcomes),
        "rows that differ": sum(outcome.different for outcome in outcomes),
        "comparisons that were mismatched": sum(outcome.mismatched for outcome in outcomes),
        "neighbours without every combination": sum(len(outcome.unvisited) for outcome in outcomes),
    }
    figures = [Figure.at_most(name, value, 0) for name, value in none.items()]
    figures.append(Figure.at_most("longest pause in ms", pauses[-1] * 1000, 2000))
    return report("Moves, model by model, in three orders", figures, options.json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rate", type=float, default=60.0, help="calls per second")
    parser.add_argument("--rest", type=float, default=1.5, help="seconds to stay after each move")
    parser.add_argument("--seed", type=int, default=7)
    sys.exit(asyncio.run(main(parser.parse_args())))
