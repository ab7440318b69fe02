"""A target store with tables of a test's own, and what is on them."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from crossfade.store import Store

DDL = """
CREATE TABLE "Author" (id text PRIMARY KEY, email text UNIQUE, name text, score int, manager text
    CONSTRAINT "Author manager" REFERENCES "Author" ON DELETE SET NULL);
CREATE TABLE books (id int PRIMARY KEY, title text, author_id text NOT NULL,
    CONSTRAINT books_author FOREIGN KEY (author_id) REFERENCES "Author" (id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    UNIQUE (author_id, title));
CREATE INDEX "Author name" ON "Author" (name DESC NULLS LAST) INCLUDE (score) WITH (fillfactor = 70);
CREATE INDEX author_score ON "Author" ((score + 1)) WHERE score > 0;
CREATE INDEX author_noted ON "Author" (score);
COMMENT ON INDEX author_noted IS 'stays where it is';
CREATE INDEX books_title ON books (lower(title));
"""


@dataclass
class Target:
    """The store, and a session that may do anything."""

    store: Store
    plain: asyncpg.Connection

    async def names(self) -> set[str]:
        """The indexes and foreign keys that there are and that are valid."""
        rows = await self.plain.fetch(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE i.indisvalid AND c.relnamespace = 'public'::regnamespace"
            " UNION ALL SELECT conname FROM pg_constraint WHERE contype = 'f' AND convalidated"
        )
        return {row[0] for row in rows}

    async def definitions(self) -> set[tuple[str, ...]]:
        """Everything that the catalog says of them."""
        rows = await self.plain.fetch(
            "SELECT pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid) FROM pg_index i"
            " JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace AND i.indisvalid"
            " UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid), conrelid::regclass::text"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        )
        return {tuple(row) for row in rows}
