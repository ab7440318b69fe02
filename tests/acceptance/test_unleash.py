"""A fleet of `crossfade conduct` processes and a real Unleash server, as an operator runs them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.metrics import scrape
from crossfade.planner import Planner
from crossfade.stages import Side, Stage, position
from crossfade.store import Store
from crossfade.store.record import Entry, read_history
from databases import FreshDatabase
from flag_readers import until
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target
from unleash import Unleash

FLAGS = Path(__file__).parents[2] / "flags"
SCHEMA = load_schema(SCHEMA_FILE, lambda _: None)


class Process:
    """One that conducts; `reads` is what it serves."""

    def __init__(self, running: subprocess.Popen[bytes], log: Path) -> None:
        self.running = running
        self.log = log

    def reads(self, name: str, **labels: str) -> float | None:
        """The value of a metric; None before there is one."""
        address = [
            line.split()[1] for line in self.log.read_text().splitlines() if line.startswith("serving ")
        ]
        if not address:
            return None
        return next(
            (
                reading.value
                for reading in scrape(address[0])
                if reading.name == name and labels.items() <= reading.labels.items()
            ),
            None,
        )

    def stands(self, model: str, stage: Stage) -> bool:
        """Whether the process knows that a model is at a stage."""
        return self.reads("crossfade_stage_position", model=model) == position(stage)


class Desk:
    """Two stores, a server, and the command run on them."""

    def __init__(self, dsns: dict[Side, Dsn], unleash: Unleash, place: Path) -> None:
        self.dsns = dsns
        self.unleash = unleash
        self._place = place
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
            "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
            "CROSSFADE_FLAGS_DIR": str(shutil.copytree(FLAGS, place / "flags")),
            "CROSSFADE_LEGACY_DSN": dsns[Side.PRISMA].libpq_url(),
            "CROSSFADE_TARGET_DSN": dsns[Side.SQLALCHEMY].libpq_url(),
            "CROSSFADE_UNLEASH_URL": unleash.server.url,
        }

    def run(self, *arguments: str, **environment: str) -> str:
        """What the command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def conducting(self, name: str) -> Iterator[Process]:
        """A process that conducts, with a cache of its own, as on a machine of its own."""
        log = self._place / f"{name}.log"
        with log.open("wb") as stream:
            running = subprocess.Popen(
                [sys.executable, "-m", "crossfade", "conduct", "--metrics-port", "0", "--name", name],
                env=self._environment
                | {
                    "CROSSFADE_UNLEASH_TOKEN": self.unleash.server.backend_token,
                    "CROSSFADE_CACHE_DIR": str(self._place / f"cache-{name}"),
                },
                stderr=stream,
            )
        try:
            yield Process(running, log)
        finally:
            running.kill()
            running.wait()

    async def history(self) -> list[Entry]:
        """Every step that was taken."""
        store = Store(Side.PRISMA, self.dsns[Side.PRISMA], SCHEMA)
        await store.open()
        try:
            async with store.transaction() as connection:
                entries = await read_history(connection, store, None, after=0)
        finally:
            await store.close()
        return [entry for entry in entries if not entry.reason.startswith("held")]


@pytest.fixture
async def desk(fresh_database: FreshDatabase, unleash: Unleash, tmp_path: Path) -> Desk:
    """Two stores with crossfade in both, and a server with every flag at `off`, pushed there from the files."""
    dsns = {side: await fresh_database() for side in Side}
    await apply_legacy_schema(dsns[Side.PRISMA])
    await upgrade_target(dsns[Side.SQLALCHEMY])
    desk = Desk(dsns, unleash, tmp_path)
    desk.run("install")
    desk.run("flags", "push", CROSSFADE_UNLEASH_ADMIN_TOKEN=unleash.server.admin_token)
    return desk


def parents_first() -> list[str]:
    """The models in an order in which each may begin."""
    planner, stages = Planner(SCHEMA), dict.fromkeys(SCHEMA.models, Stage.OFF)
    order: list[str] = []
    while len(order) < len(stages):
        for model in stages.keys() - set(order):
            if not planner.check_requests({**stages, model: Stage.DUALWRITE}, {}):
                order.append(model)
                stages[model] = Stage.DUALWRITE
    return order


@asynccontextmanager
async def fleet(desk: Desk, *names: str) -> AsyncIterator[list[Process]]:
    """Processes that have found the server."""
    with ExitStack() as stack:
        processes = [stack.enter_context(desk.conducting(name)) for name in names]
        await all_of(processes, lambda process: process.reads("crossfade_flag_service_up") == 1)
        yield processes


async def all_of(processes: list[Process], holds: Callable[[Process], bool]) -> None:
    """Wait until something holds of every process."""
    for process in processes:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(holds, process):
                assert process.running.poll() is None, process.log.read_text()
                await asyncio.sleep(0.02)


async def test_a_fleet_follows_the_server_and_outlives_it(desk: Desk) -> None:
    """Every flip reaches every process within seconds. Without the server nothing moves; with it again, things do."""
    unleash = desk.unleash
    *begun, last = parents_first()
    took = []

    async with fleet(desk, "one", "two", "three") as processes:
        for model in begun:
            await unleash.flag(model, {"stage": "dualwrite"})
            began = monotonic()
            await all_of(processes, lambda process, model=model: process.stands(model, Stage.DUALWRITE))
            took.append(monotonic() - began)

        os.kill(unleash.server.pid, signal.SIGKILL)
        await unleash.server.stop()
        await all_of(processes, lambda process: process.reads("crossfade_flag_service_up") == 0)
        with desk.conducting("cold") as cold:
            await all_of([cold], lambda process: process.reads("crossfade_flag_service_up") == 0)
            await until(lambda: "conducting 10 models" in cold.log.read_text())
        frozen = await desk.history()

        await unleash.server.start()
        await unleash.flag(last, {"stage": "dualwrite"})
        await all_of(processes, lambda process: process.stands(last, Stage.DUALWRITE))
        await unleash.switch(last, on=False)
        await all_of(processes, lambda process: process.stands(last, Stage.OFF))
        after = (await desk.history())[len(frozen) :]

    p50, p95 = statistics.median(took), sorted(took)[round(0.95 * (len(took) - 1))]
    print(f"{len(took)} flips to {len(processes)} processes: p50 {p50:.2f} s, p95 {p95:.2f} s")  # noqa: T201
    assert p95 < 10
    assert set(begun) == {entry.model for entry in frozen}
    assert {Stage.DUALWRITE} == {entry.stage for entry in frozen if entry.moving_to is None}
    assert {last} == {entry.model for entry in after}
