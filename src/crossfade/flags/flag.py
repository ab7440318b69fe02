"""`Flag`: what one model's flag asks for. A flag is a request, not the truth about where a model stands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from crossfade.stages import Stage


@dataclass(frozen=True, slots=True)
class Flag:
    """One model's request, wherever it was read.

    `sample` is the share of reads that are compared, 0 to 1; `canary` the share of keys whose reads the next side
    answers while the model is at `shadow`. `gates` and `guard` are the thresholds that differ from the defaults, by
    the names of `crossfade.thresholds`. `source` names the place the flag was read from and is empty for a flag nobody
    wrote. `confirmed` is false for what a flag service asked for last, while it is away or says nothing that can be
    used: such a flag may hold a model or ask it back, but no step forward is taken for it.
    """

    model: str
    stage: Stage = Stage.OFF
    sample: float = 1.0
    canary: float = 0.0
    owner: str = ""
    description: str = ""
    cohort: str | None = None
    gates: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    guard: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    confirmed: bool = True
    source: str = field(default="", compare=False)


class Changes:
    """An async iterator over flags that have changed since it was made.

    Only the latest flag of each model is kept, so a slow reader sees fewer changes and never an outdated one.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Flag] = {}
        self._woken = asyncio.Event()
        self._closed = False

    def put(self, flag: Flag) -> None:
        """Hand over a changed flag."""
        self._pending[flag.model] = flag
        self._woken.set()

    def close(self) -> None:
        """End the iteration once what is pending has been read."""
        self._closed = True
        self._woken.set()

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Flag:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._woken.clear()
            await self._woken.wait()
        return self._pending.pop(next(iter(self._pending)))
