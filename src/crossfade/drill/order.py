"""What a process of the drill is told when it starts. It holds passwords, so it travels over a private socket only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crossfade.drill.lane import Order as SharedOrder
from crossfade.dsn import Dsn
from crossfade.stages import Side


class Part(StrEnum):
    """What a process does in a drill."""

    APPLICATION = "application"
    """Writes through a repository."""
    SCRIPT = "script"
    """Writes by plain SQL and knows nothing of crossfade."""
    PSQL = "psql"
    """The same, with `psql`."""
    STIRRER = "stirrer"
    """Writes to the history that a backfill copies."""
    COPIER = "copier"
    """Copies the history."""
    RECONCILER = "reconciler"
    CONDUCTOR = "conductor"


WRITERS = frozenset({Part.APPLICATION, Part.SCRIPT, Part.PSQL, Part.STIRRER})


@dataclass(frozen=True, slots=True)
class StoreOrder:
    """One store as a process is to reach it, and the schema of crossfade's own objects there."""

    dsn: Dsn
    home: str


@dataclass(frozen=True, slots=True)
class ProcessOrder:
    """One process. `number` is its own in the whole run; `directory` holds the flags, the journals and the logs."""

    part: Part
    name: str
    number: int
    directory: Path
    legacy: StoreOrder
    target: StoreOrder
    rate: float = 0.0
    strands: int = 0
    seed: int = 0
    start: Side = Side.PRISMA
    """Where a script believes that it has to write."""
    shared: SharedOrder = SharedOrder.RANDOM
    psql: Path | None = None
    crash_at: str | None = None
    skew: float = 0.0
    """Seconds that the wall clock of the process is ahead."""
    stands_by: bool = False
    """An application that conducts when no other process does, and reconciles."""
    is_deaf: bool = False
    """An application that hears of no move by itself."""

    @property
    def journal(self) -> Path:
        """The file that the process notes its writes in."""
        return self.directory / "journals" / f"{self.name}.{self.number}.jsonl"

    @property
    def log(self) -> Path:
        """The file that takes what the process prints."""
        return self.directory / "logs" / f"{self.name}.{self.number}.log"

    @property
    def flags(self) -> Path:
        """The directory of flag files."""
        return self.directory / "flags"

    def store(self, side: Side) -> StoreOrder:
        """The store behind a side."""
        return self.legacy if side is Side.PRISMA else self.target

    def to_json(self) -> str:
        """One line, passwords included."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> ProcessOrder:
        """Read what `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name in ("legacy", "target"):
            raw = fields[name]
            dsn = Dsn(**{**raw["dsn"], "ignored": tuple(raw["dsn"]["ignored"])})
            fields[name] = StoreOrder(dsn, raw["home"])
        psql = fields["psql"]
        return cls(
            **{
                **fields,
                "part": Part(fields["part"]),
                "directory": Path(fields["directory"]),
                "start": Side(fields["start"]),
                "shared": SharedOrder(fields["shared"]),
                "psql": None if psql is None else Path(psql),
            }
        )
