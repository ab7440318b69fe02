"""Prisma's arguments to SQL, by SQLAlchemy Core: pure, and compiled once per shape of the arguments.

A `Compiler` turns an `Operation` into a plan and the values for it; `crossfade.paths.sqlalchemy` executes plans.
Each noun of Prisma's arguments has a module that both reads it (every call) and builds it (once per shape): `where`,
`order`, `select` (with `include`), `write`. `values` knows how a field's values travel, `storage` where its column is.
"""

from __future__ import annotations

from crossfade.query.compiled import Plan, Statement
from crossfade.query.compiler import Compiler

__all__ = ["Compiler", "Plan", "Statement"]
