"""A file of redacted images: how differing rows differ, without saying what is in them.

One JSON document to a line, one line to a row: the key, how it differs, and of each column its type, whether it is
null, how long it is, and a keyed hash of its value on each side. The key of the hash is made for the file and kept
nowhere, so that values that are equal are seen to be equal and none can be guessed from its hash. Only columns that are
asked for are shown as they are.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from crossfade.errors import ConfigurationError
from crossfade.reconcile.images import Image, across, unnested
from crossfade.reconcile.pair import together
from crossfade.reconcile.settlement import working
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import Crossing
from crossfade.store.ranges import Key
from crossfade.store.tables import quoted
from crossfade.verify.report import Differing

_LOCK_TIMEOUT = 5.0
_AT_ONCE = 200
_HASH_DIGITS = 32


class RedactedImages:
    """A new file of redacted images, its owner's alone; open it with `with`.

    Args:
        path: where.
        shown: legacy columns that are written as they are: `column`, or `Model.column`.

    Raises:
        ConfigurationError: the file exists already, or cannot be made.
    """

    def __init__(self, path: Path, shown: Sequence[str] = ()) -> None:
        self.path = path
        self.rows = 0
        self._shown = frozenset(shown)
        self._secret = secrets.token_bytes(32)
        self._out: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigurationError(
                f"{self.path} exists already; name another file for the images"
            ) from None
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be written: {error.strerror}") from None
        self._out = os.fdopen(descriptor, "w", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None

    async def write(
        self,
        stores: Mapping[Side, Store],
        crossing: Crossing,
        images: Mapping[Side, Image],
        differing: Sequence[Differing],
    ) -> None:
        """Write an image of each of these rows, as they are now."""
        assert self._out is not None
        for start in range(0, len(differing), _AT_ONCE):
            batch = differing[start : start + _AT_ONCE]
            keys = [row.key for row in batch]
            sides = await together(*(self._read(stores[s], crossing, images[s], keys) for s in Side))
            for row in batch:
                document = _document(
                    crossing, row, {side: found.get(row.key) for side, found in zip(Side, sides, strict=True)}
                )
                self._out.write(json.dumps(document, ensure_ascii=False) + "\n")
            self.rows += len(batch)
        self._out.flush()

    def shows(self, crossing: Crossing, column: str) -> bool:
        """Whether a column is written as it is."""
        return not self._shown.isdisjoint({column, f"{crossing.model}.{column}"})

    def unknown(self, crossings: Sequence[Crossing]) -> list[str]:
        """The columns to be shown that no table has."""
        known = {
            name
            for crossing in crossings
            for column in crossing.columns
            for name in (column.legacy.name, f"{crossing.model}.{column.legacy.name}")
        }
        return sorted(self._shown - known)

    async def _read(
        self, store: Store, crossing: Crossing, image: Image, keys: Sequence[Key]
    ) -> dict[Key, list[dict[str, Any]]]:
        side = store.side
        width = len(image.key)
        secret = f"${width + 1}::bytea"
        fields = []
        for column in crossing.columns:
            value = f"t.{quoted(column.on(side).name)}"
            text = f"convert_to(({column.compared(side)})::text, 'UTF8')"
            inner = f"sha256(({secret}) || {text})"
            fields.append(f"({value} IS NULL)::text")
            fields.append(f"length({value}::text)::text")
            fields.append(f"left(encode(sha256(({secret}) || {inner}), 'hex'), {_HASH_DIGITS})")
            shown = self.shows(crossing, column.legacy.name)
            fields.append(f"{value}::text" if shown else "NULL")
        async with working(store, _LOCK_TIMEOUT) as connection:
            rows = await connection.fetch(
                f"SELECT k.n, ARRAY[{', '.join(fields)}]::text[] FROM {unnested(width)}"
                f" JOIN {crossing.tables[side].quoted} t ON {image.joined()}",
                *across(keys),
                self._secret,
            )
        return {keys[n - 1]: self._columns(crossing, side, found) for n, found in rows}

    def _columns(self, crossing: Crossing, side: Side, found: Sequence[str | None]) -> list[dict[str, Any]]:
        columns = []
        for n, column in enumerate(crossing.columns):
            is_null, length, hash_, value = found[4 * n : 4 * n + 4]
            described: dict[str, Any] = {
                "type": column.on(side).type,
                "null": is_null == "true",
                "length": None if length is None else int(length),
                "hash": hash_,
            }
            if self.shows(crossing, column.legacy.name):
                described["value"] = value
            columns.append(described)
        return columns


def _document(
    crossing: Crossing, row: Differing, sides: Mapping[Side, list[dict[str, Any]] | None]
) -> dict[str, Any]:
    legacy, target = sides[Side.PRISMA], sides[Side.SQLALCHEMY]
    return {
        "model": crossing.model,
        "key": list(row.key),
        "kind": str(row.kind),
        "columns": {
            column.legacy.name: {
                "differs": column.legacy.name in row.columns or legacy is None or target is None,
                "legacy": None if legacy is None else legacy[n],
                "target": None if target is None else target[n],
            }
            for n, column in enumerate(crossing.columns)
        },
    }
