"""Rows cross to tables that differ on purpose, and back: whatever a mapping can say."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twins import P, S, Twins, identifier, referred, schema_of

from crossfade.errors import InstallError
from crossfade.mapping import Added, Converted, Mapping, Mappings, Renamed
from crossfade.stages import Side
from crossfade.store import Fence
from crossfade.store.crossing import check_crossings
from small_schema import relation, scalar
from workshop import LEGACY, MAPPINGS, MODELS, SAME, TARGET, WORKSHOP

ANN, BEN = (str(uuid.UUID(int=n)) for n in (1, 2))
CODE = str(uuid.UUID(int=0xABCDEF))
ROWS = {
    P: f"""
INSERT INTO "Owner" VALUES ('{ANN}', 'ann', 'a', '2024-02-29 23:59:59.999', '123', 'kept', 1),
    ('{BEN}', 'ben', NULL, '1970-01-01', NULL, NULL, 2);
INSERT INTO "Account" VALUES ('eu', 1, '{ANN}', 101, 'OPEN'), ('eu', 2, '{BEN}', -5, 'DONE');
INSERT INTO "Ticket" VALUES (1, 'eu', 1, 'one', '{CODE}', 10, NULL), (2, 'eu', 1, 'two', '{CODE}', 20, 1),
    (3, 'eu', 2, 'three', '{CODE}', NULL, 2);
INSERT INTO "Tag" VALUES (1, 'red'), (2, 'blue');
INSERT INTO "_Labels" VALUES (1, 1), (2, 1), (2, 3);
""",
    S: f"""
INSERT INTO people.owners (owner_id, email, handle, born_at, phone_hash) VALUES
    ('{ANN}', 'ann', 'a', '2024-02-29 23:59:59.999Z', md5('123')), ('{BEN}', 'ben', NULL, '1970-01-01Z', 'x');
INSERT INTO ledger (area, "no", owner, balance, state) VALUES
    ('eu', 1, '{ANN}', 1.01, 'open'), ('eu', 2, '{BEN}', -0.05, 'done');
INSERT INTO desk.tickets (ticket_no, area, "no", title, code, place, above) OVERRIDING SYSTEM VALUE VALUES
    (1, 'eu', 1, 'one', '{CODE}', 10, NULL), (2, 'eu', 1, 'two', '{CODE}', 20, 1),
    (3, 'eu', 2, 'three', '{CODE}', NULL, 2);
INSERT INTO "Tag" VALUES (1, 'red'), (2, 'blue');
INSERT INTO desk.labels (tag, ticket) VALUES (1, 1), (2, 1), (2, 3);
""",
}


@pytest.fixture
async def workshop(make: Any) -> Twins:
    """The workshop in both stores; the legacy store has every authority."""
    opened: Twins = await make(WORKSHOP, LEGACY, TARGET, MAPPINGS)
    return opened


async def level(twins: Twins, follower: Side = S) -> None:
    """Both stores say the same, by what a person asks them and by what crossfade compares them by."""
    for connection in twins.plain.values():
        await connection.execute("SET TimeZone = 'UTC'")
    for model, (legacy, target) in SAME.items():
        assert await twins.column(P, legacy) == await twins.column(S, target), model
    crossings = await check_crossings(twins.stores)
    for model, crossing in crossings.items():
        one, other = [
            await twins.column(
                side,
                f"SELECT {crossing.image(side, towards=follower)} FROM {crossing.tables[side].quoted} t ORDER BY 1",
            )
            for side in Side
        ]
        assert one == other, model
    assert [0, 0] == [await twins.captured(side) for side in Side]


@pytest.mark.parametrize("authority", list(Side))
async def test_rows_arrive_in_the_other_form(workshop: Twins, authority: Side) -> None:
    """Renamed, converted, in other tables and schemas, with the tables between; the authority's rows win."""
    await workshop.give(authority, *MODELS)
    await workshop.write(authority, ROWS[authority])
    assert await workshop.reconciler().drain(MODELS, 20), await workshop.reconciler().problems(MODELS)

    await level(workshop, authority.other)
    assert 2 == len(await workshop.column(authority.other, SAME["Owner"][list(Side).index(authority.other)]))


@pytest.mark.parametrize("authority", list(Side))
async def test_changes_and_deletes_follow(workshop: Twins, authority: Side) -> None:
    """Each crossing column is compared and copied, keys that change are carried over, and deletes reach the far end."""
    await workshop.give(authority, *MODELS)
    await workshop.write(authority, ROWS[authority])
    assert await workshop.reconciler().drain(MODELS, 20)
    changes = {
        P: [
            """UPDATE "Owner" SET nickname = 'z', born = born + interval '1 ms' WHERE email = 'ben'""",
            """UPDATE "Account" SET cents = 99999, status = 'DONE' WHERE number = 1""",
            """UPDATE "Account" SET number = 7 WHERE number = 2""",
            """UPDATE "Ticket" SET slot = CASE id WHEN 1 THEN 20 ELSE 10 END WHERE id < 3""",
            f"""UPDATE "Owner" SET id = '{uuid.UUID(int=9)}' WHERE email = 'ann'""",
            'DELETE FROM "Tag" WHERE id = 1',
            'DELETE FROM "Ticket" WHERE id = 3',
        ],
        S: [
            """UPDATE people.owners SET handle = 'z', born_at = born_at + interval '1 ms' WHERE email = 'ben'""",
            """UPDATE ledger SET balance = 999.99, state = 'done' WHERE "no" = 1""",
            """UPDATE ledger SET "no" = 7 WHERE "no" = 2""",
            "SET CONSTRAINTS ALL DEFERRED",
            """UPDATE desk.tickets SET place = NULL WHERE ticket_no < 3;
               UPDATE desk.tickets SET place = CASE ticket_no WHEN 1 THEN 20 ELSE 10 END WHERE ticket_no < 3""",
            f"""UPDATE people.owners SET owner_id = '{uuid.UUID(int=9)}' WHERE email = 'ann'""",
            'DELETE FROM "Tag" WHERE id = 1',
            "DELETE FROM desk.tickets WHERE ticket_no = 3",
        ],
    }
    if authority is P:
        changes[P][3:4] = ['UPDATE "Ticket" SET slot = NULL WHERE id < 3', changes[P][3]]
    for change in changes[authority]:
        await workshop.write(authority, change)
        if change != "SET CONSTRAINTS ALL DEFERRED" and "slot = NULL" not in change:
            assert await workshop.reconciler().drain(MODELS, 20), change
            await level(workshop, authority.other)
    wipe = {
        P: ['DELETE FROM "Ticket"', 'DELETE FROM "Owner"', 'DELETE FROM "Tag"'],
        S: ["DELETE FROM desk.tickets", "DELETE FROM people.owners", 'DELETE FROM "Tag"'],
    }
    await workshop.write(authority, *wipe[authority])
    assert await workshop.reconciler().drain(MODELS, 20)
    await level(workshop, authority.other)
    assert [] == await workshop.column(authority.other, SAME["Account"][list(Side).index(authority.other)])


async def test_missing_parents_are_found_under_their_other_names(workshop: Twins) -> None:
    """One key brings its account, the owner in the other schema, and every ticket above it."""
    await workshop.write(P, ROWS[P])
    assert await workshop.reconciler().settle_keys("Ticket", [("3",)])

    assert [1, 2, 3] == await workshop.column(S, "SELECT ticket_no FROM desk.tickets ORDER BY 1")
    assert 2 == len(await workshop.column(S, "SELECT 1 FROM people.owners"))
    await workshop.give(S, *MODELS)
    await workshop.write(
        S,
        f"""INSERT INTO people.owners (owner_id, email, born_at) VALUES ('{uuid.UUID(int=5)}', 'eva', now())""",
        f"""INSERT INTO ledger VALUES (5, 50, 'us', '{uuid.UUID(int=5)}', 'open')""",
        f"""INSERT INTO desk.tickets OVERRIDING SYSTEM VALUE VALUES ('{CODE}', 50, 'us', 'x', NULL, 50, 3)""",
    )
    assert await workshop.reconciler().settle_keys("Ticket", [("50",)])
    assert [500] == await workshop.column(P, """SELECT cents FROM "Account" WHERE region = 'us'""")
    assert [3] == await workshop.column(P, 'SELECT parent_id FROM "Ticket" WHERE id = 50')


async def test_what_crosses_one_way_is_never_written_back(workshop: Twins) -> None:
    """It arrives in the target, and there it may change: the legacy value stays, and a new row's is its default."""
    await workshop.write(P, ROWS[P])
    assert await workshop.reconciler().drain(MODELS, 20)
    hashes = "SELECT phone_hash FROM people.owners WHERE email = 'ann'"
    assert await workshop.column(S, "SELECT md5('123')") == await workshop.column(S, hashes)
    await workshop.write(P, """UPDATE "Owner" SET phone = '456', remark = 'more' WHERE email = 'ann'""")
    assert await workshop.reconciler().drain(MODELS, 20)
    assert await workshop.column(S, "SELECT md5('456')") == await workshop.column(S, hashes)

    await workshop.give(S, *MODELS)
    await workshop.write(
        S,
        "UPDATE people.owners SET phone_hash = 'changed', handle = 'changed too', tenant = 'other'"
        " WHERE email = 'ann'",
        f"INSERT INTO people.owners (owner_id, email, born_at) VALUES ('{uuid.UUID(int=5)}', 'eva', now())",
    )
    assert await workshop.reconciler().drain(MODELS, 20)
    await level(workshop, P)
    query = 'SELECT ROW(nickname, phone, remark, score)::text FROM "Owner" WHERE email = '
    assert ['("changed too",456,more,1)'] == await workshop.column(P, query + "'ann'")
    assert ["(,,,7)"] == await workshop.column(P, query + "'eva'")
    assert ["other"] == await workshop.column(S, "SELECT tenant FROM people.owners WHERE email = 'ann'")

    await workshop.give(P, *MODELS)
    await workshop.write(P, """UPDATE "Owner" SET nickname = 'back' WHERE email = 'ann'""")
    assert await workshop.reconciler().drain(MODELS, 20)
    assert await workshop.column(S, "SELECT md5('456')") == await workshop.column(S, hashes)


async def test_unique_values_are_swapped_under_their_other_name(workshop: Twins) -> None:
    """A row that holds what another is about to get is moved aside by the follower's own column."""
    await workshop.write(P, ROWS[P])
    assert await workshop.reconciler().drain(MODELS, 20)
    await workshop.write(
        P,
        """UPDATE "Owner" SET nickname = NULL, email = 'c' WHERE email = 'ann'""",
        """UPDATE "Owner" SET nickname = 'a', email = 'ann' WHERE email = 'ben'""",
        """UPDATE "Owner" SET email = 'ben' WHERE email = 'c'""",
    )
    assert await workshop.reconciler().drain(MODELS, 20), await workshop.reconciler().problems(MODELS)
    await level(workshop)


async def test_a_truncated_table_is_emptied_under_its_other_name(workshop: Twins) -> None:
    """And every key that the other store has is looked at."""
    await workshop.write(P, ROWS[P])
    assert await workshop.reconciler().drain(MODELS, 20)
    await workshop.write(P, 'TRUNCATE "Ticket" CASCADE')
    assert await workshop.reconciler().drain(MODELS, 20)
    await level(workshop)
    assert [] == await workshop.column(S, "SELECT 1 FROM desk.labels")


async def test_stores_that_say_the_same_are_left_alone(workshop: Twins) -> None:
    """However each of them wrote it: nothing is copied when both were written by themselves."""
    await workshop.write(P, ROWS[P])
    await workshop.fence(S, Fence.AUTHORITY, *MODELS)
    await workshop.write(S, ROWS[S].replace("'x'", "NULL"))
    reconciler = workshop.reconciler()
    assert await reconciler.drain(MODELS, 20)
    assert {"equal"} == {event.outcome for event in workshop.observer.events if hasattr(event, "outcome")}
    await level(workshop)


async def test_a_key_that_would_be_spelled_differently_is_set_aside(workshop: Twins) -> None:
    """A uuid in capitals would be another key there, and its row deleted as nobody's: it is refused instead."""
    capitals = ANN.replace("0001", "ABCD").replace("00000000", "ABCDEFAB", 1)
    await workshop.write(
        P, f"""INSERT INTO "Owner" (id, email, born) VALUES ('{capitals}', 'x', now()::timestamp)"""
    )
    await workshop.write(
        P, f"""INSERT INTO "Owner" (id, email, born) VALUES ('{BEN}', 'y', now()::timestamp)"""
    )
    reconciler = workshop.reconciler()

    assert not await reconciler.drain(MODELS, 5)
    assert ["y"] == await workshop.column(S, "SELECT email FROM people.owners")
    assert ["22P02"] == [problem.problem for problem in await reconciler.problems(MODELS)]
    await workshop.write(P, f"""UPDATE "Owner" SET id = lower(id) WHERE id = '{capitals}'""")
    assert await reconciler.drain(MODELS, 20), await reconciler.problems(MODELS)
    await level(workshop)


async def test_a_unique_value_is_cleared_over_a_column_of_the_targets_own(make: Any) -> None:
    """An index may hold a column that only one store has: what is there already counts."""
    twins = await make(
        ONE,
        'CREATE TABLE "One" (id integer PRIMARY KEY, name text NOT NULL UNIQUE)',
        """CREATE TABLE "One" (id integer PRIMARY KEY, title text NOT NULL, tenant text NOT NULL DEFAULT 'a',
           UNIQUE NULLS NOT DISTINCT (tenant, title))""",
        Mappings((Mapping("One", columns=(Renamed("name", "title"), Added("tenant"))),)),
    )
    await twins.write(P, """INSERT INTO "One" VALUES (1, 'x'), (2, 'y')""")
    assert await twins.reconciler().drain(["One"], 10)
    await twins.write(
        P,
        """UPDATE "One" SET name = 'z' WHERE id = 1""",
        """UPDATE "One" SET name = 'x' WHERE id = 2""",
        """UPDATE "One" SET name = 'y' WHERE id = 1""",
    )
    assert await twins.reconciler().drain(["One"], 10), await twins.reconciler().problems(["One"])
    assert ["y", "x"] == await twins.column(S, 'SELECT title FROM "One" ORDER BY id')


async def test_a_value_that_cannot_be_converted_holds_up_nobody_else(workshop: Twins) -> None:
    """Its row stays behind with the reason, and what refers to it; every other arrives, and it when it is mended."""
    await workshop.write(P, ROWS[P])
    await workshop.write(P, """UPDATE "Ticket" SET code = 'no uuid' WHERE id = 1""")
    reconciler = workshop.reconciler()

    assert not await reconciler.drain(MODELS, 5)
    assert [2, 3] == await workshop.column(S, "SELECT ticket_no FROM desk.tickets ORDER BY 1")
    assert 2 == len(await workshop.column(S, "SELECT 1 FROM ledger"))
    assert {("Ticket", "22P02"), ("Ticket", "23503"), ("_Labels", "23503")} == {
        (problem.model, problem.problem[:5]) for problem in await reconciler.problems(MODELS)
    }
    assert 0 == await reconciler.settle_keys("Ticket", [("3",)])
    await workshop.write(P, f"""UPDATE "Ticket" SET code = '{CODE}' WHERE id = 1""")
    assert await reconciler.drain(MODELS, 20), await reconciler.problems(MODELS)
    await level(workshop)


PAIRED = schema_of(
    Lot=[identifier(), scalar("code", isUnique=True), referred("bids", "Bid", "Bids")],
    Bid=[
        identifier(),
        scalar("lot_code"),
        relation("lot", "Lot", "Bids", relationFromFields=["lot_code"], relationToFields=["code"]),
    ],
)


@pytest.mark.parametrize("authority", list(Side))
async def test_parents_are_found_by_converted_columns(make: Any, authority: Side) -> None:
    """A foreign key over a column that is converted on both ends: the parent is looked up in its store's own form."""
    twins: Twins = await make(
        PAIRED,
        """CREATE TABLE "Lot" (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
           CREATE TABLE "Bid" (id integer PRIMARY KEY, lot_code text NOT NULL REFERENCES "Lot" (code))""",
        """CREATE TABLE "Lot" (id integer PRIMARY KEY, number integer NOT NULL UNIQUE);
           CREATE TABLE "Bid" (id integer PRIMARY KEY, lot integer NOT NULL REFERENCES "Lot" (number))""",
        Mappings(
            (
                Mapping("Lot", columns=(Converted("code", "number", "substr({}, 2)::integer", "'L' || {}"),)),
                Mapping(
                    "Bid", columns=(Converted("lot_code", "lot", "substr({}, 2)::integer", "'L' || {}"),)
                ),
            )
        ),
    )
    await twins.give(authority, "Lot", "Bid")
    code = {P: "'L{0}'", S: "{0}"}[authority]
    await twins.write(authority, *(f'INSERT INTO "Lot" VALUES ({n}, {code.format(n + 70)})' for n in (1, 2)))
    await twins.write(authority, *(f'INSERT INTO "Bid" VALUES ({n}, {code.format(n + 70)})' for n in (1, 2)))
    assert 2 == await twins.reconciler().settle_keys("Bid", [("2",)])

    query = {P: 'SELECT lot_code FROM "Bid"', S: 'SELECT lot FROM "Bid"'}[authority.other]
    assert [{P: "L72", S: 72}[authority.other]] == await twins.column(authority.other, query)
    assert await twins.reconciler().drain(["Lot", "Bid"], 10)


# --- what is refused -------------------------------------------------------------------------------------------------

ONE = schema_of(One=[identifier(), scalar("name")])


async def refusal(make: Any, legacy: str, target: str, *mappings: Mapping) -> str:
    """What two stores with these tables are refused for."""
    twins = await make(
        ONE, f'CREATE TABLE "One" ({legacy})', f'CREATE TABLE "One" ({target})', Mappings(mappings)
    )
    with pytest.raises(InstallError) as refused:
        await check_crossings(twins.stores)
    return refused.value.problem


async def test_columns_that_nobody_has_spoken_of_are_refused(make: Any) -> None:
    """All of them at once, with what to say about each; what takes care of itself need not be spoken of."""
    problem = await refusal(
        make,
        "id integer PRIMARY KEY, name text, gone text, sum integer GENERATED ALWAYS AS (id + 1) STORED",
        "id integer PRIMARY KEY, name text, must integer NOT NULL, may integer, has integer NOT NULL DEFAULT 1,"
        " twice integer GENERATED ALWAYS AS (id * 2) STORED",
    )
    assert 'Dropped("gone", one_way=True)' in problem
    assert 'Added("must")' in problem
    assert 2 == len(problem.split("; "))


async def test_mappings_that_do_not_match_the_tables_are_refused(make: Any) -> None:
    """Models and columns that are not there, and expressions that PostgreSQL cannot use: listed together."""
    problem = await refusal(
        make,
        "id integer PRIMARY KEY, name text, n integer, keep text NOT NULL, other text",
        "id integer PRIMARY KEY, title text, n boolean, keep text, other date",
        Mapping("Two"),
        Mapping(
            "One",
            columns=(
                Renamed("nam", "title"),
                Renamed("name", "titel"),
                Converted("n", "n", "{} * 1.5", "no_such_function({})"),
                Converted("keep", "keep", "{}", one_way=True),
                Converted("other", "other", "to_date({}, 'YYYY')", "{}::text"),
                Added("more"),
            ),
        ),
    )
    for words in (
        "mapping of Two",
        "names column nam,",
        "names column titel,",
        "names column more,",
        "`forward` of column n cannot be used in the legacy store: cannot cast type numeric to boolean",
        "`backward` of column n cannot be used in the target store: function no_such_function(boolean)",
        "legacy column keep is not written back, is never null and has no default",
    ):
        assert words in problem, words
    assert "of column other" not in problem


async def test_types_that_cut_are_refused_until_somebody_says_so(make: Any) -> None:
    """What a column refuses by itself crosses; what it would cut or round without a word does not."""
    problem = await refusal(
        make,
        "id integer PRIMARY KEY, name text, a timestamp, b double precision, c numeric(9,3), d bigint, e timestamp,"
        " f integer",
        "id bigint PRIMARY KEY, name varchar(4), a date, b real, c numeric(9,2), d integer, e timestamptz, f bigint",
    )
    assert ["a", "b", "c"] == sorted(
        part.partition("column ")[2][0] for part in problem.split("; ") if "column" in part
    )


async def test_another_key_is_refused(make: Any) -> None:
    """A key keeps its columns, by whatever name, and its text."""
    assert "give both the same primary key" in await refusal(
        make, "id integer PRIMARY KEY, name text NOT NULL", "id integer NOT NULL, name text PRIMARY KEY"
    )
    assert "column id is part of the key" in await refusal(
        make,
        "id integer PRIMARY KEY, name text",
        "id integer PRIMARY KEY, name text",
        Mapping("One", columns=(Converted("id", "id", "{} + 1", "{} - 1"),)),
    )


# --- whatever is written -----------------------------------------------------------------------------------------

KEYS = st.integers(1, 4)
WORDS = st.sampled_from(["NULL", "'a'", "'b'", "'c'"])


@st.composite
def writes(draw: st.DrawFn) -> tuple[str, str]:
    """The same write for each store, as its own author would put it."""
    key, word, cents = draw(KEYS), draw(WORDS), draw(st.integers(-(10**6), 10**6))
    owner = str(uuid.UUID(int=key))
    match draw(st.sampled_from(["owner", "account", "ticket", "label", "delete", "move"])):
        case "owner":
            return (
                f"""INSERT INTO "Owner" (id, email, nickname, born) VALUES ('{owner}', 'e{key}', {word},
                    'epoch'::timestamp + interval '{abs(cents)} ms')
                    ON CONFLICT (id) DO UPDATE SET nickname = EXCLUDED.nickname""",
                f"""INSERT INTO people.owners (owner_id, email, handle, born_at) VALUES ('{owner}', 'e{key}', {word},
                    'epoch'::timestamptz + interval '{abs(cents)} ms')
                    ON CONFLICT (owner_id) DO UPDATE SET handle = EXCLUDED.handle""",
            )
        case "account":
            return (
                f"""INSERT INTO "Account" VALUES ('eu', {key}, '{owner}', {cents}, 'OPEN')
                    ON CONFLICT (region, number) DO UPDATE SET cents = EXCLUDED.cents, status = 'DONE'""",
                f"""INSERT INTO ledger VALUES ({cents} / 100.0, {key}, 'eu', '{owner}', 'open')
                    ON CONFLICT (area, "no") DO UPDATE SET balance = EXCLUDED.balance, state = 'done'""",
            )
        case "ticket":
            number, slot = draw(KEYS), draw(st.sampled_from(["NULL", "1", "2"]))
            return (
                f"""INSERT INTO "Ticket" VALUES ({key}, 'eu', {number}, 't', '{CODE}', {slot}, {key})
                    ON CONFLICT (id) DO UPDATE SET slot = EXCLUDED.slot""",
                f"""INSERT INTO desk.tickets OVERRIDING SYSTEM VALUE
                    VALUES ('{CODE}', {number}, 'eu', 't', {slot}, {key}, {key})
                    ON CONFLICT (ticket_no) DO UPDATE SET place = EXCLUDED.place""",
            )
        case "label":
            return (
                f"""INSERT INTO "Tag" VALUES (1, 'x') ON CONFLICT DO NOTHING;
                    INSERT INTO "_Labels" VALUES (1, {key}) ON CONFLICT DO NOTHING""",
                f"""INSERT INTO "Tag" VALUES (1, 'x') ON CONFLICT DO NOTHING;
                    INSERT INTO desk.labels VALUES ({key}, 1) ON CONFLICT DO NOTHING""",
            )
        case "delete":
            return (
                f"""DELETE FROM "Owner" WHERE id = '{owner}'""",
                f"DELETE FROM people.owners WHERE owner_id = '{owner}'",
            )
        case _:
            other = draw(KEYS)
            return (
                f'UPDATE "Account" SET number = {other} WHERE number = {key}',
                f'UPDATE ledger SET "no" = {other} WHERE "no" = {key}',
            )


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(
    rounds=st.lists(
        st.tuples(st.sampled_from(list(Side)), st.lists(writes(), min_size=1, max_size=12)),
        min_size=1,
        max_size=3,
    )
)
async def test_stores_converge_whoever_writes(
    workshop: Twins, rounds: list[tuple[Side, list[tuple[str, str]]]]
) -> None:
    """Random rows, authored by either store in turns: both hold the same in the end, by the image of each row."""
    for authority, chosen in rounds:
        await workshop.give(authority, *MODELS)
        for write in chosen:
            try:
                await workshop.write(authority, write[list(Side).index(authority)])
            except asyncpg.IntegrityConstraintViolationError:
                continue
        assert await workshop.reconciler().drain(MODELS, 20), await workshop.reconciler().problems(MODELS)
        await level(workshop, authority.other)
