"""What verifying came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from crossfade.store.ranges import Key
from crossfade.verify.settings import Mode


class Kind(StrEnum):
    """How a key differs, whichever side has the authority."""

    MISSING = "missing"
    """The target store has no such row."""
    EXTRA = "extra"
    """Only the target store has such a row."""
    DIFFERENT = "different"
    """Both have it, and it does not say the same."""


class Verdict(StrEnum):
    """What a table has come to."""

    CLEAN = "clean"
    DIFFERING = "differing"
    UNSETTLED = "unsettled"
    """Nothing differs for certain, but some rows did not come to rest while they were looked at."""


@dataclass(frozen=True, slots=True)
class Differing:
    """One key that differs. `columns` are the legacy store's names of what differs in a row that both have."""

    key: Key
    kind: Kind
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TableReport:
    """What became of one table.

    `missing`, `extra`, `different` and `columns` (how many rows differ, by column) are what was found; `state`,
    `in_flight` and `remaining` are what is left after a repair. `is_cut` says that the rest of the table was left,
    because so much differs.
    """

    model: str
    owner: str
    mode: Mode
    state: Verdict
    rows: int = 0
    chunks: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    columns: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    in_flight: int = 0
    repaired: int = 0
    remaining: int = 0
    seconds: float = 0.0
    examples: tuple[Differing, ...] = ()
    is_cut: bool = False

    @property
    def differing(self) -> int:
        """How many rows were found that differ."""
        return self.missing + self.extra + self.different
