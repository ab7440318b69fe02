"""A store that is gone: both paths say so with the same class, and hold nobody up."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import ConnectionLostError
from crossfade.operation import Action, Operation
from crossfade.stages import Side
from sides import open_side

CALLS = [
    Operation("User", Action.FIND_MANY, {"take": 1}),
    Operation("User", Action.UPDATE_MANY, {"where": {}, "data": {"name": "x"}}),
]


@pytest.mark.parametrize("side", Side)
async def test_calls_on_a_store_that_is_gone_are_refused_alike(side: Side) -> None:
    """Reads and writes, again and again, within a few seconds, without the password."""
    server = EmbeddedPostgres()
    await server.start()
    try:
        dsn = Dsn.parse(await server.create_database("shop"))
        async with contextlib.AsyncExitStack() as stack:
            opened = await stack.enter_async_context(open_side(side, dsn))
            await opened.path.execute(CALLS[0])
            await opened.store.close()
            await server.stop()
            async with asyncio.timeout(30):
                for operation in CALLS * 2:
                    with pytest.raises(ConnectionLostError) as lost:
                        await opened.path.execute(operation)
                    assert dsn.password
                    assert dsn.password not in str(lost.value)
    finally:
        await server.stop()
