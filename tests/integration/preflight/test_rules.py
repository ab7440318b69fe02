"""Constraints of the target that legacy rows break."""

from __future__ import annotations

from looking import Look

from crossfade.mapping import Converted, Mapping, Mappings, Renamed
from crossfade.preflight import Kind, Severity
from small_schema import SMALL

AUTHOR = (
    'CREATE TABLE "Author" (id text PRIMARY KEY, email text, name text, score integer, created_at timestamp(3),'
    " updated_at timestamp(3));"
)
BOOKS = "CREATE TABLE books (id integer PRIMARY KEY, title text, author_id text);"
ROWS = (
    """INSERT INTO "Author" VALUES ('a1', 'x@y', 'Ann', 1), ('a2', 'X@Y', 'Bob', -1), ('a3', 'x@y', NULL, 5),"""
    """ ('a4', NULL, NULL, 7), ('a5', NULL, NULL, 7);"""
    "INSERT INTO books VALUES (1, 'One', 'a1'), (2, 'One', 'a1'), (3, 'Two', 'nobody'), (4, 'Four', NULL);"
)


async def test_duplicates_under_a_new_unique_index(look: Look) -> None:
    """Every row but the first of its group is counted; NULLs are no duplicates."""
    found = await look(
        SMALL,
        AUTHOR + BOOKS + ROWS,
        AUTHOR + BOOKS + 'CREATE UNIQUE INDEX one_email ON "Author" (email);'
        "CREATE UNIQUE INDEX one_title ON books (author_id, title)",
    )

    assert {(Kind.DUPLICATE, "email"), (Kind.DUPLICATE, "author_id, title")} == found.keys()
    assert (1, (("a3",),)) == (found[Kind.DUPLICATE, "email"].count, found[Kind.DUPLICATE, "email"].examples)
    assert (("2",),) == found[Kind.DUPLICATE, "author_id, title"].examples
    assert "unique index one_title" == found[Kind.DUPLICATE, "author_id, title"].detail


async def test_duplicates_under_expressions_and_predicates(look: Look) -> None:
    """An index over an expression, a partial one, and one whose NULLs are equal are all evaluated as they stand."""
    found = await look(
        SMALL,
        AUTHOR + BOOKS + ROWS,
        AUTHOR + BOOKS + 'CREATE UNIQUE INDEX folded ON "Author" (lower(email));'
        'CREATE UNIQUE INDEX partial ON "Author" (score) WHERE score > 6;'
        'CREATE UNIQUE INDEX harmless ON "Author" (score) WHERE score < 6;'
        'CREATE UNIQUE INDEX equal_nulls ON "Author" (name) NULLS NOT DISTINCT',
    )

    counts = {finding.detail.split()[-1]: finding.count for finding in found.values()}
    assert {"folded": 2, "partial": 1, "equal_nulls": 2} == counts


async def test_what_the_legacy_store_guarantees_is_not_asked_again(look: Look) -> None:
    """The same constraints on both sides find nothing."""
    rules = (
        'ALTER TABLE "Author" ADD UNIQUE (email), ADD CHECK (score > 0);'
        'ALTER TABLE books ADD FOREIGN KEY (author_id) REFERENCES "Author"'
    )
    assert {} == await look(SMALL, AUTHOR + BOOKS + rules, AUTHOR + BOOKS + rules)


async def test_a_narrower_type_makes_duplicates(look: Look) -> None:
    """Keys that differ in the legacy store and are one in the target are duplicates under its primary key."""
    found = await look(
        SMALL,
        AUTHOR.replace("id text", "id numeric")
        + BOOKS
        + 'INSERT INTO "Author" (id) VALUES (1), (1.4), (1.3), (2)',
        AUTHOR.replace("id text", "id numeric(4,0)") + BOOKS,
    )

    assert (2, "primary key Author_pkey") == (
        found[Kind.DUPLICATE, "id"].count,
        found[Kind.DUPLICATE, "id"].detail,
    )


async def test_orphans(look: Look) -> None:
    """Children without a parent are found where the legacy store has no foreign key, or one that is not valid."""
    reference = 'ALTER TABLE books ADD CONSTRAINT writer FOREIGN KEY (author_id) REFERENCES "Author"'
    for legacy in ("", f"{reference} NOT VALID;"):
        found = await look(SMALL, AUTHOR + BOOKS + ROWS + legacy, AUTHOR + BOOKS + reference)

        finding = found[Kind.ORPHAN, "author_id"]
        assert (1, (("3",),)) == (finding.count, finding.examples)
        assert 'foreign key writer to "public"."Author"' == finding.detail
        assert finding.severity is Severity.BLOCKER


async def test_orphans_among_values_that_do_not_fit(look: Look) -> None:
    """A value that the target refuses is one finding, and does not keep the others from being evaluated."""
    ids = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(3)]
    found = await look(
        SMALL,
        AUTHOR + BOOKS + f"""INSERT INTO "Author" (id) VALUES ('{ids[0]}'), ('bad');"""
        f"INSERT INTO books VALUES (1, 't', '{ids[0]}'), (2, 't', '{ids[1]}'), (3, 't', 'bad'), (4, 't', 'worse')",
        AUTHOR.replace("id text", "id uuid")
        + BOOKS.replace("author_id text", 'author_id uuid REFERENCES "Author"'),
    )

    assert (("2",),) == found[Kind.ORPHAN, "author_id"].examples
    assert (("3",), ("4",)) == found[Kind.INVALID, "author_id"].examples
    assert (("bad",),) == found[Kind.INVALID, "id"].examples


async def test_check_constraints(look: Look) -> None:
    """Rows that the target's checks refuse are found, over enums of its own as well; NULL passes."""
    found = await look(
        SMALL,
        AUTHOR + BOOKS + ROWS,
        "CREATE TYPE name_of AS ENUM ('Ann', 'Bob');"
        + AUTHOR.replace("name text", "name name_of").replace(
            "score integer", "score integer CHECK (score > 0 OR name = 'Ann')"
        )
        + BOOKS,
    )

    assert [Kind.CHECK] == [kind for kind, _ in found]
    assert [(1, (("a2",),))] == [(finding.count, finding.examples) for finding in found.values()]


async def test_what_cannot_be_evaluated_is_said(look: Look) -> None:
    """A check that calls a function of the target's own is a finding, and does not hide another one."""
    found = await look(
        SMALL,
        AUTHOR + BOOKS + ROWS,
        "CREATE FUNCTION is_fine(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';"
        + AUTHOR.replace("score integer", "score integer CHECK (is_fine(score))").replace(
            "email text", "email varchar(2)"
        )
        + BOOKS,
    )

    assert {(Kind.NOT_CHECKED, "score"), (Kind.TOO_LONG, "email")} == found.keys()
    assert "SQLSTATE 42883" in found[Kind.NOT_CHECKED, "score"].detail


async def test_mappings_say_what_becomes_of_a_column(look: Look) -> None:
    """Renamed and converted columns are judged by what arrives; what does not come back is found."""
    mappings = Mappings(
        (
            Mapping(
                "Author",
                table="people",
                columns=(
                    Renamed("email", "mail"),
                    Converted("score", "points", "({} * 10)", "({} / 10)"),
                    Converted("name", "size", "length({})", "repeat('x', {})"),
                ),
            ),
        )
    )
    found = await look(
        SMALL,
        AUTHOR + BOOKS + ROWS + "UPDATE \"Author\" SET score = 2000000000 WHERE id = 'a5'",
        "CREATE TABLE people (id text PRIMARY KEY, mail text NOT NULL UNIQUE, size integer, points integer"
        " CHECK (points > 0), created_at timestamp(3), updated_at timestamp(3));" + BOOKS,
        mappings=mappings,
    )

    assert {
        (Kind.NULL, "email"): 2,
        (Kind.DUPLICATE, "email"): 1,
        (Kind.INVALID, "score"): 1,
        (Kind.CHECK, "score"): 1,
        (Kind.NOT_REVERSIBLE, "name"): 2,
    } == {key: finding.count for key, finding in found.items()}
    assert Severity.WARNING is found[Kind.NOT_REVERSIBLE, "name"].severity
