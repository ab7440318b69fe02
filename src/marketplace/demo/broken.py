"""A path with a defect in front of it, which counts what it spoils."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple, TypeAlias

from crossfade.operation import Operation
from crossfade.paths import Path, PathTransaction
from crossfade.stages import Side
from marketplace.demo.breaks import BREAKS, Defect, Spoilt
from marketplace.demo.paths import PassingPath

Tell: TypeAlias = Callable[[str], None]
"""Hears the model of every answer that a defect has spoilt."""


class Fault(NamedTuple):
    """Which defect there is, and from when: from the moment that the file `since` exists, or from the start."""

    name: str
    since: FilePath | None = None

    @property
    def defect(self) -> Defect:
        """The defect itself."""
        return BREAKS[self.name]

    @property
    def is_there(self) -> bool:
        """Whether it spoils anything now, in every process alike."""
        return self.since is None or self.since.exists()


class BrokenPath(PassingPath):
    """A path with a defect in front of it, which shows inside transactions as well."""

    def __init__(self, path: Path, fault: Fault, tell: Tell) -> None:
        super().__init__(path)
        self._fault = fault
        self._tell = tell

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation, with the defect where it applies."""
        return await _spoilt(self._fault, self._tell, self._path, operation)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Execute several writes, on a store that may be slow or failing."""
        if operations:
            await _meet(self._fault, self._tell, operations[0].model)
        await self._path.batch(operations)

    async def begin(self, *, max_wait: float = 2.0, timeout: float = 5.0) -> PathTransaction:  # noqa: ASYNC109
        """Start a transaction with the defect."""
        inner = await self._path.begin(max_wait=max_wait, timeout=timeout)
        return _BrokenTransaction(inner, self._fault, self._tell)


class _BrokenTransaction:
    """A transaction with a defect."""

    def __init__(self, inner: PathTransaction, fault: Fault, tell: Tell) -> None:
        self._inner = inner
        self._fault = fault
        self._tell = tell

    @property
    def side(self) -> Side:
        """Which side this is."""
        return self._inner.side

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation, with the defect where it applies."""
        return await _spoilt(self._fault, self._tell, self._inner, operation)

    async def batch(self, operations: Sequence[Operation]) -> None:
        """Pass on."""
        await self._inner.batch(operations)

    async def hold(self, models: Sequence[str]) -> None:
        """Pass on."""
        await self._inner.hold(models)

    async def commit(self) -> None:
        """Pass on."""
        await self._inner.commit()

    async def rollback(self) -> None:
        """Pass on."""
        await self._inner.rollback()


async def _spoilt(fault: Fault, tell: Tell, inner: Path | PathTransaction, operation: Operation) -> Any:
    defect = fault.defect
    if not (defect.concerns(operation.model) and fault.is_there):
        return await inner.execute(operation)
    await _meet(fault, tell, operation.model)
    answer = await defect.execute(inner.execute, operation)
    if isinstance(answer, Spoilt):
        tell(operation.model)
        return answer.result
    return answer


async def _meet(fault: Fault, tell: Tell, model: str) -> None:
    """Let a store that is slow or failing show it."""
    meet = fault.defect.meet
    if meet is not None and fault.is_there:
        tell(model)
        await meet()
