"""What the demo was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_SECONDS: Final = 60.0
DEFAULT_RATE: Final = 40.0
DEFAULT_ROWS: Final = 20_000
DEFAULT_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options. Without URLs the stores are embedded. `defect` names one of `BREAKS`."""

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
