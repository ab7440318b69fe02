"""Asking a side under a deadline: what is told of a call that is cut off."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from crossfade.breaker import Breaker
from crossfade.events import OperationFinished, Role
from crossfade.operation import Action, Operation
from crossfade.paths import Path
from crossfade.side import Sides
from crossfade.stages import Side
from crossfade.testing import RecordingObserver
from small_schema import SMALL

SIDE = Side.SQLALCHEMY


class Stalled:
    """A path that never answers, or that gives up by itself."""

    side = SIDE

    def __init__(self, *, gives_up: bool) -> None:
        self._gives_up = gives_up

    async def execute(self, _: Operation) -> Any:
        if self._gives_up:
            raise TimeoutError
        await asyncio.Event().wait()


@pytest.mark.parametrize("gives_up", [True, False])
async def test_a_call_without_an_answer_is_told_once_as_one_that_failed(gives_up: bool) -> None:
    """Whether the deadline has cut it off or the path has given up: it must not look as if nobody had asked."""
    observer = RecordingObserver()
    path = cast("Path", Stalled(gives_up=gives_up))
    sides = Sides(SMALL, {SIDE: path}, {SIDE: Breaker(SIDE, observer)}, observer)

    with pytest.raises(TimeoutError):
        await sides.ask(SIDE, Operation("Author", Action.COUNT, {}), Role.SHADOW, 0.01)

    told = [event for event in observer.events if isinstance(event, OperationFinished)]
    assert [("Author", Action.COUNT, SIDE, Role.SHADOW, "TimeoutError")] == [
        (*event[:4], event.error) for event in told
    ]
