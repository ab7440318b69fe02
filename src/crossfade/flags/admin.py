"""The admin API of an Unleash server, as far as flags need it.

Nothing is written that was not read right before: a feature that has changed since it was shown is left alone. The
payload is in place before its feature is switched on, and the fingerprint is noted last: a push that was ended half-way
shows as a change, and does no harm.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from crossfade.errors import FlagDriftError, FlagServiceError
from crossfade.flags.drift import Standing, compare
from crossfade.flags.feature import (
    PREFIX,
    TAG_TYPES,
    Feature,
    Tag,
    is_pushed_tag,
    name_of,
    owner_tag,
    pushed_tag,
    read_feature,
    strategy_of,
)
from crossfade.flags.flag import Flag
from crossfade.stages import has_begun

_SECONDS = 20.0
_AT_ONCE = 8
_TOKEN_VARIABLE = "CROSSFADE_UNLEASH_ADMIN_TOKEN"  # noqa: S105 - the name of a variable


class UnleashAdmin:
    """Reads and writes the features of one project in one environment. Opened with `async with`.

    Args:
        url: the server's, with or without `/api`.
        token: an admin token; it is in no message.
        project: the project's id.
        environment: the environment's name.
    """

    def __init__(
        self, url: str, token: str, *, project: str = "default", environment: str = "development"
    ) -> None:
        self._base = url.strip().rstrip("/").removesuffix("/api")
        parts = urlsplit(self._base)
        self.where = (
            f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "") + parts.path
        )
        self.project = project
        self.environment = environment
        self._token = token
        self._client: httpx.AsyncClient | None = None
        self._few = asyncio.Semaphore(_AT_ONCE)

    def __repr__(self) -> str:
        return f"UnleashAdmin({self.where!r}, project={self.project!r}, environment={self.environment!r})"

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            headers={"Authorization": self._token},
            timeout=_SECONDS,
            trust_env=not _is_loopback(urlsplit(self._base).hostname or ""),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def read(self) -> dict[str, Feature]:
        """Read the features of all models.

        Raises:
            FlagServiceError: the server cannot be asked, or has no such project or environment.
        """
        projects = await self._call("GET", "/projects")
        self._check_name("project", self.project, self._column(projects, "projects", "id"))
        environments = await self._call("GET", "/environments")
        self._check_name("environment", self.environment, self._column(environments, "environments", "name"))
        listed = await self._call("GET", f"{self._project}/features")
        names = self._column(listed, "features", "name")
        found = await asyncio.gather(
            *(self._read_one(name.removeprefix(PREFIX)) for name in names if name.startswith(PREFIX))
        )
        return {feature.model: feature for feature in found if feature is not None}

    async def push(self, flag: Flag, seen: Feature | None) -> None:
        """Make the server ask for what `flag` does; `seen` is what was there when it was decided.

        Raises:
            FlagDriftError: it is not there any more; nothing was written.
            FlagServiceError: the server refuses it.
        """
        owner = owner_tag(flag)
        await self._check_unchanged(flag, seen)
        if seen is None:
            await self._call(
                "POST",
                f"{self._project}/features",
                {"name": name_of(flag.model), "type": "operational", "description": flag.description},
            )
        elif seen.flag is None or seen.flag.description != flag.description:
            change = {"op": "replace", "path": "/description", "value": flag.description}
            await self._call("PATCH", self._feature(flag.model), [change])
        await self._connect(flag.model, seen)
        await self._put_strategy(flag, seen)
        # A feature that somebody has toggled off stays so for as long as the file asks for the same.
        if not (seen is not None and seen.is_on) and (has_begun(flag.stage) or seen is None or seen.is_bare):
            await self._call("POST", f"{self._place(flag.model)}/on")
        tags = seen.tags if seen is not None else frozenset[Tag]()
        await self._put_tags(
            flag.model, {owner}, {tag for tag in tags if tag.type == owner.type and tag != owner}
        )
        after = await self._read_one(flag.model)
        differs = (
            after is None or compare({flag.model: flag}, {flag.model: after})[0].standing is not Standing.SAME
        )
        if after is None or (differs and flag.source):
            raise FlagServiceError(
                self.where, f"{name_of(flag.model)} is not as it was pushed; push it again"
            )
        await self.note(after)

    async def note(self, feature: Feature) -> None:
        """Note that what a feature says now is known: it was pushed, or pulled.

        Raises:
            FlagServiceError: the server refuses it.
        """
        tag = pushed_tag(self.environment, feature.fingerprint)
        old = {one for one in feature.tags if is_pushed_tag(one, self.environment)}
        await self._put_tags(feature.model, {tag}, old - {tag})

    # --- steps of a push -----------------------------------------------------------------------------------------

    async def _check_unchanged(self, flag: Flag, seen: Feature | None) -> None:
        now = await self._read_one(flag.model)
        if (now and now.fingerprint) != (seen and seen.fingerprint):
            raise FlagDriftError(self.where, {flag.model: "while it was being pushed"})

    async def _connect(self, model: str, seen: Feature | None) -> None:
        if seen is None or not seen.is_connected:  # a push of another model may have connected it meanwhile
            seen = await self._read_one(model)
        if seen is not None and not seen.is_connected:
            await self._call("POST", f"{self._project}/environments", {"environment": self.environment})

    async def _put_strategy(self, flag: Flag, seen: Feature | None) -> None:
        path = f"{self._place(flag.model)}/strategies"
        strategy = strategy_of(flag)
        first, *others = seen.strategies if seen is not None and seen.strategies else ("",)
        if first:
            await self._call("PUT", f"{path}/{quote(first, safe='')}", strategy | {"disabled": False})
        else:
            await self._call("POST", path, strategy)
        for other in others:
            await self._call("DELETE", f"{path}/{quote(other, safe='')}")

    async def _put_tags(self, model: str, added: Iterable[Tag], removed: Iterable[Tag]) -> None:
        listed = await self._call("GET", "/tag-types")
        known = self._column(listed, "tagTypes", "name")
        for name, text in TAG_TYPES.items():
            if name not in known:
                await self._call("POST", "/tag-types", {"name": name, "description": text, "icon": "#"})
        await self._call(
            "PUT",
            f"/features/{quote(name_of(model), safe='')}/tags",
            {
                "addedTags": [{"type": tag.type, "value": tag.value} for tag in added],
                "removedTags": [{"type": tag.type, "value": tag.value} for tag in removed],
            },
        )

    async def _read_one(self, model: str) -> Feature | None:
        async with self._few:
            found = await self._call("GET", f"{self._feature(model)}?variantEnvironments=true", may_lack=True)
            if found is None:
                return None
            listed = await self._call("GET", f"/features/{quote(name_of(model), safe='')}/tags")
        try:
            tags = [Tag(tag["type"], tag["value"]) for tag in listed["tags"]]
            return read_feature(found, tags, self.environment, self.where)
        except (KeyError, TypeError, AttributeError) as error:
            raise FlagServiceError(self.where, f"it describes {name_of(model)} in an unknown way") from error

    # --- talking to the server -----------------------------------------------------------------------------------

    @property
    def _project(self) -> str:
        return f"/projects/{quote(self.project, safe='')}"

    def _feature(self, model: str) -> str:
        return f"{self._project}/features/{quote(name_of(model), safe='')}"

    def _place(self, model: str) -> str:
        return f"{self._feature(model)}/environments/{quote(self.environment, safe='')}"

    def _column(self, answer: Any, key: str, column: str) -> list[str]:
        try:
            return [entry[column] for entry in answer[key]]
        except (KeyError, TypeError) as error:
            raise FlagServiceError(
                self.where, f"it lists no {key}; is CROSSFADE_UNLEASH_URL an Unleash server's?"
            ) from error

    def _check_name(self, what: str, name: str, known: list[str]) -> None:
        if name not in known:
            raise FlagServiceError(
                self.where, f"it has no {what} {name!r}; it has {', '.join(sorted(known))}"
            )

    async def _call(self, method: str, path: str, body: object = None, *, may_lack: bool = False) -> Any:
        """Call the API and return its answer; None for a 404 where that may be."""
        assert self._client is not None, "not opened"
        try:
            answer = await self._client.request(method, f"{self._base}/api/admin{path}", json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FlagServiceError(
                self.where, f"it does not answer ({type(error).__name__}); is CROSSFADE_UNLEASH_URL right?"
            ) from error
        if may_lack and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if not answer.is_success:
            raise FlagServiceError(self.where, _refusal(method, path, answer))
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise FlagServiceError(
                self.where, "it answers with no JSON; is CROSSFADE_UNLEASH_URL an Unleash server's?"
            ) from None


def _refusal(method: str, path: str, answer: httpx.Response) -> str:
    match answer.status_code:
        case httpx.codes.UNAUTHORIZED:
            return f"it does not know the token; {_TOKEN_VARIABLE} must hold an admin token"
        case httpx.codes.FORBIDDEN:
            hint = f"; may the token in {_TOKEN_VARIABLE} do this?"
        case _:
            hint = ""
    try:
        told = answer.json()
        listed = [detail["message"] for detail in told.get("details") or [] if "message" in detail]
        message = "; ".join(listed) or str(told.get("message") or told)
    except (ValueError, AttributeError, TypeError):
        message = "no reason given"
    return f"{method} {path.partition('?')[0]} was refused with {answer.status_code}: {message[:300]}{hint}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
