"""The tables in which the processes of a fleet say what they see, and the leader what it makes of it. Pure text.

They are used in the legacy store, where the leader is elected. `process` has a row for each process, written anew every
second: its lease. `timing` and `comparison` have what one process has seen of one model since the model came to its
stage (`entered`): sums that only grow. `evidence` has, for the whole fleet, which keys have been compared: bitmaps in
which a key's digest sets one bit, so that a key counts once however often and by whomever it is compared. `spanned` has
which models single operations touch together. `request` has what the leader has heard that is asked for, why a model
waits, and the gates as they were read last.
"""

from __future__ import annotations

from crossfade.store.tables import quoted

FLEET_TABLES = ("process", "timing", "comparison", "evidence", "spanned", "request")

FLEET_BY_MODEL = ("timing", "comparison", "evidence", "request")
"""Those whose rows belong to a model."""

EVIDENCE_PAGES = 64
PAGE_BITS = 1024
EVIDENCE_BITS = EVIDENCE_PAGES * PAGE_BITS
"""How many keys are told apart. Two that share a bit count as one, which errs on the safe side."""


def fleet(home: str) -> list[str]:
    """The statements that create these tables; those that exist are left as they are."""
    at = quoted(home)
    return [
        f"""CREATE TABLE IF NOT EXISTS {at}.process (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    leads boolean NOT NULL DEFAULT false,
    epochs jsonb NOT NULL DEFAULT '{{}}',
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen timestamptz NOT NULL DEFAULT clock_timestamp()) WITH (fillfactor = 50)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.timing (
    process uuid NOT NULL,
    model text NOT NULL,
    entered bigint NOT NULL,
    action text NOT NULL,
    side text NOT NULL,
    role text NOT NULL,
    calls bigint NOT NULL,
    failures bigint NOT NULL,
    buckets bigint[] NOT NULL,
    PRIMARY KEY (model, entered, process, action, side, role)) WITH (fillfactor = 50)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.comparison (
    process uuid NOT NULL,
    model text NOT NULL,
    entered bigint NOT NULL,
    kind text NOT NULL,
    action text NOT NULL,
    verdict text NOT NULL,
    compared bigint NOT NULL,
    PRIMARY KEY (model, entered, process, kind, action, verdict)) WITH (fillfactor = 50)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.evidence (
    model text NOT NULL,
    entered bigint NOT NULL,
    kind text NOT NULL,
    action text NOT NULL,
    page smallint NOT NULL,
    compared bit({PAGE_BITS}) NOT NULL,
    mismatched bit({PAGE_BITS}) NOT NULL,
    PRIMARY KEY (model, entered, kind, action, page)) WITH (fillfactor = 50)""",
        f"""CREATE TABLE IF NOT EXISTS {at}.spanned (
    models text[] NOT NULL,
    is_write boolean NOT NULL,
    times bigint NOT NULL,
    seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (models, is_write))""",
        f"""CREATE TABLE IF NOT EXISTS {at}.request (
    model text PRIMARY KEY,
    stage text NOT NULL,
    by text NOT NULL,
    cohort text,
    wanted text,
    held text NOT NULL DEFAULT '',
    gates jsonb NOT NULL DEFAULT '[]',
    at timestamptz NOT NULL DEFAULT clock_timestamp())""",
    ]
