"""Asking one side for something: timed, observed, and for secondary work under a deadline and a breaker."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from crossfade.breaker import Breaker
from crossfade.events import Observer, OperationFinished, Role
from crossfade.operation import Operation
from crossfade.paths import Path
from crossfade.schema import Schema
from crossfade.stages import Side


async def ask(path: Path, operation: Operation, role: Role, observer: Observer) -> Any:
    """Execute `operation` on `path` and report how long it took. Its value or its error is passed on unchanged."""
    started = perf_counter()
    try:
        result = await path.execute(operation)
    except Exception as error:
        elapsed = perf_counter() - started
        name = type(error).__name__
        observer.observe(OperationFinished(operation.model, operation.action, path.side, role, elapsed, name))
        raise
    elapsed = perf_counter() - started
    observer.observe(OperationFinished(operation.model, operation.action, path.side, role, elapsed, None))
    return result


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides and the breaker in front of each, for work that no caller waits for. `schema` is what is compared."""

    schema: Schema
    paths: Mapping[Side, Path]
    breakers: Mapping[Side, Breaker]
    observer: Observer

    async def ask(self, side: Side, operation: Operation, role: Role, deadline: float) -> Any:
        """Execute `operation` on `side`, or give up after `deadline` seconds; the breaker hears how it went."""
        breaker = self.breakers[side]
        limit = asyncio.timeout(deadline)
        try:
            async with limit:
                result = await ask(self.paths[side], operation, role, self.observer)
        except Exception as error:
            if limit.expired():  # it was cut off, and has not reported itself
                given_up = OperationFinished(
                    operation.model, operation.action, side, role, deadline, TimeoutError.__name__
                )
                self.observer.observe(given_up)
            breaker.failed(error)
            raise
        breaker.succeeded()
        return result
