"""The journal of one writer: a file of its own, one line before each write and one after its acknowledgement.

A line reaches the kernel in one call, so it survives `kill -9` of the writer the moment that call returns. A write
whose first line has no second one has an unknown outcome: it may have taken place or not.

A line is a JSON array. Times are microseconds of the machine's monotonic clock, which all processes share and which
no skew of a wall clock touches.

    ["b", number, time, [[what, model, key, value], …]]     a write begins, with the effects that it should have
    ["e", number, time, outcome, problem]                   it has ended; `problem` is what no caller should have seen
    ["m", word, time, detail]                               the writer says something about itself
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from time import monotonic_ns
from typing import Any, Final, NamedTuple, Self


class What(StrEnum):
    """What a write does to one row."""

    PUT = "put"
    """The row, which this writer alone writes, has these values now."""
    DELETE = "del"
    """The row, which this writer alone writes, is gone."""
    ADD = "add"
    """A shared counter grows by so much."""
    SET = "set"
    """A shared field gets this text, which nobody else writes."""


class Effect(NamedTuple):
    """One effect of a write. `value` is a list for PUT, a number for ADD, a text for SET."""

    what: str
    model: str
    key: str
    value: Any = None


class Outcome(StrEnum):
    """What came of a write, as far as its caller knows."""

    ACKNOWLEDGED = "ok"
    REFUSED = "no"
    UNKNOWN = "?"


READY: Final = "ready"
DONE: Final = "done"
FENCED: Final = "fenced"
"""A write reached a store that had lost the authority, and was sent on."""
CONFLICT: Final = "conflict"
"""A conflict between the stores was settled by its policy."""


class JournalFile:
    """The journal that one process writes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def begin(self, effects: Sequence[Effect]) -> int:
        """Note a write that is about to begin; return its number."""
        self._number += 1
        self._write(["b", self._number, now(), effects])
        return self._number

    def end(self, number: int, outcome: Outcome, problem: str | None = None) -> None:
        """Note what came of a write."""
        self._write(["e", number, now(), outcome, problem])

    def mark(self, word: str, detail: str | None = None) -> None:
        """Note something about the writer itself."""
        self._write(["m", word, now(), detail])

    def _write(self, line: list[Any]) -> None:
        os.write(self._descriptor, json.dumps(line, separators=(",", ":")).encode() + b"\n")


def now() -> int:
    """The time of a line."""
    return monotonic_ns() // 1000


def read_lines(path: Path) -> Iterator[list[Any]]:
    """Read a journal; a last line that was cut short is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)
