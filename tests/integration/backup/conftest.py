"""Fixtures for backups: a store with something in it."""

from __future__ import annotations

import asyncpg
import pytest

from crossfade.dsn import Dsn
from databases import FreshDatabase

FILL = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE people (id integer PRIMARY KEY, name text, at timestamptz, mood mood, t float8);
CREATE TABLE "odd name" (id text PRIMARY KEY, parent integer REFERENCES people, data jsonb, raw bytea);
CREATE TABLE parts (id integer, day date) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO people SELECT n, 'p' || n, now() + n * interval '1 s', 'sad', n / 3.0 FROM generate_series(1, 500) n;
INSERT INTO "odd name" VALUES ('a', 1, '{"a": [1.0]}', '\\xff'), ('b', NULL, NULL, NULL);
INSERT INTO parts VALUES (1, '2024-05-05');
"""


@pytest.fixture
async def filled(fresh_database: FreshDatabase) -> Dsn:
    """A database with tables of several kinds."""
    dsn = await fresh_database()
    connection = await asyncpg.connect(**dsn.asyncpg_kwargs())
    try:
        await connection.execute(FILL)
    finally:
        await connection.close()
    return dsn
