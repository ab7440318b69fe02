"""Callers and both sides see the same, although the target's tables differ on purpose."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from crossfade.dsn import Dsn
from crossfade.errors import ConfigurationError, RecordNotFoundError, UniqueViolationError
from crossfade.fields import Base64, Json
from crossfade.mapping import Converted, Mapping, Mappings, Renamed
from crossfade.operation import Action, Operation
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.records import Record
from crossfade.schema import Schema
from crossfade.stages import Side
from databases import FreshDatabase
from small_schema import scalar
from workshop import LEGACY, MAPPINGS, RECORDS, SAME, TABLES, TARGET, WORKSHOP

ANN, BEN = (str(uuid.UUID(int=n)) for n in (1, 2))
CODES = [str(uuid.UUID(int=0xABC + n)) for n in range(4)]
NOWHERE = Dsn.parse("postgresql://nobody@127.0.0.1:1/none")
BORN = datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=UTC)


class Both:
    """The same operation on both sides, whose answers must be the same."""

    def __init__(self, paths: dict[Side, SqlAlchemyPath], plain: dict[Side, asyncpg.Connection]) -> None:
        self.paths = paths
        self.plain = plain

    async def __call__(self, model: str, action: Action, **arguments: Any) -> Any:
        """Execute on both, and return the one answer."""
        answers = {}
        for side, path in self.paths.items():
            answers[side] = await path.execute(Operation(model, action, arguments))
        assert answers[Side.PRISMA] == answers[Side.SQLALCHEMY]
        return answers[Side.PRISMA]

    async def assert_same(self) -> None:
        """Both stores hold the same, asked without crossfade."""
        for legacy, target in SAME.values():
            rows = [
                await self.plain[side].fetch(query)
                for side, query in zip(Side, (legacy, target), strict=True)
            ]
            assert rows[0] == rows[1]


@pytest.fixture
async def both(fresh_database: FreshDatabase) -> AsyncIterator[Both]:
    """The workshop behind a path for each side, with some rows."""
    paths, plain = {}, {}
    for side, ddl in ((Side.PRISMA, LEGACY), (Side.SQLALCHEMY, TARGET)):
        dsn = await fresh_database()
        plain[side] = await asyncpg.connect(**dsn.asyncpg_kwargs())
        await plain[side].execute("SET TimeZone = 'UTC'")
        await plain[side].execute(ddl)
        paths[side] = SqlAlchemyPath(WORKSHOP, TABLES, RECORDS, dsn, side=side, mappings=MAPPINGS)
        await paths[side].connect()
    opened = Both(paths, plain)
    for n, (id_, email) in enumerate([(ANN, "ann"), (BEN, "ben")]):
        data = {"id": id_, "email": email, "nickname": email[0], "born": BORN}
        await opened("Owner", Action.CREATE, data=data)
        account = {"region": "eu", "number": n, "owner_id": id_, "cents": 101 - 200 * n}
        await opened("Account", Action.CREATE, data=account | {"status": ["OPEN", "DONE"][n]})
    for n in range(3):
        ticket = {"id": n + 1, "region": "eu", "number": n % 2, "title": f"t{n}", "code": CODES[n], "slot": n}
        if n:
            ticket["parent_id"] = n
        await opened("Ticket", Action.CREATE, data=ticket)
    await opened("Tag", Action.CREATE_MANY, data=[{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}])
    yield opened
    for path in paths.values():
        await path.close()
    for connection in plain.values():
        connection.terminate()


async def test_rows_are_read_in_the_legacy_form(both: Both) -> None:
    """Numbers, times and labels as the schema has them, whatever the target's columns hold."""
    account = await both(
        "Account", Action.FIND_UNIQUE, where={"region_number": {"region": "eu", "number": 0}}
    )
    assert (101, "OPEN", ANN) == (account.cents, account.status, account.owner_id)
    owner = await both("Owner", Action.FIND_UNIQUE, where={"id": ANN})
    assert (BORN, "a", 7, None) == (owner.born, owner.nickname, owner.score, owner.remark)
    await both.assert_same()


@pytest.mark.parametrize(
    ("model", "where", "found"),
    [
        ("Account", {"cents": 101}, 1),
        ("Account", {"cents": {"lt": 0}}, 1),
        ("Account", {"cents": {"in": [101, -99, 5]}}, 2),
        ("Account", {"status": "OPEN"}, 1),
        ("Account", {"status": {"not_in": ["OPEN"]}}, 1),
        ("Account", {"owner": {"is": {"nickname": {"startswith": "a"}}}}, 1),
        ("Owner", {"born": {"gte": BORN}}, 2),
        ("Owner", {"born": {"gt": BORN}}, 0),
        ("Owner", {"accounts": {"some": {"cents": {"gt": 0}}}}, 1),
        ("Owner", {"score": 7}, 2),
        ("Owner", {"OR": [{"remark": "x"}, {"nickname": "b"}]}, 1),
        ("Ticket", {"code": CODES[1]}, 1),
        ("Ticket", {"code": {"contains": "-"}}, 3),
        ("Ticket", {"code": "no uuid"}, 0),
        ("Ticket", {"parent": {"is": {"slot": 0}}}, 1),
        ("Ticket", {"account": {"is": {"status": "DONE"}}}, 1),
        ("Ticket", {"NOT": [{"slot": {"gt": 0}}]}, 1),
    ],
)
async def test_filters_see_the_legacy_values(both: Both, model: str, where: Any, found: int) -> None:
    """A condition means what it means to Prisma, also over what the target converts or does not have."""
    rows = await both(
        model, Action.FIND_MANY, where=where, order=[{WORKSHOP.model(model).primary_key[0]: "asc"}]
    )
    assert found == len(rows)
    assert found == await both(model, Action.COUNT, where=where)


async def test_order_and_windows_follow_the_legacy_values(both: Both) -> None:
    """Labels sort as they were declared in the legacy store, and cursors go by the renamed key."""
    for way in ("asc", "desc"):
        statuses = [a.status for a in await both("Account", Action.FIND_MANY, order={"status": way})]
        assert statuses == (["OPEN", "DONE"] if way == "asc" else ["DONE", "OPEN"])
        await both("Account", Action.FIND_MANY, order={"cents": way}, take=1)
        await both("Owner", Action.FIND_MANY, order=[{"born": way}, {"id": "asc"}], skip=1)
        await both("Ticket", Action.FIND_MANY, order=[{"code": way}], cursor={"id": 2}, take=2)
    assert 1 == len(await both("Account", Action.FIND_MANY, distinct=["region"]))
    assert {"_all": 2, "cents": 2} == await both(
        "Account", Action.COUNT, select={"_all": True, "cents": True}, take=5
    )


async def test_relations_lead_through_other_names(both: Both) -> None:
    """Over a renamed key, a key of two columns, to itself, and through a table in another schema."""
    await both(
        "Ticket", Action.UPDATE, where={"id": 1}, data={"tags": {"connect": [{"id": 1}, {"name": "blue"}]}}
    )
    owners = await both(
        "Owner",
        Action.FIND_MANY,
        order={"email": "asc"},
        include={
            "accounts": {
                "include": {"tickets": {"include": {"tags": {"order_by": {"id": "asc"}}}, "take": 1}}
            }
        },
    )
    assert ["red", "blue"] == [tag.name for tag in owners[0].accounts[0].tickets[0].tags]
    ticket = await both(
        "Ticket",
        Action.FIND_UNIQUE,
        where={"slot": 1},
        include={"parent": True, "account": True, "parts": True},
    )
    assert (1, 1, [3]) == (ticket.parent.id, ticket.account.number, [part.id for part in ticket.parts])
    tags = await both(
        "Tag", Action.FIND_MANY, where={"tickets": {"some": {"title": "t0"}}}, order={"id": "asc"}
    )
    assert [1, 2] == [tag.id for tag in tags]
    await both("Ticket", Action.UPDATE, where={"id": 1}, data={"tags": {"disconnect": [{"id": 2}]}})
    await both("Ticket", Action.UPDATE, where={"id": 3}, data={"tags": {"set": [{"id": 2}]}})
    await both(
        "Ticket",
        Action.UPDATE,
        where={"id": 3},
        data={"account": {"connect": {"region_number": {"region": "eu", "number": 1}}}},
    )
    await both.assert_same()


async def test_writes_arrive_in_the_form_of_their_store(both: Both) -> None:
    """Created, changed by arithmetic, upserted both ways, in bulk, and deleted."""
    key = {"region_number": {"region": "eu", "number": 0}}
    assert 151 == (await both("Account", Action.UPDATE, where=key, data={"cents": {"increment": 50}})).cents
    assert 302 == (await both("Account", Action.UPDATE, where=key, data={"cents": {"multiply": 2}})).cents
    assert 2 == await both(
        "Account", Action.UPDATE_MANY, where={}, data={"status": "DONE", "cents": {"decrement": 1}}
    )
    for cents in (5, 6):
        made = {"region": "us", "number": 1, "owner_id": ANN, "cents": cents, "status": "OPEN"}
        account = await both(
            "Account",
            Action.UPSERT,
            where={"region_number": {"region": "us", "number": 1}},
            data={"create": made, "update": {"cents": cents}},
        )
        assert cents == account.cents
    await both.assert_same()
    rows = [{"region": "as", "number": n, "owner_id": BEN, "cents": n, "status": "DONE"} for n in range(3)]
    assert 3 == await both("Account", Action.CREATE_MANY, data=rows)
    assert 0 == await both("Account", Action.CREATE_MANY, data=rows, skip_duplicates=True)
    assert 1 == await both("Account", Action.DELETE_MANY, where={"cents": 2})
    deleted = await both(
        "Account",
        Action.DELETE,
        where={"region_number": {"region": "as", "number": 1}},
        include={"owner": True},
    )
    assert ("ben", 1) == (deleted.owner.email, deleted.cents)
    await both.assert_same()


async def test_what_the_target_does_not_have_is_passed_over(both: Both) -> None:
    """Writing it is no error there; a write of nothing else answers as if it had been done."""
    target = both.paths[Side.SQLALCHEMY]
    changed = await target.execute(
        Operation("Owner", Action.UPDATE, {"where": {"id": ANN}, "data": {"remark": "x", "score": 9}})
    )
    assert ("ann", None, 7) == (changed.email, changed.remark, changed.score)
    changed = await target.execute(
        Operation("Owner", Action.UPDATE, {"where": {"id": ANN}, "data": {"remark": "x", "phone": "123"}})
    )
    assert None is changed.phone
    assert 1 == await both.plain[Side.SQLALCHEMY].fetchval(
        "SELECT count(*) FROM people.owners WHERE phone_hash = md5('123')"
    )
    assert 2 == await both("Owner", Action.UPDATE_MANY, where={}, data={"remark": "y"})
    assert "y" == await both.plain[Side.PRISMA].fetchval('SELECT min(remark) FROM "Owner"')
    made = {"id": ANN, "email": "ann", "born": BORN}
    await target.execute(
        Operation(
            "Owner", Action.UPSERT, {"where": {"id": ANN}, "data": {"create": made, "update": {"score": 1}}}
        )
    )


async def test_faults_are_told_in_the_legacy_names(both: Both) -> None:
    """Whoever handles an error need not know what the target calls its columns."""
    taken = {"id": str(uuid.UUID(int=9)), "email": "new", "nickname": "a", "born": BORN}
    told = []
    for path in both.paths.values():
        with pytest.raises(UniqueViolationError) as refused:
            await path.execute(Operation("Owner", Action.CREATE, {"data": taken}))
        told.append((refused.value.meta, str(refused.value)))
    assert told[0] == told[1]
    assert {"target": ["nickname"]} == told[0][0]
    for path in both.paths.values():
        with pytest.raises(RecordNotFoundError):
            await path.execute(Operation("Ticket", Action.FIND_UNIQUE_OR_RAISE, {"where": {"id": 99}}))


async def test_numbers_come_from_the_renamed_column(both: Both) -> None:
    """Both sides give out numbers, and either can be brought up to the other."""
    for path in both.paths.values():
        await path.advance_sequence("Ticket", "id", 40)
        assert 40 == await path.sequence_value("Ticket", "id")
        assert [41, 42] == await path.reserve("Ticket", "id", 2)
    data = {"region": "eu", "number": 0, "title": "new", "code": CODES[3]}
    assert 43 == (await both("Ticket", Action.CREATE, data=data)).id


async def test_a_transaction_holds_the_renamed_tables(both: Both) -> None:
    """Its calls are executed as any other, and its locks are on the target's own tables."""
    transaction = await both.paths[Side.SQLALCHEMY].begin()
    await transaction.hold(["Owner", "Account", "Ticket"])
    await transaction.execute(
        Operation(
            "Account",
            Action.UPDATE,
            {"where": {"region_number": {"region": "eu", "number": 0}}, "data": {"cents": 7}},
        )
    )
    locked = await both.plain[Side.SQLALCHEMY].fetch(
        "SELECT DISTINCT relation::regclass::text AS name FROM pg_locks WHERE mode = 'RowExclusiveLock'"
    )
    assert {"people.owners", "ledger", "desk.tickets"} <= {row["name"] for row in locked}
    await transaction.rollback()


STATUS = {"name": "Status", "values": [{"name": "OPEN", "dbName": "open!"}, {"name": "DONE", "dbName": None}]}
THING = {
    "name": "Thing",
    "dbName": None,
    "fields": [
        scalar("id", "Int", isId=True),
        scalar("tags", isList=True),
        scalar("states", "Status", isList=True) | {"kind": "enum"},
        scalar("doc", "Json"),
        scalar("flag", "Boolean"),
        scalar("amount", "Decimal"),
        scalar("raw", "Bytes", isRequired=False),
        scalar("at", "DateTime", isRequired=False),
    ],
    "primaryKey": None,
    "uniqueIndexes": [],
}
THINGS = Schema.from_dmmf({"datamodel": {"enums": [STATUS], "models": [THING]}})


class Thing(Record):
    """One of everything that can be converted."""

    id: int
    tags: list[str]
    states: list[str]
    doc: Any
    flag: bool
    amount: Decimal
    raw: Base64 | None = None
    at: datetime | None = None


async def test_every_kind_of_value_can_be_converted(fresh_database: FreshDatabase) -> None:
    """Lists, documents, truth, decimals, bytes and moments: written, changed, found and read alike on both sides."""
    table = sa.Table(
        "Thing",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text) for name in ("tags", "states", "doc", "flag", "raw")),
        sa.Column("amount", sa.BigInteger),
        sa.Column("at", sa.BigInteger),
    )
    mappings = Mappings(
        (
            Mapping(
                "Thing",
                columns=(
                    Converted("tags", "tags", "array_to_json({})::text", _ELEMENTS),
                    Converted("states", "states", "array_to_json({})::text", _ELEMENTS),
                    Converted("doc", "doc", "{}::text", "{}::jsonb"),
                    Converted("flag", "flag", "CASE WHEN {} THEN 'yes' ELSE 'no' END", "{} = 'yes'"),
                    Converted("amount", "amount", "({} * 1000)::bigint", "{}::numeric / 1000"),
                    Converted("raw", "raw", "encode({}, 'hex')", "decode({}, 'hex')"),
                    Converted(
                        "at",
                        "at",
                        "(extract(epoch FROM {}) * 1000)::bigint",
                        "to_timestamp({} / 1000.0) AT TIME ZONE 'UTC'",
                    ),
                ),
            ),
        )
    )
    paths, plain = {}, {}
    for side, ddl in (
        (
            Side.PRISMA,
            """CREATE TYPE "Status" AS ENUM ('open!', 'DONE');
               CREATE TABLE "Thing" (id integer PRIMARY KEY, tags text[], states "Status"[], doc jsonb NOT NULL,
               flag boolean NOT NULL, amount numeric(65,30) NOT NULL, raw bytea, at timestamp(3))""",
        ),
        (
            Side.SQLALCHEMY,
            """CREATE TABLE "Thing" (id integer PRIMARY KEY, tags text, states text, doc text, flag text,
               amount bigint, raw text, at bigint)""",
        ),
    ):
        dsn = await fresh_database()
        plain[side] = await asyncpg.connect(**dsn.asyncpg_kwargs())
        await plain[side].execute(ddl)
        paths[side] = SqlAlchemyPath(
            THINGS, {"Thing": table}, {"Thing": Thing}, dsn, side=side, mappings=mappings
        )
    both = Both(paths, plain)
    one = {
        "id": 1, "tags": ["a", 'b"{},', ""], "states": ["DONE", "OPEN"], "doc": Json({"a": [1, None]}), "flag": True,
        "amount": Decimal("1.25"), "raw": Base64.encode(b"x\0"), "at": BORN,
    }  # fmt: skip
    two = {"id": 2, "tags": [], "states": [], "doc": Json("null"), "flag": False, "amount": Decimal(-7)}
    assert ["DONE", "OPEN"] == (await both("Thing", Action.CREATE, data=one)).states
    assert 2 == await both("Thing", Action.CREATE_MANY, data=[two, one | {"id": 3}])
    for where, found in (
        ({"tags": {"has": "a"}}, 2),
        ({"tags": {"is_empty": True}}, 1),
        ({"tags": {"equals": ["a", 'b"{},', ""]}}, 2),
        ({"states": {"has_some": ["OPEN"]}}, 2),
        ({"doc": {"equals": Json({"a": [1, None]})}}, 2),
        ({"flag": False}, 1),
        ({"amount": {"gt": Decimal("1.2")}}, 2),
        ({"raw": {"equals": Base64.encode(b"x\0")}}, 2),
        ({"at": {"lte": BORN}}, 2),
        ({"at": None}, 1),
    ):
        assert found == len(await both("Thing", Action.FIND_MANY, where=where, order={"id": "asc"})), where
    for data in (
        {"tags": {"push": "c"}, "states": {"set": ["OPEN"]}},
        {"amount": {"divide": 2}, "flag": False, "doc": Json([1.5])},
        {"raw": None, "at": None},
    ):
        await both("Thing", Action.UPDATE, where={"id": 1}, data=data)
    await both("Thing", Action.FIND_MANY, order=[{"flag": "desc"}, {"amount": "asc"}, {"id": "asc"}])
    for path in paths.values():
        await path.close()
    for connection in plain.values():
        await connection.close()


_ELEMENTS = (
    "ARRAY(SELECT e.v FROM json_array_elements_text({}::json) WITH ORDINALITY AS e(v, n) ORDER BY e.n)"
)


def test_tables_that_are_not_what_the_mapping_says_are_refused() -> None:
    """All of them at once: names, columns, and fields that nobody could read."""
    wrong = Mappings(
        (
            Mapping("Owner", table="people", columns=(Renamed("id", "owner_id"),)),
            Mapping("Account", schema="money", columns=(Converted("cents", "balance", "{}", one_way=True),)),
            Mapping("Nobody"),
        )
    )
    with pytest.raises(ConfigurationError) as refused:
        SqlAlchemyPath(WORKSHOP, TABLES, RECORDS, NOWHERE, mappings=wrong)
    assert "mapping of Nobody" in str(refused.value)
    known = Mappings(tuple(mapping for mapping in wrong if mapping.model != "Nobody"))
    with pytest.raises(ConfigurationError) as refused:
        SqlAlchemyPath(WORKSHOP, TABLES, RECORDS, NOWHERE, mappings=known)
    for words in (
        "lacks",
        "its mapping says people",
        "its mapping says money",
        "cents of model Account cannot be read",
    ):
        assert words in str(refused.value)
