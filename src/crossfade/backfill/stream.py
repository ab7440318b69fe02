"""Stream the result of a query of one database into a table of another, in binary COPY both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg

from crossfade.store.tables import Connection

_BLOCKS = 8
"""How many blocks, of up to 256 kB each, may lie between the two databases."""


async def stream(
    source: Connection, query: str, target: Connection, table: str, columns: Sequence[str]
) -> int:
    """Copy what a query finds into a table; return how many rows.

    If either end fails, or its connection breaks, the other one is broken off at once. Memory does not grow with the
    rows: whoever is faster waits.
    """
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue(_BLOCKS)

    async def send() -> None:
        await source.copy_from_query(query, output=blocks.put, format="binary")
        await blocks.put(None)

    async def receive() -> str:
        return str(
            await target.copy_to_table(
                table, source=_until_none(blocks), columns=list(columns), format="binary"
            )
        )

    with _breaking(source) as source_lost, _breaking(target) as target_lost:
        sending, receiving = asyncio.ensure_future(send()), asyncio.ensure_future(receive())
        ends = (sending, receiving)
        try:
            await asyncio.wait(
                {asyncio.ensure_future(_both(sending, receiving)), source_lost, target_lost},
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for end in ends:
                end.cancel()
            await asyncio.wait(ends)
    for end in ends:
        if not end.cancelled() and (error := end.exception()) is not None:
            raise error
    if any(end.cancelled() for end in ends):
        raise asyncpg.ConnectionDoesNotExistError("the connection was closed in the middle of a COPY")
    return int(receiving.result().rsplit(maxsplit=1)[-1])


async def _both(*ends: asyncio.Future[Any]) -> None:
    await asyncio.wait(ends, return_when=asyncio.FIRST_EXCEPTION)


async def _until_none(blocks: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (block := await blocks.get()) is not None:
        yield block


@contextmanager
def _breaking(connection: Connection) -> Iterator[asyncio.Future[None]]:
    """A future that is done when the connection breaks: the driver does not end a COPY that waits to be sent."""
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not lost.done():
            lost.set_result(None)

    connection.add_termination_listener(tell)
    try:
        yield lost
    finally:
        if not connection.is_closed():
            connection.remove_termination_listener(tell)
        lost.cancel()
