"""Flags: what stage each model is asked to be at.

A provider reads flags somewhere and says when one changes; `crossfade.flags.files` is the one that reads files.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Protocol, Self

from crossfade.flags.flag import Changes, Flag

__all__ = ["Changes", "Flag", "FlagProvider"]


class FlagProvider(Protocol):
    """Where flags come from. Internal: it may change with what the providers learn.

    Opened with `async with`, which raises `FlagError` when there is nothing usable to start from. From then on a
    provider never raises: whatever cannot be used is reported as `FlagRejected`, and the last good value stays.
    """

    def current(self) -> Mapping[str, Flag]:
        """Return the last good flag of every model."""

    def changes(self) -> AsyncIterator[Flag]:
        """Return an iterator over the flags that change from now on; it ends when the provider is closed."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
