"""Look through the legacy store for everything that the target will not take, without changing or copying anything.

Everything is evaluated in the databases. A table is scanned once for all conditions over its values; unique indexes and
foreign keys that the legacy store does not have itself take a query each. What cannot be evaluated is a finding of its
own: silence means that a thing has been looked at.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import asyncpg

from crossfade.mapping import Mapping as ModelMapping
from crossfade.mapping import Renamed
from crossfade.preflight.catalog import TableFacts, read_facts
from crossfade.preflight.findings import Finding, Kind, Severity
from crossfade.preflight.rules import Subject, check_tests, duplicates, orphans
from crossfade.preflight.scan import Scan, refusal
from crossfade.preflight.structure import (
    TABLE_KINDS,
    of_columns,
    of_key,
    of_table,
    uncopied_tests,
    unknown_labels,
)
from crossfade.preflight.values import Dialect, Test, landing_of, stray_tests
from crossfade.stages import Side
from crossfade.store.columns import base_type
from crossfade.store.crossing import Crossing
from crossfade.store.pairing import pair
from crossfade.store.ranges import have_same_order
from crossfade.store.store import Store
from crossfade.store.tables import Connection, StoredTable, inspect_tables, quoted, table_names
from crossfade.stores import check_reachable


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightSettings:
    """How many keys to name in each finding, and after how many seconds to give a query up (None: never)."""

    examples: int = 5
    statement_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Scanned:
    """One table that has been looked through. `rows` is None where its rows could not be."""

    model: str
    owner: str
    table: str
    rows: int | None
    seconds: float
    blockers: int
    warnings: int


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """Everything that was found, blockers first, and what was looked through."""

    findings: tuple[Finding, ...]
    tables: tuple[Scanned, ...]

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that stand in the way of a copy."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.BLOCKER)


@dataclass(frozen=True, slots=True)
class _Place:
    """One model's table in both stores, as far as there is one."""

    model: str
    owner: str
    facts: Mapping[Side, TableFacts | None]
    stored: Mapping[Side, StoredTable | None]
    named: Mapping[Side, str]


class Preflight:
    """The findings of the legacy store's data. Nothing has to be installed, and the stores need not be open.

    Args:
        stores: both stores.
        settings: how thorough to be.
    """

    def __init__(self, stores: Mapping[Side, Store], settings: PreflightSettings | None = None) -> None:
        self._stores = stores
        self._settings = settings or PreflightSettings()

    async def run(
        self, models: Sequence[str] | None = None, *, on_table: Callable[[Scanned], None] | None = None
    ) -> PreflightReport:
        """Look through the tables of `models`, or of all, and tell of each table when it is done.

        Raises:
            UnknownModelError: the schema has no such model.
            StoreUnavailableError: a store does not answer.
        """
        schema = self._stores[Side.PRISMA].schema
        for model in models or ():
            schema.model(model)
        for store in self._stores.values():
            await check_reachable(store.dsn, f"the store of {store.side}")
        async with (
            _session(self._stores[Side.PRISMA]) as legacy,
            _session(self._stores[Side.SQLALCHEMY]) as target,
        ):
            survey = _Survey(self._stores, self._settings, {Side.PRISMA: legacy, Side.SQLALCHEMY: target})
            await survey.read()
            wanted = None if models is None else frozenset(models)
            findings: list[Finding] = []
            tables: list[Scanned] = []
            for place in survey.places:
                if wanted is None or place.owner in wanted:
                    found, scanned = await survey.look(place)
                    findings += found
                    tables.append(scanned)
                    if on_table is not None:
                        on_table(scanned)
        order = list(Severity)
        findings.sort(key=lambda finding: order.index(finding.severity))
        return PreflightReport(tuple(findings), tuple(tables))


class _Survey:
    def __init__(
        self, stores: Mapping[Side, Store], settings: PreflightSettings, sessions: Mapping[Side, Connection]
    ) -> None:
        self._stores, self._settings, self._sessions = stores, settings, sessions
        self.places: list[_Place] = []
        self._subjects: dict[str, Subject] = {}
        self._troubles: dict[str, list[Finding]] = {}
        self._parents: dict[tuple[str, str], Subject] = {}
        self._numbers = count()
        self._mappings = stores[Side.SQLALCHEMY].mappings
        self._version = sessions[Side.PRISMA].get_server_version().major

    async def read(self) -> None:
        """Read both catalogs and work out what becomes of every column."""
        facts: dict[Side, dict[str, TableFacts | None]] = {}
        stored: dict[Side, Mapping[str, StoredTable]] = {}
        named: dict[Side, dict[str, str]] = {}
        owners: dict[str, str] = {}
        for side, store in self._stores.items():
            connection = self._sessions[side]
            async with connection.transaction(readonly=True):
                await store.begin(connection)
                names = table_names(store.schema, store.database_schema, store.mappings)
                facts[side] = {
                    model: await read_facts(connection, schema, name)
                    for model, (_, schema, name) in names.items()
                }
                tables, _ = await inspect_tables(
                    connection, store.schema, store.database_schema, store.mappings
                )
                stored[side] = tables.tables
                named[side] = {
                    model: f"{quoted(schema)}.{quoted(name)}" for model, (_, schema, name) in names.items()
                }
                owners = {model: owner for model, (owner, _, _) in names.items()}
        dialect = await self._dialect(facts[Side.SQLALCHEMY].values())
        for model, owner in owners.items():
            place = _Place(
                model,
                owner,
                {side: facts[side][model] for side in Side},
                {side: stored[side].get(model) for side in Side},
                {side: named[side][model] for side in Side},
            )
            self.places.append(place)
            self._relate(place, dialect)

    async def _dialect(self, facts: Iterable[TableFacts | None]) -> Dialect:
        legacy, target = self._sessions[Side.PRISMA], self._sessions[Side.SQLALCHEMY]
        types = {base_type(c.plain_type) for table in facts if table for c in table.columns.values()}
        known = await legacy.fetch(
            "SELECT t FROM unnest($1::text[]) AS t WHERE to_regtype(t) IS NOT NULL", sorted(types)
        )
        encoding = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"
        return Dialect(
            self._version,
            frozenset(row["t"] for row in known).__contains__,
            await legacy.fetchval(encoding),
            await target.fetchval(encoding),
        )

    def _relate(self, place: _Place, dialect: Dialect) -> None:
        """Find out how one model crosses, or why it does not."""
        trouble = self._troubles.setdefault(place.model, [])
        for side, facts in place.facts.items():
            if facts is None:
                trouble.append(
                    Finding(model=place.model, table=place.named[side], kind=Kind.MISSING_TABLE, side=side)
                )
            else:
                trouble += of_table(place.model, side, facts)
        legacy, target = place.facts[Side.PRISMA], place.facts[Side.SQLALCHEMY]
        if legacy is None or target is None or not {legacy.kind, target.kind} <= TABLE_KINDS:
            return
        mapping = self._mappings.of(place.model)
        tables = dict(place.stored)
        for side, facts in ((Side.SQLALCHEMY, target), (Side.PRISMA, legacy)):
            if tables[side] is None:
                trouble.append(Finding(model=place.model, table=facts.quoted, kind=Kind.NO_KEY, side=side))
                tables[side] = _keyed_like(tables[side.other], mapping, side, facts)
        one, two = tables[Side.PRISMA], tables[Side.SQLALCHEMY]
        if one is None or two is None:
            return
        paired = pair(one, two, mapping)
        columns = {*legacy.columns, *target.columns}
        for problem in paired.problems:
            words = re.search(r"\bcolumn ([^\s,:;]+)", problem)
            column = words[1] if words and words[1] in columns else None
            trouble.append(
                Finding(
                    model=place.model, table=legacy.quoted, kind=Kind.MAPPING, column=column, detail=problem
                )
            )
        keys = {Side.PRISMA: one.key, Side.SQLALCHEMY: paired.key}
        crossing = Crossing(
            place.model, place.owner, {Side.PRISMA: one, Side.SQLALCHEMY: two}, paired.columns, keys
        )
        trouble += of_columns(crossing, legacy, target, mapping)
        landings = {
            column.target.name: landing_of(
                column,
                legacy.columns[column.legacy.name],
                target.columns[column.target.name],
                dialect,
                next(self._numbers),
            )
            for column in crossing.columns
        }
        subject = Subject(crossing, legacy, target, landings)
        self._subjects[place.model] = subject
        self._parents[target.schema, target.name] = subject

    async def look(self, place: _Place) -> tuple[list[Finding], Scanned]:
        """Everything about one model's table."""
        started = time.monotonic()
        findings, rows = [*self._troubles[place.model]], None
        subject = self._subjects.get(place.model)
        if subject is not None:
            same_order = None
            if all(place.stored.values()) and _pairs_keys(subject.crossing):
                same_order = await have_same_order(
                    subject.crossing, self._sessions[Side.PRISMA], self._sessions[Side.SQLALCHEMY]
                )
            findings += of_key(subject.crossing, subject.legacy, same_order=same_order)
            for reference in subject.target.references:
                if reference.parent not in self._parents:
                    findings.append(
                        self._finding(
                            subject,
                            Kind.FOREIGN_PARENT,
                            ", ".join(reference.columns),
                            f"foreign key {reference.name}",
                        )
                    )
            found, rows = await self._scan(subject)
            findings += found
            findings += unknown_labels(subject.crossing, subject.legacy, subject.target, found)
        blockers = sum(finding.severity is Severity.BLOCKER for finding in findings)
        table = place.facts[Side.PRISMA]
        return findings, Scanned(
            place.model,
            place.owner,
            table.quoted if table else place.named[Side.PRISMA],
            rows,
            time.monotonic() - started,
            blockers,
            len(findings) - blockers,
        )

    async def _scan(self, subject: Subject) -> tuple[list[Finding], int | None]:
        mapping = self._mappings.of(subject.crossing.model)
        tests = [*_tests(subject, self._version), *uncopied_tests(subject.crossing, subject.legacy, mapping)]
        questions = [*duplicates(subject), *orphans(subject, self._parents)]
        scan = Scan(self._sessions[Side.PRISMA], subject, self._settings.examples)
        store = self._stores[Side.PRISMA]
        transaction = self._sessions[Side.PRISMA].transaction()
        await transaction.start()
        try:
            await store.begin(self._sessions[Side.PRISMA])
            functions = {test.function for test in tests if test.function}
            functions |= {function for question in questions for function in question.functions}
            await scan.prepare(functions, self._settings.statement_timeout)
            rows = await scan.count(tests)
            for question in questions:
                await scan.ask(question)
        except asyncpg.QueryCanceledError:
            scan.not_checked("its rows: a query was cancelled or took too long", is_fatal=True)
            rows = None
        except asyncpg.PostgresError as error:
            scan.not_checked(f"its rows: {refusal(error)}", is_fatal=True)
            rows = None
        finally:
            await transaction.rollback()
        return scan.findings, rows

    def _finding(self, subject: Subject, kind: Kind, column: str, detail: str) -> Finding:
        return Finding(
            model=subject.crossing.model, table=subject.legacy.quoted, kind=kind, column=column, detail=detail
        )


def _tests(subject: Subject, version: int) -> Iterable[Test]:
    for landing in subject.landings.values():
        yield from landing.tests
    for column in subject.crossing.columns:
        facts = subject.legacy.columns[column.legacy.name]
        yield from stray_tests(facts, version)
    yield from check_tests(subject)


def _pairs_keys(crossing: Crossing) -> bool:
    pairs = {(column.legacy.name, column.target.name) for column in crossing.columns}
    here, there = crossing.keys[Side.PRISMA], crossing.keys[Side.SQLALCHEMY]
    return len(here) == len(there) and set(zip(here, there, strict=True)) <= pairs


def _keyed_like(
    other: StoredTable | None, mapping: ModelMapping, side: Side, facts: TableFacts
) -> StoredTable | None:
    """A table without a key, as if it had that of its counterpart, so that its rows can be looked through."""
    if other is None:
        return None
    names = {column.legacy: column.target for column in mapping.columns if isinstance(column, Renamed)}
    if side is Side.PRISMA:
        names = {target: legacy for legacy, target in names.items()}
    key = tuple(names.get(name, name) for name in other.key)
    if not set(key) <= facts.columns.keys():
        return None
    columns = {name: column.as_stored() for name, column in facts.columns.items()}
    return StoredTable(other.model, other.owner, facts.schema, facts.name, columns, key)


@asynccontextmanager
async def _session(store: Store) -> AsyncIterator[Connection]:
    connection = await store.listen_connection()
    try:
        yield connection
    finally:
        try:
            await asyncio.shield(connection.close(timeout=5))
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection.terminate()
