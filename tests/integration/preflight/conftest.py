"""Fixtures for preflight: two databases of a test's own, and what is found in them."""

from __future__ import annotations

import pytest
from looking import Look, run

from crossfade.dsn import Dsn
from crossfade.mapping import NO_MAPPINGS, Mappings
from crossfade.preflight import Finding, Kind, Preflight, PreflightSettings
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store import Store
from databases import FreshDatabase


@pytest.fixture
def look(fresh_database: FreshDatabase) -> Look:
    """`look(schema, legacy_ddl, target_ddl)` gives the findings by kind and column."""

    async def find(
        schema: Schema,
        legacy: str,
        target: str,
        *,
        mappings: Mappings = NO_MAPPINGS,
        models: list[str] | None = None,
        settings: PreflightSettings | None = None,
        dsns: dict[Side, Dsn] | None = None,
    ) -> dict[tuple[Kind, str | None], Finding]:
        dsns = dsns or {side: await fresh_database() for side in Side}
        await run(dsns[Side.PRISMA], legacy)
        await run(dsns[Side.SQLALCHEMY], target)
        stores = {side: Store(side, dsn, schema, mappings=mappings) for side, dsn in dsns.items()}
        report = await Preflight(stores, settings).run(models)
        found = {(finding.kind, finding.column): finding for finding in report.findings}
        assert len(report.findings) == len(found)
        return found

    return find
