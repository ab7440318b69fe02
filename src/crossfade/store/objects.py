"""The SQL of everything that crossfade keeps in a store. Pure text; `install` runs it.

Rules:

* Everything but the triggers lies in one schema (`home`), so that Prisma and Alembic do not see it and removing it
  leaves nothing behind.
* Capture runs in the transaction of the write, with the rights of whoever installed it: a role that may write to a
  table need not know that crossfade exists. A key is noted as an array of texts that no session setting changes.
* Capture and fence are statement-level: their cost does not grow with the rows of a statement beyond noting them.
* Both are enabled ALWAYS, so that `session_replication_role = replica` does not pass them by. What is still not seen:
  rows that a logical replication subscription applies (it fires no statement triggers), a table whose triggers
  somebody has disabled, and a partition that was attached with its rows after the installation.
* A session is a *follower* when its setting `crossfade.role` says so, and an *author* otherwise. What a foreign key
  does inside the server is neither, and passes the fence: it runs at a trigger depth above 0.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from crossfade.store.tables import StoredTable, literal, quoted

VERSION = 1
"""The version of these objects; a store that has another one is refused until `crossfade install` has run again."""

ROLE_SETTING = "crossfade.role"
FOLLOWER = "follower"
RECORD_CHANNEL = "crossfade_record"
CHANGE_CHANNEL = "crossfade_change"
BELL = 7_270_736_925_311
"""The key of the advisory lock that a sleeping reconciler holds: while it is held, a captured write rings."""

WRONG_AUTHORITY = "XF001"
LATE_WRITE = "XF002"

CAPTURE_TRIGGERS = {
    "insert": "crossfade_capture_insert",
    "update": "crossfade_capture_update",
    "delete": "crossfade_capture_delete",
    "truncate": "crossfade_capture_truncate",
}
REFUSE_AUTHORS = "crossfade_refuse_authors"
REFUSE_FOLLOWERS = "crossfade_refuse_followers"


class Fence(StrEnum):
    """Which of the two kinds of writers a store refuses for a model."""

    AUTHORITY = "authority"
    """Takes authors and refuses followers."""
    FOLLOWER = "follower"
    """Takes followers and refuses authors."""
    FROZEN = "frozen"
    """Refuses both: its authority is being handed over."""
    HANDED = "handed"
    """Takes both; no store that anybody works with stands like this."""

    @property
    def refuses_authors(self) -> bool:
        """Whether an author's write fails with XF001."""
        return self in (Fence.FOLLOWER, Fence.FROZEN)

    @property
    def refuses_followers(self) -> bool:
        """Whether a follower's write fails with XF002."""
        return self in (Fence.AUTHORITY, Fence.FROZEN)


def core(home: str) -> list[str]:
    """The statements that create the schema, its tables and the functions that all tables share."""
    at = quoted(home)
    return [
        f"CREATE SCHEMA IF NOT EXISTS {at}",
        f"""CREATE TABLE IF NOT EXISTS {at}.installation (
    version integer NOT NULL, side text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), by text NOT NULL)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.change (
    model text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    key text[],
    op "char" NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts smallint NOT NULL DEFAULT 0,
    retry_at timestamptz,
    problem text,
    PRIMARY KEY (model, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.record (
    model text PRIMARY KEY,
    stage text NOT NULL DEFAULT 'off',
    moving_to text,
    epoch bigint NOT NULL DEFAULT 1,
    final boolean NOT NULL DEFAULT false,
    forced boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '')""",
        f"""CREATE TABLE IF NOT EXISTS {at}.history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL, epoch bigint NOT NULL, stage text NOT NULL, moving_to text,
    by text NOT NULL, reason text NOT NULL, pause double precision, gates jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp())""",
        f"""CREATE TABLE IF NOT EXISTS {at}.conflict (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL, key text[] NOT NULL, kind text NOT NULL, policy text NOT NULL,
    authority text NOT NULL, authority_image jsonb, follower_image jsonb,
    at timestamptz NOT NULL DEFAULT clock_timestamp())""",
        _refusal(home, "refuse_authors", WRONG_AUTHORITY),
        _refusal(home, "refuse_followers", LATE_WRITE),
        f"""CREATE OR REPLACE FUNCTION {at}.record_changed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    PERFORM pg_notify({literal(RECORD_CHANNEL)}, NEW.model);
    RETURN NULL;
END $body$""",
        f"""CREATE OR REPLACE TRIGGER crossfade_record_changed AFTER INSERT OR UPDATE ON {at}.record
FOR EACH ROW EXECUTE FUNCTION {at}.record_changed()""",
    ]


def _refusal(home: str, name: str, state: str) -> str:
    if state == WRONG_AUTHORITY:
        message = "crossfade XF001: %I.%I takes no writes here any more, because another store has the authority over it"
        hint = (
            "Write to the store that crossfade.record names, or through the application. Nothing was written."
        )
    else:
        message = "crossfade XF002: %I.%I has the authority here and takes no follower writes"
        hint = "The write came late, from before the authority moved. It is of no use; nothing was written."
    return f"""CREATE OR REPLACE FUNCTION {quoted(home)}.{name}() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RAISE EXCEPTION USING ERRCODE = {literal(state)},
        MESSAGE = format({literal(message)}, TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = {literal(hint)};
END $body$"""


def _short(name: str) -> str:
    """A name that PostgreSQL does not cut: at most 63 bytes."""
    if len(name.encode()) <= 63:
        return name
    return name.encode()[:50].decode(errors="ignore") + "_" + hashlib.sha256(name.encode()).hexdigest()[:12]


def capture_function(home: str, model: str) -> str:
    """The name of the function that captures writes of `model`, for SQL."""
    return f"{quoted(home)}.{quoted(_short(f'capture_{model}'))}"


def capture(home: str, table: StoredTable) -> list[str]:
    """The statements that create a table's capture function and triggers, on its partitions, too.

    They run in one transaction; the triggers take SHARE ROW EXCLUSIVE, which waits for writers in flight.
    """
    function = capture_function(home, table.model)
    statements = [_capture_function(home, table, function)]
    for target in _targets(table):
        for event, trigger in CAPTURE_TRIGGERS.items():
            referencing = {
                "insert": "REFERENCING NEW TABLE AS crossfade_new",
                "update": "REFERENCING OLD TABLE AS crossfade_old NEW TABLE AS crossfade_new",
                "delete": "REFERENCING OLD TABLE AS crossfade_old",
                "truncate": "",
            }[event]
            statements.append(
                f"CREATE OR REPLACE TRIGGER {trigger} AFTER {event.upper()} ON {target} {referencing} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
            )
            statements.append(f"ALTER TABLE {target} ENABLE ALWAYS TRIGGER {trigger}")
    return statements


def _targets(table: StoredTable) -> list[str]:
    return [table.quoted, *(f"{quoted(schema)}.{quoted(name)}" for schema, name in table.partitions)]


def _capture_function(home: str, table: StoredTable, function: str) -> str:
    change = f"{quoted(home)}.change"
    model = literal(table.model)
    key = "ARRAY[" + ", ".join(f"{quoted(name)}::text" for name in table.key) + "]"
    same = " AND ".join(f"n.{quoted(name)} = o.{quoted(name)}" for name in table.key)
    old_key = "ARRAY[" + ", ".join(f"o.{quoted(name)}::text" for name in table.key) + "]"
    settings = "SET search_path = pg_catalog, pg_temp"
    if any(table.columns[name].kind not in _STABLE_KINDS for name in table.key):
        settings += (
            " SET TimeZone = 'UTC' SET DateStyle = 'ISO, YMD' SET IntervalStyle = 'iso_8601'"
            " SET bytea_output = 'hex' SET extra_float_digits = 1"
        )
    return f"""CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
{settings} AS $body$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO {change} (model, key, op) SELECT {model}, {key}, 'I' FROM crossfade_new;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO {change} (model, key, op) SELECT {model}, {key}, 'U' FROM crossfade_new;
        INSERT INTO {change} (model, key, op) SELECT {model}, {old_key}, 'U' FROM crossfade_old o
            WHERE NOT EXISTS (SELECT FROM crossfade_new n WHERE {same});
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {change} (model, key, op) SELECT {model}, {key}, 'D' FROM crossfade_old;
    ELSE
        INSERT INTO {change} (model, key, op) VALUES ({model}, NULL, 'T');
    END IF;
    IF NOT pg_try_advisory_xact_lock_shared({BELL}) THEN
        PERFORM pg_notify({literal(CHANGE_CHANNEL)}, '');
    END IF;
    RETURN NULL;
END $body$"""


_STABLE_KINDS = frozenset({"S", "N", "B", "E", "U"})
"""Type categories (text, numbers, booleans, enums, uuid and bytea) whose texts depend on few settings or none."""


def fence(home: str, table: StoredTable, state: Fence) -> list[str]:
    """The statements that create a table's two fence triggers, in the state that they begin in.

    A trigger that exists is left in the state that it is in.
    """
    statements = []
    for target in _targets(table):
        for name, test, refuses in (
            (REFUSE_AUTHORS, "IS DISTINCT FROM", state.refuses_authors),
            (REFUSE_FOLLOWERS, "IS NOT DISTINCT FROM", state.refuses_followers),
        ):
            statements.append(
                f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {target} FOR EACH STATEMENT"
                f" WHEN (pg_trigger_depth() = 0 AND current_setting({literal(ROLE_SETTING)}, true) {test}"
                f" {literal(FOLLOWER)}) EXECUTE FUNCTION {quoted(home)}.{name.removeprefix('crossfade_')}()"
            )
            statements.append(_toggle(target, name, enabled=refuses))
    return statements


def set_fence(table: StoredTable, state: Fence) -> list[str]:
    """The statements that bring a table's fence to `state`; each waits for writers in flight."""
    return [
        statement
        for target in _targets(table)
        for statement in (
            _toggle(target, REFUSE_AUTHORS, enabled=state.refuses_authors),
            _toggle(target, REFUSE_FOLLOWERS, enabled=state.refuses_followers),
        )
    ]


def _toggle(target: str, trigger: str, *, enabled: bool) -> str:
    return f"ALTER TABLE {target} {'ENABLE ALWAYS' if enabled else 'DISABLE'} TRIGGER {trigger}"


def drop_table_objects(home: str, table: StoredTable) -> list[str]:
    """The statements that remove a table's triggers and function."""
    triggers = (*CAPTURE_TRIGGERS.values(), REFUSE_AUTHORS, REFUSE_FOLLOWERS)
    statements = [
        f"DROP TRIGGER IF EXISTS {trigger} ON {target}" for target in _targets(table) for trigger in triggers
    ]
    return [*statements, f"DROP FUNCTION IF EXISTS {capture_function(home, table.model)}()"]


def drop_core(home: str) -> list[str]:
    """The statements that remove everything else."""
    return [f"DROP SCHEMA IF EXISTS {quoted(home)} CASCADE"]
