"""Fences made by hand: triggers that refuse the writes of authors, or of followers, as those of a store do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

AUTHORS = "XF001"
FOLLOWERS = "XF002"


def message(state: str, table: str) -> str:
    """What the fence says; a quote and a backslash, because messages are quoted on their way."""
    return rf'{state}: "{table}" takes no writes here \ write elsewhere'


@asynccontextmanager
async def fence(
    store: asyncpg.Connection, table: str, state: str = AUTHORS, *, everybody: bool = False
) -> AsyncIterator[None]:
    """Refuse writes to `table` while the context is open: those of `state`, or all."""
    role = "coalesce(current_setting('crossfade.role', true), '')"
    whom = f"{role} <> 'follower'" if state == AUTHORS else f"{role} = 'follower'"
    if everybody:
        whom = "true"
    text = message(state, table).replace("'", "''")
    await store.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{text}', HINT = 'a hint';
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON "{table}" FOR EACH STATEMENT
        WHEN (pg_trigger_depth() = 0 AND {whom}) EXECUTE FUNCTION refuse();
        """
    )
    try:
        yield
    finally:
        await store.execute("DROP FUNCTION refuse() CASCADE")
