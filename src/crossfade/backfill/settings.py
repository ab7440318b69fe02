"""What can be set about a backfill."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillSettings:
    """Bounds of a backfill. Times in seconds."""

    workers: int = 2
    """How many chunks this process copies at the same time; each takes a connection to either store."""
    chunk_seconds: float = 1.0
    """How long a chunk should take; its size follows the time that the last ones took."""
    first_chunk: int = 5_000
    """How many rows the first chunk of a table has."""
    smallest_chunk: int = 500
    largest_chunk: int = 200_000
    max_rate: float | None = None
    """Rows per second that this process copies at most."""
    max_lag: float = 5.0
    """How old a captured key may become before chunks wait for the reconciler."""
    max_latency: float = 3.0
    """By which factor small writes may slow down before chunks wait."""
    attempts: int = 5
    """How often a chunk is tried that somebody's lock or a lost connection has broken off."""
    backoff: float = 0.1
    """How long the first of these failures is waited out; doubled each time."""
    poll: float = 0.2
    """How often a worker looks again that has nothing to do but to wait for others."""
    most_failed: int = 1_000
    """How many rows of a table may be refused before the rest of it is not tried any more."""
    settle_deadline: float = 3600.0
    """How long the captured keys may take to be verified at the end."""
