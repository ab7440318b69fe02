"""Choose the engine that Prisma Client Python will start, and tell it through the environment.

The native binary is used where there is one. Otherwise a small script stands in its place: it becomes Node running
`server.mjs`, so the process that Prisma Client Python starts, and later stops, is Node itself.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from crossfade.engine.cache import cache_directory, digest, write_atomically
from crossfade.engine.node import find_node
from crossfade.engine.packages import Announce, PackageSet, install
from crossfade.errors import EngineError

ENGINE_COMMIT = "393aa359c9ad4a4bb28630fb5613f9c281cde053"
BINARY_VARIABLE = "PRISMA_QUERY_ENGINE_BINARY"

_OWNER_VARIABLE = "CROSSFADE_ENGINE_OWNER"
_PREFIX = "crossfade-query-engine-"
_MARK = b"CROSSFADE_ENGINE_PARENT"
_SERVER = Path(__file__).parent / "server.mjs"


class EngineKind(StrEnum):
    """How the engine runs: Prisma's native binary, or its WASM build under Node."""

    NATIVE = "native"
    WASM = "wasm"


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The executable that Prisma Client Python will start; `version` is the engine's commit."""

    kind: EngineKind
    path: Path
    version: str


def ensure_engine(announce: Announce = lambda _line: None) -> EngineChoice:
    """Choose an engine, install what it needs, and set the variables that Prisma Client Python reads.

    The first call on a machine may take seconds and says so through `announce`. Later calls cost next to nothing.

    Raises:
        EngineError: `PRISMA_QUERY_ENGINE_BINARY` names no engine; or Node or npm is missing; or npm failed.
    """
    choice = find_native() or _prepare_wasm(announce)
    configure_environment(choice)
    return choice


def configure_environment(choice: EngineChoice, environment: MutableMapping[str, str] = os.environ) -> None:
    """Point Prisma Client Python, and whatever it starts, to the engine."""
    environment[BINARY_VARIABLE] = str(choice.path)
    environment[_OWNER_VARIABLE] = str(os.getpid())


def find_native() -> EngineChoice | None:
    """The engine that the environment names, or the native one that Prisma Client Python has downloaded before.

    Raises:
        EngineError: `PRISMA_QUERY_ENGINE_BINARY` is set and names no engine.
    """
    configured = os.environ.get(BINARY_VARIABLE)
    if configured and not _is_ours(Path(configured)):
        path = Path(configured)
        version = _version(path)
        if version is None:
            msg = f"{BINARY_VARIABLE} names {configured}, which does not run as an engine: correct it or unset it"
            raise EngineError(msg)
        return EngineChoice(EngineKind.NATIVE, path, version)
    for directory in _native_directories():
        for path in sorted(directory.glob("*query-engine-*")):
            if _version(path) == ENGINE_COMMIT:
                return EngineChoice(EngineKind.NATIVE, path, ENGINE_COMMIT)
    return None


def _is_ours(path: Path) -> bool:
    """Whether `path` is a launcher of this module, perhaps an outdated one or one whose cache is gone."""
    try:
        with path.open("rb") as handle:
            return _MARK in handle.read(600)
    except OSError:
        return path.name.startswith(_PREFIX)


def _version(path: Path) -> str | None:
    if not path.is_file() or not os.access(path, os.X_OK):
        return None
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.replace("query-engine", "").strip()


def _native_directories() -> list[Path]:
    """Where Prisma Client Python, and the Prisma command line that it installs, put what they download."""
    home = Path(os.environ.get("PRISMA_HOME_DIR") or Path.home())
    configured = os.environ.get("PRISMA_BINARY_CACHE_DIR")
    caches = home / ".cache/prisma-python/binaries"
    roots = [Path(configured)] if configured else sorted(caches.glob(f"*/{ENGINE_COMMIT}"))
    parts = (".", "node_modules/prisma", "node_modules/@prisma/engines")
    return [Path.cwd(), *(root / part for root in roots for part in parts)]


def _prepare_wasm(announce: Announce) -> EngineChoice:
    node = find_node()
    packages = install(PackageSet.ENGINE, announce)
    script = _script(node.path, packages)
    path = cache_directory() / f"{_PREFIX}{digest(script)}"
    if not path.exists():
        write_atomically(path, script.encode(), executable=True)
    return EngineChoice(EngineKind.WASM, path, ENGINE_COMMIT)


def _script(node: Path, packages: Path) -> str:
    # The version is answered without Node, because Prisma Client Python asks for it before every start. `$PPID` is
    # noted before Node takes over, so that Node notices a parent that died in the meantime. A parent that died even
    # earlier left us to process 1, which is our real parent only if it is also the one that chose the engine.
    return f"""#!/bin/sh
case "$1" in --version) echo "query-engine {ENGINE_COMMIT}"; exit 0 ;; esac
[ "$PPID" = 1 ] && [ "${{{_OWNER_VARIABLE}:-1}}" != 1 ] && exit 0
export CROSSFADE_ENGINE_PARENT=$PPID
export CROSSFADE_ENGINE_PACKAGES={shlex.quote(str(packages))}
export CROSSFADE_ENGINE_CACHE={shlex.quote(str(cache_directory()))}
exec {shlex.quote(str(node))} {shlex.quote(str(_SERVER))} "$@"
"""
