"""The SQL of the store objects, where no server is needed to judge it."""

from __future__ import annotations

import re

import pytest

from crossfade.dsn import Dsn
from crossfade.stages import Side
from crossfade.store.homes import homes_of
from crossfade.store.objects import Fence, core, set_fence
from crossfade.store.tables import StoredColumn, StoredTable
from crossfade.store.triggers import (
    FENCE_FUNCTIONS,
    RECORD_CHANGED,
    RECORD_TRIGGER,
    capture_function,
    capture_triggers,
    fence_triggers,
    short_name,
)


def table(*kinds: str, model: str = "Thing") -> StoredTable:
    columns = {
        f"k{number}": StoredColumn(f"k{number}", kind, "X", False) for number, kind in enumerate(kinds)
    }
    return StoredTable(
        model, model, "public", "thing", columns, tuple(columns), partitions=(("elsewhere", "part"),)
    )


def every_statement() -> list[str]:
    thing = table("text")
    functions = (RECORD_CHANGED, *FENCE_FUNCTIONS, capture_function("home", thing))
    triggers = (RECORD_TRIGGER, *capture_triggers(thing), *fence_triggers(thing))
    return [
        *core("home"),
        *(statement for function in functions for statement in function.create("home")),
        *(trigger.create("home", thing.quoted) for trigger in triggers),
        *set_fence(thing, Fence.FROZEN),
    ]


def test_nothing_is_used_that_postgresql_13_lacks() -> None:
    """`CREATE OR REPLACE TRIGGER` came with 14."""
    assert [] == [statement for statement in every_statement() if "OR REPLACE TRIGGER" in statement]


def test_no_function_depends_on_a_search_path() -> None:
    """A function that runs with its owner's rights names the schema of everything that it calls."""
    for function in (RECORD_CHANGED, *FENCE_FUNCTIONS, capture_function("home", table("text"))):
        for name in (
            "pg_notify",
            "pg_trigger_depth",
            "pg_try_advisory_xact_lock_shared",
            "format",
            "text COLLATE",
        ):
            calls = function.body.count(name)
            assert (function.name, name, calls) == (
                function.name, name, function.body.count(f"pg_catalog.{name}"),
            )  # fmt: skip
        rest = re.sub(r"(ERRCODE|MESSAGE|HINT|DIAGNOSTICS touched) = ", "", function.body)
        assert re.findall(r" [=<>]+ ", rest) == []


@pytest.mark.parametrize(
    ("kinds", "pinned"),
    [
        (("text",), False),
        (("uuid", "integer", "character varying(20)"), False),
        (("timestamp with time zone",), True),
        (("text", "date"), True),
        (("bytea",), True),
        (("double precision",), True),
    ],
)
def test_only_keys_that_depend_on_settings_pay_for_pinning_them(kinds: tuple[str, ...], pinned: bool) -> None:
    """Each pinned setting costs time in every write."""
    function = capture_function("home", table(*kinds))

    assert pinned is ("TimeZone" in dict(function.settings))
    assert pinned is ("SET TimeZone" in function.create("home")[0])


def test_fence_is_toggled_on_every_partition() -> None:
    """A state is two triggers on the table and on each partition."""
    assert [
        'ALTER TABLE ONLY "public"."thing" ENABLE ALWAYS TRIGGER crossfade_refuse_authors',
        'ALTER TABLE ONLY "public"."thing" DISABLE TRIGGER crossfade_refuse_followers',
        'ALTER TABLE ONLY "elsewhere"."part" ENABLE ALWAYS TRIGGER crossfade_refuse_authors',
        'ALTER TABLE ONLY "elsewhere"."part" DISABLE TRIGGER crossfade_refuse_followers',
    ] == set_fence(table("text"), Fence.FOLLOWER)


def test_body_may_hold_what_encloses_it() -> None:
    """A column named like the quotes of the body does not end it."""
    strange = StoredTable(
        "Thing",
        "Thing",
        "public",
        "thing",
        {"$body$": StoredColumn("$body$", "text", "S", False)},
        ("$body$",),
    )
    create = capture_function("home", strange).create("home")[0]

    assert create.count("$_body$") == 2


def test_long_names_stay_apart() -> None:
    """A name is kept whole up to 63 bytes, and cut to something of its own beyond."""
    long = "ä" * 40
    assert short_name("a" * 63) == "a" * 63
    assert len(short_name(long).encode()) <= 63
    assert short_name(long + "1") != short_name(long + "2")


@pytest.mark.parametrize(
    ("target", "homes"),
    [
        ("postgresql://u@h/shop?schema=new", ["crossfade_prisma", "crossfade_sqlalchemy"]),
        ("postgresql://u@h/other", ["crossfade", "crossfade"]),
        ("postgresql://u@h:5433/shop", ["crossfade", "crossfade"]),
    ],
)
def test_homes(target: str, homes: list[str]) -> None:
    """Two stores in one database need two homes."""
    found = homes_of(Dsn.parse("postgresql://u@h/shop"), Dsn.parse(target))

    assert homes == [found[side] for side in (Side.PRISMA, Side.SQLALCHEMY)]
