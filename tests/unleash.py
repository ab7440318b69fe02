"""A real Unleash server for the tests, and the few things they click in it.

The server answers its clients from a memory that it renews once a second; `settle` waits for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx
from UnleashClient.constants import APPLICATION_HEADERS

from crossfade.embedded.unleash import EmbeddedUnleash


class Unleash:
    """What a person can do on the server's admin pages. `server` may be stopped, killed and started again."""

    def __init__(self, server: EmbeddedUnleash) -> None:
        self.server = server

    async def flag(
        self,
        model: str,
        payload: Mapping[str, object] | str,
        *,
        environment: str = "development",
        strategy: str = "default",
        parameters: Mapping[str, str] | None = None,
        constraints: list[dict[str, object]] | None = None,
    ) -> None:
        """Set the flag of a model anew: one strategy, one variant with this payload, switched on."""
        if not await self.exists(model):
            await self.create(model)
        place = self._strategies(model, environment)
        former = await self.call("GET", place)
        await self.strategy(
            model,
            payload,
            environment=environment,
            strategy=strategy,
            parameters=parameters,
            constraints=constraints,
        )
        # The last strategy that is taken away would switch the feature off.
        for one in former:
            await self.call("DELETE", f"{place}/{one['id']}")
        await self.switch(model, on=True, environment=environment)

    async def exists(self, model: str) -> bool:
        """Whether the server has the feature."""
        listed = await self.call("GET", "/projects/default/features")
        return f"crossfade.{model}" in [feature["name"] for feature in listed["features"]]

    async def create(self, model: str) -> None:
        """Make the feature, without strategies."""
        body = {"name": f"crossfade.{model}", "type": "operational"}
        await self.call("POST", "/projects/default/features", body)

    async def strategy(
        self,
        model: str,
        payload: Mapping[str, object] | str | None,
        *,
        environment: str = "development",
        strategy: str = "default",
        parameters: Mapping[str, str] | None = None,
        constraints: list[dict[str, object]] | None = None,
        variants: list[dict[str, object]] | None = None,
    ) -> None:
        """Add a strategy with one variant that has this payload; None gives it no variant."""
        if variants is None and payload is not None:
            variants = [variant(payload)]
        body = {
            "name": strategy,
            "parameters": dict(parameters or {}),
            "constraints": constraints or [],
            "variants": variants or [],
        }
        await self.call("POST", self._strategies(model, environment), body)

    async def switch(self, model: str, *, on: bool, environment: str = "development") -> None:
        """Switch the feature on or off in one environment."""
        word = "on" if on else "off"
        await self.call("POST", f"{self._feature(model)}/environments/{environment}/{word}")

    async def delete(self, model: str) -> None:
        """Archive the feature and delete it for good."""
        await self._delete([f"crossfade.{model}"])

    async def settle(self) -> None:
        """Wait until clients get to see everything that was done so far."""
        name = f"settled-{uuid4().hex}"
        await self.call("POST", "/projects/default/features", {"name": name, "type": "operational"})
        async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
            for environment in ("development", "production"):
                # The memory is kept for each kind of question, so this has to be the question that clients ask.
                headers = APPLICATION_HEADERS | {"Authorization": self.server.backend_token_of(environment)}
                while (
                    name
                    not in (await client.get(f"{self.server.api_url}/client/features", headers=headers)).text
                ):
                    await asyncio.sleep(0.05)

    async def wipe(self) -> None:
        """Delete every feature."""
        listed = await self.call("GET", "/projects/default/features")
        await self._delete([feature["name"] for feature in listed["features"]])

    async def _delete(self, names: list[str]) -> None:
        for name in names:
            await self.call("DELETE", f"/projects/default/features/{name}")
        # The server writes the lives of features a little later, and would die of one that is gone by then.
        async with asyncio.timeout(20):
            for name in names:
                while "archived" not in str(
                    await self.call("GET", f"/projects/default/features/{name}/lifecycle")
                ):
                    await asyncio.sleep(0.05)
        for name in names:
            await self.call("DELETE", f"/archive/{name}")

    async def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, *, as_person: bool = False
    ) -> Any:
        """Call the admin API, with the admin token or like a person at the page; a refusal fails the test."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.request(
                method,
                f"{self.server.api_url}/admin{path}",
                headers={} if as_person else {"Authorization": self.server.admin_token},
                json=body,
            )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _feature(self, model: str) -> str:
        return f"/projects/default/features/crossfade.{model}"

    def _strategies(self, model: str, environment: str) -> str:
        return f"{self._feature(model)}/environments/{environment}/strategies"


def variant(payload: Mapping[str, object] | str, name: str = "flag", weight: int = 1000) -> dict[str, object]:
    """A strategy's variant with a JSON payload."""
    value = payload if isinstance(payload, str) else json.dumps(payload)
    return {
        "name": name,
        "weight": weight,
        "weightType": "variable",
        "stickiness": "default",
        "payload": {"type": "json", "value": value},
    }
