"""Two stores with a small schema, and processes that serve it, as a fleet does."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from member import GRAPH, SCHEMA, TABLES

from crossfade.dsn import Dsn
from crossfade.migration import Migration
from crossfade.stages import Side, Stage, next_step
from crossfade.store import Store
from crossfade.store.install import install
from databases import FreshDatabase
from property.relations.graph import statements


async def prepared(fresh_database: FreshDatabase) -> dict[Side, Dsn]:
    """Two databases with the tables and crossfade's objects."""
    dsns = {side: await fresh_database() for side in Side}
    for side, dsn in dsns.items():
        connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
        await connection.execute("; ".join(statements(GRAPH, TABLES)))
        await connection.close()
        await install(Store(side, dsn, SCHEMA), by="test")
    return dsns


async def bring(ours: Migration, stage: Stage) -> None:
    """Walk every model to a stage, whatever its flag asks for."""
    for model in SCHEMA.models:
        while (step := next_step(ours.view.record(model).stage, stage)) is not None:
            await ours.mover.move([model], step, by="test")
            await ours.view.refresh()


class Process:
    """One process of the fleet, and the orders it is given."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {0: asyncio.Future()}
        self._listening = asyncio.create_task(self._listen())

    async def start(self, dsns: Mapping[Side, Dsn], flags: Path) -> None:
        """Let it open its migration."""
        self._say({"dsns": {side: dsn.libpq_url() for side, dsn in dsns.items()}, "flags": str(flags)})
        await self._answers[0]

    def order(self, do: str, **what: Any) -> asyncio.Future[dict[str, Any]]:
        """Give an order; the future has what it answers."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.Future()
        self._answers[number] = answer
        self._say({"id": number, "do": do, **what})
        return answer

    def freeze(self) -> None:
        """Stop it where it is."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._child.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """End it, whatever it is doing."""
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        await self._listening

    def _say(self, said: Mapping[str, Any]) -> None:
        assert self._child.stdin
        self._child.stdin.write(json.dumps(said).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._child.stdout
        while line := await self._child.stdout.readline():
            said = json.loads(line)
            self._answers[said["id"]].set_result(said)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ChildProcessError("the process has ended"))
                answer.exception()  # nobody needs to ask for it


@asynccontextmanager
async def processes(count: int, dsns: Mapping[Side, Dsn], flags: Path) -> AsyncIterator[list[Process]]:
    """Start processes of a fleet; they end with the block."""
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(count):
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                Path(__file__).with_name("member.py"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
            process = Process(child)
            stack.push_async_callback(process.end)
            started.append(process)
        await asyncio.gather(*(process.start(dsns, flags) for process in started))
        yield started
