"""The traffic of the marketplace: readers and writers on all ten models, through the database client.

Calls begin at a fixed rate, whatever the answers take, until `LIMIT` of them are under way; then the next one waits
for a free place. In every round each model gets one call, in random order, and there is one that writes to several;
which call it is comes from a bag in which every kind of call lies as often as it weighs, so that none is left to
chance.

A call that fails is counted: as a refusal where it asked for something impossible, or where another call deleted a row
under it; as a failure otherwise.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Final

from crossfade.errors import DataError
from crossfade.schema import Schema
from marketplace.bundles import NAME, Bundles
from marketplace.calls import Account, Call, Calls
from marketplace.client import Front
from marketplace.journal import Journal
from marketplace.population import Population
from marketplace.subjects import SUBJECTS

LIMIT: Final = 32
"""How many calls may be under way at once."""

ASKED: Final[ContextVar[bool]] = ContextVar("asked", default=False)
"""Whether a call of a workload waits for what is being done; nobody does where answers are only compared."""

_LATE_SECONDS = 1.0
_END_SECONDS = 15.0


class Workload:
    """Makes calls at `rate` per second while `run` runs."""

    def __init__(
        self,
        schema: Schema,
        front: Front,
        known: Population,
        journal: Journal,
        *,
        rate: float,
        account: Account | None = None,
    ) -> None:
        self.account = account or Account()
        self._rng = known.rng
        self._interval = 1 / rate
        calls = {
            name: Calls(schema.models[name], subject, front, known, journal, self.account)
            for name, subject in SUBJECTS.items()
        }
        bundles = Bundles(schema, calls, front, known, journal, self.account)
        self._calls: dict[str, Calls | Bundles] = {**calls, NAME: bundles}
        self._bags: dict[str, list[Call]] = {name: [] for name in self._calls}
        self._round: list[str] = []
        self._running: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(LIMIT)

    async def run(self, stop: asyncio.Event) -> None:
        """Make calls until `stop` is set, then wait for those under way. Calls that do not end are cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not stop.is_set():
                # After a stall the rate is made good for a moment only, or the stall would be followed by a flood.
                due = max(due + self._interval, loop.time() - _LATE_SECONDS)
                await pause(stop, max(due - loop.time(), 0.0))
                await self._places.acquire()
                task = asyncio.create_task(self._make(*self._next()), name="workload-call")
                self._running.add(task)
                task.add_done_callback(self._ended)
            if self._running:
                await asyncio.wait(self._running, timeout=_END_SECONDS)
        finally:
            late = list(self._running)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._places.release()

    def _next(self) -> tuple[str, Call]:
        if not self._round:
            self._round = self._rng.sample(list(self._calls), len(self._calls))
        model = self._round.pop()
        if not self._bags[model]:
            bag = self._calls[model].bag()
            self._bags[model] = self._rng.sample(bag, len(bag))
        return model, self._bags[model].pop()

    async def _make(self, model: str, call: Call) -> None:
        ASKED.set(True)
        try:
            await call.make()
        except asyncio.CancelledError:
            self.account.failed(model, call.name, "no answer in time")
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted, shown and fails the run
            self.account.failed(model, call.name, _name(error))


def _name(error: Exception) -> str:
    """An error's class, with Prisma's code if it has one; never a value."""
    code = error.code if isinstance(error, DataError) else ""
    return f"{type(error).__name__} {code}".rstrip()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds`, but not beyond `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
