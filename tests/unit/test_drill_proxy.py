"""The drill's network: lines that are cut, stalled and slowed down."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest

from crossfade.drill.network import Mode
from crossfade.drill.proxy import Proxy
from crossfade.dsn import Dsn


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while chunk := await reader.read(100):
        writer.write(chunk)
    writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Dsn]:
    """Something at the far end of a line."""
    serving = await asyncio.start_server(echo, "127.0.0.1", 0)
    yield Dsn("127.0.0.1", serving.sockets[0].getsockname()[1], "none")
    serving.close()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    """A network."""
    (tmp_path / "logs").mkdir()
    async with Proxy(tmp_path) as network:
        yield network


class Caller:
    """Somebody at the near end of a line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self) -> bytes:
        """Send a word and wait for it to come back; empty when the line is broken."""
        self._writer.write(b"word")
        try:
            return await self._reader.read(100)
        except ConnectionError:
            return b""


@asynccontextmanager
async def call(line: Dsn) -> AsyncIterator[Caller]:
    """Connect to a line, for the time of the block."""
    reader, writer = await asyncio.open_connection(line.host, line.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_an_open_line_carries_what_it_is_given(proxy: Proxy, server: Dsn) -> None:
    """Bytes come and go unchanged."""
    async with call(await proxy.line("one", server)) as caller:
        assert b"word" == await caller.ask()


async def test_a_cut_line_breaks_connections_and_takes_no_new_ones_until_it_is_mended(
    proxy: Proxy, server: Dsn
) -> None:
    """So it looks when a server has stopped, and is there again."""
    line = await proxy.line("one", server)
    async with call(line) as old:
        await old.ask()
        await proxy.set("one", Mode.CUT)

        assert b"" == await old.ask()
    async with call(line) as refused:
        assert b"" == await refused.ask()

    await proxy.set("one")
    async with call(line) as new:
        assert b"word" == await new.ask()


async def test_a_stalled_line_holds_everything_until_it_moves_again(proxy: Proxy, server: Dsn) -> None:
    """Nothing is lost of a connection that stays."""
    async with call(await proxy.line("one", server)) as caller:
        await caller.ask()
        await proxy.set("one", Mode.STALLED)
        answer = asyncio.create_task(caller.ask())
        done, _ = await asyncio.wait([answer], timeout=0.2)

        assert not done

        await proxy.set("one")

        assert b"word" == await answer


async def test_a_slow_line_is_slow_on_the_way_there_and_back(proxy: Proxy, server: Dsn) -> None:
    """However quick the rest is."""
    line = await proxy.line("slow", server)
    await proxy.set("slow", delay=0.1)
    async with call(line) as caller:
        began = monotonic()

        assert b"word" == await caller.ask()
        assert monotonic() - began >= 0.2
