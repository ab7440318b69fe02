"""Generate Prisma Client Python into a package of its own, without Prisma's command line.

Prisma's command line would parse the schema and hand the DMMF to the Python generator over JSON-RPC on stdin. Here our
own parser does the first half; the generator is the one in the `prisma` package, as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from crossfade.engine.cache import digest, locked
from crossfade.engine.launcher import ENGINE_COMMIT
from crossfade.engine.packages import Announce
from crossfade.engine.parser import get_config, get_dmmf
from crossfade.errors import EngineError, SchemaError

_STAMP = ".generated-from"
_PROVIDER = "prisma-client-py"


def generate_prisma_client(schema_path: Path, output: Path, announce: Announce = lambda _line: None) -> None:
    """Generate the client for `schema_path` as the package `output`, unless it is up to date.

    The settings are those of the schema's own `prisma-client-py` generator; its `output` is not looked at.

    Raises:
        SchemaError: the schema cannot be read, or Prisma does not accept it.
        EngineError: the `prisma` package is missing, or its generator failed.
    """
    try:
        text = schema_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read the schema {schema_path}: {error}"
        raise SchemaError(msg) from error
    output = output.resolve()
    stamp = digest(text, _prisma_version())
    with locked(f"generate-{digest(str(output))}"):
        if _stamp_of(output) == stamp:
            return
        announce(f"generating Prisma Client Python into {output}")
        params = _generator_params(text, schema_path.resolve(), announce)
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as workplace:
            package = Path(workplace) / "new"
            params["generator"]["output"]["value"] = str(package)
            _run_generator(params)
            (package / _STAMP).write_text(stamp, encoding="ascii")
            if output.exists():
                output.rename(Path(workplace) / "old")
            package.rename(output)


def _prisma_version() -> str:
    try:
        return version("prisma")
    except PackageNotFoundError as error:
        msg = "Prisma Client Python was not found: install crossfade[prisma]"
        raise EngineError(msg) from error


def _stamp_of(output: Path) -> str | None:
    try:
        return (output / _STAMP).read_text(encoding="ascii")
    except OSError:
        return None


def _generator_params(text: str, schema_path: Path, announce: Announce) -> dict[str, Any]:
    source = str(schema_path)
    config = get_config(text, source=source, announce=announce)
    ours = [g for g in config["generators"] if g["provider"]["value"] == _PROVIDER]
    generator = ours[0] if ours else {"name": "client", "provider": {"value": _PROVIDER, "fromEnvVar": None}}
    settings = generator.get("config") or {"interface": "asyncio", "enable_experimental_decimal": "true"}
    return {
        "generator": {
            "binaryTargets": [],
            "previewFeatures": [],
            **generator,
            "config": settings,
            "output": {"value": "", "fromEnvVar": None},
        },
        "otherGenerators": [],
        "schemaPath": source,
        "dmmf": get_dmmf(text, source=source, announce=announce),
        "datasources": config["datasources"],
        "datamodel": text,
        "version": ENGINE_COMMIT,
        "binaryPaths": {},
    }


def _run_generator(params: dict[str, Any]) -> None:
    request = {"jsonrpc": "2.0", "method": "generate", "params": params, "id": 1}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PRISMA_PY_")}
    answer = subprocess.run(
        [sys.executable, "-m", "prisma"],
        input=json.dumps(request) + "\n",
        env=environment | {"PRISMA_GENERATOR_INVOCATION": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    reply = _reply(answer.stderr)
    if reply is None or "error" in reply:
        reason = reply["error"]["message"] if reply else answer.stderr
        msg = f"Prisma Client Python could not be generated: {reason.strip()}"
        raise EngineError(msg)


def _reply(stderr: str) -> dict[str, Any] | None:
    """The generator answers on stderr, where its warnings go too."""
    for line in reversed(stderr.splitlines()):
        try:
            reply: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if reply.get("jsonrpc"):
            return reply
    return None
