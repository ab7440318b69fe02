"""`crossfade conduct` and `crossfade resume` as an operator runs them, with the guard at its default settings."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from crossfade.dsn import Dsn
from crossfade.engine.parser import load_schema
from crossfade.events import OperationFinished, Role
from crossfade.metrics import scrape
from crossfade.operation import Action
from crossfade.signals import Signals
from crossfade.stages import Side, Stage
from crossfade.store import Store
from crossfade.store.record import read_history
from crossfade.store.view import RecordView
from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target

FLAGS = Path(__file__).parents[2] / "flags"


class Desk:
    """Both stores and a folder of flags, and the command run on them."""

    def __init__(self, dsns: dict[Side, Dsn], place: Path) -> None:
        self.dsns = dsns
        self._log = place / "conduct.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
            "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
            "CROSSFADE_FLAGS_DIR": str(shutil.copytree(FLAGS, place / "flags")),
            "CROSSFADE_LEGACY_DSN": dsns[Side.PRISMA].libpq_url(),
            "CROSSFADE_TARGET_DSN": dsns[Side.SQLALCHEMY].libpq_url(),
        }

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """What the command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "crossfade", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert code == done.returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def conducting(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A process that conducts; what it says goes to a file."""
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "crossfade", "conduct", *arguments], env=self.environment, stderr=log
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    async def said(self, text: str) -> str:
        """Wait until the conducting process has said something; return the line."""
        async with asyncio.timeout(30):
            while True:
                for line in self._log.read_text().splitlines():
                    if text in line:
                        return line
                await asyncio.sleep(0.05)


@pytest.fixture
async def desk(fresh_database: FreshDatabase, tmp_path: Path) -> Desk:
    """Two stores with tables and crossfade in both, and every flag at `off`."""
    dsns = {side: await fresh_database() for side in Side}
    await apply_legacy_schema(dsns[Side.PRISMA])
    await upgrade_target(dsns[Side.SQLALCHEMY])
    desk = Desk(dsns, tmp_path)
    desk.run("install")
    return desk


@asynccontextmanager
async def application(desk: Desk) -> AsyncIterator[tuple[Signals, RecordView, Store]]:
    """What an application's process knows of the record, and what it publishes."""
    schema = load_schema(SCHEMA_FILE, lambda _: None)
    stores = {side: Store(side, dsn, schema) for side, dsn in desk.dsns.items()}
    try:
        async with (
            RecordView(stores) as view,
            Signals(stores[Side.PRISMA], schema, view, name="app") as signals,
        ):
            yield signals, view, stores[Side.PRISMA]
    finally:
        for store in stores.values():
            await store.close()


async def test_it_leads_guards_and_goes_on_when_somebody_says_so(desk: Desk) -> None:
    """From a flip to a new store that fails, the model walked back within 15 s, and resumed by a person."""
    with desk.conducting("--metrics-port", "0", "--name", "boss") as conductor:
        address = (await desk.said("serving ")).split()[1]
        await desk.said("conducting 10 models as boss")
        said = await asyncio.to_thread(desk.run, "flip", "User", "dualwrite", "--wait", "30")
        assert "User is at dualwrite" in said

        async with application(desk) as (signals, view, store):
            await view.refresh()
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(15):
                while not view.record("User").paused:
                    for _ in range(5):
                        failed = OperationFinished(
                            "User",
                            Action.CREATE,
                            Side.SQLALCHEMY,
                            Role.FOLLOWER,
                            0.01,
                            "StoreUnavailableError",
                        )
                        signals.observe(failed)
                    await asyncio.sleep(0.25)
            assert asyncio.get_running_loop().time() - began < 15
            assert Stage.OFF is view.record("User").stage
            async with store.transaction() as connection:
                entries = await read_history(connection, store, "User", after=0)
        [back] = [entry for entry in entries if entry.by == "guard" and not entry.reason.startswith("held")]
        assert back.reason.startswith("errors: ")
        tripped = json.loads(await desk.said("guard.tripped"))
        assert ("User", "errors", back.reason) == (tripped["model"], tripped["signal"], tripped["reason"])
        await desk.said("crossfade resume User")

        seen = {
            reading.name: reading.value
            for reading in await asyncio.to_thread(lambda: list(scrape(address)))
            if reading.labels.get("model") == "User"
        }
        assert (1.0, 1.0) == (seen["crossfade_paused"], seen["crossfade_guard_trips_total"])
        ready = address.replace("/metrics", "/ready")
        assert 200 == await asyncio.to_thread(lambda: urlopen(ready).status)  # noqa: S310 - it is our own

        said = await asyncio.to_thread(desk.run, "resume", "User", "--reason", "index added", "--by", "ann")
        assert "User may go forward again from off" in said
        said = await asyncio.to_thread(desk.run, "flip", "User", "dualwrite", "--wait", "30")
        assert "User is at dualwrite" in said

        conductor.send_signal(signal.SIGTERM)
        assert 0 == await asyncio.to_thread(conductor.wait, 10)


def test_a_model_that_is_not_paused_need_not_be_resumed(desk: Desk) -> None:
    """That is no error; a model that there is not is one."""
    assert "User is not paused; it stands at off" in desk.run("resume", "User")
    assert "Nobody" in desk.run("resume", "Nobody", code=2)


def test_without_stores_there_is_nothing_to_conduct(desk: Desk) -> None:
    """It says which variables to set, in one line."""
    said = desk.run("conduct", code=2, CROSSFADE_LEGACY_DSN="", CROSSFADE_TARGET_DSN="")

    assert 1 == len(said.splitlines())
    assert "set CROSSFADE_LEGACY_DSN and CROSSFADE_TARGET_DSN" in said
