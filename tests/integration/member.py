"""One process of a small fleet: a migration of two models on two stores, told what to do line by line.

Run as a program it reads its orders from stdin, a JSON object each, answers on stdout, and ends when stdin does.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crossfade.client import DatabaseClient
from crossfade.dsn import Dsn
from crossfade.flags import FlagProvider
from crossfade.flags.files import FileFlags
from crossfade.gates import NoGates
from crossfade.migration import Migration
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.reconcile import ReconcileSettings
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.testing import RecordingObserver
from property.relations.graph import Graph, Model, Reference, records_of, schema_of, tables_of

GRAPH = Graph(
    {
        "Parent": Model("Parent", "cuid", ("id",), ()),
        "Child": Model(
            "Child", "cuid", ("id",), (Reference("r0", "Child", "Parent", ("id",), False, "Cascade"),)
        ),
    },
    (),
)
SCHEMA, TABLES = schema_of(GRAPH), tables_of(GRAPH)


@asynccontextmanager
async def migration(
    dsns: Mapping[Side, Dsn],
    flags: Path | FlagProvider,
    observer: RecordingObserver,
    *,
    conducts: bool = False,
) -> AsyncIterator[Migration]:
    """Open a migration whose sides are both SQLAlchemy's; crossfade is installed."""
    records = records_of(SCHEMA)
    async with Migration(
        SCHEMA,
        {side: SqlAlchemyPath(SCHEMA, TABLES, records, dsn, side=side) for side, dsn in dsns.items()},
        FileFlags(flags, SCHEMA.models, observer) if isinstance(flags, Path) else flags,
        stores={side: Store(side, dsn, SCHEMA) for side, dsn in dsns.items()},
        followers={
            side: SqlAlchemyPath(SCHEMA, TABLES, records, dsn, side=side, role="follower")
            for side, dsn in dsns.items()
        },
        observer=observer,
        reconciling=ReconcileSettings(settle=0.05),
        gates=NoGates(),
        conduct=conducts,
        guard=False,
        signals=False,
    ) as opened:
        yield opened


class Member:
    """Carries out orders; each is answered when it is done, and several may be under way."""

    def __init__(self, opened: Migration) -> None:
        self._repository = opened.repository
        self._db = DatabaseClient(opened.repository).model("Parent")
        self._load: asyncio.Task[dict[str, int]] | None = None
        self._rests = asyncio.Event()

    async def do(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one order."""
        match order["do"]:
            case "read":
                row = await self._db.find_unique(where={"id": order["key"]})
                return {"label": None if row is None else row.label}
            case "write":
                await self._db.update(where={"id": order["key"]}, data={"label": order["label"]})
                return {}
            case "await-reads":
                side = Side(order["side"])
                await _until(lambda: self._repository.standings.models["Parent"].reads is side)
                return {"at": monotonic(), "stage": self._repository.stages()["Parent"]}
            case "await-stage":
                await _until(lambda: self._repository.stages()["Parent"] == order["stage"])
                return {"at": monotonic()}
            case "load":
                self._load = asyncio.create_task(self._work(order["name"]))
                return {}
            case "rest":
                self._rests.set()
                assert self._load is not None
                return {"told": await self._load}
            case other:
                raise ValueError(other)

    async def _work(self, name: str) -> dict[str, int]:
        """Write rows of its own and read them back, until told to rest."""
        told = {"calls": 0, "failed": 0, "different": 0}

        async def one(number: int) -> None:
            key, turn = f"{name}-{number}", 0
            await self._db.create(data={"id": key, "tag": key, "code": key, "label": "0"})
            while not self._rests.is_set():
                turn += 1
                told["calls"] += 2
                try:
                    await self._db.update(where={"id": key}, data={"label": str(turn)})
                    row = await self._db.find_unique(where={"id": key})
                except Exception:  # noqa: BLE001  # whatever a caller sees is a failed request
                    told["failed"] += 1
                    continue
                told["different"] += row is None or row.label != str(turn)
                await asyncio.sleep(0.005)

        await asyncio.gather(*(one(number) for number in range(4)))
        return told


async def _until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0.001)


async def main() -> None:
    """Open the migration that the first line describes, and carry out what follows."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # when the parent ends, frozen or not
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    given = json.loads(await stdin.readline())
    dsns = {Side(side): Dsn.parse(dsn) for side, dsn in given["dsns"].items()}
    tasks: set[asyncio.Task[None]] = set()

    def tell(said: Mapping[str, Any]) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    async with migration(dsns, Path(given["flags"]), RecordingObserver()) as opened:
        member = Member(opened)

        async def carry_out(order: Mapping[str, Any]) -> None:
            tell({"id": order["id"], **await member.do(order)})

        tell({"id": 0})
        while line := await stdin.readline():
            task = asyncio.create_task(carry_out(json.loads(line)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
