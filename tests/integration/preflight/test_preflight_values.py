"""Values that the target's columns refuse, or take otherwise than they were."""

from __future__ import annotations

import asyncpg
import pytest
from looking import Look

from crossfade.preflight import Kind, Severity, values
from crossfade.schema import Schema
from crossfade.stages import Side
from databases import FreshDatabase
from small_schema import scalar


def one_model(*columns: str) -> Schema:
    """A model `Thing` with an integer id and these columns."""
    fields = [scalar("id", "Int", isId=True), *(scalar(name, isRequired=False) for name in columns)]
    thing = {"name": "Thing", "dbName": None, "fields": fields, "primaryKey": None, "uniqueIndexes": []}
    return Schema.from_dmmf({"datamodel": {"enums": [], "models": [thing]}})


# legacy type, target type, values that fit, values that do not, what is found
REFUSED = [
    ("text", "uuid", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "NULL"], ["'no uuid'", "''"], Kind.INVALID),
    ("text", "integer", ["'12'"], ["'1.5'", "'99999999999'"], Kind.INVALID),
    ("text", "numeric(4,2)", ["'12.25'"], ["'100.00'", "'x'"], Kind.INVALID),
    ("text", "jsonb", ["'[1, 2]'"], ["'{'", "'\"\\u0000\"'"], Kind.INVALID),
    ("text", "date", ["'2024-02-29'"], ["'2023-02-29'"], Kind.INVALID),
    ("json", "jsonb", ["'{\"a\": 1}'"], ["'\"\\u0000\"'"], Kind.INVALID),
    ("text", "mood", ["'happy'", "NULL"], ["'angry'"], Kind.INVALID),
    ("text[]", "mood[]", ["'{happy,sad}'", "'{}'"], ["'{happy,angry}'"], Kind.INVALID),
    ("text[]", "uuid[]", ["'{}'"], ["'{x}'"], Kind.INVALID),
    ("text", "even", ["'2'"], ["'x'"], Kind.INVALID),
    ("integer", "even", ["2"], ["3"], Kind.CHECK),
    ("text", "varchar(3)", ["'abc'"], ["'abcd'", "'abc '"], Kind.TOO_LONG),
    ("varchar(9)", "char(3)", ["'abc'"], ["'abcd'"], Kind.TOO_LONG),
    ("text[]", "varchar(3)[]", ["'{abc}'"], ["'{a,abcd}'"], Kind.TOO_LONG),
    ("bigint", "integer", ["2147483647"], ["2147483648"], Kind.OUT_OF_RANGE),
    ("integer", "numeric(4,2)", ["99"], ["100", "-100"], Kind.OUT_OF_RANGE),
    ("numeric", "numeric(4,2)", ["99.99", "'NaN'"], ["99.995", "'Infinity'"], Kind.OUT_OF_RANGE),
    ("double precision", "numeric(4,2)", ["1.5"], ["1e9", "'-Infinity'"], Kind.OUT_OF_RANGE),
    ("numeric", "smallint", ["32767.4"], ["32767.5", "'NaN'"], Kind.OUT_OF_RANGE),
    ("double precision", "real", ["1.5"], ["1e300", "1e-300"], Kind.INVALID),
    ("bit varying(8)", "bit(3)", ["'101'"], ["'1011'"], Kind.INVALID),
    ("date", "timestamp(3)", ["'2024-01-01'"], ["'300000-01-01'"], Kind.INVALID),
]  # fmt: skip
TYPES = (
    "CREATE TYPE mood AS ENUM ('happy', 'sad');"
    "CREATE DOMAIN smaller AS integer; CREATE DOMAIN even AS smaller CHECK (VALUE % 2 = 0);"
)


def table(type_: str, rows: list[str], prefix: str = "") -> str:
    """A table `Thing` with one column besides its id, and rows with these values."""
    filled = "".join(f'INSERT INTO "Thing" VALUES ({n}, {value});' for n, value in enumerate(rows, 1))
    return f'{prefix} CREATE TABLE "Thing" (id integer PRIMARY KEY, a {type_}); {filled}'


@pytest.mark.parametrize(("source", "target", "good", "bad", "kind"), REFUSED)
async def test_refused_values_are_found(
    look: Look, source: str, target: str, good: list[str], bad: list[str], kind: Kind
) -> None:
    """Exactly the values that the target's column refuses are counted, and their keys named."""
    found = await look(one_model("a"), table(source, [*good, *bad]), table(target, [], TYPES))

    finding = found[kind, "a"]
    assert (len(bad), Severity.BLOCKER) == (finding.count, finding.severity)
    assert tuple((str(len(good) + n),) for n in range(1, len(bad) + 1)) == finding.examples


@pytest.mark.parametrize(("source", "target", "good", "bad", "kind"), REFUSED[:11])
async def test_refused_values_are_found_by_older_servers(
    look: Look,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
    good: list[str],
    bad: list[str],
    kind: Kind,
) -> None:
    """Where the server cannot say whether a text is valid, the assignment is tried: with the same outcome."""
    monkeypatch.setattr(values, "_SOFT_INPUT", 99)

    found = await look(one_model("a"), table(source, [*good, *bad]), table(target, [], TYPES))

    assert tuple((str(len(good) + n),) for n in range(1, len(bad) + 1)) == found[kind, "a"].examples


# legacy type, target type, values that arrive as they are, values that do not, what is found
CHANGED = [
    ("numeric", "numeric(10,2)", ["1.20", "1.200"], ["1.234"], Kind.ROUNDED),
    ("timestamp(6)", "timestamp(3)", ["'2024-01-01 00:00:00.123'"], ["'2024-01-01 00:00:00.1234'"], Kind.ROUNDED),
    ("timestamptz", "timestamptz(0)", ["'2024-01-01 00:00:00'"], ["'2024-01-01 00:00:00.5'"], Kind.ROUNDED),
    ("timestamp(3)", "date", ["'2024-01-01'"], ["'2024-01-01 12:00'"], Kind.ROUNDED),
    ("numeric", "integer", ["1", "2.0"], ["1.5"], Kind.ROUNDED),
    ("double precision", "real", ["1.5"], ["0.1"], Kind.ROUNDED),
    ("text", "jsonb", ["'1'"], ["'[1,2]'"], Kind.CHANGED),
    ("timestamp(3)", "timestamp(3)", ["'9999-12-31 23:59:59.999'", "'0001-01-01'"],
     ["'infinity'", "'10000-01-01'", "'0001-12-31 BC'"], Kind.TIME_OUT_OF_RANGE),
    ("timestamptz", "timestamptz", ["'2024-01-01 00:00+02'"], ["'-infinity'"], Kind.TIME_OUT_OF_RANGE),
    ("date", "date", ["'9999-12-31'"], ["'10000-01-01'"], Kind.TIME_OUT_OF_RANGE),
    ("double precision", "double precision", ["1"], ["'NaN'", "'Infinity'", "'-Infinity'"], Kind.NOT_FINITE),
    ("real[]", "real[]", ["'{1}'"], ["'{1,NaN}'"], Kind.NOT_FINITE),
    ("numeric", "numeric", ["1"], ["'NaN'"], Kind.NOT_FINITE),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "good", "bad", "kind"), CHANGED)
async def test_values_that_arrive_otherwise_are_found(
    look: Look, source: str, target: str, good: list[str], bad: list[str], kind: Kind
) -> None:
    """What is rounded, spelled differently, or beyond Python's numbers and times is counted, and its keys named."""
    found = await look(one_model("a"), table(source, [*good, *bad]), table(target, []))

    assert tuple((str(len(good) + n),) for n in range(1, len(bad) + 1)) == found[kind, "a"].examples
    assert len(bad) == found[kind, "a"].count


@pytest.mark.parametrize(
    ("source", "target", "fitting"),
    [
        ("integer", "bigint", ["1", "NULL"]),
        ("varchar(3)", "text", ["'abc'"]),
        ("text", "varchar", ["'abc'"]),
        ("char(3)", "varchar(3)", ["'a'"]),
        ("timestamp(3)", "timestamptz(3)", ["'2024-01-01 00:00:00.123'"]),
        ("numeric(6,2)", "numeric(8,3)", ["1234.56"]),
        ("json", "jsonb", ['\'{"b": 1, "a": [1.0]}\'']),
        ("boolean", "boolean", ["true"]),
        ("text", "uuid", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
        ("text", "integer", ["'01'", "NULL"]),
        ("bytea", "bytea", [r"'\\xff'"]),
    ],
)
async def test_values_that_fit_are_no_finding(
    look: Look, source: str, target: str, fitting: list[str]
) -> None:
    """Types that take each other's values find nothing."""
    assert {} == await look(one_model("a"), table(source, fitting), table(target, []))


async def test_keys_that_would_be_spelled_otherwise(look: Look) -> None:
    """A text that is the key must stay the text that it is; what is no value of the type at all is another finding."""
    found = await look(
        one_model(),
        'CREATE TABLE "Thing" (id text PRIMARY KEY);'
        "INSERT INTO \"Thing\" VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), ('bad'),"
        " ('B0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11')",
        'CREATE TABLE "Thing" (id uuid PRIMARY KEY)',
    )

    assert (("B0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",),) == found[Kind.CHANGED, "id"].examples
    assert (("bad",),) == found[Kind.INVALID, "id"].examples
    assert Severity.BLOCKER is found[Kind.CHANGED, "id"].severity


async def test_null_in_a_required_column(look: Look) -> None:
    """NULLs are counted once where the target's column, or its domain, is NOT NULL."""
    found = await look(
        one_model("a", "b"),
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, a text, b text);'
        """INSERT INTO "Thing" VALUES (1, 'x', 'x'), (2, NULL, 'x'), (3, NULL, NULL)""",
        "CREATE DOMAIN full_text AS text NOT NULL;"
        'CREATE TABLE "Thing" (id integer PRIMARY KEY, a text NOT NULL, b full_text)',
    )

    assert {(Kind.NULL, "a"), (Kind.NULL, "b")} == found.keys()
    assert (2, (("2",), ("3",))) == (found[Kind.NULL, "a"].count, found[Kind.NULL, "a"].examples)
    assert 1 == found[Kind.NULL, "b"].count


async def test_no_finding_holds_a_value(look: Look) -> None:
    """Keys are named, values never."""
    found = await look(one_model("a"), table("text", ["'my secret'"]), table("uuid", []))

    assert "secret" not in str([finding.as_json() for finding in found.values()])
    assert (("1",),) == found[Kind.INVALID, "a"].examples


async def test_the_legacy_store_is_left_as_it_was(look: Look, fresh_database: FreshDatabase) -> None:
    """No function, no row, nothing else is left behind or changed."""
    dsns = {side: await fresh_database() for side in Side}
    await look(one_model("a"), table("double precision", ["0.1"]), table("real", []), dsns=dsns)

    connection = await asyncpg.connect(**dsns[Side.PRISMA].asyncpg_kwargs())
    try:
        assert 0 == await connection.fetchval("SELECT count(*) FROM pg_proc WHERE proname LIKE 'crossfade%'")
        assert 1 == await connection.fetchval('SELECT count(*) FROM "Thing"')
    finally:
        await connection.close()
