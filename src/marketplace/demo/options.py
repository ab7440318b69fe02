"""What the demo was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_SECONDS: Final = 60.0
DEFAULT_RATE: Final = 40.0
DEFAULT_ROWS: Final = 20_000
DEFAULT_SEED: Final = 7
MOST_PROCESSES: Final = 8
"""A fleet's: each takes some 20 of the 200 connections that the embedded server has."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options. Without URLs the stores are embedded. `defect` names one of `BREAKS`.

    `late` lets a defect begin while its model is live. `fleet` is how many application processes there are in a fleet;
    None plays the show of two processes. With `unleash` the flags are those of a real Unleash server.
    """

    seconds: float = DEFAULT_SECONDS
    rate: float = DEFAULT_RATE
    rows: int = DEFAULT_ROWS
    seed: int = DEFAULT_SEED
    json: Path | None = None
    keep: bool = False
    defect: str | None = None
    legacy_dsn: str | None = None
    target_dsn: str | None = None
    metrics_port: int = 0
    late: bool = False
    fleet: int | None = None
    unleash: bool = False
