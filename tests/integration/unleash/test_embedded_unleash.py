"""The embedded Unleash server starts, answers, keeps its features over a restart, and ends with its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from crossfade.embedded.unleash import EmbeddedUnleash
from crossfade.errors import EmbeddedError
from databases import FreshDatabase
from unleash import Unleash

PAYLOAD = {"stage": "shadow"}

ORPHAN = """
import asyncio, os, signal, sys
from crossfade.embedded.unleash import EmbeddedUnleash

async def main():
    server = EmbeddedUnleash(sys.stdin.readline().strip())
    await server.start()
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_features_reach_a_client(unleash: Unleash) -> None:
    """A feature made with the admin token is seen with the token of its environment, and on in that one alone."""
    await unleash.flag("Book", PAYLOAD)

    seen = {
        environment: (await features(unleash.server, environment))["crossfade.Book"]
        for environment in ("development", "production")
    }

    assert {"development": True, "production": False} == {name: it["enabled"] for name, it in seen.items()}


async def test_restart_keeps_port_and_features(unleash: Unleash, ended: Callable[..., bool]) -> None:
    """A server that was killed and started again is at the same place and has the same features."""
    await unleash.flag("Book", PAYLOAD)
    url = unleash.server.url

    os.kill(unleash.server.pid, signal.SIGKILL)
    assert ended(unleash.server.pid)
    await unleash.server.start()

    assert url == unleash.server.url
    assert ["crossfade.Book"] == list(await features(unleash.server, "development"))


async def test_a_foreign_token_is_refused(unleash: Unleash) -> None:
    """The client API asks for a token that the server knows."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            f"{unleash.server.api_url}/client/features",
            headers={"Authorization": "default:development.guess"},
        )

    assert 401 == answer.status_code


async def test_it_ends_with_its_parent(fresh_database: FreshDatabase, ended: Callable[..., bool]) -> None:
    """A parent killed with SIGKILL leaves no server behind."""
    dsn = await fresh_database()

    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    printed, _ = await parent.communicate(dsn.libpq_url().encode())

    assert -signal.SIGKILL == parent.returncode
    assert ended(int(printed))


async def test_a_database_that_is_away(fresh_database: FreshDatabase) -> None:
    """Without its database it does not start, and says so without the database's password."""
    dsn = (await fresh_database()).replace(database="nowhere")

    with pytest.raises(EmbeddedError, match=r"^Unleash does not start: .*nowhere.* does not exist") as caught:
        await EmbeddedUnleash(dsn.libpq_url()).start()

    assert str(dsn.password) not in str(caught.value)


async def features(server: EmbeddedUnleash, environment: str) -> dict[str, dict[str, object]]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            f"{server.api_url}/client/features",
            headers={"Authorization": server.backend_token_of(environment)},
        )
    return {feature["name"]: feature for feature in answer.json()["features"]}
