"""What can be set about reconciling, and the figures it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class ReconcileSettings:
    """Bounds of reconciling. Times in seconds."""

    settle: float = 0.25
    """How long a captured key rests before it is verified, so that the follower's own write comes first."""
    batch: int = 1000
    """How many entries of each store one pass takes at the start; it adapts to `pass_time`."""
    largest_batch: int = 4000
    pass_time: float = 0.4
    """How long a pass should take: its entries are locked for so long, and a drain may have to wait for it."""
    interval: float = 0.03
    """The pause between two passes of the background loop, unless the last one left work behind."""
    patience: float = 1.0
    """How long a repair is left to the newer entries of a key that is written again and again."""
    backoff: float = 0.1
    """How long the first failure of a key, or of a store, is waited out; doubled each time."""
    longest_backoff: float = 30.0
    longest_outage_backoff: float = 2.0
    lock_timeout: float = 0.5
    """How long a repair waits for somebody else's lock before it is put off."""
    near: int = 200
    """How many entries count as little when writers go on."""
    idle_after: float = 1.0
    """After how long without any entry the loop goes to sleep until it is rung."""
    longest_sleep: float = 60.0
    poll: float = 1.0
    """How often a store is looked at whose bell another process keeps."""


class Lag(NamedTuple):
    """How much waits to be verified: entries over both stores, and the age of the oldest in seconds."""

    keys: int
    oldest: float


@dataclass(frozen=True, slots=True)
class Problem:
    """Why keys of a model cannot be brought level: how many entries, and an SQLSTATE with the constraint's name."""

    model: str
    count: int
    problem: str
