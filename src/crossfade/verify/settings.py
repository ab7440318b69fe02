"""What can be set about verifying, and the ways to go about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """How much of a table is compared, and how."""

    WHOLE = "whole"
    """Every row, by checksums."""
    DEEP = "deep"
    """Every row, as it is: no hash stands between the rows."""
    SAMPLE = "sample"
    """A share of the chunks."""
    SINCE = "since"
    """The rows that were written lately, by their `@updatedAt` column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """Bounds of verifying. Times in seconds."""

    chunk_rows: int = 50_000
    """How many rows the first chunks have; later ones are fitted to `chunk_seconds`."""
    largest_chunk: int = 200_000
    chunk_seconds: float = 1.0
    """How long a chunk should take: for so long a statement keeps its snapshot."""
    part_rows: int = 1_000_000
    """The same for a table that has to be read as a whole for each chunk, because its key is in no common order."""
    deep_rows: int = 20_000
    """How many rows a chunk has whose rows are compared one by one, in this process."""
    workers: int = 2
    """How many chunks are compared at the same time."""
    settle: float = 0.1
    """How far apart two looks at a key are that have to show the same difference."""
    patience: float = 10.0
    """How long keys are waited for that are still on their way."""
    look_rows: int = 2_000
    """How many keys one statement looks at."""
    most_differences: int = 100_000
    """After so many differing rows of a table the rest of it is left: it needs a backfill, not a list."""
    examples: int = 10
    """How many differing keys of a table its report names."""
    seed: int = 0
    """Which chunks belong to a sample."""
    resume_within: float = 86_400.0
    """How old a run may be that is gone on with; an older one is begun anew."""
