"""What Prisma's own parser says of a schema: the DMMF, and the generators and datasources.

Answers are kept in the cache under the hash of the schema, so that an application's start costs nothing.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

from crossfade.engine.cache import cache_directory, digest, write_atomically
from crossfade.engine.packages import Announce, PackageSet, install
from crossfade.errors import SchemaError
from crossfade.schema import Schema

PARSER_VERSION = "5.17.0-31.393aa359c9ad4a4bb28630fb5613f9c281cde053"

_MODULE = "node_modules/@prisma/prisma-schema-wasm/src/prisma_schema_build_bg.wasm"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TOTAL = re.compile(r"Validation Error Count: (\d+)")
_PLACE = re.compile(r"-->\s*(\S+:\d+)")


def load_schema(path: Path, announce: Announce = lambda _line: None) -> Schema:
    """Read `schema.prisma`.

    Raises:
        SchemaError: the file cannot be read, or Prisma does not accept it.
        EngineError: Node, npm or the parser is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the schema {path}: {error.strerror if isinstance(error, OSError) else error}"
        raise SchemaError(msg) from error
    return Schema.from_dmmf(get_dmmf(text, source=str(path), announce=announce))


def get_dmmf(schema_text: str, *, source: str, announce: Announce = lambda _line: None) -> dict[str, Any]:
    """Return Prisma's DMMF of a schema; `source` is what errors call it. The answer is kept in the cache.

    Raises:
        SchemaError: Prisma does not accept the schema.
        EngineError: Node, npm or the parser is missing.
    """
    kept = cache_directory() / "dmmf" / f"{digest(PARSER_VERSION, schema_text)}.json"
    with contextlib.suppress(OSError, ValueError):
        document: dict[str, Any] = json.loads(kept.read_bytes())
        return document
    request = {"prismaSchema": [[source, schema_text]], "noColor": True}
    answer = _ask("get_dmmf", request, announce)
    document = json.loads(answer)
    write_atomically(kept, answer.encode())
    return document


def get_config(schema_text: str, *, source: str, announce: Announce = lambda _line: None) -> dict[str, Any]:
    """Return the generators and datasources of a schema; the environment is not read.

    Raises:
        SchemaError: Prisma does not accept them.
        EngineError: Node, npm or the parser is missing.
    """
    request = {
        "prismaSchema": [[source, schema_text]],
        "ignoreEnvVarErrors": True,
        "noColor": True,
        "env": {},
        "datasourceOverrides": {},
    }
    answer = json.loads(_ask("get_config", request, announce))
    if answer["errors"]:
        raise SchemaError(_readable(answer["errors"][0]["message"]))
    config: dict[str, Any] = answer["config"]
    return config


def _ask(function: str, request: dict[str, Any], announce: Announce) -> str:
    # Loading wasmtime takes a while, and an application whose schema is in the cache never needs it.
    from crossfade.engine.wasm import ParserRefusal, parser_at  # noqa: PLC0415

    parser = parser_at(install(PackageSet.ENGINE, announce) / _MODULE)
    try:
        return parser.call(function, json.dumps(request))
    except ParserRefusal as error:
        raise SchemaError(_readable(str(error))) from None


def _readable(text: str) -> str:
    """Prisma's first complaint in one line: its place, what it says, and how many more there are."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        text = json.loads(text)["message"]
    text = _ANSI.sub("", text).strip()
    complaint = next((line for line in text.splitlines() if line.startswith("error: ")), text.splitlines()[0])
    place = _PLACE.search(text)
    total = _TOTAL.search(text)
    more = int(total.group(1)) - 1 if total else 0
    line = complaint.removeprefix("error: ")
    if place:
        line = f"{place.group(1)}: {line}"
    return f"{line} (and {more} more)" if more else line
