"""A real Unleash server as a child process, for the demo and the tests; on loopback, gone when this process is gone.

The server is `unleash-server` 7.6.5 from npm, the last line under the Apache License 2.0 (8.x is AGPL). It is installed
once into the user's cache folder, never bundled, and runs as a process of its own under Node. It needs a PostgreSQL
database of its own, in which it makes its tables.

It asks nobody to log in, so that a person can open its admin page and click; it is for one machine and never for
production. For the same reason its API tokens are no secrets. It reports to nobody.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from crossfade.dsn import Dsn
from crossfade.embedded.process import Child
from crossfade.embedded.server import PORT_ATTEMPTS, EmbeddedServer, free_port
from crossfade.engine.node import find_node
from crossfade.engine.packages import Announce, PackageSet, install
from crossfade.errors import EmbeddedError

_OLDEST_NODE = 22
_READY_SECONDS = 90.0
"""The first start on a new database runs some 300 migrations; 3 to 7 seconds on a machine that is not busy."""
_POLL_SECONDS = 0.1
_MAIN = "node_modules/unleash-server/dist/server.js"
_ADMIN_TOKEN = "*:*.crossfade-embedded"  # noqa: S105 - see above
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR")


class EmbeddedUnleash(EmbeddedServer):
    """An Unleash server under this process; `async with` starts and stops it, and it may be started again.

    Started again, it has the same port and tokens, and with the database everything else. The object belongs to no
    event loop. Stopped, it leaves its database as it is.

    Args:
        dsn: the URL of a database that is the server's alone.
        port: the port on 127.0.0.1; None picks a free one at the first start.
        announce: is told when something must be installed first, which takes about half a minute.
    """

    _NAME = "Unleash"

    def __init__(self, dsn: str, port: int | None = None, announce: Announce = lambda _line: None) -> None:
        super().__init__()
        self._dsn = dsn
        self._port = port or 0
        self._announce = announce

    @property
    def url(self) -> str:
        """Where the admin page is; clients add `/api`."""
        if not self._port:
            raise EmbeddedError("the embedded Unleash has no port yet; call start() first")
        return f"http://127.0.0.1:{self._port}"

    @property
    def api_url(self) -> str:
        """What a client's URL is."""
        return f"{self.url}/api"

    @property
    def admin_token(self) -> str:
        """The token for the admin API."""
        return _ADMIN_TOKEN

    @property
    def backend_token(self) -> str:
        """The token of a client in the environment `development`."""
        return self.backend_token_of("development")

    def backend_token_of(self, environment: str) -> str:
        """The token of a client in `development` or `production`."""
        return f"default:{environment}.crossfade-embedded"

    async def start(self) -> None:
        """Install the server if needed, start it and wait until it answers.

        Raises:
            EmbeddedError: it does not start; the message has its own last words.
            EngineError: Node or npm is missing, or npm could not install it.
        """
        await super().start()

    async def _is_up(self) -> bool:
        return self._child is not None and await asyncio.to_thread(_is_healthy, self._port)

    async def _bring_up(self) -> None:
        await self.stop()  # what is left of one that somebody has killed
        command = await asyncio.to_thread(self._command)
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = self._port or free_port()
            self._launch(command, port)
            healthy = partial(asyncio.to_thread, _is_healthy, port)
            if await self._wait_for(healthy, _READY_SECONDS, _POLL_SECONDS):
                self._port = port
                return
            if self._port or attempt == PORT_ATTEMPTS or "EADDRINUSE" not in self._log():
                raise EmbeddedError(f"Unleash does not start: {self._last_words()}")

    def _command(self) -> list[str]:
        node = find_node()
        if int(node.version.partition(".")[0]) < _OLDEST_NODE:
            raise EmbeddedError(
                f"Unleash needs Node ≥ {_OLDEST_NODE}, and {node.path} is {node.version}: install crossfade[prisma]"
            )
        packages = install(PackageSet.UNLEASH, self._announce)
        return [os.fspath(node.path), os.fspath(packages / _MAIN)]

    def _launch(self, command: list[str], port: int) -> None:
        if self._runtime_dir is None:
            self._runtime_dir = Path(tempfile.mkdtemp(prefix="crossfade-unleash-"))
        self._child = Child.start(
            command,
            env=self._environment(port),
            cwd=self._runtime_dir,
            log_file=self._log_file,
            remove=self._runtime_dir,
        )

    def _environment(self, port: int) -> dict[str, str]:
        # Nothing else of this process's environment: the server reads dozens of variables of all kinds of names.
        return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | {
            "NODE_ENV": "production",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(port),
            "UNLEASH_URL": f"http://127.0.0.1:{port}",
            "UNLEASH_SECRET": secrets.token_urlsafe(24),
            "DATABASE_URL": self._dsn,
            "DATABASE_SSL": "false",
            "AUTH_TYPE": "none",
            "INIT_ADMIN_API_TOKENS": self.admin_token,
            "INIT_BACKEND_API_TOKENS": ",".join(
                self.backend_token_of(environment) for environment in ("development", "production")
            ),
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "LOG_LEVEL": "warn",
        }

    def _last_words(self) -> str:
        """What the server's log says about its end, in one line and without the database's password."""
        lines = self._log_lines()
        telling = [line for line in lines if re.search(r"error|ERROR|refused|EADDRINUSE", line)]
        words = "; ".join((telling or lines)[:3]) or "it left no message"
        return words.replace(self._dsn, "its database").replace(
            Dsn.parse(self._dsn).password or self._dsn, "***"
        )


def _is_healthy(port: int) -> bool:
    # Loopback is never asked through a proxy, whatever the environment says.
    opener = build_opener(ProxyHandler({}))
    with (
        suppress(URLError, OSError, ValueError),
        opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer,
    ):
        return b"GOOD" in answer.read()
    return False
