"""What a write needs of rows that belong to the other side: the parents it names, the children that may forbid it.

While two models that a foreign key joins have their authorities on different sides, each store has the other's rows by
way of the follower, and now and then later than that. A write that depends on them has them brought first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from crossfade.keys import rows_referred, text_of
from crossfade.operation import Action, Operation
from crossfade.settler import KeyText, Settler
from crossfade.standing import Standing

_DELETES = frozenset({Action.DELETE, Action.DELETE_MANY})


class Neighbours:
    """Brings rows of the other side. `deadline` is how long it may take when very many are waiting, in seconds."""

    def __init__(self, models: Mapping[str, Standing], settler: Settler, deadline: float) -> None:
        self._models = models
        self._settler = settler
        self._deadline = deadline

    async def bring_restricting(self, operations: Iterable[Operation]) -> None:
        """Before rows are deleted: bring the rows of the other side that can forbid it.

        A child that exists on its own side only would not forbid what it must forbid, and a copy of one that is gone
        there would.
        """
        children = {
            child
            for operation in operations
            if operation.action in _DELETES
            for child in self._models[operation.model].restricted_by
        }
        if children:
            await self._bring_waiting(children)

    async def pull_parents(self, operations: Iterable[Operation]) -> bool:
        """Bring the rows that writes refer to; whether there are any, so that a refused one is worth another try."""
        keys, unknown = self._referred(operations)
        if unknown:
            await self._bring_waiting(unknown)
        for name, texts in keys.items():
            await self._settler.settle_keys(name, texts)
        # How many had to be repaired does not matter: others may have brought them since the refusal.
        return bool(keys or unknown)

    async def pull_waiting_parents(self, operations: Iterable[Operation]) -> None:
        """Bring the rows that writes refer to, of those that are known to be late.

        Before a write, that is, and next to its transaction: what is repaired in vain may wait for its locks.
        """
        keys, unknown = self._referred(operations)
        if not keys and not unknown:
            return
        pending = await self._settler.pending_keys({*keys, *unknown})
        for name in {*keys, *unknown}:
            wanted = set(keys.get(name, ()))
            if pending is not None:
                late = {key for model, key in pending if model == name}
                wanted = late if name in unknown else wanted & late
            if wanted:
                await self._settler.settle_keys(name, sorted(wanted))

    def _referred(self, operations: Iterable[Operation]) -> tuple[dict[str, list[KeyText]], set[str]]:
        """The rows of the other side that writes refer to, and the models of those whose keys are not known."""
        keys: dict[str, list[KeyText]] = {}
        unknown: set[str] = set()
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
        return keys, unknown

    async def _bring_waiting(self, models: Collection[str]) -> None:
        """Bring every captured key of `models`, whoever has it in hand."""
        pending = await self._settler.pending_keys(models)
        if pending is None:
            await self._settler.drain(models, self._deadline)
            return
        for model in models:
            if keys := sorted(key for name, key in pending if name == model):
                await self._settler.settle_keys(model, keys)
