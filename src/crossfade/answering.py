"""Which side answers a model's reads in this process: what the stage says, a recall, and a canary's candidate.

A *recall* is what a flag that asks for `off` means for reads: they return to Prisma before the record has moved at all,
as long as Prisma's store is fed. It holds until the model is back at its start, or the flag asks for something else. A
flag that has asked for `off` since before the model began says nothing: the record is the truth.

To turn to the side of the authority is safe at any time. A side that is not the authority answers only when it has what
was acknowledged:

* from the moment on that this process means to read there, its writes are awaited on that side;
* the writes that it acknowledged before are let through first;
* a side that has only begun to be fed is left alone for one lease, until every process feeds it;
* a canary is in no hurry, so it also gives the others one lease to hear of the flag. Its side is *doubted* after a
  follower write that was dropped or failed, or while captured keys wait for long, until the reconciler has caught up.

When this process stops to read there, it goes on awaiting its writes for one lease, because others may still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from time import monotonic

from crossfade.events import Event, FollowDropped, Observer, Verdict, WriteCompared
from crossfade.follow import FollowQueue
from crossfade.stages import Plan, Side, Stage, has_begun
from crossfade.standing import Standing, Standings

_LATE = 2.0
"""A captured key that has waited longer than this, in seconds, tells that the follower is not kept up to date."""
_NEVER = float("-inf")
_LETTING_THROUGH = 1.0
"""How long a turn waits for writes that were acknowledged before it."""


class Answering:
    """Turns the reads of models from side to side. `lease` is how long others may not have heard yet, in seconds."""

    def __init__(self, standings: Standings, queue: FollowQueue, lease: float) -> None:
        self._standings = standings
        self._models = standings.models
        self._queue = queue
        self._lease = lease
        self._fed_at: dict[tuple[str, Side], float] = {}
        self._asked_at: dict[str, float] = {}
        self._turning: dict[str, asyncio.Task[None]] = {}
        self.doubted: dict[str, float] = {}

    async def close(self) -> None:
        """Give up what is being turned."""
        tasks = list(self._turning.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._turning.clear()

    def place(self, model: str, stage: Stage, epoch: int) -> None:
        """Note that the record places `model` at `stage`; see `Standings.place`."""
        before = self._standings.place(model, stage, epoch)
        if before is None:
            return
        state = self._models[model]
        if state.plan.is_followed and not before.is_followed:
            self._fed_at[model, state.plan.follower] = monotonic()
        if not has_begun(stage):
            state.is_recalled = False
        self._turn(state, before)

    def recall(self, model: str, *, wanted: bool) -> None:
        """Let reads of `model` return to Prisma, or go where the record says again."""
        state = self._models[model]
        is_recalled = wanted and has_begun(state.plan.stage)
        if state.is_recalled is not is_recalled:
            state.is_recalled = is_recalled
            self._turn(state)

    def canary(self, model: str, share: float) -> None:
        """Let the next side answer a share, 0 to 1, of the unique reads of `model`, while it is compared."""
        state = self._models[model]
        began = state.canary <= 0.0 < share
        state.canary = share
        if began:
            self._asked_at[model] = monotonic()
        self._turn(state)

    # --- turning -------------------------------------------------------------------------------------------------

    def _turn(self, state: Standing, before: Plan | None = None) -> None:
        name, plan = state.spec.name, state.plan
        reads = plan.recalled if state.is_recalled else plan.reads
        candidate = plan.candidate if state.canary > 0.0 and not state.is_recalled else None
        if (running := self._turning.pop(name, None)) is not None:
            running.cancel()
        if self._standings.is_shared:
            state.reads, state.candidate = reads, candidate
            return
        if reads is plan.authority or (before is not None and before.authority is reads):
            state.reads = reads  # it has all that was acknowledged
        elif state.reads is not reads:
            state.reads = plan.reads
        if candidate is None:
            state.candidate = None
        is_beside = reads is not plan.authority or candidate is not None
        state.is_read_beside = state.is_read_beside or is_beside
        self._standings.note_awaiting()
        if (state.reads, state.candidate) == (reads, candidate) and state.is_read_beside is is_beside:
            return
        if not is_beside:
            work = self._leave(state)
        else:
            due = self._fed_at.get((name, plan.follower), _NEVER) + self._lease
            if state.candidate is not candidate:
                due = max(due, self._asked_at.get(name, _NEVER) + self._lease)
            if due <= monotonic() and not self._queue.outstanding(name):
                state.reads, state.candidate = reads, candidate
                return
            work = self._turn_later(state, reads, candidate, due)
        self._turning[name] = asyncio.create_task(work, name=f"turn-{name}")

    async def _turn_later(self, state: Standing, reads: Side, candidate: Side | None, due: float) -> None:
        await asyncio.sleep(max(due - monotonic(), 0.0))
        with suppress(TimeoutError):
            async with asyncio.timeout(_LETTING_THROUGH):
                await self._queue.settle([state.spec.name])
        state.reads, state.candidate = reads, candidate

    async def _leave(self, state: Standing) -> None:
        await asyncio.sleep(self._lease)
        state.is_read_beside = False
        self._standings.note_awaiting()

    # --- doubt ---------------------------------------------------------------------------------------------------

    def note_lag(self, oldest: Mapping[str, float | None], looked_at: float) -> None:
        """Note how old the oldest captured key of each model was that had not been verified; see `note_lagging`."""
        for model, age in oldest.items():
            if model in self.doubted and (age or 0.0) < looked_at - self.doubted[model]:
                del self.doubted[model]  # all that its follower had missed is verified
        self.doubt(model for model, age in oldest.items() if (age or 0.0) > _LATE)

    def doubt(self, models: Iterable[str]) -> None:
        """Note that the followers of `models` may lack a write that was acknowledged just now."""
        if not self._standings.is_shared:
            self.doubted |= dict.fromkeys(models, monotonic())


class Doubting:
    """Hears what becomes of follower writes, on the way to `observer`, and casts doubt on those that failed."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.answering: Answering | None = None

    def observe(self, event: Event) -> None:
        """Take note of a write that was not followed, and pass the fact on."""
        match event:
            case (
                FollowDropped(model=model)
                | WriteCompared(model=model, verdict=Verdict.ERROR | Verdict.SKIPPED)
            ) if self.answering is not None:
                self.answering.doubt([model])
            case _:
                pass
        self._observer.observe(event)
