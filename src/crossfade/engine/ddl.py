"""The SQL that creates a schema, from Prisma's own schema engine.

A tool for tests and for writing migrations: an application does not need it at run time.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from crossfade.engine.node import find_node
from crossfade.engine.packages import Announce, PackageSet, install
from crossfade.errors import SchemaError

_SCRIPT = Path(__file__).parent / "ddl.mjs"


def schema_to_ddl(schema_text: str, *, announce: Announce = lambda _line: None) -> str:
    """Return the SQL that takes an empty database to `schema_text`.

    Raises:
        SchemaError: Prisma does not accept the schema.
        EngineError: Node, npm or the packages are missing.
    """
    packages = install(PackageSet.DDL, announce)
    answer = subprocess.run(
        [find_node().path, _SCRIPT, packages],
        input=schema_text,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        raise SchemaError(re.sub(r"\x1b\[[0-9;]*m", "", answer.stderr).strip())
    return answer.stdout
