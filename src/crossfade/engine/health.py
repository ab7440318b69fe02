"""Look at the engine from outside: which one would run here, and does it reach a database."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossfade.embedded.process import Child
from crossfade.engine import packages
from crossfade.engine.launcher import EngineChoice, EngineKind, ensure_engine, find_native
from crossfade.engine.node import find_node, npm_command
from crossfade.engine.packages import Announce, PackageSet
from crossfade.errors import EmbeddedError, EngineError

_SCHEMA = """
datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
"""
_SELECT = 'mutation { result: queryRaw(query: "SELECT 1 AS one", parameters: "[]") }'
_START_SECONDS = 15.0
_DATABASE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Component:
    """Something the engine is made of. `path` is None where it is not there yet; `version` then says what to do."""

    what: str
    path: Path | None
    version: str
    kind: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried; `detail` is for a person to read."""

    name: str
    ok: bool
    detail: str


def which() -> list[Component]:
    """What Prisma Client Python would run here, and what that is made of. Installs nothing."""
    try:
        native = find_native()
    except EngineError as error:
        return [Component("engine", None, str(error), EngineKind.NATIVE)]
    if native is not None:
        return [Component("engine", native.path, native.version, EngineKind.NATIVE)]
    found: list[Component] = []
    try:
        node = find_node()
        found.append(Component("node", node.path, node.version, node.origin))
        found.append(Component("npm", Path(npm_command(node)[-1]), "", node.origin))
    except EngineError as error:
        found.append(Component("node", None, str(error), ""))
    directory = packages.installed(PackageSet.ENGINE)
    version = _package_version(directory, "@prisma/client") if directory else "installed on first use"
    found.append(Component("engine", directory, version, EngineKind.WASM))
    return found


def install(announce: Announce) -> EngineChoice:
    """Install everything the engine and the parser need, and return the engine that will run."""
    packages.install(PackageSet.ENGINE, announce)
    return ensure_engine(announce)


def check(dsn: str, announce: Announce = lambda _line: None) -> list[Check]:
    """Start the engine against the database `dsn`, run a query and a transaction, and stop it.

    Stops at the first thing that fails. Nothing is written to the database.
    """
    checks: list[Check] = []
    try:
        choice = ensure_engine(announce)
    except EngineError as error:
        return [Check("installed", ok=False, detail=str(error))]
    checks.append(Check("installed", ok=True, detail=f"{choice.kind} {choice.version} at {choice.path}"))
    with _running(choice, dsn) as (engine, port, log):
        for name, attempt in (("database", _reach), ("query", _query), ("transaction", _transaction)):
            started = time.monotonic()
            try:
                attempt(port, engine)
            except (EngineError, OSError, ValueError, KeyError) as error:
                detail = _last_line(log) if name == "database" else str(error)
                checks.append(Check(name, ok=False, detail=_without_password(detail or str(error), dsn)))
                break
            checks.append(Check(name, ok=True, detail=f"{(time.monotonic() - started) * 1000:.0f} ms"))
    return checks


class _RefusalError(OSError):
    """The engine answered, and not with success."""


@contextmanager
def _running(choice: EngineChoice, dsn: str) -> Iterator[tuple[Child, int, Path]]:
    with tempfile.TemporaryDirectory(prefix="crossfade-engine-") as name:
        schema, log = Path(name) / "schema.prisma", Path(name) / "log"
        schema.write_text(_SCHEMA, encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {
            "PRISMA_DML_PATH": str(schema),
            "PRISMA_ENGINE_PROTOCOL": "graphql",
            "OVERWRITE_DATASOURCES": json.dumps([{"name": "db", "url": dsn}]),
        }
        command = [str(choice.path), "-p", str(port), "--enable-raw-queries"]
        log.touch()
        try:
            engine = Child.start(command, env=environment, log_file=log)
        except EmbeddedError as error:
            raise EngineError(str(error)) from error
        try:
            yield engine, port, log
        finally:
            engine.stop()


def _reach(port: int, engine: Child) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            _call(port, "GET", "/status")
        except _RefusalError:
            # The engine is up and its database is not: that rarely changes within the next seconds.
            deadline = min(deadline, time.monotonic() + _DATABASE_SECONDS)
        except OSError:
            pass
        else:
            return
        if engine.poll() is not None or time.monotonic() > deadline:
            msg = "the engine did not come up"
            raise EngineError(msg) from None
        time.sleep(0.05)


def _query(port: int, _engine: Child) -> None:
    _select(port, None)


def _transaction(port: int, _engine: Child) -> None:
    identifier = _call(port, "POST", "/transaction/start", {"max_wait": 2000, "timeout": 5000})["id"]
    _select(port, identifier)
    _call(port, "POST", f"/transaction/{identifier}/rollback")


def _select(port: int, transaction: str | None) -> None:
    answer = _call(port, "POST", "/", {"query": _SELECT, "variables": {}}, transaction)
    if answer["data"]["result"]["rows"] != [[1]]:
        msg = f"SELECT 1 answered {answer}"
        raise EngineError(msg)


def _call(
    port: int, method: str, path: str, body: dict[str, Any] | None = None, transaction: str | None = None
) -> dict[str, Any]:
    content = None if body is None else json.dumps(body).encode()
    headers = {} if transaction is None else {"X-transaction-id": transaction}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers, method=method)
    try:
        # Never through a proxy: the engine is on this machine.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=10
        ) as response:
            answer: dict[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            raise _RefusalError(error.code, error.read().decode(errors="replace")) from None
    return answer


def _package_version(directory: Path, name: str) -> str:
    version: str = json.loads(
        (directory / "node_modules" / name / "package.json").read_text(encoding="utf-8")
    )["version"]
    return version


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("prisma engine: ") if lines else ""


def _without_password(text: str, dsn: str) -> str:
    password = re.search(r"://[^:/@]*:([^@]*)@", dsn)
    return text.replace(password.group(1), "***") if password and password.group(1) else text
