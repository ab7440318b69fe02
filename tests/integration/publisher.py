"""A process that publishes what it has seen, says so on stdout, and lives until its stdin closes."""

from __future__ import annotations

import asyncio
import sys

from crossfade.dsn import Dsn
from crossfade.events import OperationFinished, ReadCompared, Role, Verdict
from crossfade.operation import Action
from crossfade.signals import Signals
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.view import RecordView
from small_schema import SMALL


async def main() -> None:
    """Read a DSN from stdin, publish calls and comparisons of the keys 0 to 99, and wait."""
    store = Store(Side.PRISMA, Dsn.parse(sys.stdin.readline().strip()), SMALL)
    async with RecordView({Side.PRISMA: store}) as view, Signals(store, SMALL, view) as signals:
        for key in range(100):
            signals.observe(
                OperationFinished("Author", Action.COUNT, Side.PRISMA, Role.AUTHORITY, 0.001, None)
            )
            signals.observe(ReadCompared("Author", Action.COUNT, Verdict.MATCHED, (), key))
        await signals.flush()
        sys.stdout.write(f"{signals.name}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
