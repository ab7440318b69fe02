"""What a backup is of, when it was made and how far it has been checked: `manifest.json` beside the dump.

No password is in it. A directory without one is no backup: it is written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs

DIRECTORY_VARIABLE = "CROSSFADE_BACKUP_DIR"
MANIFEST = "manifest.json"
DUMP = "dump"
LIST = "list.txt"
ROLES = "roles.sql"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database a store is, whatever URL leads there.

    `system` is the server's own number, None where the role may not ask for it; then `where` has to do.
    """

    system: str | None
    database: str
    oid: int
    where: str

    def is_same(self, other: Identity) -> bool:
        """Whether both are the same database, as far as can be told."""
        if (self.database, self.oid) != (other.database, other.oid):
            return False
        if self.system is None or other.system is None:
            return self.where == other.where
        return self.system == other.system


@dataclass(frozen=True, slots=True)
class DumpedTable:
    """One table of the dump. `rows` is an estimate, or exact once it has been proved by `image_hash`."""

    schema: str
    name: str
    rows: int
    image_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """That the dump has been restored, to what, and that every table there had the rows of the store."""

    at: datetime
    server_version: str
    tables: int
    rows: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One backup. `roles` says whether they are there "with passwords", "without passwords", or why there are none."""

    sides: tuple[str, ...]
    identity: Identity
    started: datetime
    finished: datetime
    server_version: str
    tool_version: str
    crossfade_version: str
    size_bytes: int
    list_sha256: str
    roles: str
    tables: tuple[DumpedTable, ...]
    proof: Proof | None = None

    def as_json(self) -> str:
        """The text of the file."""
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, indent=2, default=_spelled) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read the text of the file.

        Raises:
            ValueError: it is none, or of another format.
        """
        try:
            entry: dict[str, Any] = json.loads(text)
            if entry.pop("format") != _FORMAT:
                raise ValueError("another format")
            proof = entry.pop("proof")
            return cls(
                **{
                    **entry,
                    "sides": tuple(entry["sides"]),
                    "identity": Identity(**entry["identity"]),
                    "started": datetime.fromisoformat(entry["started"]),
                    "finished": datetime.fromisoformat(entry["finished"]),
                    "tables": tuple(DumpedTable(**table) for table in entry["tables"]),
                    "proof": proof and Proof(**{**proof, "at": datetime.fromisoformat(proof["at"])}),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no manifest: {error}") from error


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup on disk."""

    directory: Path
    manifest: Manifest

    def problem(self) -> str | None:
        """Why it is not what its manifest says, or None."""
        listing = self.directory / LIST
        if not (self.directory / DUMP / "toc.dat").is_file() or not listing.is_file():
            return "its dump is gone"
        if hashlib.sha256(listing.read_bytes()).hexdigest() != self.manifest.list_sha256:
            return "its list has been changed"
        return None


def default_directory() -> Path:
    """Where backups are kept: CROSSFADE_BACKUP_DIR, or else among the user's data."""
    named = os.environ.get(DIRECTORY_VARIABLE, "").strip()
    return Path(named).expanduser() if named else platformdirs.user_data_path("crossfade") / "backups"


def backups_in(directory: Path) -> Iterator[Backup]:
    """Every finished backup in `directory`, the newest first; what cannot be read is none."""
    found = []
    for file in directory.glob(f"*/{MANIFEST}") if directory.is_dir() else ():
        try:
            found.append(Backup(file.parent, Manifest.from_json(file.read_text(encoding="utf-8"))))
        except (OSError, ValueError):
            continue
    yield from sorted(found, key=lambda backup: backup.manifest.finished, reverse=True)


def now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _spelled(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
