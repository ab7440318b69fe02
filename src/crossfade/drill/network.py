"""The process behind the drill's network: it passes bytes on, late or not at all, and understands none of them.

`proxy.Proxy` is the other end of its socket; when that closes, the network is gone. Nothing but the standard library is
imported, so it is there at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from crossfade.drill.processes import short_name

_CHUNK = 65536


class Mode(StrEnum):
    """What a line of the network does."""

    OPEN = "open"
    CUT = "cut"
    """Connections are broken and new ones refused, as when a server has stopped."""
    STALLED = "stalled"
    """Connections stay, new ones are taken, and nothing arrives, as when a switch drops everything."""


@dataclass(slots=True)
class _Line:
    """One port that leads to one store."""

    dsn_host: str
    dsn_port: int
    mode: Mode = Mode.OPEN
    delay: float = 0.0
    jitter: float = 0.0


class _Network:
    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._open: dict[str, set[asyncio.Task[None]]] = {}
        self._servers: dict[str, asyncio.Server] = {}
        self._moved = asyncio.Condition()

    async def serve(self, path: Path) -> None:
        """Do what the drill asks until it closes its end."""
        done = asyncio.Event()

        async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                answer = await self._do(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
            done.set()

        with short_name(Path(path)) as name:
            server = await asyncio.start_unix_server(control, name)
        async with server:
            await done.wait()

    async def _do(self, message: dict[str, Any]) -> int:
        if "line" in message:
            name = message["line"]
            host = f"{message['host']}/.s.PGSQL.{message['port']}" if message["socket"] else message["host"]
            self._lines[name] = _Line(host, 0 if message["socket"] else message["port"])
            self._open[name] = set()
            server = await asyncio.start_server(
                lambda reader, writer: self._connected(name, reader, writer), "127.0.0.1", 0
            )
            self._servers[name] = server
            return int(server.sockets[0].getsockname()[1])
        line = self._lines[message["set"]]
        async with self._moved:
            line.mode, line.delay, line.jitter = Mode(message["mode"]), message["delay"], message["jitter"]
            self._moved.notify_all()
        if line.mode is Mode.CUT:
            for task in self._open[message["set"]]:
                task.cancel()
        return 0

    async def _connected(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._lines[name]
        if line.mode is Mode.CUT:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open[name].add(task)
        try:
            await self._carry(line, reader, writer)
        except asyncio.CancelledError:
            pass  # the line was cut; nobody awaits this task
        except OSError:
            pass  # an end that breaks is what a network is like
        finally:
            self._open[name].discard(task)
            writer.transport.abort()

    async def _carry(self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line.dsn_port:
            there, back = await asyncio.open_connection(line.dsn_host, line.dsn_port)
        else:
            there, back = await asyncio.open_unix_connection(line.dsn_host)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(line, reader, back))
                group.create_task(self._pass_on(line, there, writer))
        except* OSError:
            pass  # as above
        finally:
            back.transport.abort()

    async def _pass_on(self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            if line.delay or line.jitter:
                await asyncio.sleep(line.delay + random.random() * line.jitter)  # noqa: S311
            if line.mode is Mode.STALLED:
                async with self._moved:
                    await self._moved.wait_for(lambda: line.mode is not Mode.STALLED)
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError  # one end has closed: so does the other


def main() -> None:
    """Be the network of one drill."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_Network().serve(Path(sys.argv[1])))
    os._exit(0)  # connections that are still carried end with the process


if __name__ == "__main__":
    main()
