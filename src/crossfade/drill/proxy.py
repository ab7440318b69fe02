"""A network between writers and a store that can be cut, stalled and slowed down.

The lines run through a process of their own (`network.py`), so that nothing else slows them down.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from crossfade.drill.network import Mode
from crossfade.drill.processes import short_name
from crossfade.dsn import Dsn
from crossfade.embedded.process import Child
from crossfade.errors import EmbeddedError

_START_SECONDS = 15.0


class Proxy:
    """The lines of one drill. `directory` is private to this user."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._child: Child | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        path = self._directory / "proxy"
        self._child = await asyncio.to_thread(
            Child.start,
            [sys.executable, "-m", "crossfade.drill.network", path],
            log_file=self._directory / "logs" / "proxy.log",
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while True:
                    with suppress(OSError), short_name(path) as name:
                        self._reader, self._writer = await asyncio.open_unix_connection(name)
                        return self
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.__aexit__()
            raise EmbeddedError(f"the drill's network does not start within {_START_SECONDS:g} s") from None

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._child is not None:
            await asyncio.to_thread(self._child.stop, 1.0)

    async def line(self, name: str, dsn: Dsn) -> Dsn:
        """Open a line to a store and return where it begins."""
        port = await self._ask({"line": name, "host": dsn.host, "port": dsn.port, "socket": dsn.is_socket})
        return dataclasses.replace(dsn, host="127.0.0.1", port=port)

    async def set(
        self, name: str, mode: Mode = Mode.OPEN, *, delay: float = 0.0, jitter: float = 0.0
    ) -> None:
        """Change what a line does: each piece is late by `delay` seconds and up to `jitter` more."""
        await self._ask({"set": name, "mode": mode, "delay": delay, "jitter": jitter})

    async def _ask(self, message: dict[str, Any]) -> int:
        assert self._reader is not None
        assert self._writer is not None
        async with self._turn:
            self._writer.write(json.dumps(message).encode() + b"\n")
            answer = await self._reader.readline()
        if not answer:
            raise EmbeddedError("the drill's network has ended")
        return int(json.loads(answer))
