"""`crossfade drill` as an operator runs it: it passes, asks before it touches a database, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from crossfade.dsn import Dsn
from crossfade.embedded.postgres import EmbeddedPostgres


def drill(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a drill to its end, with `place` for its files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
    return subprocess.run(
        [sys.executable, "-m", "crossfade", "drill", *arguments],
        env={**environment, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.parametrize("name", ["kill", "rogue", "follower-down", "backfill"])
def test_a_drill_finds_nothing_lost_and_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    """Writes were acknowledged, both stores hold them, and no file is left."""
    outcome = tmp_path / "outcome.json"
    place = tmp_path / "place"
    place.mkdir()
    done = drill(place, name, "--seconds", "4", "--json", str(outcome))

    assert 0 == done.returncode, done.stdout + done.stderr
    figures = {entry["figure"]: entry for entry in json.loads(outcome.read_text())}
    assert all(entry["ok"] for entry in figures.values())
    assert figures["acknowledged writes"]["value"] > 100
    assert 0 == figures["lost"]["value"] == figures["different"]["value"]
    assert [] == left_in(place)


def left_in(place: Path) -> list[Path]:
    """The files that a drill has left."""
    return list(place.iterdir())


@contextmanager
def started(place: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a long drill; end it with the block."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfade", "drill", "rogue", "--seconds", "60", *arguments],
        env={**environment, "TMPDIR": str(place)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid`, with the time it started at."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1]), fields[19]
    found: dict[int, str] = {}
    level = {pid}
    while level := {child for child, (parent, _) in parents.items() if parent in level}:
        found |= {child: parents[child][1] for child in level}
    return found


def still_running(processes: dict[int, str]) -> set[int]:
    """Those of the processes that are still there, and are no zombies."""
    left = set()
    for pid, since in processes.items():
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[19] == since and fields[0] != "Z":
                left.add(pid)
    return left


async def until(condition: Callable[[], object], seconds: float = 40.0) -> None:
    """Wait until a condition on other processes holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def test_nothing_outlives_a_drill_that_is_killed(tmp_path: Path) -> None:
    """Writers, servers and the network end with the process that started them, however that ended."""
    with started(tmp_path) as process:
        await until(lambda: len(list(tmp_path.glob("crossfade-drill-*/journals/rogue-1-*.jsonl"))) >= 6)
        below = descendants(process.pid)
        assert len(still_running(below)) > 10
        process.kill()
        process.wait()
        await until(lambda: not still_running(below))


async def test_a_drill_that_is_terminated_drops_what_it_made(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """SIGTERM ends it as it ends by itself."""
    dsn = await postgres.create_database("terminated")
    arguments = ("--legacy-dsn", dsn, "--target-dsn", dsn, "--yes-on", "127.0.0.1/terminated")
    with started(tmp_path, *arguments) as process:
        await until(lambda: len(list(tmp_path.glob("crossfade-drill-*/journals/rogue-1-*.jsonl"))) >= 6)
        process.terminate()

        assert 143 == await asyncio.to_thread(process.wait, 30)
    assert {"public", "information_schema"} == await schemas(dsn)
    assert [] == left_in(tmp_path)


async def schemas(dsn: str) -> set[str]:
    """The schemas of a database."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")
        return {row["nspname"] for row in rows}
    finally:
        await connection.close()


async def test_a_database_must_be_named_before_it_is_touched(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """One line says what would happen and how to ask for it."""
    legacy, target = [await postgres.create_database(f"refused_{name}") for name in ("legacy", "target")]
    done = drill(
        tmp_path,
        *("rogue", "--legacy-dsn", legacy, "--target-dsn", target, "--yes-on", "127.0.0.1/refused_legacy"),
    )

    assert 2 == done.returncode
    assert "--yes-on 127.0.0.1/refused_target" in done.stderr
    assert 1 == len(done.stderr.splitlines())
    assert (Dsn.parse(legacy).password or "") not in done.stderr
    assert {"public", "information_schema"} == await schemas(legacy) == await schemas(target)


async def test_a_drill_in_named_databases_drops_what_it_made(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """Both stores may even be in one database; what was there before is there afterwards."""
    dsn = await postgres.create_database("staging")
    done = drill(
        tmp_path,
        *("stale", "--seconds", "3", "--legacy-dsn", dsn, "--target-dsn", dsn),
        *("--yes-on", "127.0.0.1/staging"),
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert {"public", "information_schema"} == await schemas(dsn)


async def test_a_schema_of_somebody_else_is_left_alone(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    """A schema that has the drill's name and not its mark stops the drill."""
    dsn = await postgres.create_database("occupied")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE SCHEMA crossfade_drill_legacy")
    await connection.close()
    done = drill(
        tmp_path, "rogue", "--legacy-dsn", dsn, "--target-dsn", dsn, "--yes-on", "127.0.0.1/occupied"
    )

    assert 2 == done.returncode
    assert "was not made by a drill" in done.stderr
    assert "crossfade_drill_legacy" in await schemas(dsn)
