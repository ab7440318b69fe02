"""PostgreSQL's own programs for backups: which ones there are, and how to run one so that it ends with this process.

`pg_dump` reads servers of its own major version and older ones, and `pg_restore` reads what the `pg_dump` beside it has
written. So all programs of a backup come from one directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossfade.embedded.binaries import BIN_VARIABLE, find_bin_dir
from crossfade.embedded.process import Child
from crossfade.errors import BackupError, EmbeddedError

_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore")
_SYSTEM = Path("/usr/lib/postgresql")
_LOOK_SECONDS = 0.5
"""How long a thread outlives a caller who is cancelled."""
_LAST_LINES = 3


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs of one directory; `version` is what `pg_dump --version` says, `major` its first number."""

    directory: Path
    version: str
    major: int

    async def run(self, program: str, *arguments: str, where: str, environment: Mapping[str, str]) -> None:
        """Run a program to its end, or stop it if the caller is cancelled.

        Args:
            program: its name.
            arguments: visible to every user of the machine, so no secret may be among them.
            where: what the program works on, for the error.
            environment: added to that of this process; secrets go here.

        Raises:
            BackupError: it failed; the message has its last words.
        """
        with tempfile.TemporaryDirectory(prefix="crossfade-tool-") as place:
            log = Path(place) / "log"
            child = await _started([self.directory / program, *arguments], environment, log)
            try:
                await _ended(child)
            finally:
                status = await asyncio.to_thread(child.stop)
            if status != 0:
                raise BackupError(where, f"{program} failed: {_last_words(log, status)}")


def find_tools(where: str, server: int, *, at_most: int | None = None) -> Tools:
    """The newest programs that can dump a server of major version `server`.

    Args:
        where: the store, for the error.
        server: its major version.
        at_most: the major version of the server that the dump will be restored to, if that is known.

    Raises:
        BackupError: there are none.
    """
    found = [_tools(directory) for directory in dict.fromkeys(_places())]
    present = [tools for tools in found if tools is not None]
    fitting = [t for t in present if server <= t.major and (at_most is None or t.major <= at_most)]
    if fitting:
        return max(fitting, key=lambda tools: tools.major)
    have = ", ".join(sorted({tools.version for tools in present})) or "none"
    wanted = f"of version {server}" + (
        "" if at_most == server else f" to {at_most}" if at_most else " or newer"
    )
    raise BackupError(
        where,
        f"it is PostgreSQL {server}, and a pg_dump {wanted} is needed (there is: {have});"
        f" install postgresql-client-{server}, or name a directory of PostgreSQL's programs in {BIN_VARIABLE}",
    )


def _places() -> Iterator[Path]:
    named = os.environ.get(BIN_VARIABLE)
    if named:
        yield Path(named)
    yield from sorted(_SYSTEM.glob("*/bin"))
    on_path = shutil.which("pg_dump")
    if on_path:
        yield Path(on_path).parent
    try:
        yield find_bin_dir(None)
    except EmbeddedError:
        return


def _tools(directory: Path) -> Tools | None:
    if not all((directory / program).is_file() for program in _PROGRAMS):
        return None
    answer = subprocess.run(
        [directory / "pg_dump", "--version"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    found = re.search(r"\(PostgreSQL\) (\d+)(\S*)", answer.stdout)
    return None if found is None else Tools(directory, found[1] + found[2], int(found[1]))


async def _started(argv: list[str | Path], environment: Mapping[str, str], log: Path) -> Child:
    """Start a supervised child. Who is cancelled meanwhile stops what has been started."""
    # What the shell has set for other programs (PGHOST, PGOPTIONS …) must not lead these astray.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}

    def start() -> Child:
        try:
            return Child.start(argv, env={**clean, **environment}, log_file=log)
        except EmbeddedError as error:
            raise BackupError(Path(argv[0]).name, str(error)) from error

    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await asyncio.to_thread(starting.result().stop)
        raise


async def _ended(child: Child) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.to_thread(child.wait, _LOOK_SECONDS)
            return


def _last_words(log: Path, status: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "FATAL" in line]
    return "; ".join((telling or lines)[-_LAST_LINES:]) or f"it left with status {status} and no message"
