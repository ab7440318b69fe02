"""What the tests of preflight share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import asyncpg

from crossfade.dsn import Dsn
from crossfade.preflight import Finding, Kind

Look = Callable[..., Awaitable[dict[tuple[Kind, str | None], Finding]]]


async def run(dsn: Dsn, *statements: str) -> None:
    """Run statements in a database."""
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
