"""Dump each store and prove that the dump can be restored."""

from crossfade.backup.backup import BackupSettings, back_up
from crossfade.backup.manifest import (
    Backup,
    DumpedTable,
    Identity,
    Manifest,
    Proof,
    backups_in,
    default_directory,
)
from crossfade.backup.requirement import require_backups

__all__ = [
    "Backup",
    "BackupSettings",
    "DumpedTable",
    "Identity",
    "Manifest",
    "Proof",
    "back_up",
    "backups_in",
    "default_directory",
    "require_backups",
]
