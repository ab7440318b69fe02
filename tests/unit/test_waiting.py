"""Waiting for a store: what is not there in time is left behind."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.errors import StoreUnavailableError
from crossfade.store.waiting import within


async def test_what_is_there_in_time_is_returned() -> None:
    """And an error is raised as it is."""

    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise LookupError

    assert 7 == await within(1.0, answer(), "a store")
    with pytest.raises(LookupError):
        await within(1.0, fail(), "a store")


async def test_a_store_that_does_not_even_answer_a_cancellation_is_not_waited_for() -> None:
    """Its work ends when it can, and what it comes to then is nobody's."""
    goes_on, ended = asyncio.Event(), asyncio.Event()

    async def stalled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await goes_on.wait()
            ended.set()
            raise ValueError from None

    with pytest.raises(StoreUnavailableError, match=r"a store: no answer within 0\.01 s"):
        await within(0.01, stalled(), "a store")
    goes_on.set()
    await asyncio.wait_for(ended.wait(), 1.0)
