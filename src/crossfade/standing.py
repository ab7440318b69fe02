"""Where one model stands in this process: its plan, and the gate that its writers pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from crossfade.schema import ModelSpec
from crossfade.stages import Plan


@dataclass(slots=True)
class Standing:
    """One model's standing.

    `alone` is the model's name as the only one an operation touches. `shakes` are the models that a delete reaches by
    cascade. `awaits` is set while the model straddles, `gate` exists while its authority moves.
    """

    spec: ModelSpec
    plan: Plan
    alone: tuple[str, ...]
    shakes: frozenset[str]
    sample: float = 1.0
    awaits: bool = False
    writing: int = 0
    gate: asyncio.Future[None] | None = None
    _quiet: asyncio.Future[None] | None = None

    async def wait_at_gate(self) -> None:
        """Wait until the gate is open; several moves may follow on each other."""
        while self.gate is not None:
            await asyncio.shield(self.gate)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Keep new writers waiting at the gate, and let them all through at the end, whatever happened."""
        gate = self.gate = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self.gate = None
            gate.set_result(None)

    def leave(self) -> None:
        """Note that a writer is done; whoever waits for quiet hears of the last one."""
        self.writing -= 1
        if self._quiet is not None and not self.writing and not self._quiet.done():
            self._quiet.set_result(None)

    async def until_quiet(self) -> None:
        """Wait until no writer is under way."""
        if self.writing:
            self._quiet = asyncio.get_running_loop().create_future()
            try:
                await self._quiet
            finally:
                self._quiet = None
