"""Reads: who answers them, who is asked beside, and by how old a view of the record.

A read is answered by one side, whole. That is the side that the model's standing names; for a read of several models,
the one that can answer for all of them. While a canary is on, a read of one row by a unique key whose *primary* key is
in the share is answered by the candidate instead, whatever key the row was asked by. A candidate that fails costs its
caller time, and never an answer: the authority is asked.

The record is looked at again *after* the answer. If the lease has run out meanwhile, it is renewed first, and if
another side has the reads by then, the question is put to that one. So a process that was frozen between the question
and the answer hands out nothing that has gone stale with it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from crossfade.answering import Answering
from crossfade.breaker import FAILURES, OUTAGES
from crossfade.canary import in_share, is_candidate, is_primary
from crossfade.errors import RecordNotFoundError
from crossfade.events import CanaryFellBack, ModelsSpanned, Observer, Role, StaleRead
from crossfade.keys import Key, key_from_where, key_of
from crossfade.operation import Operation, models_touched
from crossfade.schema import Schema
from crossfade.shadow import ShadowReader
from crossfade.side import Sides, ask
from crossfade.stages import Side
from crossfade.standing import Standing, Standings


class Records(Protocol):
    """Knows the record that is in force, newer than this process may have heard of."""

    @property
    def fresh_until(self) -> float:
        """Until when the process may answer by what it knows, by the monotonic clock."""

    async def renew(self) -> None:
        """Look at the record again, and have placed what is new, if it answers in time."""

    async def newer_than(self, model: str, epoch: int, seconds: float) -> object:
        """Return when a record of `model` newer than `epoch` has been placed.

        Raises:
            TimeoutError: none came within `seconds`.
        """


class NoRecords:
    """Where every model stays where it was placed."""

    fresh_until = float("inf")

    async def renew(self) -> None:
        """There is nothing to look at."""

    async def newer_than(self, _model: str, _epoch: int, _seconds: float) -> object:
        """None will come."""
        raise TimeoutError


_UNANSWERED: Final = object()


def note_span(observer: Observer, models: Iterable[str], *, is_write: bool) -> None:
    """Tell `observer` if `models`, which one operation or one transaction touches, are several."""
    several = tuple(sorted(set(models)))
    if len(several) > 1:
        observer.observe(ModelsSpanned(several, is_write))


class Reader:
    """Answers reads.

    Args:
        schema: the models.
        sides: both sides, as they are asked in the application's name.
        standings: where the models stand.
        answering: which side answers, and whose follower is doubted.
        records: who knows the record that is in force.
        shadow: who compares.
        deadline: how long a caller waits for a candidate, in seconds, before the authority is asked.
        chance: a random number from 0 to 1, for sampling.
    """

    def __init__(
        self,
        schema: Schema,
        sides: Sides,
        standings: Standings,
        answering: Answering,
        records: Records,
        shadow: ShadowReader,
        deadline: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._schema = schema
        self._sides = sides
        self._paths = sides.paths
        self._observer = sides.observer
        self._standings = standings
        self._models = standings.models
        self._answering = answering
        self._records = records
        self._shadow = shadow
        self._deadline = deadline
        self._chance = chance
        self.lagging: frozenset[str] = frozenset()

    async def read(
        self,
        model: Standing,
        operation: Operation,
        *,
        by_candidate: bool = True,
        is_compared: bool = True,
    ) -> Any:
        """Return the answer of the side that has the reads, or raise its error, unchanged.

        `by_candidate` says whether a candidate may answer in its place, `is_compared` whether the shadow may be asked.
        """
        arguments = operation.arguments
        where = arguments.get("where")
        if len(arguments) == 1 and where and model.spec.uniques.keys() >= where.keys():
            models: Sequence[str] = model.alone  # a plain read by a unique key, the commonest call
            if model.candidate is not None and by_candidate and is_candidate(operation):
                return await self._canaried(model, operation)
        else:
            models = models_touched(self._schema, operation)
            note_span(self._observer, models, is_write=False)
        while True:
            side = model.reads if len(models) == 1 else self._standings.reads_of(models)
            if self.lagging:
                self._note_staleness(operation, side, models)
            try:
                result = await ask(self._paths[side], operation, Role.AUTHORITY, self._observer)
            except FAILURES as error:
                if not await self._stands(side, models):
                    continue
                if isinstance(error, OUTAGES) and len(models) == 1 and side is not model.plan.authority:
                    # Recalled to a store that does not answer: the authority has the answer.
                    return await ask(self._paths[side.other], operation, Role.AUTHORITY, self._observer)
                if is_compared and model.plan.shadow is not None and not isinstance(error, OUTAGES):
                    self._offer(model, operation, error, side, models)
                raise
            if (monotonic() > self._records.fresh_until or side is not model.reads) and not (
                await self._stands(side, models)
            ):
                continue
            if is_compared and model.plan.shadow is not None:
                self._offer(model, operation, result, side, models)
            return result

    async def _stands(self, side: Side, models: Sequence[str]) -> bool:
        """Whether `side` still answers for `models`, by a record that is not older than the lease."""
        if monotonic() > self._records.fresh_until:
            await self._records.renew()
        return self._standings.reads_of(models) is side

    def _offer(
        self, model: Standing, operation: Operation, outcome: Any, side: Side, models: Sequence[str]
    ) -> None:
        if model.sample < 1.0 and self._chance() >= model.sample:
            return
        if len(models) == 1 or self._standings.all_fed(models):
            self._shadow.offer(operation, outcome, side, models)

    def _note_staleness(self, operation: Operation, side: Side, models: Sequence[str]) -> None:
        """Count a read that is answered by a side which may lack what another one has acknowledged."""
        if any(name in self.lagging and self._models[name].plan.authority is not side for name in models):
            self._observer.observe(StaleRead(operation.model, operation.action))

    # --- the canary ----------------------------------------------------------------------------------------------

    async def _canaried(self, model: Standing, operation: Operation) -> Any:
        """Have a read of one row answered by the candidate if the row is in its share, and else by the authority."""
        key = key_from_where(model.spec, operation.arguments["where"])
        if key is not None and is_primary(key, model.spec.primary_key):
            answer = await self._by_candidate(model, operation, key)
            if answer is not _UNANSWERED:
                return answer
            return await self.read(model, operation, by_candidate=False)
        try:
            row = await self.read(model, operation, by_candidate=False, is_compared=False)
        except FAILURES as error:
            if model.plan.shadow is not None and not isinstance(error, OUTAGES):
                self._offer(model, operation, error, model.reads, model.alone)
            raise
        if row is not None:
            answer = await self._by_candidate(model, operation, key_of(model.spec, row))
            if answer is not _UNANSWERED:
                return answer
        if model.plan.shadow is not None:
            self._offer(model, operation, row, model.reads, model.alone)
        return row

    async def _by_candidate(self, model: Standing, operation: Operation, key: Key) -> Any:
        """Return the candidate's answer about the row of a primary key, or `_UNANSWERED`.

        Raises:
            RecordNotFoundError: that is an answer, too.
        """
        side = model.candidate
        if (
            side is None
            or key.model in self._answering.doubted
            or not in_share(key, model.canary)
            or not self._sides.breakers[side].allows()
        ):
            return _UNANSWERED
        try:
            answer = await self._sides.ask(side, operation, Role.AUTHORITY, self._deadline)
        except RecordNotFoundError as error:
            if not await self._remains(model, side):
                return _UNANSWERED
            self._offer(model, operation, error, side, model.alone)
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the authority has an answer
            self._observer.observe(CanaryFellBack(key.model, operation.action, type(error).__name__))
            return _UNANSWERED
        if not await self._remains(model, side):
            return _UNANSWERED
        self._offer(model, operation, answer, side, model.alone)
        return answer

    async def _remains(self, model: Standing, side: Side) -> bool:
        """Whether `side` is still the candidate, by a record that is not older than the lease."""
        if monotonic() > self._records.fresh_until:
            await self._records.renew()
        return model.candidate is side and model.spec.name not in self._answering.doubted
