"""Findings about the tables themselves, and how a run behaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from looking import Look, run

from crossfade.dsn import Dsn
from crossfade.errors import UnknownModelError
from crossfade.preflight import Kind, PreflightSettings, Severity
from crossfade.stages import Side
from databases import FreshDatabase
from marketplace.setup import SCHEMA_FILE, apply_legacy_schema, upgrade_target
from small_schema import SMALL

AUTHOR = (
    'CREATE TABLE "Author" (id text PRIMARY KEY, email text, name text, score integer, created_at timestamp(3),'
    " updated_at timestamp(3));"
)
BOOKS = "CREATE TABLE books (id integer PRIMARY KEY, title text, author_id text);"


async def test_tables_that_cannot_be_copied(look: Look) -> None:
    """A missing table, and a view in a table's place, are blockers; the other models are looked through."""
    found = await look(SMALL, "CREATE VIEW books AS SELECT 1 AS id;" + AUTHOR, BOOKS)

    assert {(Kind.NOT_A_TABLE, None), (Kind.MISSING_TABLE, None)} == found.keys()
    assert Side.SQLALCHEMY is found[Kind.MISSING_TABLE, None].side
    assert '"public"."books"' == found[Kind.NOT_A_TABLE, None].table


async def test_a_table_without_a_key(look: Look) -> None:
    """It is a blocker, and its rows are looked through by the target's key: NULLs in it, and duplicates."""
    found = await look(
        SMALL,
        AUTHOR
        + BOOKS.replace(" PRIMARY KEY", "")
        + "INSERT INTO books VALUES (1, 'a', 'a'), (1, 'b', 'b'), (NULL, 'c', 'c')",
        AUTHOR + BOOKS,
    )

    assert {(Kind.NO_KEY, None), (Kind.NULL_IN_KEY, "id"), (Kind.DUPLICATE, "id")} == found.keys()
    assert [1, 1] == [found[Kind.NULL_IN_KEY, "id"].count, found[Kind.DUPLICATE, "id"].count]


async def test_columns_without_a_counterpart(look: Look) -> None:
    """Undeclared columns are blockers; how many rows have something in them is counted."""
    found = await look(
        SMALL,
        AUTHOR
        + BOOKS.replace("title text", "title text, isbn text")
        + "INSERT INTO books VALUES (1, 't', '978', 'a')",
        AUTHOR + BOOKS.replace("title text", "title text, pages integer NOT NULL, shelf text"),
    )

    assert {"isbn", "pages"} == {column for kind, column in found if kind is Kind.MAPPING}
    assert Severity.BLOCKER is found[Kind.MAPPING, "isbn"].severity
    assert 1 == found[Kind.UNCOPIED_COLUMN, "isbn"].count
    assert Side.SQLALCHEMY is found[Kind.UNCOPIED_COLUMN, "shelf"].side


async def test_peculiar_tables(look: Look) -> None:
    """Unlogged tables, generated columns, row-level security, triggers and times in keys are named."""
    trigger = (
        "CREATE TABLE log (id integer);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO log VALUES (1); RETURN NEW; END';"
        "CREATE TRIGGER noted AFTER INSERT ON books FOR EACH ROW EXECUTE FUNCTION note();"
    )
    found = await look(
        SMALL,
        AUTHOR.replace("id text", "id timestamp")
        + BOOKS.replace("CREATE TABLE", "CREATE UNLOGGED TABLE").replace(
            "title text", "title text GENERATED ALWAYS AS ('t') STORED"
        )
        + trigger
        + "ALTER TABLE books ENABLE ROW LEVEL SECURITY",
        AUTHOR.replace("id text", "id timestamp") + BOOKS,
    )

    assert {
        (Kind.UNLOGGED, None),
        (Kind.ROW_SECURITY, None),
        (Kind.TRIGGER, None),
        (Kind.GENERATED_COLUMN, "title"),
        (Kind.TIME_IN_KEY, "id"),
    } == found.keys()
    assert "noted runs public.note, whose text has INSERT INTO" == found[Kind.TRIGGER, None].detail
    assert {Severity.WARNING} == {finding.severity for finding in found.values()}


async def test_rows_that_the_role_cannot_see(look: Look, fresh_database: FreshDatabase) -> None:
    """Where row-level security hides rows from the role, that is a blocker; where it may not read, that is said."""
    import dataclasses

    dsns = {side: await fresh_database() for side in Side}
    role = f"reader_{dsns[Side.PRISMA].database}"
    await run(
        dsns[Side.PRISMA],
        AUTHOR + BOOKS,
        f"CREATE ROLE {role} LOGIN PASSWORD 'p'",
        f"ALTER TABLE books ENABLE ROW LEVEL SECURITY; GRANT SELECT ON books TO {role}",
    )
    try:
        reader = dataclasses.replace(dsns[Side.PRISMA], user=role, password="p")
        found = await look(SMALL, "SELECT 1", AUTHOR + BOOKS, dsns={**dsns, Side.PRISMA: reader})
    finally:
        await run(dsns[Side.PRISMA], f"DROP OWNED BY {role}; DROP ROLE {role}")

    assert Severity.BLOCKER is found[Kind.ROW_SECURITY, None].severity
    assert (Severity.BLOCKER, '"public"."Author"') == (
        found[Kind.NOT_CHECKED, None].severity,
        found[Kind.NOT_CHECKED, None].table,
    )
    assert "SQLSTATE 42501" in found[Kind.NOT_CHECKED, None].detail


async def test_texts_that_sort_differently(look: Look) -> None:
    """Another collation of a text key is a warning: backfill takes the slower way."""
    found = await look(SMALL, AUTHOR + BOOKS, AUTHOR.replace("id text", 'id text COLLATE "C"') + BOOKS)

    assert [(Kind.OTHER_ORDER, "id")] == [*found]
    assert Severity.WARNING is found[Kind.OTHER_ORDER, "id"].severity


async def test_labels_that_no_row_has_yet(look: Look) -> None:
    """A label that the target's enum lacks is a warning while no row has it."""
    enum = "CREATE TYPE mood AS ENUM ({});"
    found = await look(
        SMALL,
        enum.format("'happy', 'angry'")
        + AUTHOR.replace("name text", "name mood")
        + BOOKS
        + "INSERT INTO \"Author\" VALUES ('1', '', 'happy')",
        enum.format("'happy'") + AUTHOR.replace("name text", "name mood") + BOOKS,
    )

    assert [(Kind.UNKNOWN_LABEL, "name")] == [*found]
    assert "enum mood lacks angry" == found[Kind.UNKNOWN_LABEL, "name"].detail


async def test_characters_that_the_target_cannot_store(look: Look, fresh_database: FreshDatabase) -> None:
    """A target of a narrower encoding cannot have every text."""
    dsns = {side: await fresh_database() for side in Side}
    latin = f"{dsns[Side.SQLALCHEMY].database}_latin"
    await run(
        dsns[Side.PRISMA],
        f"CREATE DATABASE {latin} ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    dsns[Side.SQLALCHEMY] = dsns[Side.SQLALCHEMY].replace(database=latin)
    try:
        found = await look(
            SMALL,
            AUTHOR + BOOKS + "INSERT INTO books VALUES (1, 'é', 'a'), (2, '漢', 'a')",
            AUTHOR + BOOKS,
            dsns=dsns,
        )
    finally:
        await run(dsns[Side.PRISMA], f"DROP DATABASE {latin} WITH (FORCE)")

    assert (("2",),) == found[Kind.ENCODING, "title"].examples
    assert (Kind.OTHER_ORDER, "id") in found


async def test_only_the_models_asked_for(look: Look) -> None:
    """Other models are not looked through; an unknown one is refused."""
    assert {} == await look(SMALL, AUTHOR, AUTHOR, models=["Author"])
    with pytest.raises(UnknownModelError):
        await look(SMALL, AUTHOR, AUTHOR, models=["Autor"])


async def test_a_query_that_takes_too_long(look: Look) -> None:
    """Rows that could not be looked through in time are a blocker, not silence."""
    slow = "INSERT INTO books SELECT n, repeat('1', 200), 'a' FROM generate_series(1, 150000) n"
    found = await look(
        SMALL,
        AUTHOR + BOOKS + slow,
        AUTHOR + BOOKS.replace("title text", "title numeric"),
        settings=PreflightSettings(statement_timeout=0.05),
    )

    assert Severity.BLOCKER is found[Kind.NOT_CHECKED, None].severity


def command(*arguments: str, dsns: dict[Side, Dsn]) -> tuple[int, str, str]:
    """Run `crossfade preflight` as a person does."""
    variables = {
        name: f"postgresql://{dsn.user}:{dsn.password}@{dsn.host}:{dsn.port}/{dsn.database}"
        for name, dsn in (
            ("CROSSFADE_LEGACY_DSN", dsns[Side.PRISMA]),
            ("CROSSFADE_TARGET_DSN", dsns[Side.SQLALCHEMY]),
        )
    }
    answer = subprocess.run(
        [sys.executable, "-m", "crossfade", "preflight", *arguments],
        env={**os.environ, "CROSSFADE_SCHEMA": str(SCHEMA_FILE), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return answer.returncode, answer.stdout, answer.stderr


async def test_the_command(fresh_database: FreshDatabase, tmp_path: Path) -> None:
    """It needs no install, says what it looks at, and leaves with 1 when something stands in the way."""
    dsns = {side: await fresh_database() for side in Side}
    await apply_legacy_schema(dsns[Side.PRISMA])
    await upgrade_target(dsns[Side.SQLALCHEMY])

    code, out, err = command(dsns=dsns)
    assert (0, "nothing found: every row can be copied\n") == (code, out)
    assert "User: 0 rows, " in err

    connection = await asyncpg.connect(**dsns[Side.SQLALCHEMY].asyncpg_kwargs())
    try:
        await connection.execute("ALTER TABLE users ALTER COLUMN email TYPE varchar(5)")
    finally:
        await connection.close()
    await run(
        dsns[Side.PRISMA],
        "INSERT INTO users (id, email, name, updated_at) VALUES ('u1', 'long@example.com', 'N', now())",
    )
    code, out, err = command("User", "--json", str(tmp_path / "found.json"), dsns=dsns)
    assert 1 == code
    assert "too long: character varying(5)" in out
    assert "Item" not in err
    document = json.loads((tmp_path / "found.json").read_text())
    assert [("User", "email", "too_long", "blocker", 1, [["u1"]])] == [
        (f["model"], f["column"], f["kind"], f["severity"], f["count"], f["examples"])
        for f in document["findings"]
    ]
    code, out, _ = command("--json", "-", "--examples", "0", dsns=dsns)
    assert (1, []) == (code, json.loads(out)["findings"][0]["examples"])
