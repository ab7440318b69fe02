"""Follower writes, off the caller's time.

Theory of operation. A follower write is a `FollowJob`. Jobs that share a key run one after the other, in the order in
which the authority accepted them; all others run side by side. The keys of a job are

* its own rows (exclusive), and the rows its foreign keys point at (shared): a child is created after its parent, and a
  parent is deleted after the children that were created before;
* for `update_many` and `delete_many`, whose rows nobody knows beforehand, the whole model: a barrier.

A job waits for the jobs it depends on by counting them, so no worker is ever blocked by order. The queue is bounded:
beyond `limit` jobs nothing is queued any more, the drop is counted, and the keys are left to the reconciler, as they
are after a failure, a timeout or an open breaker. Nothing here raises into a caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from crossfade.events import FollowDropped, Observer
from crossfade.keys import Key
from crossfade.operation import Action


@dataclass(slots=True, eq=False)
class FollowJob:
    """One thing to do on a follower, with the keys that put it in order."""

    model: str
    action: Action
    run: Callable[[], Awaitable[None]]
    keys: Sequence[Key]
    parents: Sequence[Key] = ()
    is_barrier: bool = False
    on_drop: Callable[[str], None] | None = None
    done: asyncio.Future[None] | None = None
    waits_for: int = 0
    dependents: list[FollowJob] = field(default_factory=list)


@dataclass(slots=True)
class _Tail:
    """The last jobs on one key: the last exclusive one, and the shared ones since."""

    last: FollowJob | None = None
    shared: set[FollowJob] = field(default_factory=set)


class FollowQueue:
    """Runs jobs in the order their keys demand, `workers` at a time, at most `limit` waiting."""

    def __init__(self, observer: Observer, *, workers: int = 8, limit: int = 10_000) -> None:
        self._observer = observer
        self._limit = limit
        self._workers = workers
        self._tails: dict[Key, _Tail] = {}
        self._barriers: dict[str, FollowJob] = {}
        self._outstanding: dict[str, set[FollowJob]] = {}
        self._count = 0
        self._ready: asyncio.Queue[FollowJob] = (
            asyncio.Queue()
        )  # bounded by `limit`, which counts waiting jobs too
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return self._count

    def start(self) -> None:
        """Start the workers on the running loop."""
        self._tasks = [asyncio.create_task(self._work(), name=f"follow-{n}") for n in range(self._workers)]

    async def close(self) -> None:
        """Stop the workers. Jobs that have not run are dropped, and counted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for job in [job for jobs in self._outstanding.values() for job in jobs]:
            self._drop(job, "closed")
            self._finish(job)

    def offer(self, job: FollowJob) -> bool:
        """Queue a job, or drop and count it when the queue is full; return whether it was queued."""
        if self._count >= self._limit:
            self._drop(job, "queue_full")
            return False
        self._link(job)
        if job.waits_for == 0:
            self._ready.put_nowait(job)
        return True

    def busy(self, key: Key) -> bool:
        """Whether a job for `key` is waiting or running."""
        tail = self._tails.get(key)
        return tail is not None and (tail.last is not None or bool(tail.shared))

    def outstanding(self, model: str) -> int:
        """How many jobs of `model` are waiting or running."""
        return len(self._outstanding.get(model, ()))

    async def settle(self, models: Iterable[str]) -> None:
        """Wait until every job of `models` that is queued now has run."""
        jobs = [job for model in models for job in self._outstanding.get(model, ())]
        for job in jobs:
            if job.done is None:
                job.done = asyncio.get_running_loop().create_future()
        for job in jobs:
            if job.done is not None and not job.done.done():
                await asyncio.shield(job.done)

    def _drop(self, job: FollowJob, reason: str) -> None:
        self._observer.observe(FollowDropped(job.model, job.action, reason))
        if job.on_drop is not None:
            job.on_drop(reason)

    def _link(self, job: FollowJob) -> None:
        before: set[FollowJob] = set()
        running = self._outstanding.setdefault(job.model, set())
        barrier = self._barriers.get(job.model)
        if job.is_barrier:
            before |= running
            self._barriers[job.model] = job
        elif barrier is not None:
            before.add(barrier)
        for key in job.keys:
            tail = self._tails.setdefault(key, _Tail())
            before |= tail.shared
            if tail.last is not None:
                before.add(tail.last)
            tail.last, tail.shared = job, set()
        for key in job.parents:
            tail = self._tails.setdefault(key, _Tail())
            if tail.last is not None:
                before.add(tail.last)
            tail.shared.add(job)
        before.discard(job)
        for earlier in before:
            earlier.dependents.append(job)
        job.waits_for = len(before)
        running.add(job)
        self._count += 1

    def _finish(self, job: FollowJob) -> None:
        self._count -= 1
        self._outstanding[job.model].discard(job)
        if self._barriers.get(job.model) is job:
            del self._barriers[job.model]
        for key in (*job.keys, *job.parents):
            tail = self._tails.get(key)
            if tail is None:
                continue
            tail.shared.discard(job)
            if tail.last is job:
                tail.last = None
            if tail.last is None and not tail.shared:
                del self._tails[key]
        for later in job.dependents:
            later.waits_for -= 1
            if later.waits_for == 0:
                self._ready.put_nowait(later)
        if job.done is not None and not job.done.done():
            job.done.set_result(None)

    async def _work(self) -> None:
        while True:
            job = await self._ready.get()
            try:
                await job.run()
            except Exception:  # noqa: BLE001  # a fault in one job must not end the worker that others wait for
                self._drop(job, "failed")
            finally:
                # Also when this worker is cancelled: later jobs and waiters must not hang on this one.
                self._finish(job)
