"""The features of a real Unleash server as the demo's walk changes them. Needs the extra `unleash`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
from platformdirs import user_cache_path

from crossfade.embedded.unleash import EmbeddedUnleash
from crossfade.engine.packages import Announce
from crossfade.events import Observer
from crossfade.flags import Flag
from crossfade.flags.admin import UnleashAdmin
from crossfade.flags.feature import name_of, strategy_of
from crossfade.flags.remembered import Remembered
from crossfade.flags.unleash import UnleashFlags
from crossfade.stages import Stage, has_begun
from marketplace.demo.desk import APP_NAME, ENVIRONMENT, UnleashPlace

_SECONDS = 20.0


class UnleashDesk:
    """The features of an Unleash server, changed by its admin API as its page does. Open it with `async with`.

    A stage is asked for by the payload of the feature's variant; `off` by toggling the feature off.
    """

    def __init__(self, place: UnleashPlace, flags: Mapping[str, Flag]) -> None:
        self._place = place
        self._flags = dict(flags)
        self._client = httpx.AsyncClient(
            base_url=f"{place.url}/api/admin/projects/default/features",
            headers={"Authorization": place.admin_token},
            timeout=_SECONDS,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def push(self) -> None:
        """Make the features, as `crossfade flags push` does."""
        admin = UnleashAdmin(self._place.url, self._place.admin_token, environment=ENVIRONMENT)
        async with admin:
            seen = await admin.read()
            for name, flag in self._flags.items():
                await admin.push(flag, seen.get(name))

    async def ask(self, model: str, stage: Stage) -> None:
        """Change the feature of `model`."""
        place = f"/{name_of(model)}/environments/{ENVIRONMENT}"
        if not has_begun(stage):
            await self._call("POST", f"{place}/off")
            return
        self._flags[model] = replace(self._flags[model], stage=stage)
        strategy, *_ = await self._call("GET", f"{place}/strategies")
        await self._call("PUT", f"{place}/strategies/{strategy['id']}", strategy_of(self._flags[model]))
        await self._call("POST", f"{place}/on")

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self._client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None


def follow(place: UnleashPlace, models: Collection[str], observer: Observer, cache: Path) -> UnleashFlags:
    """The provider of flags that polls the server once a second."""
    return UnleashFlags(
        place.api_url,
        place.token,
        models,
        observer,
        environment=ENVIRONMENT,
        app_name=APP_NAME,
        cache_dir=cache,
        poll_seconds=1.0,
    )


@asynccontextmanager
async def open_unleash(dsn: str, announce: Announce = print) -> AsyncIterator[UnleashPlace]:
    """Run a server on an empty database until the block ends."""
    async with EmbeddedUnleash(dsn, announce=announce) as server:
        place = UnleashPlace(server.url, server.backend_token, server.admin_token)
        try:
            yield place
        finally:
            # What the conductor has kept of this server's flags is of no use to anybody any more.
            kept = Remembered(user_cache_path("crossfade"), "unleash", place.api_url, ENVIRONMENT, APP_NAME)
            kept.path.unlink(missing_ok=True)
