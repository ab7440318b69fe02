"""What a write needs of rows that belong to the other side: the parents it names, the children that may forbid it.

While two models that a foreign key joins have their authorities on different sides, each store has the other's rows by
way of the follower, and now and then later than that. A write that depends on them has them brought first. That is
help, not a condition: a side that does not answer, or not in time, keeps nobody from writing to the other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from crossfade.errors import ForeignKeyViolationError, RecordNotFoundError, StoreUnavailableError
from crossfade.keys import rows_referred, text_of
from crossfade.operation import Action, Operation
from crossfade.settler import KeyText, Settler
from crossfade.standing import Standing

T = TypeVar("T")

_DELETES = frozenset({Action.DELETE, Action.DELETE_MANY})
_IN_TRANSACTION = 0.5
"""Seconds that bringing rows may take inside a transaction: it may wait for locks of that very transaction."""
_PAUSE = 0.02


class Neighbours:
    """Brings rows of the other side. `deadline` is how long that may take, in seconds."""

    def __init__(self, models: Mapping[str, Standing], settler: Settler, deadline: float) -> None:
        self._models = models
        self._settler = settler
        self._deadline = deadline

    async def before(self, operations: Sequence[Operation]) -> None:
        """Bring what writes are known to lack, before they are done in a transaction, which an error would end."""
        async with self._within(min(self._deadline, _IN_TRANSACTION)):
            models, keys = self._referred(operations)
            await self._bring_late(models, keys)
            await self._bring_late(self._restricting(operations), {})

    async def bring_restricting(self, operations: Sequence[Operation]) -> None:
        """Before rows are deleted: bring the rows of the other side that can forbid it.

        A child that exists on its own side only would not forbid what it must forbid, and a copy of one that is gone
        there would.
        """
        models = self._restricting(operations)
        if models:
            async with self._within(self._deadline):
                await self._bring_late(models, {})

    async def with_parents(self, operations: Sequence[Operation], attempt: Callable[[], Awaitable[T]]) -> T:
        """Do `attempt`; when it is refused for want of a row that `operations` refer to, bring that and try again.

        Raises:
            ForeignKeyViolationError, RecordNotFoundError: the row is on neither side, or did not come in time.
        """
        until = monotonic() + self._deadline
        tries = 0
        while True:
            try:
                return await attempt()
            except (ForeignKeyViolationError, RecordNotFoundError):
                tries += 1
                models, keys = self._referred(operations)
                if not (models or keys) or monotonic() >= until:
                    raise
                is_late = False
                async with self._within(until - monotonic()):
                    is_late = await self._bring_late(models, keys)
                    if (
                        tries == 1
                    ):  # others may have brought them, and verified them as well, since the refusal
                        for name, texts in keys.items():
                            await self._settler.settle_keys(name, texts)
                if tries > 1:
                    if not is_late:
                        raise
                    await asyncio.sleep(_PAUSE)

    async def level(self, models: Collection[str]) -> bool:
        """Have every captured key of `models` verified; True unless that takes longer than the deadline."""
        finished = []
        async with self._within(self._deadline):
            finished = [await self._bring_late(models, {})]
        return bool(finished)

    async def _bring_late(self, models: Collection[str], keys: Mapping[str, Collection[KeyText]]) -> bool:
        """Bring every row of `models`, and the rows of `keys`, that wait to be verified; whether there are any."""
        concerned = {*models, *keys}
        if not concerned:
            return False
        pending = await self._settler.pending_keys(concerned)
        if pending is None:
            await self._settler.drain(models, self._deadline)
            for name, texts in keys.items():
                await self._settler.settle_keys(name, sorted(texts))
            return True
        is_late = False
        for name in concerned:
            late = {key for model, key in pending if model == name}
            if name not in models:
                late.intersection_update(keys[name])
            if late:
                is_late = True
                await self._settler.settle_keys(name, sorted(late))
        return is_late

    def _restricting(self, operations: Sequence[Operation]) -> set[str]:
        """The models of the other side whose rows can forbid deletes among `operations`."""
        return {
            child
            for operation in operations
            if operation.action in _DELETES
            for child in self._models[operation.model].restricted_by
        }

    def _referred(self, operations: Sequence[Operation]) -> tuple[set[str], dict[str, list[KeyText]]]:
        """The rows of the other side that `operations` refer to: by key, or their models where keys are unknown."""
        unknown: set[str] = set()
        keys: dict[str, list[KeyText]] = {}
        for operation in operations:
            model = self._models[operation.model]
            if not model.awaits:
                continue
            for name, key in rows_referred(model.spec, operation):
                parent = self._models[name]
                if parent.plan.authority is model.plan.authority:
                    continue
                is_primary = key is not None and tuple(n for n, _ in key.items) == parent.spec.primary_key
                text = text_of(key) if key is not None and is_primary else None
                if text is None:
                    unknown.add(name)
                else:
                    keys.setdefault(name, []).append(text)
        return unknown, keys

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                yield
        except (TimeoutError, StoreUnavailableError):
            pass
