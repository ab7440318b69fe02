"""How PostgreSQL's own programs reach a store: a URL without secrets, and an environment with them.

Arguments are visible to every user of a machine and the environment is not. libpq has no variable for the passphrase of
a client's key, so that one goes into a service file that only this user can read.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from crossfade.dsn import Dsn
from crossfade.errors import BackupError

_SERVICE = "crossfade"


class Reached(NamedTuple):
    """The URL for `--dbname`, and what has to be in the environment beside it."""

    url: str
    environment: Mapping[str, str]


@contextmanager
def reaching(dsn: Dsn) -> Iterator[Reached]:
    """Give URL and environment for as long as programs use them.

    Raises:
        BackupError: a transaction pooler stands between, which no dump survives.
    """
    if dsn.is_pgbouncer:
        raise BackupError(
            dsn.where,
            "its URL leads to a transaction pooler, and a dump needs one session; run this with the URL of the server"
            " itself (the backup is known by the database, not by the URL)",
        )
    secret = dsn.params.get("sslpassword")
    params = {name: value for name, value in dsn.params.items() if name != "sslpassword"}
    url = dataclasses.replace(dsn, schema=None, params=params).libpq_url(with_password=False)
    environment = {} if dsn.password is None else {"PGPASSWORD": dsn.password}
    with tempfile.TemporaryDirectory(prefix="crossfade-service-") as place:
        if secret is not None:
            file = Path(place) / "service"
            file.touch(mode=0o600)
            file.write_text(f"[{_SERVICE}]\nsslpassword={secret}\n", encoding="utf-8")
            environment |= {"PGSERVICEFILE": str(file), "PGSERVICE": _SERVICE}
        yield Reached(url, environment)
