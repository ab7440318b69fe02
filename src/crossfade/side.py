"""Asking one side for something: timed, observed, and for secondary work under a deadline and a breaker."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from crossfade.breaker import Breaker
from crossfade.events import Observer, OperationFinished, Role
from crossfade.operation import Operation
from crossfade.paths import Path


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


async def ask_within(
    path: Path, operation: Operation, role: Role, observer: Observer, breaker: Breaker, deadline: float
) -> Any:
    """The same for secondary work: gives up after `deadline` seconds and tells the breaker how it went."""
    try:
        async with asyncio.timeout(deadline):
            result = await ask(path, operation, role, observer)
    except Exception as error:
        breaker.failed(error)
        raise
    breaker.succeeded()
    return result
