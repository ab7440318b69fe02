"""Waiting for a store no longer than it is worth.

A store that is stalled answers nothing, a cancellation included: a query that is given up waits for the server to say
that it has ended, and so does whoever gives its connection back. So the work is left behind, to end when it can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from crossfade.errors import StoreUnavailableError

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T], where: str) -> T:
    """Return what `work` on the store at `where` returns, if it does in time.

    Raises:
        StoreUnavailableError: it does not; it has been cancelled, and ends when the store answers or is closed.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.add_done_callback(_heard)
            task.cancel()
    if not task.done():
        raise StoreUnavailableError(where, f"no answer within {seconds:g} s")
    return task.result()


def _heard(task: asyncio.Task[Any]) -> None:
    """Nobody is there any more to hear how it has ended."""
    if not task.cancelled():
        task.exception()
