"""Flags in an Unleash server: the feature `crossfade.<Model>`, whose variant has the flag for a payload.

Rules:

* An answer of the SDK counts only if it comes of definitions that a server really gave, or of an intact cache of the
  same server, environment and application. The SDK calls everything disabled that it does not know, and a fresh process
  would read that as `off`.
* Nothing is asked of a model whose feature is not there, or cannot be used: the last good flag stays, unconfirmed, and
  without one there is no flag. `off` is asked for only where a person has switched the feature off, or made it so that
  nobody gets it.
* Every process of a fleet comes to the same flags: they are evaluated once for each refresh, for nobody in particular.

`crossfade.flags.unleash_sdk` fetches and evaluates; this module decides when, and what the answers mean. Nothing starts
before `async with`, so an object made before a fork is opened after it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from crossfade.errors import FlagError, UnknownModelError
from crossfade.events import FlagRejected, FlagServiceMoved, Observer, Observers
from crossfade.flags.definitions import Definitions, payload_in, read_definitions
from crossfade.flags.feature import name_of
from crossfade.flags.flag import Changes, Flag
from crossfade.flags.payload import from_payload
from crossfade.flags.remembered import Remembered
from crossfade.flags.unleash_sdk import SILENT, UnleashSdk
from crossfade.stages import Stage

_OPEN_SECONDS = 3.0
"""How long opening waits for the server; a process starts without it."""
_PATIENCE_POLLS = 3
_PATIENCE_SECONDS = 3.0
"""A server is away when it has not answered for so many polls, and for so long."""
_REMEMBER_SECONDS = 60.0


class UnleashFlags:
    """The provider that polls an Unleash server. It opens whether the server is there or not.

    Args:
        url: the server's API, such as `https://unleash.example.com/api`; the `/api` may be left out.
        token: a backend token of the environment.
        known_models: the models of the schema; None takes them from the server's features.
        observer: hears of flags that cannot be used, and when the server goes and comes.
        environment: the environment of the token; an answer for another one is refused.
        app_name: what constraints on `appName` see; the same in the whole fleet.
        cache_dir: where the last answer is kept for a start without the server.
        poll_seconds: how often the server is asked.
    """

    def __init__(
        self,
        url: str,
        token: str,
        known_models: Collection[str] | None,
        observer: Observer,
        *,
        environment: str,
        app_name: str,
        cache_dir: Path,
        poll_seconds: float = 1.0,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/api") + "/api"
        self._known = known_models
        # What an observer raises must not end the polling.
        self._observer: Observer = Observers(observer)
        self._environment = environment
        self._poll_seconds = poll_seconds
        self._patience = max(_PATIENCE_POLLS * poll_seconds, _PATIENCE_SECONDS)
        place = urlsplit(self._url)
        self._where = f"{place.hostname}:{place.port}" if place.port else str(place.hostname)
        self._remembered = Remembered(cache_dir, "unleash", self._url, environment, app_name)
        self._sdk = UnleashSdk(
            self._url,
            token,
            environment=environment,
            app_name=app_name,
            where=self._where,
            poll_seconds=poll_seconds,
        )
        self._flags: dict[str, Flag] = {}
        self._problems: dict[str, str] = {}
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._closed = False
        self._up: bool | None = None
        self._has_fetched = False
        self._good_at = 0.0
        self._kept: tuple[str, float] | None = None
        self._first_turn = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"UnleashFlags({self._url}, environment={self._environment})"

    def current(self) -> Mapping[str, Flag]:
        """Return the last good flag of every model that has one."""
        return MappingProxyType(self._flags)

    def changes(self) -> Changes:
        """Return an iterator over the flags that change from now on."""
        reader = Changes()
        if self._closed:
            reader.close()
        self._readers.add(reader)
        return reader

    async def __aenter__(self) -> Self:
        try:
            await self._sdk.open(await self._recall())
            self._look()
            self._task = asyncio.create_task(self._follow(), name="crossfade-flags-unleash")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._first_turn.wait(), _OPEN_SECONDS)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._sdk.close()
        for reader in list(self._readers):
            reader.close()

    # --- asking --------------------------------------------------------------------------------------------------

    async def _recall(self) -> Definitions | None:
        """What an earlier process has left of the server's answer, if it can be trusted."""
        try:
            body = await asyncio.to_thread(self._remembered.read)
            if body is not None:
                return read_definitions(body, self._environment, str(self._remembered.path))
        except FlagError as error:
            self._report(error.source, error.problem)
        return None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._poll()
            self._first_turn.set()
            await asyncio.sleep(max(0.0, self._poll_seconds - (loop.time() - began)))

    async def _poll(self) -> None:
        """Have the SDK fetch once, and draw the conclusions."""
        turn = asyncio.create_task(self._sdk.poll(), name="crossfade-flags-turn")
        try:
            while not (await asyncio.wait([turn], timeout=self._patience))[0]:
                self._judge(SILENT)  # the same turn goes on: there are never two at once
            self._judge(turn.result())
            self._look()
            await self._remember()
        except Exception as error:  # noqa: BLE001 - a provider never raises
            self._judge(f"the client fails: {type(error).__name__}")
        finally:
            turn.cancel()

    async def _remember(self) -> None:
        definitions, now = self._sdk.definitions, asyncio.get_running_loop().time()
        if not self._is_confirmed or definitions is None:
            return
        if (
            self._kept is not None
            and self._kept[0] == definitions.body
            and now < self._kept[1] + _REMEMBER_SECONDS
        ):
            return
        self._kept = definitions.body, now
        try:
            await asyncio.to_thread(self._remembered.keep, definitions.body)
        except FlagError as error:
            self._report(error.source, error.problem)
        else:
            self._problems.pop(str(self._remembered.path), None)

    # --- concluding ----------------------------------------------------------------------------------------------

    @property
    def _is_confirmed(self) -> bool:
        """Whether the server stands behind what was evaluated last."""
        return self._has_fetched and self._up is True

    def _judge(self, problem: str) -> None:
        """Take note of how the server does; empty where nothing is wrong."""
        now = asyncio.get_running_loop().time()
        if not problem:
            self._has_fetched, self._good_at = True, now
        is_up = not problem or (self._up is True and now - self._good_at < self._patience)
        if is_up is not self._up:
            self._up = is_up
            self._observer.observe(FlagServiceMoved(self._where, problem))
        if not self._is_confirmed:
            for model in list(self._flags):
                self._doubt(model)

    def _look(self) -> None:
        """Evaluate every flag and tell which ones have changed."""
        definitions = self._sdk.definitions
        if definitions is None or not self._sdk.has_read():
            return
        for model in self._models(definitions):
            try:
                flag = self._decide(model, definitions)
            except FlagError as error:
                self._report(error.source, error.problem)
                self._doubt(model)
            else:
                self._problems.pop(self._source(model), None)
                if flag is not None:
                    self._set(flag if self._is_confirmed else replace(flag, confirmed=False))

    def _models(self, definitions: Definitions) -> list[str]:
        """The models to look at; a feature of a model that there is not is reported."""
        features = (*definitions.on, *definitions.off, *definitions.problems)
        if self._known is None:
            return sorted({*features, *self._flags})
        for model in features:
            if model not in self._known:
                self._report(self._source(model), str(UnknownModelError(model, list(self._known))))
        return list(self._known)

    def _decide(self, model: str, definitions: Definitions) -> Flag | None:
        """Return what is asked of a model; None where nothing is and nothing ever was.

        Raises:
            FlagError: what is asked cannot be understood, or is not there any more.
        """
        source = self._source(model)
        if model in definitions.problems:
            raise FlagError(source, definitions.problems[model])
        if model in definitions.off:
            return self._off(model, definitions.off[model])
        if model not in definitions.on:
            if model in self._flags:
                raise FlagError(source, "the feature is gone; what it asked for last stays")
            return None
        feature = definitions.on[model]
        answer = self._sdk.ask(name_of(model))
        if answer is None:
            raise FlagError(source, "the client cannot read the feature")
        if not answer["feature_enabled"]:
            return self._off(model, feature)
        payload = answer.get("payload") or {}
        if not answer["enabled"] or "value" not in payload:
            raise FlagError(source, "it is on and has no variant with a payload, so that it asks for nothing")
        flag = from_payload(model, str(payload["value"]), source)
        return replace(flag, description=str(feature.get("description") or ""))

    def _off(self, model: str, feature: Mapping[str, Any]) -> Flag:
        """The flag of a feature that is switched off: all but the stage is as its payload says, or as it was last."""
        flag = self._flags.get(model) or Flag(model)
        with suppress(FlagError):
            flag = from_payload(model, payload_in(feature) or "", self._source(model))
        description = str(feature.get("description") or "")
        return replace(
            flag, stage=Stage.OFF, confirmed=True, description=description, source=self._source(model)
        )

    def _doubt(self, model: str) -> None:
        """Keep a flag that nobody stands behind any more."""
        last = self._flags.get(model)
        if last is not None:
            self._set(replace(last, confirmed=False))

    def _set(self, flag: Flag) -> None:
        if self._flags.get(flag.model) != flag:
            self._flags[flag.model] = flag
            for reader in list(self._readers):
                reader.put(flag)

    def _report(self, source: str, problem: str) -> None:
        """Report what cannot be used, once."""
        if self._problems.get(source) != problem:
            self._problems[source] = problem
            self._observer.observe(FlagRejected(source, problem))

    def _source(self, model: str) -> str:
        return f"{self._where}/{self._environment}/{name_of(model)}"
