"""The npm packages that are needed, pinned by version and integrity hash, installed once into the user's cache.

`npm/` is what runs an application, `npm-dev/` what turns a schema into DDL, `npm-unleash/` a feature-flag server for
the demo and the tests. The lock files name no registry: npm asks the one that the machine is configured for, and
refuses whatever does not have the recorded hash.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from crossfade.engine.cache import cache_directory, digest, locked
from crossfade.engine.node import find_node, npm_command
from crossfade.errors import EngineError

Announce = Callable[[str], None]

_HERE = Path(__file__).parent
_FLAGS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--omit=optional",
    "--omit=peer",
    "--no-update-notifier",
)


class PackageSet(StrEnum):
    """A set of npm packages; the value is its folder here, which holds `package.json` and `package-lock.json`."""

    ENGINE = "npm"
    DDL = "npm-dev"
    UNLEASH = "npm-unleash"

    @property
    def contents(self) -> str:
        """What the packages are, for messages."""
        return "the Unleash server" if self is PackageSet.UNLEASH else "Prisma's engine packages"


def installed(packages: PackageSet) -> Path | None:
    """The directory that holds `node_modules` of the set, or None when it is not installed."""
    directory = _place(packages)
    return directory if directory.is_dir() else None


def install(packages: PackageSet, announce: Announce) -> Path:
    """Install the set unless it is there, and return the directory that holds its `node_modules`.

    Raises:
        EngineError: Node or npm is missing, or npm could not install the packages.
    """
    directory = _place(packages)
    if directory.is_dir():
        return directory
    with locked(f"install-{packages}"):
        if not directory.is_dir():
            _install(packages, directory, announce)
    return directory


def _place(packages: PackageSet) -> Path:
    key = digest((_HERE / packages / "package-lock.json").read_bytes())
    return cache_directory() / f"{packages}-{key}"


def _install(packages: PackageSet, directory: Path, announce: Announce) -> None:
    command = [*npm_command(find_node()), "ci", *_FLAGS]
    announce(f"installing {packages.contents} from npm into {directory} (once)")
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}.") as name:
        workplace = Path(name) / "packages"
        workplace.mkdir()
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(_HERE / packages / file, workplace / file)
        try:
            subprocess.run(
                command,
                cwd=workplace,
                capture_output=True,
                text=True,
                timeout=600,
                check=True,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.CalledProcessError as error:
            msg = f"npm could not install {packages.contents}: {_reason(error.stderr)}"
            raise EngineError(msg) from error
        except subprocess.TimeoutExpired as error:
            msg = f"npm could not install {packages.contents}: the registry did not answer in ten minutes"
            raise EngineError(msg) from error
        except OSError as error:
            msg = f"npm could not be started: {error.strerror}"
            raise EngineError(msg) from error
        workplace.rename(directory)


def _reason(stderr: str) -> str:
    """The line of npm's complaint that says most."""
    lines = [line.removeprefix("npm error").removeprefix("npm ERR!").strip() for line in stderr.splitlines()]
    telling = [
        line
        for line in lines
        if line
        and not line.startswith(("npm warn", "code ", "errno ", "syscall ", "A complete log", "If you are"))
    ]
    return telling[0] if telling else "npm gave no reason"
