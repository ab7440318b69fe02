"""Flags in files: `flags/<Model>.yaml`, one for each model, read, watched and edited.

`crossfade.flags.document` says what is in a file, and what is wrong with it.

`FileFlags` compares the *content* of all files with what it saw last, whenever the system reports a change and once a
second besides. So it does not depend on time stamps, on how an editor saves, or on change notices arriving at all
(they do not on some network file systems and mounted volumes).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import tempfile
import weakref
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from watchfiles import awatch

from crossfade.errors import FlagError
from crossfade.events import FlagRejected, Observer
from crossfade.flags.document import parse_flag
from crossfade.flags.editing import fresh_text, with_flag, with_stage
from crossfade.flags.flag import Changes, Flag
from crossfade.stages import Stage

_MOST_BYTES = 64 * 1024
"""What a flag file may hold: reading YAML takes seconds for each megabyte."""
_QUIET_MS = 20
"""A burst of changes, such as one save in an editor, is over when nothing has changed for this long."""
_BURST_MS = 100
_POLL_SECONDS = 1.0
_SETTLE_SECONDS = 0.05
_POLL_ALONE_SECONDS = 0.2
"""How often the files are read when the system cannot report changes."""


def read_flags(directory: Path, known_models: Collection[str] | None) -> dict[str, Flag]:
    """Read every flag file; a model without one gets a flag that asks for `off`.

    `known_models` None takes the models from the files.

    Raises:
        FlagError: the directory or a file cannot be used; all problems are listed.
    """
    flags, problems = load_flags(directory, known_models)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        listed = "; ".join(str(problem) for problem in problems)
        raise FlagError(str(directory), f"{len(problems)} files cannot be used: {listed}")
    return flags


def load_flags(
    directory: Path, known_models: Collection[str] | None
) -> tuple[dict[str, Flag], list[FlagError]]:
    """Read every flag file and return the usable flags, and what is wrong with the other files."""
    flags = {model: Flag(model) for model in known_models or ()}
    problems: list[FlagError] = []
    for path, content in _read_contents(directory).items():
        try:
            flag = parse_flag(path, content, known_models)
        except FlagError as error:
            problems.append(error)
        else:
            flags[flag.model] = flag
    return flags, problems


def write_stage(directory: Path, model: str, stage: Stage) -> tuple[Stage, Stage]:
    """Make the flag file of `model` ask for `stage`; return the stage before and after.

    Only the stage itself changes: comments, order and layout stay byte for byte. The file is replaced in one step,
    so that a reader sees the old one or the new one. A file that does not exist is made.

    Raises:
        FlagError: the directory or the file cannot be used; nothing was written.
    """
    if not directory.is_dir():
        raise FlagError(str(directory), "there is no such directory")
    path = directory / f"{model}.yaml"
    if not path.exists():
        _replace(path, fresh_text(Flag(model, stage, description="Made by `crossfade flip`.")))
        return Stage.OFF, stage
    before, edited = with_stage(path, _read_content(path), stage)
    if before is not stage:
        # A link is followed, so that it stays a link and the file behind it changes.
        _replace(path.resolve(), edited)
    return before, stage


def write_flag(directory: Path, flag: Flag) -> bool:
    """Make the flag file of a model say what `flag` does; return whether it said something else before.

    Comments, order and layout stay. A file that does not exist is made.

    Raises:
        FlagError: the directory or the file cannot be used; nothing was written.
    """
    if not directory.is_dir():
        raise FlagError(str(directory), "there is no such directory")
    path = directory / f"{flag.model}.yaml"
    if not path.exists():
        _replace(path, fresh_text(flag))
        return True
    content = _read_content(path)
    edited = with_flag(path, content, flag)
    if edited.encode() == content:
        return False
    _replace(path.resolve(), edited)
    return True


class FileFlags:
    """The provider that reads `flags/<Model>.yaml` and watches the directory.

    A file that becomes invalid, or disappears, leaves the model's last good flag in force and is reported once.
    """

    def __init__(
        self,
        directory: Path,
        known_models: Collection[str] | None,
        observer: Observer,
        *,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._directory = directory
        self._known = known_models
        self._observer = observer
        self._poll_seconds = poll_seconds
        self._flags: dict[str, Flag] = {}
        self._seen: dict[Path, bytes | str | None] = {}
        self._readers: weakref.WeakSet[Changes] = weakref.WeakSet()
        self._noticed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def current(self) -> Mapping[str, Flag]:
        """Return the last good flag of every model."""
        return MappingProxyType(self._flags)

    def changes(self) -> Changes:
        """Return an iterator over the flags that change from now on."""
        reader = Changes()
        if self._stopped.is_set():
            reader.close()
        self._readers.add(reader)
        return reader

    async def __aenter__(self) -> Self:
        watch = asyncio.create_task(self._watch(), name="crossfade-flags-watch")
        # One turn of the loop sets the watch up; only then are the files read, so that no change falls in between.
        await asyncio.sleep(0)
        try:
            self._seen.update(await asyncio.to_thread(_read_contents, self._directory))
            self._flags = await asyncio.to_thread(read_flags, self._directory, self._known)
        except BaseException:
            self._stopped.set()
            await asyncio.gather(watch, return_exceptions=True)
            raise
        follow = asyncio.create_task(self._follow(watch), name="crossfade-flags-follow")
        self._tasks = [watch, follow]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._noticed.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in list(self._readers):
            reader.close()

    async def _watch(self) -> None:
        # Ends quietly where changes cannot be watched (no directory, no free inotify watches); `_follow` then polls.
        with contextlib.suppress(OSError, RuntimeError):
            async for _ in awatch(
                self._directory,
                watch_filter=None,
                recursive=False,
                step=_QUIET_MS,
                debounce=_BURST_MS,
                stop_event=self._stopped,
            ):
                self._noticed.set()

    async def _follow(self, watch: asyncio.Task[None]) -> None:
        while not self._stopped.is_set():
            pause = min(self._poll_seconds, _POLL_ALONE_SECONDS) if watch.done() else self._poll_seconds
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._noticed.wait(), pause)
            self._noticed.clear()
            if not self._stopped.is_set():
                await self._look()

    async def _look(self) -> None:
        fresh = self._fresh(await asyncio.to_thread(_read_contents, self._directory))
        flags, problems = await asyncio.to_thread(self._judge, fresh)
        if problems:
            # Saving in place empties a file first, and some editors move it away: bad for a moment is not bad.
            await asyncio.sleep(_SETTLE_SECONDS)
            fresh = self._fresh(await asyncio.to_thread(_read_contents, self._directory))
            flags, problems = await asyncio.to_thread(self._judge, fresh)
        self._seen.update(fresh)
        for flag in flags:
            if self._flags.get(flag.model) != flag:
                self._flags[flag.model] = flag
                for reader in list(self._readers):
                    reader.put(flag)
        for problem in problems:
            self._observer.observe(FlagRejected(problem.source, problem.problem))

    def _fresh(self, contents: Mapping[Path, bytes | str]) -> dict[Path, bytes | str | None]:
        """What differs from what was seen last; None for a file that is gone."""
        now: dict[Path, bytes | str | None] = {**contents}
        if self._directory not in contents:
            now |= {path: None for path in self._seen if path not in contents}
        # While the directory itself cannot be listed, that is the one problem there is to report.
        return {
            path: content
            for path, content in now.items()
            if path not in self._seen or self._seen[path] != content
        }

    def _judge(self, fresh: Mapping[Path, bytes | str | None]) -> tuple[list[Flag], list[FlagError]]:
        flags: list[Flag] = []
        problems: list[FlagError] = []
        for path, content in fresh.items():
            if path == self._directory and content is None:
                continue  # it can be listed again
            try:
                flags.append(parse_flag(path, content, self._known))
            except FlagError as error:
                problems.append(error)
        return flags, problems


def _read_contents(directory: Path) -> dict[Path, bytes | str]:
    """The content of every flag file; a text instead of bytes says why there is none.

    A directory that cannot be listed stands for all its files.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(directory))
    except OSError as error:
        return {directory: f"the directory of flag files cannot be read: {error.strerror}"}
    paths = (directory / name for name in names if not name.startswith("."))
    return {path: _read_content(path) for path in paths if path.suffix in (".yaml", ".yml")}


def _read_content(path: Path) -> bytes | str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a regular file"  # to read a pipe might take for ever
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return content if len(content) <= _MOST_BYTES else f"is longer than {_MOST_BYTES // 1024} KiB"


def _replace(path: Path, text: str) -> None:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise FlagError(str(path), f"cannot be written: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o7777 if path.exists() else 0o644)
        temporary.replace(path)
    except OSError as error:
        raise FlagError(str(path), f"cannot be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
