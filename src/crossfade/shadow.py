"""Shadow reads, off the caller's time: ask the other side the same question and judge the answer.

Theory of operation. The caller has its answer before anything here runs; `offer` only puts the question into a bounded
queue (beyond `limit` it is dropped and counted). A worker asks the other side. Two equal answers are `matched`. Two
different ones prove nothing yet, because the two reads happened at different times and the follower may lag: the
question is asked again, of both sides, by a task of its own, of which there are at most `recheck_limit`. The answers
are `mismatched` if they still differ, the answering side says the same before and after, and no row that they hold was
among the captured keys before or after: what no writer has touched has no excuse to differ. Where rows that the
answers do not hold could explain the difference (a count, an offset, a filter on a relation), no key of their models
may be pending at all. If the answers have become equal, or writes never rest long enough, the verdict is `in_flight`.
A question with several right answers (rows that tie) is `ignored`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from crossfade.breaker import FAILURES, OUTAGES
from crossfade.compare import compare
from crossfade.errors import UnsupportedQueryError
from crossfade.events import Difference, ReadCompared, Role, ShadowDropped, Verdict
from crossfade.keys import key_from_where, subject, text_of_key
from crossfade.operation import Action, Operation, models_touched
from crossfade.records import Record
from crossfade.schema import ModelSpec, Schema
from crossfade.settler import KeyText, Settler
from crossfade.side import Sides
from crossfade.stages import Side


class _Question(NamedTuple):
    operation: Operation
    outcome: Any
    answered_by: Side
    models: Sequence[str]


@dataclass(frozen=True, slots=True)
class ShadowSettings:
    """Bounds of shadow work. Times in seconds."""

    workers: int = 4
    limit: int = 1_000
    deadline: float = 5.0
    rechecks: int = 6
    recheck_limit: int = 256
    pause: float = 0.02


class ShadowReader:
    """Asks the other side and compares. `settler` knows which keys have been touched and not verified yet."""

    def __init__(self, sides: Sides, settler: Settler, settings: ShadowSettings | None = None) -> None:
        self._sides = sides
        self._settler = settler
        self._observer = sides.observer
        self._settings = settings or ShadowSettings()
        self._queue: asyncio.Queue[_Question] = asyncio.Queue()  # bounded by `offer`, which drops and counts
        self._tasks: list[asyncio.Task[None]] = []
        self._rechecks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return self._queue.qsize()

    def start(self) -> None:
        """Start the workers on the running loop."""
        count = self._settings.workers
        self._tasks = [asyncio.create_task(self._work(), name=f"shadow-{n}") for n in range(count)]

    async def close(self) -> None:
        """Stop the workers; questions not yet asked are dropped, and counted."""
        tasks = [*self._tasks, *self._rechecks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks = []
        while not self._queue.empty():
            self._drop(self._queue.get_nowait().operation, "closed")
            self._queue.task_done()

    async def drain(self) -> None:
        """Wait until every question that was put has been judged."""
        await self._queue.join()
        if self._rechecks:
            await asyncio.wait(self._rechecks)

    def offer(self, operation: Operation, outcome: Any, answered_by: Side, models: Sequence[str]) -> None:
        """Put a question whose answer the caller has: `outcome` is a result, or the exception that was raised."""
        if self._queue.qsize() >= self._settings.limit:
            self._drop(operation, "queue_full")
            return
        self._queue.put_nowait(_Question(operation, outcome, answered_by, models))

    def _drop(self, operation: Operation, reason: str) -> None:
        self._observer.observe(ShadowDropped(operation.model, operation.action, reason))

    async def _work(self) -> None:
        while True:
            question = await self._queue.get()
            try:
                await self._guarded(question, self._judge)
            finally:
                self._queue.task_done()

    async def _guarded(self, question: _Question, judge: Callable[[_Question], Awaitable[None]]) -> None:
        try:
            await judge(question)
        except Exception:  # noqa: BLE001  # whatever it is, it belongs to the comparison and not to a caller
            self._report(question, Verdict.ERROR)

    async def _judge(self, question: _Question) -> None:
        other = question.answered_by.other
        if not self._sides.breakers[other].allows():
            self._drop(question.operation, "breaker_open")
            return
        answer = await self._ask(other, question.operation)
        if isinstance(answer, OUTAGES):
            self._report(question, Verdict.ERROR)
            return
        if isinstance(answer, UnsupportedQueryError):
            self._report(question, Verdict.SKIPPED)
            return
        comparison = compare(self._sides.schema, question.operation, question.outcome, answer)
        if comparison.equal:
            self._report(question, Verdict.IGNORED if comparison.undetermined else Verdict.MATCHED)
            return
        if len(self._rechecks) >= self._settings.recheck_limit:
            self._drop(question.operation, "recheck_full")
            return
        # A second look may have to wait for a moment of rest; the workers go on with new questions meanwhile.
        task = asyncio.create_task(self._guarded(question, self._look_again), name="shadow-recheck")
        self._rechecks.add(task)
        task.add_done_callback(self._rechecks.discard)

    async def _look_again(self, question: _Question) -> None:
        pause = self._settings.pause
        side, operation = question.answered_by, question.operation
        schema = self._sides.schema
        for _ in range(self._settings.rechecks):
            pending = await self._settler.pending_keys(question.models)
            expected = await self._ask(side, operation)
            actual = await self._ask(side.other, operation)
            if isinstance(expected, OUTAGES) or isinstance(actual, OUTAGES):
                self._report(question, Verdict.ERROR)
                return
            comparison = compare(schema, operation, expected, actual)
            if comparison.equal:
                self._report(question, Verdict.IN_FLIGHT)
                return
            unmoved = compare(schema, operation, expected, await self._ask(side, operation)).equal
            touched = await self._settler.pending_keys(question.models)
            if unmoved and pending is not None and touched is not None:
                rows = set(_rows(schema, operation, expected)) | set(_rows(schema, operation, actual))
                if _is_proof(schema, operation, rows, pending | touched):
                    self._report(question, Verdict.MISMATCHED, comparison.differences)
                    return
            await asyncio.sleep(pause)
            pause *= 2
        self._report(question, Verdict.IN_FLIGHT)

    async def _ask(self, side: Side, operation: Operation) -> Any:
        """Return the answer, or the exception in its place: a failure is as comparable as a value."""
        try:
            return await self._sides.ask(side, operation, Role.SHADOW, self._settings.deadline)
        except FAILURES as error:
            return error

    def _report(
        self, question: _Question, verdict: Verdict, differences: tuple[Difference, ...] = ()
    ) -> None:
        operation = question.operation
        spec = self._sides.schema.models[operation.model]
        about = subject(operation, key_from_where(spec, operation.arguments.get("where")))
        self._observer.observe(ReadCompared(operation.model, operation.action, verdict, differences, about))


_Row = tuple[str, "KeyText | None"]


def _rows(schema: Schema, operation: Operation, result: Any) -> Iterator[_Row]:
    """Every row that a result holds, with those that are included; None for a key that has no canonical text."""
    for row in result if isinstance(result, list) else [result]:
        if isinstance(row, Record):
            yield from _rows_of(schema, schema.models[operation.model], row)


def _rows_of(schema: Schema, spec: ModelSpec, row: Record) -> Iterator[_Row]:
    yield spec.name, text_of_key(spec, row)
    for name, relation in spec.relations.items():
        related = getattr(row, name, None)
        for other in related if isinstance(related, list) else [related]:
            if isinstance(other, Record):
                yield from _rows_of(schema, schema.models[relation.model], other)


def _is_proof(
    schema: Schema, operation: Operation, rows: set[_Row], pending: set[tuple[str, KeyText]]
) -> bool:
    """Whether no captured key can explain that two answers differ."""
    if not pending:
        return True
    arguments = operation.arguments
    hidden = operation.action is Action.COUNT or not rows or "skip" in arguments or "cursor" in arguments
    if hidden or any(key is None for _, key in rows):
        return False
    plain = {name: value for name, value in arguments.items() if name != "include"}
    filtered = frozenset(models_touched(schema, operation._replace(arguments=plain))) - {operation.model}
    linked = frozenset(name for name, _ in pending if name not in schema.models)  # many-to-many tables
    return not linked and not any(key in rows or key[0] in filtered for key in pending)
