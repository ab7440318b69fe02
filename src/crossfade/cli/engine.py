"""`crossfade engine`: the engine behind Prisma Client Python: install it, find it, try it."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.errors import EngineError

if TYPE_CHECKING:
    from crossfade.dsn import Dsn
    from crossfade.engine.launcher import EngineChoice

app = typer.Typer(help="Prisma's engine: install it, find it, try it.", no_args_is_help=True)

_SCHEMA = """
datasource db {
  provider = "postgresql"
  url      = env("CROSSFADE_CHECK_URL")
}

model Nothing {
  id Int @id
}
"""
_QUERY = 'mutation { result: queryRaw(query: "SELECT version() AS version", parameters: "[]") }'
_READY_SECONDS = 20.0
_PAUSE_SECONDS = 0.05


@app.command()
def install() -> None:
    """Make the engine ready to start; the first call may download what it needs."""
    from crossfade.engine.launcher import ensure_engine

    _describe(ensure_engine(_announce))


@app.command()
def which() -> None:
    """Show which engine is used. Installs nothing."""
    from crossfade.engine.launcher import ensure_engine, find_native
    from crossfade.engine.packages import PackageSet, installed

    choice = find_native()
    if choice is None:
        if installed(PackageSet.ENGINE) is None:
            raise EngineError("no engine is installed; run `crossfade engine install`")
        choice = ensure_engine(_announce)
    _describe(choice)


@app.command()
def check(
    dsn: Annotated[
        str, typer.Option(envvar="CROSSFADE_LEGACY_DSN", help="The database to try it on.", show_envvar=True)
    ],
) -> None:
    """Start the engine on a database and have it answer one query."""
    import asyncio

    from crossfade.dsn import Dsn
    from crossfade.engine.launcher import ensure_engine
    from crossfade.stores import check_reachable

    database = Dsn.parse(dsn)
    # A database that cannot be reached is better explained by this than by the engine.
    asyncio.run(check_reachable(database, "the database to try the engine on"))
    choice = ensure_engine(_announce)
    began = time.perf_counter()
    version = _ask(choice, database)
    seconds = time.perf_counter() - began
    _describe(choice)
    typer.echo(f"it started and answered in {seconds:.1f} s: {database.where} is {version}")


def _ask(choice: EngineChoice, database: Dsn) -> str:
    from crossfade.embedded.process import Child

    with tempfile.TemporaryDirectory(prefix="crossfade-") as name:
        directory = Path(name)
        schema, log = directory / "schema.prisma", directory / "engine.log"
        schema.write_text(_SCHEMA, encoding="utf-8")
        port = _free_port()
        environment = {
            **os.environ,
            "PRISMA_DML_PATH": str(schema),
            "PRISMA_CLIENT_ENGINE_TYPE": "binary",
            "PRISMA_ENGINE_PROTOCOL": "graphql",
            "CROSSFADE_CHECK_URL": database.prisma_url(),
        }
        engine = Child.start(
            [choice.path, "-p", str(port), "--enable-raw-queries"], env=environment, log_file=log
        )
        try:
            _wait_until_ready(port, engine, log)
            answer = _request(port, "/", {"query": _QUERY, "variables": {}})
        except OSError as error:
            raise EngineError(f"the engine started, and did not answer the query: {error}") from None
        finally:
            engine.stop()
        return _version(answer)


def _wait_until_ready(port: int, engine: Any, log: Path) -> None:
    ends = time.monotonic() + _READY_SECONDS
    while True:
        try:
            _request(port, "/status")
        except OSError:
            ended = engine.poll() is not None
            if ended or time.monotonic() > ends:
                lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                reason = lines[-1] if lines else "it says nothing"
                what = "ended at once" if ended else f"was not ready within {_READY_SECONDS:g} s"
                raise EngineError(f"the engine {what}: {reason}") from None
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _request(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """Ask the engine. An answer that is no success is an `OSError`, as is no answer."""
    from urllib.request import Request, urlopen

    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"})
    with urlopen(request, timeout=10) as answer:  # noqa: S310 - always http
        return json.loads(answer.read())


def _version(answer: Any) -> str:
    try:
        [[version]] = answer["data"]["result"]["rows"]
    except (KeyError, TypeError, ValueError):
        raise EngineError(f"the engine did not answer the query: {json.dumps(answer)[:300]}") from None
    return " ".join(str(version).split()[:2])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _describe(choice: EngineChoice) -> None:
    typer.echo(f"{choice.kind} engine {choice.version}")
    typer.echo(str(choice.path))


def _announce(line: str) -> None:
    typer.echo(line, err=True)
