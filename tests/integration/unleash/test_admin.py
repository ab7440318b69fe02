"""The admin API: what a push leaves alone, and servers that are not what they should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from crossfade.errors import FlagDriftError, FlagServiceError
from crossfade.flags import Flag
from crossfade.flags.admin import UnleashAdmin
from crossfade.stages import Stage
from unleash import Unleash

FLAG = Flag("User", Stage.SHADOW, owner="accounts", description="People.", source="User.yaml")
TOKEN = "*:*.not-to-be-shown"


@asynccontextmanager
async def serving(answer: str) -> AsyncIterator[str]:
    """A server that says the same to everybody."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head, _, body = answer.partition("\n")
        writer.write(
            f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        yield f"http://somebody:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}/api/"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            "401 Unauthorized\n{}",
            "it does not know the token; CROSSFADE_UNLEASH_ADMIN_TOKEN must hold an admin token",
        ),
        (
            '403 Forbidden\n{"message": "no access", "details": [{"message": "needs ADMIN"}]}',
            "GET /projects was refused with 403: needs ADMIN; may the token in CROSSFADE_UNLEASH_ADMIN_TOKEN do this?",
        ),
        ("404 Not Found\nno such page", "GET /projects was refused with 404: no reason given"),
        ("500 Oh\n[1]", "GET /projects was refused with 500: no reason given"),
        ("302 Found\n", "GET /projects was refused with 302"),
        (
            "200 OK\n<html>a login page</html>",
            "it answers with no JSON; is CROSSFADE_UNLEASH_URL an Unleash server's?",
        ),
        ("200 OK\n[]", "it lists no projects; is CROSSFADE_UNLEASH_URL an Unleash server's?"),
        ('200 OK\n{"projects": [{"id": "other"}]}', "it has no project 'default'; it has other"),
        ("what\n", "it does not answer (RemoteProtocolError)"),
    ],
)
async def test_a_server_that_is_none_is_told(answer: str, told: str) -> None:
    """With what to look at, and neither the token nor the password of the URL."""
    async with serving(answer) as url, UnleashAdmin(url, TOKEN) as admin:
        with pytest.raises(FlagServiceError) as caught:
            await admin.read()

    assert told in str(caught.value)
    for shown in (str(caught.value), repr(admin)):
        assert TOKEN not in shown
        assert "hunter2" not in shown


async def test_a_push_of_what_has_changed_meanwhile_is_given_up(unleash: Unleash) -> None:
    """Somebody clicked between the look and the write: their value stays."""
    async with UnleashAdmin(unleash.server.url, unleash.server.admin_token) as admin:
        await admin.push(FLAG, None)
        seen = (await admin.read())["User"]
        await unleash.switch("User", on=False)

        with pytest.raises(FlagDriftError, match=r"User \(while it was being pushed\)"):
            await admin.push(replace(FLAG, stage=Stage.LIVE), seen)

        feature = (await admin.read())["User"]
    assert not feature.is_on
    assert Stage.SHADOW is feature.payload_stage


async def test_a_feature_that_somebody_else_has_made_meanwhile_is_left_alone(unleash: Unleash) -> None:
    """It was not there when it was looked at."""
    await unleash.flag("User", {"stage": "live"})
    async with UnleashAdmin(unleash.server.url, unleash.server.admin_token) as admin:
        with pytest.raises(FlagDriftError):
            await admin.push(FLAG, None)

        assert Stage.LIVE is (await admin.read())["User"].payload_stage


async def test_a_push_that_was_ended_half_way_is_seen_and_harmless(unleash: Unleash) -> None:
    """The new payload is there and was not noted: it is what the file asks for, so the next push notes it."""
    async with UnleashAdmin(unleash.server.url, unleash.server.admin_token) as admin:
        await admin.push(FLAG, None)
        pushed = (await admin.read())["User"]
        await unleash.flag("User", {"stage": "live", "sample": 1, "canary": 0})

        half = (await admin.read())["User"]
        assert half.has_drifted
        await admin.note(half)

        noted = (await admin.read())["User"]
    assert not noted.has_drifted
    assert replace(FLAG, stage=Stage.LIVE) == noted.flag
    assert 1 == sum(tag.type == "crossfade" for tag in noted.tags)
    assert pushed.pushed != noted.pushed
