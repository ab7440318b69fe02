"""The drill's processes, seen from the drill: started in an instant, stopped, paused and killed by name.

They are forked by the nursery (`nursery.py`), a child that has loaded everything already: a drill that kills hundreds
of processes cannot afford a second of start-up for each. The nursery stands under `embedded.process`, so nothing here
outlives this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from crossfade.drill.order import ProcessOrder
from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError

_START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for a socket at `path` that fits into an address, which holds about a hundred bytes."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


class Process:
    """One process of the drill. `status` is what it ended with, as `os.waitstatus_to_exitcode` says it."""

    def __init__(self, order: ProcessOrder) -> None:
        self.order = order
        self.status: int | None = None
        self.is_doomed = False
        """Whether the drill means it to end."""
        self.ended = asyncio.Event()

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.status is None

    @property
    def is_ready(self) -> bool:
        """Whether it has begun to do its part."""
        with suppress(OSError):
            return self.order.journal.stat().st_size > 0
        return False

    def last_words(self) -> str:
        """The last line that it printed."""
        with suppress(OSError):
            lines = self.order.log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


class Nursery:
    """Starts processes. `directory` is private to this user; `unexpected` hears of every end nobody asked for."""

    def __init__(self, directory: Path, ended: Callable[[Process], None]) -> None:
        self._directory = directory
        self._ended = ended
        self._child: Child | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._processes: dict[int, Process] = {}

    async def __aenter__(self) -> Self:
        path = self._directory / "nursery"
        self._child = await asyncio.to_thread(
            Child.start,
            [sys.executable, "-m", "crossfade.drill.nursery", path],
            log_file=self._directory / "logs" / "nursery.log",
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                reader, self._writer = await self._connect(path)
        except TimeoutError:
            await self.__aexit__()
            raise EmbeddedError(f"the drill's processes do not start within {_START_SECONDS:g} s") from None
        self._task = asyncio.create_task(self._listen(reader))
        return self

    async def _connect(self, path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._child is not None
        while True:
            with suppress(OSError), short_name(path) as name:
                return await asyncio.open_unix_connection(name)
            if self._child.poll() is not None:
                log = (self._directory / "logs" / "nursery.log").read_text(errors="replace").strip()
                raise EmbeddedError(
                    f"the drill's processes do not start: {log.splitlines()[-1:] or 'no reason'}"
                )
            await asyncio.sleep(0.02)

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, 2.0)

    def start(self, order: ProcessOrder) -> Process:
        """Start a process; it is ready some time later."""
        process = self._processes[order.number] = Process(order)
        self._tell({"do": "start", "number": order.number, "order": order.to_json(), "log": str(order.log)})
        return process

    def kill(self, process: Process, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process, if it still runs."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.is_doomed = True
        self._tell({"do": "kill", "number": process.order.number, "signal": int(number)})

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            number, status = json.loads(line)
            process = self._processes.pop(number)
            process.status = os.waitstatus_to_exitcode(status)
            process.ended.set()
            self._ended(process)
