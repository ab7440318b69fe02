"""Prisma Client Python on our engine: what an application asks, and what it must get."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from engine_kit import connected, database_of_schema

from crossfade.embedded import EmbeddedPostgres

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def label() -> str:
    """A string that no other test uses."""
    return uuid4().hex


async def test_every_scalar_type_survives_a_round_trip(db: Any, prisma_package: ModuleType) -> None:
    """What is written is what is read: exact integers, floats that stay floats, bytes, enums, text with quotes."""
    moment = datetime(2024, 2, 29, 23, 59, 59, 987_000, tzinfo=UTC)
    written = {
        "text": 'ünï "quoted" \\ \n\t 😀',
        "number": -5,
        "large": 2**62 + 1,
        "ratio": 700.0,
        "amount": Decimal("12345678901234567890.000000000123"),
        "flag": True,
        "moment": moment,
        "blob": prisma_package.Base64.encode(b"\x00\xff"),
        "role": "GUEST",
        "texts": ["", 'a"b'],
        "numbers": [1, -1],
        "larges": [2**62 + 1],
        "ratios": [1.0, 2.5],
        "amounts": [Decimal("0.1")],
        "flags": [True, False],
        "moments": [moment],
        "chunks": [prisma_package.Base64.encode(b"z")],
        "roles": ["ADMIN", "GUEST"],
    }

    created = await db.everything.create(data=written)
    read = await db.everything.find_unique(where={"id": created.id})

    assert written == {name: getattr(read, name) for name in written}
    assert created == read
    assert isinstance(read.ratio, float)


@pytest.mark.parametrize(
    "document",
    [
        {"a": 1, "b": 1.0, "c": 2**60, "list": [None, True, {"x": []}], "quote": 'say "hi"\n'},
        [],
        "text",
        "DbNull",
        12.5,
        None,
        {"$type": "DateTime", "value": "2024"},
    ],
)
async def test_json_keeps_its_form(db: Any, prisma_package: ModuleType, document: Any) -> None:
    """Any JSON comes back equal and with the types of its numbers, in a field and in a list."""
    json = prisma_package.Json(document)

    created = await db.everything.create(data={"document": json, "documents": [json, json]})
    read = await db.everything.find_first(where={"id": created.id, "document": {"equals": json}})

    assert repr(document) == repr(read.document)
    assert [document, document] == read.documents


async def test_json_is_found_wherever_the_schema_has_it(
    db: Any, prisma_package: ModuleType, label: str
) -> None:
    """Json arguments are recognised in nested writes, relation filters, negations and included relations."""
    json = prisma_package.Json
    author = await db.author.create(
        data={"email": label, "works": {"create": [{"title": label, "meta": json({"q": [1]})}]}}
    )

    found = await db.author.find_many(
        where={
            "AND": [{"works": {"some": {"NOT": [{"meta": {"equals": json({"q": 2})}}]}}}, {"email": label}]
        },
        include={"works": {"where": {"meta": {"path": ["q"], "equals": json([1])}}}},
    )
    updated = await db.work.update(
        where={"title_edition": {"title": label, "edition": 1}},
        data={"meta": json("x"), "edition": {"increment": 2}},
    )
    listed = await db.everything.create(data={"documents": {"set": [json(1)]}})
    pushed = await db.everything.update(
        where={"id": listed.id}, data={"documents": {"push": [json({"b": 2})]}}
    )

    assert [author.id] == [a.id for a in found]
    assert [{"q": [1]}] == [w.meta for w in found[0].works]
    assert ("x", 3) == (updated.meta, updated.edition)
    assert [1, {"b": 2}] == pushed.documents


async def test_relations_compound_keys_and_upsert(db: Any, label: str) -> None:
    """Nested connect and create, many-to-many, include, compound unique keys and upsert work."""
    author = await db.author.create(
        data={"email": label, "profile": {"create": {}}}, include={"profile": True}
    )
    key = {"title_edition": {"title": label, "edition": 1}}
    work = {
        "title": label,
        "author": {"connect": {"id": author.id}},
        "tags": {"create": [{"id": 900, "label": label}]},
    }

    await db.work.upsert(where=key, data={"create": work, "update": {}})
    upserted = await db.work.upsert(
        where=key,
        data={"create": work, "update": {"price": Decimal("1.50")}},
        include={"tags": True, "author": True},
    )

    assert {} == author.profile.settings
    assert Decimal("1.5") == upserted.price
    assert ([label], label) == ([t.label for t in upserted.tags], upserted.author.email)


async def test_counts_and_groups(db: Any, label: str) -> None:
    """Aggregates answer in the forms the client expects."""
    await db.everything.create_many(data=[{"text": label, "number": n, "ratio": 0.5} for n in (1, 2, 3)])

    counted = await db.everything.count(where={"text": label}, select={"_all": True, "amount": True})
    grouped = await db.everything.group_by(
        ["text"],
        where={"text": label},
        count=True,
        sum={"number": True, "ratio": True},
        having={"number": {"_avg": {"gt": 1.5}}},
    )

    assert {"_all": 3, "amount": 0} == counted
    assert [{"text": label, "_count": {"_all": 3}, "_sum": {"number": 6, "ratio": 1.5}}] == grouped


async def test_raw_sql(db: Any, prisma_package: ModuleType, label: str) -> None:
    """Raw statements take JSON-like parameters and give back typed columns, those of user types too."""
    created = await db.everything.create(data={"text": label})

    changed = await db.execute_raw(
        'UPDATE "Everything" SET number = $1, document = $2::jsonb WHERE text = $3', 7, {"a": 1.0}, label
    )
    rows = await db.query_raw(
        """SELECT number, document, '2024-01-01 00:00:00.5+02'::timestamptz AS at, 9007199254740993 AS large,
                  ARRAY['ADMIN', 'visitor']::"Role"[] AS roles, '{"$type":"Json","value":"1"}'::json AS odd,
                  1.50::numeric AS amount, '\\x00ff'::bytea AS blob, NULL::int AS nothing
           FROM "Everything" WHERE id = $1""",
        created.id,
    )
    model = await prisma_package.models.Everything.prisma(db).query_first(
        'SELECT * FROM "Everything" WHERE id = $1', created.id
    )

    assert 1 == changed
    assert [
        {
            "number": 7,
            "document": {"a": 1.0},
            "at": "2023-12-31T22:00:00.500+00:00",
            "large": 9007199254740993,
            "roles": ["ADMIN", "visitor"],
            "odd": {"$type": "Json", "value": "1"},
            "amount": 1.5,
            "blob": "AP8=",
            "nothing": None,
        }
    ] == rows
    assert ({"a": 1.0}, label) == (model.document, model.text)


async def test_a_batch_is_all_or_nothing(db: Any, prisma_package: ModuleType, label: str) -> None:
    """A batch commits together, and a fault in one part undoes the others."""
    good = db.batch_()
    good.tag.create(data={"id": 910, "label": label})
    good.execute_raw('UPDATE "Tag" SET label = $1 WHERE id = 910', f"{label}!")
    await good.commit()
    bad = db.batch_()
    bad.tag.create(data={"id": 911, "label": "never"})
    bad.tag.create(data={"id": 910, "label": "taken"})

    with pytest.raises(prisma_package.errors.UniqueViolationError):
        await bad.commit()

    assert [f"{label}!"] == [t.label for t in await db.tag.find_many(where={"id": {"in": [910, 911]}})]


async def test_many_calls_at_once_get_their_own_answers(db: Any) -> None:
    """Concurrent calls, more than there are connections, are not mixed up."""
    answers = await asyncio.gather(*(db.query_raw("SELECT $1::int AS n", n) for n in range(40)))

    assert [[{"n": n}] for n in range(40)] == answers


FAULTS: dict[str, tuple[str, str | None, Any]] = {
    "unique": (
        "UniqueViolationError",
        "P2002",
        lambda db, _: db.tag.create(data={"id": 921, "label": "fault"}),
    ),
    "foreign key": (
        "ForeignKeyViolationError",
        "P2003",
        lambda db, _: db.work.create(data={"title": "x", "authorId": "nobody"}),
    ),
    "missing value": ("MissingRequiredValueError", "P2009", lambda db, _: db.tag.create(data={"id": 1})),
    "missing Json": (
        "MissingRequiredValueError",
        "P2012",
        lambda db, _: db.everything.create(data={"document": None}),
    ),
    "not found": (
        "RecordNotFoundError",
        "P2025",
        lambda db, _: db.tag.find_unique_or_raise(where={"id": -1}),
    ),
    "unknown field": ("FieldNotFoundError", "P2009", lambda db, _: db.tag.find_many(where={"colour": "red"})),
    "Json that is none": (
        "FieldNotFoundError",
        "P2009",
        lambda db, _: db.everything.create(data={"document": "{nope"}),
    ),
    "bare dictionary as Json": (
        "FieldNotFoundError",
        "P2009",
        lambda db, _: db.everything.create(data={"document": {"a": 1}}),
    ),
    "unsuitable order": (
        "InputError",
        "P2019",
        lambda db, _: db.work.group_by(["title"], order={"edition": "asc"}),
    ),
    "raw SQL": ("RawQueryError", "P2010", lambda db, _: db.query_raw("SELECT * FROM nowhere")),
    "raw division": ("RawQueryError", "P2010", lambda db, _: db.execute_raw("SELECT 1/0")),
    "several statements": ("RawQueryError", "P2010", lambda db, _: db.execute_raw("SELECT 1; SELECT 2")),
    "connection cut": (
        "DataError",
        "P1017",
        lambda db, _: db.query_raw("SELECT pg_terminate_backend(pg_backend_pid())"),
    ),
    "syntax": ("DataError", None, lambda db, _: db.tag.find_many(where={"not-a-name": 1})),
}


@pytest.mark.parametrize(
    "document", ["1e400", "1" * 400, "-1e309", r'"\ud800"', r'{"\udc00": 1}', "[" * 128 + "]" * 128]
)
async def test_documents_that_the_engine_cannot_read_harm_nobody(
    db: Any, prisma_package: ModuleType, document: str
) -> None:
    """They are refused before the engine panics on them, which would fail every other call in flight."""
    slow = asyncio.create_task(db.query_raw("SELECT 1 AS one FROM pg_sleep(0.2)"))
    with pytest.raises(prisma_package.errors.FieldNotFoundError):
        await db.everything.create(data={"document": document})

    assert [{"one": 1}] == await slow


@pytest.mark.parametrize("document", ["1e308", r'"\ud83e\udd80"', "[" * 127 + "]" * 127])
async def test_documents_at_the_limit_are_kept(db: Any, document: str) -> None:
    """What the engine can just read passes."""
    created = await db.everything.create(data={"document": document})

    assert json.loads(document) == created.document


async def test_a_database_that_writes_values_in_other_forms(
    prisma_package: ModuleType, postgres: EmbeddedPostgres
) -> None:
    """How the server is set to print dates, bytes and floats changes nothing."""
    moment = datetime(2026, 7, 1, 12, 0, 0, 5000, tzinfo=UTC)
    given = {
        "moment": moment,
        "blob": prisma_package.Base64.encode(b"\x00\xff\\"),
        "ratio": 0.1234567890123456,
    }
    async with database_of_schema(postgres) as dsn:
        owner = await asyncpg.connect(**dsn.asyncpg_kwargs())
        for setting in (
            "datestyle='SQL, DMY'",
            "bytea_output=escape",
            "extra_float_digits=0",
            "timezone='Asia/Tokyo'",
        ):
            await owner.execute(f'ALTER DATABASE "{dsn.database}" SET {setting}')
        await owner.execute('ALTER TABLE "Everything" ALTER COLUMN moment TYPE timestamptz(3)')
        await owner.close()
        async with connected(prisma_package, dsn) as client:
            found = await client.everything.create(data=given)

    assert given == {name: getattr(found, name) for name in given}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults_reach_python_as_the_same_classes(
    db: Any, prisma_package: ModuleType, fault: str
) -> None:
    """Every kind of fault arrives as the client's exception for it, with Prisma's code; the next call works."""
    name, code, call = FAULTS[fault]
    await db.tag.upsert(where={"id": 920}, data={"create": {"id": 920, "label": "fault"}, "update": {}})

    with pytest.raises(prisma_package.errors.DataError) as caught:
        await call(db, prisma_package)

    assert (name, code) == (type(caught.value).__name__, caught.value.code)
    assert 1 == await db.tag.count(where={"id": 920})


async def test_violations_name_the_fields(db: Any, prisma_package: ModuleType, label: str) -> None:
    """The meta of a violation is what the native engine puts there."""
    await db.author.create(data={"email": label})

    with pytest.raises(prisma_package.errors.UniqueViolationError) as unique:
        await db.author.create(data={"email": label})
    with pytest.raises(prisma_package.errors.ForeignKeyViolationError) as foreign:
        await db.work.create(data={"title": label, "authorId": "nobody"})

    assert {"target": ["email"]} == unique.value.meta
    assert {"field_name": "Work_author_id_fkey (index)"} == foreign.value.meta


async def test_metrics_say_that_there_are_none(db: Any, prisma_package: ModuleType) -> None:
    """The WASM build has no metrics; the client is told so."""
    with pytest.raises(prisma_package.engine.errors.EngineRequestError, match="not available"):
        await db.get_metrics()
