"""Whether a store may be installed in: there has to be a way back to what it was before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from crossfade.backup.manifest import backups_in, now
from crossfade.backup.standing import read_standing, session
from crossfade.errors import BackupError
from crossfade.store.store import Store

MAX_AGE_HOURS = 24.0
"""How old a backup may be that counts."""


async def require_backups(
    stores: Iterable[Store], directory: Path, *, max_age_hours: float = MAX_AGE_HOURS
) -> None:
    """Return if each store that crossfade has never been in has a recent backup in `directory`, or is embedded.

    Raises:
        BackupError: some have none; all of them in an `ExceptionGroup` if there are several.
        StoreUnavailableError: a database does not answer.
    """
    problems = [problem for store in stores if (problem := await _problem(store, directory, max_age_hours))]
    if len(problems) > 1:
        raise ExceptionGroup("nothing was changed", problems)
    if problems:
        raise problems[0]


async def _problem(store: Store, directory: Path, max_age_hours: float) -> BackupError | None:
    async with session(store.dsn, f"the store of {store.side}") as connection:
        standing = await read_standing(connection, store.where)
        if standing.is_embedded:
            return None
        if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", store.own("installation")):
            return None
    own = [backup for backup in backups_in(directory) if backup.manifest.identity.is_same(standing.identity)]
    usable = [backup for backup in own if backup.problem() is None]
    if any(now() - backup.manifest.finished <= timedelta(hours=max_age_hours) for backup in usable):
        return None
    if usable:
        age = (now() - usable[0].manifest.finished).total_seconds() / 3600
        found = f"the last one in {directory} is {age:.0f} h old"
    elif own:
        found = f"the one in {own[0].directory} cannot be used: {own[0].problem()}"
    else:
        found = f"there is none in {directory}"
    return BackupError(
        store.where,
        f"crossfade has never been in this store, and a backup of the last {max_age_hours:g} h comes first ({found});"
        f" run `crossfade backup --side {store.side}`, or say who answers for doing without: --without-backup NAME",
    )
