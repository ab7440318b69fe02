"""The tables in which backfill and verify note how far they are. They are used in the target store. Pure text.

`backfill` has a row for each table that is copied, `chunk` one for each piece of it. A chunk is locked by whoever works
on it, so that one whose worker died is free again at once. `verification` has a row for each run of verify over a
table, and `difference` the keys that it found; `deferred` has what was taken off a table to be put back. `probe`, in
both stores, has a row for each process that measures how long a small write takes.
"""

from __future__ import annotations

from crossfade.store.tables import quoted

PROGRESS_TABLES = ("backfill", "chunk", "deferred", "verification", "difference", "probe")

PROGRESS_BY_MODEL = ("backfill", "chunk", "deferred", "verification", "difference")
"""Those whose rows belong to a model."""


def progress(home: str) -> list[str]:
    """The statements that create these tables; those that exist are left as they are."""
    at = quoted(home)
    return [
        # since: the time of the legacy store's installation, before which nothing was captured there.
        f"""CREATE TABLE IF NOT EXISTS {at}.backfill (
    model text PRIMARY KEY,
    owner text NOT NULL,
    state text NOT NULL DEFAULT 'copying' CHECK (state IN ('copying', 'done')),
    after text[],
    is_cut boolean NOT NULL DEFAULT false,
    chunk_rows integer NOT NULL,
    estimated bigint NOT NULL DEFAULT 0,
    is_paused boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    by text NOT NULL DEFAULT '')""",
        # pending: to be copied; landed: copied, to be checked; waiting: some rows wait for what they refer to.
        f"""CREATE TABLE IF NOT EXISTS {at}.chunk (
    model text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    after text[],
    up_to text[],
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'landed', 'waiting', 'done', 'failed')),
    attempts integer NOT NULL DEFAULT 0,
    rows_read bigint NOT NULL DEFAULT 0,
    rows_written bigint NOT NULL DEFAULT 0,
    left_over bigint NOT NULL DEFAULT 0,
    waiting bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    claimed timestamptz,
    finished timestamptz,
    problem text,
    PRIMARY KEY (model, id))""",
        f"CREATE INDEX IF NOT EXISTS chunk_open ON {at}.chunk (model, id) WHERE state <> 'done'",
        f"""CREATE TABLE IF NOT EXISTS {at}.deferred (
    model text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('index', 'foreign key')),
    name text NOT NULL,
    definition text NOT NULL,
    dropped timestamptz NOT NULL DEFAULT clock_timestamp(),
    restored timestamptz,
    PRIMARY KEY (model, name))""",
        # scope: what the mode leaves open, so that only a run that asks for the same goes on with it.
        f"""CREATE TABLE IF NOT EXISTS {at}.verification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    owner text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('whole', 'deep', 'sample', 'since')),
    scope text NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'clean', 'differing', 'unsettled')),
    after text[],
    rows bigint NOT NULL DEFAULT 0,
    chunks bigint NOT NULL DEFAULT 0,
    differing bigint NOT NULL DEFAULT 0,
    in_flight bigint NOT NULL DEFAULT 0,
    repaired bigint NOT NULL DEFAULT 0,
    since timestamptz NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished timestamptz,
    by text NOT NULL DEFAULT '')""",
        f"CREATE INDEX IF NOT EXISTS verification_model ON {at}.verification (model, id)",
        # suspect: the stores said different things of this key, and it has not been looked at again yet.
        f"""CREATE TABLE IF NOT EXISTS {at}.difference (
    verification bigint NOT NULL,
    model text NOT NULL,
    key text[] NOT NULL,
    kind text NOT NULL CHECK (kind IN ('suspect', 'missing', 'extra', 'different')),
    columns text[] NOT NULL DEFAULT '{{}}',
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (verification, model, key))""",
        f"""CREATE TABLE IF NOT EXISTS {at}.probe (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp())""",
    ]
