"""A server that answers what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossfade.flags.unleash import UnleashFlags

Provider = Callable[..., UnleashFlags]
"""`provider(server, ear, …)` makes a provider that polls often; it is not opened."""


class Puppet:
    """An HTTP server that answers what it is told to; without an answer it is silent."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.body: str | None = None
        self.asked = 0
        """How many questions came."""
        self.requests: list[str] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def answers(self, body: str | None, status: int = 200, **headers: str) -> None:
        """Answer this from now on."""
        self.body, self.status = body, status
        self.headers = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head)
        self.asked += 1
        if self.body is None:
            return
        body = self.body.encode()
        headers = self.headers | {"Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()
