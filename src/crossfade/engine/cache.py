"""Where the engine keeps what it installs and computes: one directory of the user's, safe for many processes at once.

Everything in it is keyed by the hash of what it was made from, so nothing in it ever goes stale and all of it may be
deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from crossfade.errors import EngineError

CACHE_VARIABLE = "CROSSFADE_CACHE_DIR"


def cache_directory() -> Path:
    """The cache directory: `CROSSFADE_CACHE_DIR`, or `crossfade` in the user's cache; created when missing.

    Raises:
        EngineError: the directory cannot be created.
    """
    configured = os.environ.get(CACHE_VARIABLE)
    directory = Path(configured).expanduser() if configured else user_cache_path("crossfade")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot create the cache directory {directory}: {error.strerror}; set {CACHE_VARIABLE} to another one"
        raise EngineError(msg) from error
    return directory.resolve()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache directory against all other processes and threads."""
    path = cache_directory() / f"{name}.lock"
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Write a file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
        Path(temporary).chmod(0o755 if executable else 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def digest(*parts: bytes | str) -> str:
    """A short hash of the parts, for names in the cache."""
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode() if isinstance(part, str) else part)
        hasher.update(b"\0")
    return hasher.hexdigest()[:20]
