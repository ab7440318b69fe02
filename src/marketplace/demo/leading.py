"""The process that only conducts, `crossfade conduct`, as the demo sees it: started, listened to, and stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from crossfade.embedded.process import Child
from crossfade.events import Event, GuardTripped, Observer, StageHeld, StageMoved
from marketplace.demo.application import Application
from marketplace.demo.facts import fact_from_json
from marketplace.setup import SCHEMA_FILE

_STOP_SECONDS = 20.0
_READ_EVERY = 0.1
_HEARD: Final[dict[str, type[Event]]] = {
    "stage.moved": StageMoved,
    "stage.held": StageHeld,
    "guard.tripped": GuardTripped,
}
"""What of its log lines the show is about."""


class LeadingProcess:
    """Runs `crossfade conduct` for an application; `observer` hears what its log tells. Open it with `async with`."""

    def __init__(self, application: Application, directory: Path, observer: Observer) -> None:
        self.moves = 0
        self._application = application
        self._log = directory / "conductor.log"
        self._observer = observer
        self._child: Child | None = None
        self._offset = 0
        self._reading: asyncio.Task[None] | None = None
        self._was_stopped = False

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._child is not None
        return self._child.pid

    async def __aenter__(self) -> Self:
        self._child = await asyncio.to_thread(
            Child.start,
            [sys.executable, "-m", "crossfade", "conduct"],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")},
                **self._application.environment(),
                "CROSSFADE_FLAGS_DIR": str(self._application.flags),
                "CROSSFADE_SCHEMA": str(SCHEMA_FILE),
            },
            log_file=self._log,
        )
        self._reading = asyncio.create_task(self._read(), name="conductor-log")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._child is not None:
            self._was_stopped = self._child.poll() is None
            await asyncio.to_thread(self._child.stop, _STOP_SECONDS)
            self._take()

    @property
    def state(self) -> str:
        """What it is doing, for the board."""
        runs = self._child is not None and self._child.poll() is None
        return f"pid {self.pid} leads, {self.moves} moves" if runs else "ended"

    def problems(self) -> Counter[tuple[str, str, str]]:
        """What went wrong with the process itself, as failures: it ended although nobody asked for it."""
        if self._was_stopped or self._child is None or self._child.poll() is None:
            return Counter()
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            return Counter({("conductor", "process", lines[-1] if lines else "ended by itself"): 1})
        return Counter({("conductor", "process", "ended by itself"): 1})

    async def _read(self) -> None:
        while True:
            self._take()
            await asyncio.sleep(_READ_EVERY)

    def _take(self) -> None:
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):
                self._hear(json.loads(line))

    def _hear(self, entry: Any) -> None:
        if not isinstance(entry, dict) or entry.get("event") not in _HEARD:
            return
        kind: Any = _HEARD[entry["event"]]
        fact = fact_from_json(kind.__name__, [entry[field] for field in kind._fields])
        self.moves += isinstance(fact, StageMoved)
        self._observer.observe(fact)
