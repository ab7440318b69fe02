"""What the repository asks of whoever keeps the stores level: the reconciler, or nobody where there is one store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

KeyText: TypeAlias = tuple[str, ...]
"""A primary key as the stores' capture notes it: the canonical text of each of its columns."""


class Settler(Protocol):
    """Knows which keys are still to be verified, and verifies them."""

    async def pending_keys(self, models: Iterable[str], limit: int = 1000) -> set[tuple[str, KeyText]] | None:
        """Return the captured keys of `models` that are still to be verified; None when there are more than `limit`."""

    async def settle_keys(self, model: str, keys: Sequence[KeyText]) -> int:
        """Verify these keys now, and repair the follower where it differs; return how many rows were repaired."""

    async def run_once(self, models: Iterable[str] | None = None, *, settle: float | None = None) -> int:
        """Verify one batch of captured keys; return how many entries were looked at."""

    async def drain(self, models: Iterable[str], deadline: float) -> bool:
        """Verify every captured key of `models`; True when none is left in time."""


class NothingToSettle:
    """Where both sides share a store, nothing is ever to be carried over."""

    async def pending_keys(
        self, _models: Iterable[str], _limit: int = 1000
    ) -> set[tuple[str, KeyText]] | None:
        """There are none."""
        return set()

    async def settle_keys(self, _model: str, _keys: Sequence[KeyText]) -> int:
        """There is nothing to repair."""
        return 0

    async def run_once(self, _models: Iterable[str] | None = None, *, settle: float | None = None) -> int:  # noqa: ARG002
        """There is nothing to look at."""
        return 0

    async def drain(self, _models: Iterable[str], _deadline: float) -> bool:
        """There is nothing left."""
        return True
