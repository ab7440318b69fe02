"""What the leader tells: why a model waits, and how its gates stand. To the observer, the history and `request`.

A reason is told once: it goes to the observer and into the history when it is another one than before, not when only
its figures have changed. The table `request` has the latest of everything; it is written when something has changed,
and every few seconds besides, so that whoever reads it knows that somebody leads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import monotonic

import asyncpg

from crossfade.errors import CrossfadeError
from crossfade.events import GateRead, Observer, StageHeld
from crossfade.gates import Gate
from crossfade.moving import Mover
from crossfade.stages import Stage
from crossfade.store import Store
from crossfade.store.requests import GateReading, Requested, read_requests, write_requests
from crossfade.store.view import RecordView
from crossfade.store.waiting import within

CONDUCTOR = "conductor"
"""Who notes why a step is held, for the history."""
TROUBLE: tuple[type[Exception], ...] = (
    CrossfadeError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
)
"""What stores and moves fail with; TimeoutError is one of the last."""
_LOOK_SECONDS = 0.5
_SAY_AGAIN_SECONDS = 5.0


def told(error: Exception) -> str:
    """An error in words that hold no row's values."""
    return str(error) if isinstance(error, CrossfadeError) else f"a store failed ({type(error).__name__})"


class Notices:
    """Tells, and remembers what was told.

    Args:
        mover: writes into the history.
        view: what the record says.
        observer: hears of steps that are held, and of gates.
        store: the legacy store, which has the table `request`.
    """

    def __init__(self, mover: Mover, view: RecordView, observer: Observer, store: Store) -> None:
        self._mover = mover
        self._view = view
        self._observer = observer
        self._store = store
        self._held: dict[str, tuple[str, str]] = {}
        self._gates: dict[str, tuple[GateReading, ...]] = {}
        self._read_at: dict[str, float] = {}
        self.found: Mapping[str, Requested] = {}
        """What stood in the table when this process began to lead: what an earlier leader had heard."""

    @property
    def held(self) -> Mapping[str, str]:
        """Why each model that stands before its request cannot move on."""
        return {model: why for model, (_, why) in self._held.items()}

    async def hold(self, model: str, step: Stage, why: str, *, kind: str = "") -> None:
        """Tell that `model` does not take a step; reasons of the same `kind` are told once. By default it is `why`."""
        known = self._held.get(model)
        self._held[model] = f"{step} {kind or why}", why
        if known is None or known[0] != self._held[model][0]:
            record = self._view.record(model)
            self._observer.observe(StageHeld(model, record.stage, step, why))
            await self.note(model, f"held before {step}: {why}", by=CONDUCTOR)

    def release(self, model: str) -> None:
        """Nothing holds `model` any more."""
        self._held.pop(model, None)

    def forget(self) -> None:
        """Another process leads now."""
        self._held.clear()
        self._gates.clear()
        self._read_at.clear()

    async def note(self, model: str, reason: str, *, by: str) -> None:
        """Add a line to the history; a store that is away cannot be told."""
        with suppress(*TROUBLE):
            await self._mover.note(replace(self._view.record(model), by=by, reason=reason))

    def read(self, gates: Mapping[str, Sequence[Gate]]) -> None:
        """Tell of gates that have been read, by model."""
        for model, found in gates.items():
            self._read_at[model] = monotonic()
            self._gates[model] = tuple(
                GateReading(str(gate.name), gate.holds, gate.figure, gate.remedy, gate.number)
                for gate in found
            )
            for gate in found:
                self._observer.observe(GateRead(model, str(gate.name), gate.holds, gate.number))

    def is_stale(self, model: str, seconds: float) -> bool:
        """Whether the gates of `model` were read longer ago than that."""
        at = self._read_at.get(model)
        return at is None or monotonic() - at >= seconds

    async def publish(self, requests: Callable[[], Sequence[Requested]]) -> None:
        """Keep the table `request` up to date, for as long as this process leads. What is held and read is added."""
        written: dict[str, Requested] = {}
        written_at = 0.0
        is_read = False
        while True:
            with suppress(*TROUBLE):  # it is tried again
                if not is_read:
                    self.found = await within(_SAY_AGAIN_SECONDS, self._read(), self._store.where)
                    is_read = True
                rows = {row.model: self._with_notices(row) for row in requests()}
                is_due = monotonic() - written_at >= _SAY_AGAIN_SECONDS
                fresh = [row for model, row in rows.items() if is_due or written.get(model) != row]
                if fresh:
                    await within(_SAY_AGAIN_SECONDS, self._write(fresh), self._store.where)
                    written |= {row.model: row for row in fresh}
                    written_at = monotonic() if is_due else written_at
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self) -> dict[str, Requested]:
        async with self._store.transaction() as connection:
            return await read_requests(connection, self._store)

    async def _write(self, rows: Sequence[Requested]) -> None:
        async with self._store.transaction() as connection:
            await write_requests(connection, self._store, rows)

    def _with_notices(self, row: Requested) -> Requested:
        held = "" if row.model not in self._held else self._held[row.model][1]
        return replace(row, held=held, gates=self._gates.get(row.model, ()))
