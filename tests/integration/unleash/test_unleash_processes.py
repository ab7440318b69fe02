"""Forks, threads and event loops: every process and every loop has a provider of its own, and all come to the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from puppet import Provider

from crossfade.stages import Stage
from flag_readers import Ear, flag_that
from unleash import Unleash

GOOD = {"stage": "shadow", "sample": 0.5}

PRELOADED = """
import asyncio, json, os, sys, tempfile
from pathlib import Path
from crossfade.events import NullObserver
from crossfade.flags.unleash import UnleashFlags

url, token, mode, cache = sys.argv[1:]

def make():
    return UnleashFlags(
        url, token, ["Book"], NullObserver(), environment="development", app_name="shop",
        cache_dir=Path(cache), poll_seconds=0.2,
    )

def say(*words):
    # At once: what two processes print into one pipe may come in any order, and in pieces.
    os.write(1, (json.dumps(words) + chr(10)).encode())

async def follow(flags):
    # One that is there at the start, and one that has changed.
    async with flags:
        first = flags.current()["Book"].stage
        say("open", first)
        async for flag in flags.changes():
            if flag.stage != first:
                say("changed", flag.stage)
                return

async def forks_while_open():
    async with make() as flags:
        task = asyncio.create_task(follow(make()))
        while not flags.current():
            await asyncio.sleep(0.05)
        pid = os.fork()
        if pid == 0:
            # What a worker does: a new loop of its own. That of the parent is not its to run.
            asyncio._set_running_loop(None)
            asyncio.run(follow(make()))
            os._exit(0)
        await task
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

if mode == "preload":
    flags = make()  # as a preloading server does, once for all its workers
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            asyncio.run(follow(flags))
            os._exit(0)
        pids.append(pid)
    assert all(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in pids)
else:
    asyncio.run(forks_while_open())
"""


@pytest.mark.parametrize("mode", ["preload", "open"])
async def test_forks(unleash: Unleash, tmp_path: Path, mode: str) -> None:
    """A provider made before a fork is opened after it; a fork of a process that follows flags follows its own."""
    await unleash.flag("Book", GOOD)
    await unleash.settle()
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", PRELOADED),
        *(unleash.server.url, unleash.server.backend_token, mode, str(tmp_path)),
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None

    async with asyncio.timeout(60):
        opened = [json.loads(await parent.stdout.readline()) for _ in range(2)]
        await unleash.flag("Book", {"stage": "live"})
        rest, _ = await parent.communicate()

    assert [["open", "shadow"]] * 2 == opened
    assert [["changed", "live"]] * 2 == [json.loads(line) for line in rest.splitlines()]
    assert 0 == parent.returncode


async def test_two_loops_in_two_threads(unleash: Unleash, provider: Provider) -> None:
    """Each loop follows with its own provider, and what it hears comes to its own thread."""
    await unleash.flag("Book", GOOD)
    await unleash.settle()

    async def follow() -> tuple[Stage, Stage]:
        async with provider(unleash.server, Ear()) as flags:
            first = flags.current()["Book"].stage
            opened.release()
            changed = await flag_that(flags, lambda flag: flag.stage is Stage.LIVE)
            return first, changed.stage

    class Opened:
        """Counts the loops that have opened, across threads."""

        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()
            self._count = asyncio.Semaphore(0)

        def release(self) -> None:
            self._loop.call_soon_threadsafe(self._count.release)

        async def wait(self, times: int) -> None:
            for _ in range(times):
                await self._count.acquire()

    opened = Opened()
    threads = [asyncio.create_task(asyncio.to_thread(asyncio.run, follow())) for _ in range(2)]
    async with asyncio.timeout(30):
        await opened.wait(2)
        await unleash.flag("Book", {"stage": "live"})
        followed = await asyncio.gather(*threads)

    assert [(Stage.SHADOW, Stage.LIVE)] * 2 == followed
