"""The functions and triggers of capture and fence: their SQL, and what the catalog says of them when they are intact.

Rules:

* Capture runs in the transaction of the write, with the rights of whoever installed it: a role that may write to a
  table need not know that crossfade exists. A key is noted as an array of texts that no session setting changes.
* Capture and fence are statement-level: their cost does not grow with the rows of a statement beyond noting them.
* Both are enabled ALWAYS, so that `session_replication_role = replica` does not pass them by. What is still not seen:
  rows that a logical replication subscription applies (it fires no statement triggers), a table whose triggers
  somebody has disabled, and a partition that was attached with its rows after the installation. `problems` finds them.
* A session is a *follower* when its setting `crossfade.role` says so, and an *author* otherwise. What a foreign key or
  a trigger does inside the server is neither, and passes the fence.

They run on every write, so they are made to cost little:

* No function pins its `search_path`, which would cost more than the rest of a call. Instead every name, operator and
  type is written with its schema, so that no session's path can change what it means. Only keys whose text depends on
  settings pay for pinning those.
* PostgreSQL reads the condition of a trigger from text for every statement. So conditions are short, and the depth is
  asked in the function, which runs only for who is to be refused.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from crossfade.store.objects import (
    BELL,
    BULK,
    BULK_SETTING,
    CHANGE_CHANNEL,
    FOLLOWER,
    LATE_WRITE,
    RECORD_CHANNEL,
    REFUSE_AUTHORS,
    REFUSE_FOLLOWERS,
    ROLE_SETTING,
    WRONG_AUTHORITY,
)
from crossfade.store.tables import StoredTable, literal, quoted

_ROW, _BEFORE, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 2, 4, 8, 16, 32
"""The bits of `pg_trigger.tgtype`."""

_SPELLING = (
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "iso_8601"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
)
_PLAIN = re.compile(r"text|character|uuid|smallint|integer|bigint|numeric|boolean")
"""The beginnings of types whose texts depend on no setting."""
_EXACTLY = ' COLLATE pg_catalog."C"'
"""Two keys are the same if their texts are: a collation of the column's may think otherwise."""


@dataclass(frozen=True, slots=True)
class Function:
    """A trigger function in `home`, in PL/pgSQL."""

    name: str
    body: str
    is_definer: bool = False
    settings: tuple[tuple[str, str], ...] = ()

    def create(self, home: str) -> list[str]:
        """The statements that create it or bring it up to date; nobody but its owner can use it for another table."""
        name = f"{quoted(home)}.{quoted(self.name)}()"
        options = " SECURITY DEFINER" if self.is_definer else ""
        options += "".join(f" SET {setting} = {literal(value)}" for setting, value in self.settings)
        tag = "$body$"
        while tag in self.body:  # a key may be named like that
            tag = f"$_{tag[1:]}"
        return [
            f"CREATE OR REPLACE FUNCTION {name} RETURNS trigger LANGUAGE plpgsql{options} AS {tag}{self.body}{tag}",
            f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
        ]


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger, and what identifies it in the catalog. `kind` is its `tgtype`."""

    name: str
    events: str
    kind: int
    function: str
    takes_old: bool = False
    takes_new: bool = False
    condition: str = ""
    arguments: tuple[str, ...] = ()

    def create(self, home: str, target: str) -> str:
        """The statement that creates it; it waits for writers in flight and keeps readers waiting for nothing."""
        rows = [f"OLD TABLE AS {_OLD}"] * self.takes_old + [f"NEW TABLE AS {_NEW}"] * self.takes_new
        return (
            f"CREATE TRIGGER {self.name} {self.events} ON {target}"
            f"{' REFERENCING ' + ' '.join(rows) if rows else ''}"
            f" FOR EACH {'ROW' if self.kind & _ROW else 'STATEMENT'}"
            f"{f' WHEN ({self.condition})' if self.condition else ''}"
            f" EXECUTE FUNCTION {quoted(home)}.{quoted(self.function)}({', '.join(map(literal, self.arguments))})"
        )

    @property
    def identity(self) -> tuple[object, ...]:
        """What the catalog has for it: kind, function, the names of its row sets, condition or none, arguments."""
        return (
            self.kind,
            self.function,
            _OLD if self.takes_old else None,
            _NEW if self.takes_new else None,
            bool(self.condition),
            b"".join(argument.encode() + b"\0" for argument in self.arguments),
        )


_OLD, _NEW = "crossfade_old", "crossfade_new"

# --- the record ------------------------------------------------------------------------------------------------

RECORD_CHANGED = Function(
    "record_changed",
    f"""
BEGIN
    PERFORM pg_catalog.pg_notify({literal(RECORD_CHANNEL)}, NEW.model);
    RETURN NULL;
END """,
)
RECORD_TRIGGER = Trigger(
    "crossfade_record_changed",
    "AFTER INSERT OR UPDATE",
    _ROW | _INSERT | _UPDATE,
    RECORD_CHANGED.name,
)

# --- capture ---------------------------------------------------------------------------------------------------


def capture_function(home: str, table: StoredTable) -> Function:
    """The function that notes the keys that a statement has touched in a table.

    A row is noted once, under the key that it has. One whose key an UPDATE has changed is noted under its old key too,
    and once more under the new one with the old one beside it (`was`). A statement that has touched no row does not
    ring.
    """
    change = f"INSERT INTO {quoted(home)}.change"
    model = literal(table.model)
    into = f"{change} (model, key, op) SELECT {model}"
    # Columns are never written without their row: a key may be named like a variable of PL/pgSQL.
    old_key, new_key = _key(table, "o"), _key(table, "n")
    columns = (table.columns[name] for name in table.key)
    is_plain = all(column.kind == "E" or _PLAIN.match(column.type) for column in columns)
    # PostgreSQL has both row sets of an UPDATE in the same order, so rows are paired by their places. Were they not, a
    # key that is no more would still be noted: no row has it now, whichever it is paired with.
    #
    # A session keeps the plan of its first statement. One row and its pair are joined, which is cheap; for many rows a
    # plan is needed whose cost never grows with their square, and grouping has no other.
    return Function(
        short_name(f"capture_{table.model}"),
        f"""
DECLARE
    touched pg_catalog.int8 := 1;
    key_now pg_catalog.text[];
    key_was pg_catalog.text[];
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        {into}, {new_key}, 'U' FROM {_NEW} n;
        GET DIAGNOSTICS touched = ROW_COUNT;
        IF touched OPERATOR(pg_catalog.=) 1 THEN
            SELECT {new_key}, {old_key} INTO key_now, key_was FROM {_NEW} n CROSS JOIN {_OLD} o;
            IF key_now OPERATOR(pg_catalog.<>) key_was THEN
                {change} (model, key, op, was) VALUES
                    ({model}, key_was, 'U', NULL), ({model}, key_now, 'U', key_was);
            END IF;
        ELSIF touched OPERATOR(pg_catalog.>) 1 THEN
            {change} (model, key, op, was) SELECT {model}, c.key, 'U', c.was
            FROM (
                SELECT pg_catalog.max(r.old) AS old, pg_catalog.max(r.new) AS new FROM (
                    SELECT pg_catalog.row_number() OVER () AS place, {_key(table, "o", _EXACTLY)} AS old, NULL AS new
                    FROM {_OLD} o
                    UNION ALL SELECT pg_catalog.row_number() OVER (), NULL, {_key(table, "n", _EXACTLY)}
                    FROM {_NEW} n
                ) r GROUP BY r.place
            ) p
            CROSS JOIN LATERAL (VALUES (p.old, NULL::pg_catalog.text[]), (p.new, p.old)) c(key, was)
            WHERE p.old OPERATOR(pg_catalog.<>) p.new;
        END IF;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        IF pg_catalog.current_setting({literal(BULK_SETTING)}, true) OPERATOR(pg_catalog.=) {literal(BULK)}
            AND pg_catalog.current_setting({literal(ROLE_SETTING)}, true) OPERATOR(pg_catalog.=) {literal(FOLLOWER)}
        THEN
            RETURN NULL;
        END IF;
        {into}, {new_key}, 'I' FROM {_NEW} n;
        GET DIAGNOSTICS touched = ROW_COUNT;
    ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
        {into}, {old_key}, 'D' FROM {_OLD} o;
        GET DIAGNOSTICS touched = ROW_COUNT;
    ELSE
        {into}, NULL, 'T';
    END IF;
    IF touched OPERATOR(pg_catalog.>) 0 AND NOT pg_catalog.pg_try_advisory_xact_lock_shared({BELL}) THEN
        PERFORM pg_catalog.pg_notify({literal(CHANGE_CHANNEL)}, '');
    END IF;
    RETURN NULL;
END """,  # noqa: S608
        is_definer=True,
        settings=() if is_plain else _SPELLING,
    )


def capture_triggers(table: StoredTable) -> list[Trigger]:
    """The triggers that a table and each of its partitions have for capture, all of them enabled."""
    function = short_name(f"capture_{table.model}")
    return [
        Trigger("crossfade_capture_insert", "AFTER INSERT", _INSERT, function, takes_new=True),
        Trigger(
            "crossfade_capture_update", "AFTER UPDATE", _UPDATE, function, takes_old=True, takes_new=True
        ),
        Trigger("crossfade_capture_delete", "AFTER DELETE", _DELETE, function, takes_old=True),
        Trigger("crossfade_capture_truncate", "AFTER TRUNCATE", _TRUNCATE, function),
    ]


def _key(table: StoredTable, row: str, collation: str = "") -> str:
    texts = (f"{row}.{quoted(name)}::pg_catalog.text{collation}" for name in table.key)
    return f"ARRAY[{', '.join(texts)}]"


def short_name(name: str) -> str:
    """A name that PostgreSQL does not cut: at most 63 bytes."""
    if len(name.encode()) <= 63:
        return name
    return name.encode()[:50].decode(errors="ignore") + "_" + hashlib.sha256(name.encode()).hexdigest()[:12]


# --- fence -----------------------------------------------------------------------------------------------------


def _refusal(name: str, state: str, message: str, hint: str) -> Function:
    """A function that refuses a statement of a session's own; both texts take the model and whose stage decides."""
    return Function(
        name,
        f"""
BEGIN
    IF pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1 THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = {literal(state)},
        MESSAGE = pg_catalog.format({literal(f"crossfade {state}: {message}")}, TG_ARGV[0], TG_ARGV[1],
            TG_TABLE_SCHEMA, TG_TABLE_NAME),
        HINT = pg_catalog.format({literal(hint)}, TG_ARGV[0], TG_ARGV[1]);
END """,
    )


FENCE_FUNCTIONS = (
    _refusal(
        "refuse_authors",
        WRONG_AUTHORITY,
        "%3$I.%4$I takes no writes here: those of %1$s belong to the other store now; nothing was written",
        "`crossfade status %2$s` shows which store has them. Write there, or through the application.",
    ),
    _refusal(
        "refuse_followers",
        LATE_WRITE,
        "%3$I.%4$I takes no follower writes: this store has the authority over %1$s; nothing was written",
        "The write came late, from before the authority moved. It is of no use, and nothing is lost without it.",
    ),
)


def fence_triggers(table: StoredTable) -> list[Trigger]:
    """The two triggers that a table and each of its partitions have for the fence, in no state yet."""
    events = "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
    kind = _BEFORE | _INSERT | _UPDATE | _DELETE | _TRUNCATE
    role = f"pg_catalog.current_setting({literal(ROLE_SETTING)}, true)"
    names = (table.model, table.owner)
    return [
        Trigger(
            REFUSE_AUTHORS,
            events,
            kind,
            "refuse_authors",
            condition=f"{role} IS DISTINCT FROM {literal(FOLLOWER)}",
            arguments=names,
        ),
        Trigger(
            REFUSE_FOLLOWERS,
            events,
            kind,
            "refuse_followers",
            condition=f"{role} OPERATOR(pg_catalog.=) {literal(FOLLOWER)}",
            arguments=names,
        ),
    ]
