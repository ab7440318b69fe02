"""A journal that outlives its process: one line before each write, one after its answer.

A line is handed to the kernel in one call, so it survives `kill -9` of its writer from the moment that this call
returns. A write whose first line has no last one was under way when its process ended: nobody knows what became of it.

A line is a JSON array: what it says, and what belongs to it.

    ["begin", number, time, [effect, …]]     a write is about to be made
    ["add", number, [effect, …]]             what only the answer told of it, such as a new row's key
    ["end", number, time, outcome]           what came of it, as far as its caller knows
    [anything else, …]                       other news of the process, for whoever started it

Times are those of `time.monotonic_ns`, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from marketplace.journal import (
    Assigned,
    Created,
    Deleted,
    Effect,
    Increased,
    Journal,
    Outcome,
    RowKey,
    Rows,
    Write,
    plain,
)

Line: TypeAlias = list[Any]

_EFFECTS: Final[Mapping[str, type[Effect]]] = {
    kind.__name__: kind for kind in (Created, Deleted, Increased, Assigned)
}


class JournalFile:
    """The end at which a process writes. Give it to its `Journal`."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def begin(self, number: int, time: int, effects: Sequence[Effect]) -> None:
        """Note a write that is about to be made."""
        self.say("begin", number, time, [_effect_to_json(effect) for effect in effects])

    def add(self, number: int, effects: Sequence[Effect]) -> None:
        """Note effects that the answer has told."""
        self.say("add", number, [_effect_to_json(effect) for effect in effects])

    def end(self, number: int, time: int, outcome: Outcome) -> None:
        """Note what came of a write."""
        self.say("end", number, time, outcome)

    def say(self, word: str, *what: Any) -> None:
        """Write any line."""
        os.write(self._descriptor, json.dumps([word, *what], separators=(",", ":")).encode() + b"\n")


class JournalReader:
    """The end at which another process reads, again and again, and carries the writes over to a journal of its own."""

    def __init__(self, path: Path, journal: Journal) -> None:
        self._path = path
        self._journal = journal
        self._offset = 0
        self._writes: dict[int, Write] = {}
        self._under_way: set[int] = set()

    @property
    def in_flight(self) -> int:
        """How many writes have begun and not ended."""
        return len(self._under_way)

    def read(self) -> list[Line]:
        """Take over what is new of the writes, and return the other lines. A line that is cut short waits."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:  # its process has not come so far
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [line for line in map(json.loads, whole.splitlines()) if not self._take(line)]

    def _take(self, line: Line) -> bool:
        match line:
            case ["begin", int(number), int(time), list(effects)]:
                write = self._journal.write(*map(_effect_from_json, effects))
                write.began = time
                self._writes[number] = write
                self._under_way.add(number)
            case ["add", int(number), list(effects)]:
                self._writes[number].add(*map(_effect_from_json, effects))
            case ["end", int(number), int(time), str(outcome)]:
                write = self._writes[number]
                write.ended, write.outcome = time, Outcome(outcome)
                self._under_way.discard(number)
            case _:
                return False
        return True


# --- rows and effects as JSON --------------------------------------------------------------------------------------


def rows_to_json(rows: Rows) -> Any:
    """Rows as plain JSON."""
    return {
        model: [[key, {name: _to_json(value) for name, value in row.items()}] for key, row in found.items()]
        for model, found in rows.items()
    }


def rows_from_json(document: Any) -> Rows:
    """What `rows_to_json` was given."""
    return {
        model: {key: {name: _from_json(value) for name, value in row.items()} for key, row in found}
        for model, found in document.items()
    }


def _effect_to_json(effect: Effect) -> Any:
    match effect:
        case Created(row, values, parents):
            held = {name: _to_json(plain(value)) for name, value in values.items()}
            return ["Created", row, held, parents]
        case Assigned(row, field, value):
            return ["Assigned", row, field, _to_json(plain(value))]
        case _:
            return [type(effect).__name__, *effect]


def _effect_from_json(line: Line) -> Effect:
    kind, row, *rest = line
    match kind:
        case "Created":
            values = {name: _from_json(value) for name, value in rest[0].items()}
            return Created(RowKey(*row), values, tuple(RowKey(*parent) for parent in rest[1]))
        case "Assigned":
            return Assigned(RowKey(*row), rest[0], _from_json(rest[1]))
        case _:
            return _EFFECTS[kind](RowKey(*row), *rest)


def _to_json(value: Any) -> Any:
    match value:
        case Decimal():
            return {"decimal": str(value)}
        case datetime():
            return {"time": value.isoformat()}
        case dict() | list():
            return {"json": value}
        case _:
            return value


def _from_json(value: Any) -> Any:
    match value:
        case {"decimal": str(text)}:
            return Decimal(text)
        case {"time": str(text)}:
            return datetime.fromisoformat(text)
        case {"json": document}:
            return document
        case _:
            return value
