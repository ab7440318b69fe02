"""From a flip to the fleet: how long until every process acts by it.

Several processes run a migration each over two real stores, asked through SQLAlchemy on both sides, and read and write
all the time; one more process, `crossfade conduct`, makes the moves. A flag is flipped in its file, or by the API of a
real Unleash server, and each process says when it acts by the new record. Then models that are live are toggled off:
when has the last process gone back to answering reads from Prisma, and when do all writes go there? Unleash is polled
once a second. Times are those of the last process of each flip.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.figures import Figure, report
from crossfade.covering import cover
from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.embedded.process import Child
from crossfade.engine.parser import load_schema
from crossfade.events import Event, NullObserver, OperationFinished, Role
from crossfade.flags import Flag
from crossfade.migration import Migration
from crossfade.operation import READS, Action, Operation
from crossfade.paths import SessionRole
from crossfade.repository import Repository
from crossfade.schema import Schema
from crossfade.stages import Side, Stage
from crossfade.store.install import install
from crossfade.store.record import Record
from marketplace.demo.application import Application
from marketplace.demo.desk import Desk, FileDesk, UnleashPlace
from marketplace.demo.features import UnleashDesk, open_unleash
from marketplace.demo.leading import LeadingProcess
from marketplace.demo.rows import read_noted
from marketplace.demo.thresholds import write_flags
from marketplace.seed import seed_legacy
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target
from marketplace.subjects import SUBJECTS

FLAGS = Path(__file__).parents[2] / "flags"
MODELS = ("Shipment", "AnalyticsData", "AnalyticsSnapshot")
"""What is flipped: models that no other one refers to, so that each moves by itself."""

_ORDER = "CROSSFADE_BENCH_ORDER"
_ROWS = 800
_READ_EVERY, _WRITE_EVERY = 0.1, 0.2
_LOOK_EVERY = 0.02
_PATIENCE = 90.0
_GUARD = {"latency": 100.0}
"""Both sides answer in a few milliseconds here, and a factor between such times says nothing."""
_FILES, _UNLEASH = "flag file", "Unleash"

_GOALS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("record", _FILES): (0.5, 1.0),
    ("record", _UNLEASH): (1.5, 2.5),
    ("reads", _FILES): (0.5, 1.0),
    ("reads", _UNLEASH): (1.5, 2.5),
    ("writes", _FILES): (1.0, 2.0),
    ("writes", _UNLEASH): (2.0, 3.0),
}
"""At most so many seconds, p50 and p95."""

_WORDS = {
    "record": "flip → record moved",
    "reads": "live, toggled off → reads from Prisma",
    "writes": "live, toggled off → writes to Prisma",
}


# --- one process of the fleet ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is told; the stores come in the environment, too."""

    number: int
    directory: Path
    unleash: UnleashPlace | None

    @property
    def journal(self) -> Path:
        """The file that the process writes."""
        return self.directory / f"process-{self.number}.jsonl"

    def environment(self, application: Application) -> dict[str, str]:
        """The environment of the process."""
        return {**os.environ, **application.environment(), _ORDER: json.dumps(asdict(self), default=str)}

    @classmethod
    def read(cls) -> Self:
        """The order in this process's environment."""
        values: dict[str, Any] = json.loads(os.environ[_ORDER])
        place = values["unleash"]
        unleash = None if place is None else UnleashPlace(**place)
        return cls(values["number"], Path(values["directory"]), unleash)


class _Teller:
    """Notes which side takes the reads and writes of each model, whenever that changes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._sides: dict[tuple[str, str], Side] = {}

    def say(self, *words: str) -> None:
        """Write a line, with the time."""
        self._file.write(json.dumps([monotonic(), *words]) + "\n")

    def observe(self, event: Event) -> None:
        """See `Observer`."""
        if type(event) is OperationFinished and event.role is Role.AUTHORITY and event.error is None:
            what = "reads" if event.action in READS else "writes"
            if self._sides.get((what, event.model)) is not event.side:
                self._sides[what, event.model] = event.side
                self.say(what, event.model, event.side)

    def place(self, record: Record) -> None:
        """Note a record that this process acts by now."""
        if record.moving_to is None:
            self.say("record", record.model, record.stage)


async def take_part(order: Order) -> None:
    """Be one process of the fleet, until killed."""
    legacy, target = (Dsn.parse(os.environ[f"CROSSFADE_{name}_DSN"]) for name in ("LEGACY", "TARGET"))
    schema = load_schema(SCHEMA_FILE)
    application = Application(schema, legacy, target, order.directory / "flags", unleash=order.unleash)
    teller = _Teller(order.journal)
    keys = {model: sorted(rows) for model, rows in (await read_noted(legacy, schema)).items()}
    async with _migration(application, teller, f"process {order.number}") as migration:
        migration.view.on_change(teller.place)
        for record in migration.view.records.values():
            teller.place(record)
        teller.say("ready")
        chance = random.Random(order.number)
        async with asyncio.TaskGroup() as group:
            for model in MODELS:
                own = keys[model][order.number :: 16]
                group.create_task(_read(migration.repository, model, keys[model], chance))
                group.create_task(_write(migration.repository, model, own, chance))


def _migration(application: Application, observer: _Teller, name: str) -> Migration:
    def path(side: Side, role: SessionRole) -> Any:
        return application._path(side, role)

    return Migration(
        application.schema,
        {side: path(side, SessionRole.AUTHOR) for side in Side},
        application.provider(NullObserver()),
        stores=application.stores(),
        followers={side: path(side, SessionRole.FOLLOWER) for side in Side},
        observer=observer,
        conduct=False,
        name=name,
    )


async def _read(repository: Repository, model: str, keys: Sequence[Any], chance: random.Random) -> None:
    while True:
        await repository.execute(Operation(model, Action.FIND_UNIQUE, {"where": {"id": chance.choice(keys)}}))
        await asyncio.sleep(_READ_EVERY * chance.uniform(0.5, 1.5))


async def _write(repository: Repository, model: str, keys: Sequence[Any], chance: random.Random) -> None:
    counter = SUBJECTS[model].counter
    while True:
        arguments = {"where": {"id": chance.choice(keys)}, "data": {counter: {"increment": 1}}}
        await repository.execute(Operation(model, Action.UPDATE, arguments))
        await asyncio.sleep(_WRITE_EVERY * chance.uniform(0.5, 1.5))


# --- the fleet, as the benchmark sees it -------------------------------------------------------------------------


class Fleet:
    """The processes, and what each of them has said last, with the time. Open it with `async with`."""

    def __init__(self, application: Application, size: int, directory: Path) -> None:
        self._application = application
        self._orders = [Order(number, directory, application.unleash) for number in range(size)]
        self._offsets = [0] * size
        self._said: list[dict[tuple[str, ...], tuple[float, str]]] = [{} for _ in range(size)]
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        for order in self._orders:
            order.journal.unlink(missing_ok=True)
            child = await asyncio.to_thread(
                Child.start,
                [sys.executable, __file__, "--process"],
                env=order.environment(self._application),
                log_file=order.directory / f"process-{order.number}.log",
            )
            self._children.append(child)
        await self.until(lambda: all(("ready",) in said for said in self._said))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(asyncio.to_thread(child.stop, 2.0) for child in self._children))

    async def reached(self, what: str, model: str, wanted: str, since: float) -> float:
        """Wait until every process has said it, and return how many seconds after `since` the last one did."""
        key = (what, model)
        await self.until(lambda: all(said.get(key, (0.0, ""))[1] == wanted for said in self._said))
        return max(said[key][0] for said in self._said) - since

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`.

        Raises:
            AssertionError: it does not in time, or a process has ended.
        """
        ends = monotonic() + _PATIENCE
        while not holds():
            for order, child in zip(self._orders, self._children, strict=True):
                if child.poll() is not None:
                    log = (order.directory / f"process-{order.number}.log").read_text(errors="replace")
                    raise AssertionError(f"process {order.number} has ended: {log.strip()[-400:]}")
            if monotonic() > ends:
                log = (self._orders[0].directory / "conductor.log").read_text(errors="replace")
                raise AssertionError(f"not in {_PATIENCE:.0f} s; the conductor's last words:\n{log[-2000:]}")
            await asyncio.sleep(_LOOK_EVERY)
            self._listen()

    def _listen(self) -> None:
        for order in self._orders:
            with suppress(FileNotFoundError), order.journal.open("rb") as file:
                file.seek(self._offsets[order.number])
                text = file.read()
                whole = text[: text.rfind(b"\n") + 1]
                self._offsets[order.number] += len(whole)
                for at, *words in map(json.loads, whole.splitlines()):
                    key = tuple(words[:2]) if len(words) > 2 else tuple(words)
                    self._said[order.number][key] = at, words[-1]


# --- what is measured --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """One fleet that follows one source of flags."""

    source: str
    fleet: Fleet
    desk: Desk
    chance: random.Random
    times: dict[tuple[str, str], list[float]]

    async def flip(self, rounds: int) -> None:
        """Flip models forward and back, and note when the record has moved in every process."""
        wanted = {model: itertools.cycle((Stage.SHADOW, Stage.DUALWRITE)) for model in MODELS}
        for turn in range(rounds):
            model = MODELS[turn % len(MODELS)]
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))  # anywhere between two polls
            stage, began = next(wanted[model]), monotonic()
            await self.desk.ask(model, stage)
            self._note("record", await self.fleet.reached("record", model, stage, began))

    async def toggle(self, rounds: int) -> None:
        """Bring models to `live`, toggle them off, and note when every process has gone back to Prisma."""
        for _ in range(rounds):
            await asyncio.gather(*(self._bring(model, Stage.LIVE) for model in MODELS))
            for model in MODELS:
                for what in ("reads", "writes"):
                    await self.fleet.reached(what, model, Side.SQLALCHEMY, 0.0)
            for model in MODELS:
                await asyncio.sleep(self.chance.uniform(0.0, 1.0))
                began = monotonic()
                await self.desk.ask(model, Stage.OFF)
                for what in ("reads", "writes"):
                    self._note(what, await self.fleet.reached(what, model, Side.PRISMA, began))

    def _note(self, what: str, seconds: float) -> None:
        self.times.setdefault((what, self.source), []).append(seconds)

    async def _bring(self, model: str, stage: Stage) -> None:
        await self.desk.ask(model, stage)
        await self.fleet.reached("record", model, stage, 0.0)


async def prepare(server: EmbeddedPostgres, directory: Path) -> tuple[Application, dict[str, Flag]]:
    """Make both stores, equal, with all models at `off`, and the flags."""
    schema = load_schema(SCHEMA_FILE)
    legacy, target = [Dsn.parse(await server.create_database(name)) for name in ("legacy", "target")]
    await apply_legacy_schema(legacy)
    await upgrade_target(target)
    await seed_legacy(legacy, _ROWS, seed=7)
    flags = write_flags(FLAGS, directory / "flags", schema, seconds=20.0, guard=_GUARD)
    application = Application(schema, legacy, target, directory / "flags")
    stores = application.stores()
    for store in stores.values():
        await install(store, by="bench")
    await cover(stores, by="bench")
    for store in stores.values():
        await store.close()
    return application, flags


@asynccontextmanager
async def open_fleet(application: Application, size: int, directory: Path) -> AsyncIterator[Fleet]:
    """Run a fleet and whoever conducts for it."""
    async with (
        LeadingProcess(application, directory, NullObserver()),
        Fleet(application, size, directory) as fleet,
    ):
        yield fleet


async def measure(size: int, rounds: int, seed: int) -> dict[tuple[str, str], list[float]]:
    """Return seconds by what was waited for and by the source of flags."""
    times: dict[tuple[str, str], list[float]] = {}
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(EmbeddedPostgres())
        application, flags = await prepare(server, directory)
        async with open_fleet(application, size, directory) as fleet:
            desk = FileDesk(application.flags)
            await _bring_all(fleet, desk, application.schema)
            bench = Bench(_FILES, fleet, desk, chance, times)
            await bench.flip(rounds)
            await bench.toggle(max(1, rounds // len(MODELS)))
            await _bring_all(fleet, desk, application.schema)
        place = await stack.enter_async_context(open_unleash(await server.create_database("unleash")))
        begun = {name: replace(flag, stage=Stage.DUALWRITE) for name, flag in flags.items()}
        features = await stack.enter_async_context(UnleashDesk(place, begun))
        await features.push()
        followed = replace(application, unleash=place)
        async with open_fleet(followed, size, directory) as fleet:
            bench = Bench(_UNLEASH, fleet, features, chance, times)
            await bench.flip(rounds)
            await bench.toggle(max(1, rounds // len(MODELS)))
    return times


async def _bring_all(fleet: Fleet, desk: Desk, schema: Schema) -> None:
    for spec in schema.in_foreign_key_order():
        await desk.ask(spec.name, Stage.DUALWRITE)
    for spec in schema:
        await fleet.reached("record", spec.name, Stage.DUALWRITE, 0.0)


def figures_of(times: Mapping[tuple[str, str], Sequence[float]]) -> list[Figure]:
    """The median and the 95th percentile of everything that was measured."""
    figures = []
    for (what, source), seconds in times.items():
        goals = _GOALS[what, source]
        print(
            f"{source}: {_WORDS[what]}: {len(seconds)} times, longest {max(seconds):.2f} s,"
            f" shortest {min(seconds):.2f} s"
        )
        for name, value, goal in zip(("p50", "p95"), (0.5, 0.95), goals, strict=True):
            figures.append(
                Figure.at_most(f"{source}: {_WORDS[what]}, {name} in s", _quantile(seconds, value), goal)
            )
    return figures


def _quantile(seconds: Sequence[float], share: float) -> float:
    if len(seconds) == 1:
        return seconds[0]
    return statistics.quantiles(seconds, n=100, method="inclusive")[round(share * 100) - 1]


async def main(options: argparse.Namespace) -> int:
    """Measure, and report."""
    times = await measure(options.processes, options.rounds, options.seed)
    title = f"Flips in a fleet of {options.processes} processes and a conductor"
    return report(title, figures_of(times), options.json)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rounds", type=int, default=15, help="flips by each source of flags")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        asyncio.run(take_part(Order.read()))
    sys.exit(asyncio.run(main(given)))
