"""What crossfade keeps in a store beside the triggers: its schema, its tables, and the states of a fence. Pure text.

Everything lies in one schema (`home`), so that Prisma and Alembic do not see it and removing it leaves nothing behind.
`triggers` has the functions and triggers, `install` runs both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType

from crossfade.store.fleet import FLEET_TABLES, fleet
from crossfade.store.progress import PROGRESS_TABLES, progress
from crossfade.store.tables import StoredTable, quoted

VERSION = 3
"""The version of these objects; a store that has another one is refused until `crossfade install` has run again."""

ROLE_SETTING = "crossfade.role"
FOLLOWER = "follower"
BULK_SETTING = "crossfade.bulk"
BULK = "on"
"""A follower whose transaction says so inserts without being captured. Whoever does so owes a check afterwards: a row
that was deleted in the other store meanwhile, before it could be seen in this one, is noted by nobody else."""
RECORD_CHANNEL = "crossfade_record"
CHANGE_CHANNEL = "crossfade_change"
BELL = 7_270_736_925_311
"""The key of the advisory lock that a sleeping reconciler holds: while it is held, a captured write rings."""

WRONG_AUTHORITY = "XF001"
LATE_WRITE = "XF002"

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
    """The statements that create the tables; those that exist are left as they are.

    `change` is a queue: it is written all the time and nearly empty, so it is vacuumed early and without pauses.
    Names of models are compared byte by byte there, because every captured write compares some. `was` is the key that a
    row had before, where an UPDATE has changed it.
    """
    at = quoted(home)
    return [
        f"""CREATE TABLE IF NOT EXISTS {at}.installation (
    version integer NOT NULL,
    side text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.change (
    model text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    key text[],
    op "char" NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts smallint NOT NULL DEFAULT 0,
    retry_at timestamptz,
    problem text,
    was text[],
    PRIMARY KEY (model, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.2)""",
        f"CREATE INDEX IF NOT EXISTS change_was ON {at}.change (model) WHERE was IS NOT NULL",
        f"""CREATE TABLE IF NOT EXISTS {at}.record (
    model text PRIMARY KEY,
    stage text NOT NULL DEFAULT 'off',
    moving_to text,
    epoch bigint NOT NULL DEFAULT 1,
    final boolean NOT NULL DEFAULT false,
    forced boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    paused boolean NOT NULL DEFAULT false,
    entered bigint NOT NULL DEFAULT 1)""",
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
        *progress(home),
        *fleet(home),
    ]


CORE_TABLES = ("installation", "change", "record", "history", "conflict", *PROGRESS_TABLES, *FLEET_TABLES)


def _to_3(home: str) -> list[str]:
    at = quoted(home)
    return [
        f"ALTER TABLE {at}.record ADD COLUMN IF NOT EXISTS paused boolean NOT NULL DEFAULT false",
        f"ALTER TABLE {at}.record ADD COLUMN IF NOT EXISTS entered bigint NOT NULL DEFAULT 1",
    ]


_ALTERATIONS: Mapping[int, Callable[[str], list[str]]] = MappingProxyType({2: _to_3})
"""What takes the tables from a version to the next, by the version that they have."""


def alterations(home: str, version: int) -> list[str]:
    """The statements that take the tables of `version` to those of `VERSION`; triggers are made anew beside that."""
    return [
        statement
        for step in range(version, VERSION)
        if step in _ALTERATIONS
        for statement in _ALTERATIONS[step](home)
    ]


def targets(table: StoredTable) -> list[str]:
    """The relations that take writes to a table, for SQL: itself and its partitions."""
    return [table.quoted, *(f"{quoted(schema)}.{quoted(name)}" for schema, name in table.partitions)]


def set_fence(table: StoredTable, state: Fence) -> list[str]:
    """The statements that bring a table's fence to `state`; each waits for writers in flight."""
    return [
        statement
        for target in targets(table)
        for statement in (
            toggle(target, REFUSE_AUTHORS, enabled=state.refuses_authors),
            toggle(target, REFUSE_FOLLOWERS, enabled=state.refuses_followers),
        )
    ]


def toggle(target: str, trigger: str, *, enabled: bool) -> str:
    """The statement that enables a trigger whatever `session_replication_role` says, or disables it."""
    # Every partition has a trigger of its own.
    return f"ALTER TABLE ONLY {target} {'ENABLE ALWAYS' if enabled else 'DISABLE'} TRIGGER {trigger}"


def drop_core(home: str) -> list[str]:
    """The statements that remove everything but the triggers, and the triggers that are still there with it."""
    return [f"DROP SCHEMA IF EXISTS {quoted(home)} CASCADE"]
