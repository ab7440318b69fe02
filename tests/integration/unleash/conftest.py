"""Providers that ask the session's Unleash server, or a server that answers what a test tells it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from puppet import Provider, Puppet

from crossfade.embedded.unleash import EmbeddedUnleash
from crossfade.events import Observer
from crossfade.flags.unleash import UnleashFlags

MODELS = ("Book", "Genre")


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    """Makes providers for the models Book and Genre, which keep what they know in one place."""

    def make(
        server: EmbeddedUnleash | Puppet,
        ear: Observer,
        *,
        environment: str = "development",
        token: str | None = None,
        app_name: str = "shop",
        models: Collection[str] | None = MODELS,
        cache: Path = tmp_path / "cache",
        poll_seconds: float = 0.2,
    ) -> UnleashFlags:
        return UnleashFlags(
            server.url,
            token or f"default:{environment}.crossfade-embedded",
            models,
            ear,
            environment=environment,
            app_name=app_name,
            cache_dir=cache,
            poll_seconds=poll_seconds,
        )

    return make


@pytest.fixture
async def puppet() -> AsyncIterator[Puppet]:
    """A server that answers what a test tells it to."""
    server = Puppet()
    await server.start()
    yield server
    await server.stop()
