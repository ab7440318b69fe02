"""Dump the database of a store, see that everything is in the dump, and prove that it can be restored.

A backup is a directory: the dump (pg_dump's directory format, of the whole database, so with the schema `crossfade`),
the roles of the server, the list of what is in the dump, and a manifest. It has another name until it is complete, so
one that was interrupted is never taken for a backup.

The store is read in one snapshot, which `pg_dump` shares. The proof compares with what that very snapshot saw, so it is
exact however much is written meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from crossfade import __version__
from crossfade.backup.listing import missing_in
from crossfade.backup.manifest import (
    DUMP,
    LIST,
    MANIFEST,
    ROLES,
    Backup,
    DumpedTable,
    Manifest,
    Proof,
    now,
)
from crossfade.backup.reaching import Reached, reaching
from crossfade.backup.scratch import ScratchStanding, read_scratch, scratch_database, scratch_server
from crossfade.backup.standing import (
    StoreStanding,
    one_snapshot,
    read_images,
    read_images_at,
    read_standing,
    read_tables,
    session,
)
from crossfade.backup.tools import Tools, find_tools
from crossfade.dsn import Dsn
from crossfade.errors import BackupError
from crossfade.stages import Side
from crossfade.store.tables import Connection

_UNFINISHED = ".unfinished"
_LOCK_PATIENCE_MS = 60_000
_Images = Mapping[tuple[str, str], tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """How to make backups.

    Args:
        prove: whether to restore the dump and compare every table.
        scratch: the server to restore to; an embedded one by default.
        jobs: how many connections `pg_dump` and `pg_restore` may use.
    """

    prove: bool = False
    scratch: Dsn | None = None
    jobs: int = 2


async def back_up(
    stores: Mapping[Side, Dsn],
    directory: Path,
    settings: BackupSettings | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> list[Backup]:
    """Make a backup of each store in `directory`; two stores in one database have one.

    Raises:
        BackupError: it cannot be made, or is not what it should be; nothing is left of it.
        StoreUnavailableError: a store does not answer.
    """
    made: list[Backup] = []
    for side, dsn in stores.items():
        async with session(dsn, f"the store of {side}") as connection:
            standing = await read_standing(connection, dsn.where)
            if any(standing.identity.is_same(backup.manifest.identity) for backup in made):
                continue
            sides = await _sides_of(stores, standing)
            making = _Making(dsn, connection, standing, sides, settings or BackupSettings(), say)
            made.append(await making.make(directory))
    return made


async def _sides_of(stores: Mapping[Side, Dsn], standing: StoreStanding) -> tuple[str, ...]:
    sides = []
    for side, dsn in stores.items():
        async with session(dsn, f"the store of {side}") as connection:
            if (await read_standing(connection, dsn.where)).identity.is_same(standing.identity):
                sides.append(side.value)
    return tuple(sides)


class _Making:
    def __init__(
        self,
        dsn: Dsn,
        connection: Connection,
        standing: StoreStanding,
        sides: tuple[str, ...],
        settings: BackupSettings,
        say: Callable[[str], None],
    ) -> None:
        self._dsn, self._connection, self._standing = dsn, connection, standing
        self._sides, self._settings, self._say = sides, settings, say

    async def make(self, directory: Path) -> Backup:
        started = now()
        database = re.sub(r"[^A-Za-z0-9_.-]", "_", self._dsn.database)
        final = directory / f"{started:%Y%m%dT%H%M%SZ}-{'-'.join(self._sides)}-{database}"
        draft = final.with_name(final.name + _UNFINISHED)
        _make_private(draft, self._dsn.where)
        try:
            if self._settings.prove:
                async with scratch_server(self._settings.scratch) as server:
                    scratch = await read_scratch(server)
                    self._check_scratch(scratch)
                    tools = find_tools(self._dsn.where, self._standing.major, at_most=scratch.major)
                    manifest = await self._dump(draft, tools, started, server)
            else:
                tools = find_tools(self._dsn.where, self._standing.major)
                manifest = await self._dump(draft, tools, started, None)
            _write(draft / MANIFEST, manifest.as_json())
            draft.rename(final)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return Backup(final, manifest)

    def _check_scratch(self, scratch: ScratchStanding) -> None:
        what = "embedded server" if self._settings.scratch is None else "scratch server"
        if scratch.major < self._standing.major:
            raise BackupError(
                self._dsn.where,
                f"it is PostgreSQL {self._standing.major} and the {what} is {scratch.major}, which cannot take its"
                " dump; name a newer server with --scratch",
            )
        lacking = [name for name in self._standing.extensions if name not in scratch.extensions]
        if lacking:
            raise BackupError(
                self._dsn.where,
                f"the {what} does not have the extensions {', '.join(lacking)}, so the dump cannot be restored there;"
                " name a server that has them with --scratch",
            )

    async def _dump(self, draft: Path, tools: Tools, started: datetime, server: Dsn | None) -> Manifest:
        where = self._dsn.where
        self._say(f"{where}: pg_dump {tools.version} of PostgreSQL {self._standing.version}")
        with reaching(self._dsn) as reached:
            async with one_snapshot(self._connection) as snapshot:
                tables, partitioned = await read_tables(self._connection)
                images = await self._beside(
                    self._run_dump(draft, tools, reached, snapshot), tables if server is not None else None
                )
            roles = await self._dump_roles(draft, tools, reached)
        listing = await self._list(draft, tools)
        missing = missing_in(listing, tables, partitioned)
        if missing:
            raise BackupError(where, f"the dump lacks {', '.join(missing)}")
        manifest = Manifest(
            sides=self._sides,
            identity=self._standing.identity,
            started=started,
            finished=now(),
            server_version=self._standing.version,
            tool_version=tools.version,
            crossfade_version=__version__,
            size_bytes=sum(file.stat().st_size for file in (draft / DUMP).iterdir()),
            list_sha256=hashlib.sha256(listing.encode()).hexdigest(),
            roles=roles,
            tables=tables,
        )
        self._say(f"{where}: {len(tables)} tables, {manifest.size_bytes:,} bytes; roles {roles}")
        if server is not None and images is not None:
            proof = await self._prove(draft, tools, server, tables, images)
            self._say(
                f"{where}: restored to PostgreSQL {proof.server_version}, {proof.rows:,} rows are the same"
            )
            proved = tuple(
                replace(t, rows=images[t.schema, t.name][0], image_hash=images[t.schema, t.name][1])
                for t in tables
            )
            manifest = replace(manifest, tables=proved, proof=proof, finished=now())
        return manifest

    async def _beside(
        self, dumping: Coroutine[Any, Any, None], tables: tuple[DumpedTable, ...] | None
    ) -> _Images | None:
        """Hash the rows of `tables` while they are dumped, from the same snapshot."""
        dump = asyncio.ensure_future(dumping)
        hashing = asyncio.ensure_future(read_images(self._connection, tables or ()))
        try:
            _, images = await asyncio.gather(dump, hashing)
        except asyncpg.InsufficientPrivilegeError as error:
            raise BackupError(self._dsn.where, f"its rows may not be read: {error}") from error
        finally:
            for task in (dump, hashing):
                task.cancel()
            await asyncio.wait([dump, hashing])
        return None if tables is None else images

    async def _run_dump(self, draft: Path, tools: Tools, reached: Reached, snapshot: str) -> None:
        await tools.run(
            "pg_dump",
            *(
                "--dbname",
                reached.url,
                "--no-password",
                "--format=directory",
                f"--jobs={self._settings.jobs}",
            ),
            *(
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={_LOCK_PATIENCE_MS}",
                "--file",
                str(draft / DUMP),
            ),
            where=self._dsn.where,
            environment=reached.environment,
        )
        (draft / DUMP).chmod(0o700)
        for file in (draft / DUMP).iterdir():
            file.chmod(0o600)

    async def _dump_roles(self, draft: Path, tools: Tools, reached: Reached) -> str:
        """Dump the roles, as far as the role in the URL may see them, and say what came of it."""
        file = draft / ROLES
        file.touch(mode=0o600)
        without = () if self._standing.is_superuser else ("--no-role-passwords",)
        try:
            await tools.run(
                "pg_dumpall",
                *("--dbname", reached.url, "--database", self._dsn.database, "--no-password", "--roles-only"),
                *(*without, "--file", str(file)),
                where=self._dsn.where,
                environment=reached.environment,
            )
        except BackupError as error:
            file.unlink(missing_ok=True)
            return f"refused: {error.problem}"
        file.chmod(0o600)
        return "without passwords" if without else "with passwords"

    async def _list(self, draft: Path, tools: Tools) -> str:
        await tools.run(
            "pg_restore",
            *("--list", "--file", str(draft / LIST), str(draft / DUMP)),
            where=self._dsn.where,
            environment={},
        )
        (draft / LIST).chmod(0o600)
        return (draft / LIST).read_text(encoding="utf-8", errors="surrogateescape")

    async def _prove(
        self, draft: Path, tools: Tools, server: Dsn, tables: tuple[DumpedTable, ...], images: _Images
    ) -> Proof:
        roles = [row["rolname"] for row in await self._connection.fetch("SELECT rolname::text FROM pg_roles")]
        usual = [role for role in roles if not role.startswith("pg_")]
        version = (await read_scratch(server)).version
        is_embedded = self._settings.scratch is None
        async with scratch_database(server, self._standing, usual, is_embedded=is_embedded) as scratch:
            with reaching(scratch) as reached:
                await tools.run(
                    "pg_restore",
                    *(
                        "--dbname",
                        reached.url,
                        "--no-password",
                        f"--jobs={self._settings.jobs}",
                        "--exit-on-error",
                    ),
                    *(
                        "--no-owner",
                        "--no-privileges",
                        "--no-tablespaces",
                        "--no-publications",
                        "--no-subscriptions",
                    ),
                    str(draft / DUMP),
                    where=f"{self._dsn.where}, restored to {scratch.where}",
                    environment=reached.environment,
                )
            async with session(scratch, "the scratch database") as connection:
                restored = await _images_of(connection, tables, self._dsn.where)
        different = [
            f"{schema}.{name}" for (schema, name), image in images.items() if restored[schema, name] != image
        ]
        if different:
            raise BackupError(
                self._dsn.where, f"restored, the rows of {', '.join(different)} are not those of the store"
            )
        return Proof(now(), version, len(tables), sum(rows for rows, _ in images.values()))


async def _images_of(connection: Connection, tables: Sequence[DumpedTable], where: str) -> _Images:
    try:
        return await read_images_at(connection, tuple(tables))
    except asyncpg.PostgresError as error:
        raise BackupError(where, f"what was restored cannot be read: SQLSTATE {error.sqlstate}") from error


def _make_private(directory: Path, where: str) -> None:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.mkdir(mode=0o700)
    except OSError as error:
        raise BackupError(where, f"cannot make {directory}: {error.strerror}") from error


def _write(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
