"""The Python SDK of Unleash, driven turn by turn. Everything that is particular to it is here.

Theory of operation: the SDK polls by a scheduler, and `_Turns` stands in its place. So the SDK has no thread of its own
at work; each poll is one turn on a thread of ours, and what follows from it is done in the event loop, in order.
`_Keeper` is the SDK's cache and also looks at every response first: what is not an answer of an Unleash server raises
there, inside the SDK's fetch, which then goes on with what it had. What it accepts it hands to the SDK's engine without
other teams' features, and with one of its own, by which the engine shows that it has read this document and no other.

It polls and never streams: the open-source server answers 404 to that, and the SDK then calls everything disabled.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from UnleashClient.cache import BaseCache
from UnleashClient.clients.unleash_client import UnleashClient
from UnleashClient.constants import ETAG, FEATURES_URL
from UnleashClient.utils import InstanceAllowType

from crossfade.errors import FlagError
from crossfade.flags.definitions import Definitions, read_definitions

SILENT = "it does not answer, or fails"
_TIMEOUT_SECONDS = 3
_CLOSE_SECONDS = 1.0
_WHOLE_POLLS = 60
"""After so many polls the definitions are fetched whole, even if their tag says that they are as before: a server that
was restored from a backup counts from there again, and may come to a tag that it has used."""
_OLDER_POLLS = 10
"""So many times in a row an answer that is older than the one before is passed over: several servers behind one address
are not all equally quick to see a change. If it goes on, the server was restored from a backup."""
_THREAD = "crossfade-flags-unleash"


class UnleashSdk:
    """One client of a server. Nothing starts before `open`.

    Args:
        url: the server's API.
        token: a backend token.
        environment: what the server has to answer for.
        app_name: what constraints on `appName` see.
        where: what problems call the server.
        poll_seconds: how often `poll` will be called, for the server's statistics.
    """

    def __init__(
        self, url: str, token: str, *, environment: str, app_name: str, where: str, poll_seconds: float
    ) -> None:
        self._url = url
        self._token = token
        self._environment = environment
        self._app_name = app_name
        self._poll_seconds = poll_seconds
        self._keeper = _Keeper(environment, where)
        self._turns = _Turns()
        self._client: UnleashClient | None = None

    @property
    def definitions(self) -> Definitions | None:
        """The good definitions that came last."""
        return self._keeper.definitions

    async def open(self, definitions: Definitions | None) -> None:
        """Make the client, with definitions from elsewhere to begin with. The server is not asked yet."""
        if definitions is not None:
            self._keeper.accept(definitions)
        # A logger takes the same filter only once.
        logging.getLogger("UnleashClient").addFilter(_is_not_ours)
        await _aside(self._make_client)

    async def close(self) -> None:
        """End the client. A poll under way ends by itself."""
        if self._client is not None:
            # It waits for the first fetch, which may take a while with a server that hangs.
            with suppress(TimeoutError):
                await asyncio.wait_for(_aside(self._client.destroy), _CLOSE_SECONDS)

    async def poll(self) -> str:
        """Ask the server once; return what was wrong with that, and nothing if all is well."""
        assert self._client is not None
        await _aside(self._turns.fetch or self._client.initialize_client)
        problem = self._keeper.take_problem()
        return problem if problem or self.has_read() else "the client cannot read its answer"

    def has_read(self) -> bool:
        """Whether the SDK holds the definitions that came last, and can evaluate them."""
        definitions = self.definitions
        answer = self.ask(definitions.mark) if definitions else None
        return bool(definitions and answer and (answer.get("payload") or {}).get("value") == definitions.mark)

    def ask(self, name: str) -> Mapping[str, Any] | None:
        """Evaluate a feature for nobody in particular; None if the SDK does not have it."""
        assert self._client is not None
        answer: Mapping[str, Any] = self._client.get_variant(name)
        # An answer that could also mean an unknown feature is one only if the feature is known.
        return answer if answer["feature_enabled"] or name in self._client.feature_definitions() else None

    def _directly(self) -> dict[str, Any]:
        """Options that leave out the proxy of the environment on the way to this very machine."""
        is_near = urlsplit(self._url).hostname in ("localhost", "127.0.0.1", "::1")
        return {"proxies": {"http": "", "https": ""}} if is_near else {}

    def _make_client(self) -> None:
        self._client = UnleashClient(
            self._url,
            self._app_name,
            environment=self._environment,
            instance_id=f"{socket.gethostname()}:{os.getpid()}",
            refresh_interval=max(1, round(self._poll_seconds)),
            disable_metrics=True,
            disable_registration=True,
            custom_headers={"Authorization": self._token},
            # A token must not follow a redirection, and one to a page for people is no answer anyway.
            custom_options={"hooks": {"response": self._keeper.check}, "allow_redirects": False}
            | self._directly(),
            request_timeout=_TIMEOUT_SECONDS,
            request_retries=0,
            cache=self._keeper,
            scheduler=self._turns,
            scheduler_executor="crossfade",
            multiple_instance_mode=InstanceAllowType.SILENTLY_ALLOW,
        )


class _Keeper(BaseCache):  # type: ignore[misc,unused-ignore]
    """The SDK's cache, and the one that looks at every response before the SDK does. Used by one thread at a time."""

    def __init__(self, environment: str, where: str) -> None:
        self._environment = environment
        self._where = where
        self._fresh: Definitions | None = None
        self._problem = SILENT
        self._etag = ""
        self._asked = 0
        self._older = 0
        self.definitions: Definitions | None = None
        """The good definitions that came last."""

    def accept(self, definitions: Definitions) -> None:
        """Begin with definitions from elsewhere."""
        self.definitions = definitions
        self.bootstrapped = True

    def take_problem(self) -> str:
        """What was wrong with the poll that has just ended; empty if nothing was."""
        problem, self._problem = self._problem, SILENT
        return problem

    def check(self, response: requests.Response, *_: object, **__: object) -> None:
        """Look at a response. What it raises makes the SDK's fetch fail, and the SDK keeps what it had."""
        try:
            self._check(response)
        except FlagError as error:
            self._problem = error.problem
            raise
        self._problem = ""

    def _check(self, response: requests.Response) -> None:
        match response.status_code:
            case 200:
                # Without a charset in the header the text would be decoded by a guess.
                response.encoding = "utf-8"
                self._fresh = read_definitions(response.text, self._environment, self._where)
                self._pass_over_older(self._fresh)
            case 304 if "If-None-Match" in response.request.headers and self.definitions is not None:
                pass
            case 401 | 403 as status:
                raise FlagError(
                    self._where, f"it refuses the token ({status}): take a backend token of the environment"
                )
            case status:
                raise FlagError(
                    self._where, f"it answers {status}: is this the URL of an Unleash server's API?"
                )

    def _pass_over_older(self, fresh: Definitions) -> None:
        if self.definitions is None or fresh.revision >= self.definitions.revision:
            self._older = 0
            return
        self._older += 1
        if self._older <= _OLDER_POLLS:
            raise FlagError(self._where, "its answers are older than the one before")

    # --- what the SDK asks of a cache ----------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the document for the SDK's engine, or the tag to ask with."""
        if key == FEATURES_URL:
            return self.definitions.text if self.definitions else default
        if key == ETAG:
            self._asked += 1
            return "" if self._asked % _WHOLE_POLLS == 0 else self._etag
        return default

    def set(self, key: str, value: Any) -> None:
        """Keep what `check` has accepted, or a tag."""
        if key == FEATURES_URL:
            self.definitions, self._fresh = self._fresh, None
        elif key == ETAG:
            self._etag = value

    def mset(self, data: Mapping[str, Any]) -> None:
        """Keep several values."""
        for key, value in data.items():
            self.set(key, value)

    def exists(self, key: str) -> bool:
        """Whether there is a document."""
        return key == FEATURES_URL and self.definitions is not None

    def destroy(self) -> None:
        """Nothing: what is kept in the file is for the next start."""


class _Turns:
    """Stands in for the SDK's scheduler: what the SDK wants to be done regularly is done when its turn comes."""

    def __init__(self) -> None:
        self.fetch: Callable[[], None] | None = None
        """Fetches once; None before the SDK has fetched for the first time by itself."""

    def add_job(self, function: Callable[[], None], **_: object) -> Self:
        """Take the job."""
        self.fetch = function
        return self

    def start(self) -> None:
        """Nothing: the turns are taken from outside."""

    def remove(self) -> None:
        """Nothing: there are no more turns."""

    def remove_all_jobs(self) -> None:
        """Nothing: there are no more turns."""

    def shutdown(self, *, wait: bool) -> None:
        """Nothing: there is no thread."""


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Leave out what the SDK says on our threads: a traceback for every poll of a server that is away.

    Once is enough, and that is an event. What an application's own use of the SDK says is let through.
    """
    return record.threadName != _THREAD


async def _aside(work: Callable[[], None]) -> None:
    """Do `work` on a thread that nobody waits for at the interpreter's end: a server may take its time to answer."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as caught:  # noqa: BLE001 - it is handed over
            error = caught
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name=_THREAD, daemon=True).start()
    await done
