"""The drill's own small schema: four models that carry what a fault can get wrong.

An `Account` has a key that its writer mints. `Entry` has an autoincrement key, two unique columns and a cascade,
`Setting` a composite key and a cascade, `Hold` a relation that restricts. Nothing here resembles anybody's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from crossfade.records import Record
from crossfade.schema import Schema
from crossfade.types import UtcDateTime

SHARED: Final = tuple(f"shared-{number}" for number in range(8))
"""Accounts that every writer writes to."""
PLAYGROUND: Final = "last"
"""The setting of a shared account that every writer overwrites."""
NOTED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "Account": ("sequence", "total"),
        "Entry": ("account_id", "sequence", "slot"),
        "Setting": ("sequence",),
        "Hold": ("account_id", "sequence"),
    }
)
"""The columns of a writer's own rows that the journal vouches for."""
KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"Account": ("id",), "Entry": ("reference",), "Setting": ("account_id", "name"), "Hold": ("id",)}
)
"""What a row is called in the journal; an entry's own key is only known to its store."""
PARENTS_FIRST: Final = ("Account", "Entry", "Setting", "Hold")


def _scalar(name: str, kind: str = "String", **extra: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "scalar",
        "type": kind,
        "isList": False,
        "isRequired": True,
        "isUnique": False,
        "isId": False,
        "isUpdatedAt": False,
        "hasDefaultValue": "default" in extra,
    } | extra


def _children(name: str, model: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "object",
        "type": model,
        "relationName": f"Account{model}",
        "isList": True,
        "isRequired": True,
        "relationFromFields": [],
        "relationToFields": [],
    }


def _account(model: str, on_delete: str) -> dict[str, Any]:
    return {
        "name": "account",
        "kind": "object",
        "type": "Account",
        "relationName": f"Account{model}",
        "isList": False,
        "isRequired": True,
        "relationFromFields": ["account_id"],
        "relationToFields": ["id"],
        "relationOnDelete": on_delete,
    }


_NOW = {"name": "now", "args": []}


def _model(
    name: str, fields: list[dict[str, Any]], primary_key: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"name": name, "dbName": None, "fields": fields, "primaryKey": primary_key, "uniqueIndexes": []}


SCHEMA: Final = Schema.from_dmmf(
    {
        "datamodel": {
            "enums": [],
            "models": [
                _model(
                    "Account",
                    [
                        _scalar("id", isId=True, default={"name": "cuid", "args": []}),
                        _scalar("sequence", "Int"),
                        _scalar("total", "Int", default=0),
                        _scalar("note", isRequired=False),
                        _scalar("updated_at", "DateTime", isUpdatedAt=True),
                        _children("entries", "Entry"),
                        _children("settings", "Setting"),
                        _children("holds", "Hold"),
                    ],
                ),
                _model(
                    "Entry",
                    [
                        _scalar("id", "Int", isId=True, default={"name": "autoincrement", "args": []}),
                        _scalar("reference", isUnique=True),
                        _scalar("account_id"),
                        _scalar("sequence", "Int"),
                        _scalar("slot", "Int", isUnique=True, isRequired=False),
                        _scalar("created_at", "DateTime", default=_NOW),
                        _account("Entry", "Cascade"),
                    ],
                ),
                _model(
                    "Setting",
                    [
                        _scalar("account_id"),
                        _scalar("name"),
                        _scalar("sequence", "Int"),
                        _scalar("note", isRequired=False),
                        _scalar("updated_at", "DateTime", isUpdatedAt=True),
                        _account("Setting", "Cascade"),
                    ],
                    {"name": None, "fields": ["account_id", "name"]},
                ),
                _model(
                    "Hold",
                    [
                        _scalar("id", isId=True, default={"name": "cuid", "args": []}),
                        _scalar("account_id"),
                        _scalar("sequence", "Int"),
                        _scalar("created_at", "DateTime", default=_NOW),
                        _account("Hold", "Restrict"),
                    ],
                ),
            ],
        }
    }
)
MODELS: Final = tuple(SCHEMA.models)


class Account(Record):
    """A row that others belong to."""

    id: str
    sequence: int
    total: int
    note: str | None = None
    updated_at: datetime
    entries: list[Entry] | None = None
    settings: list[Setting] | None = None
    holds: list[Hold] | None = None


class Entry(Record):
    """A row whose key the database mints."""

    id: int
    reference: str
    account_id: str
    sequence: int
    slot: int | None = None
    created_at: datetime
    account: Account | None = None


class Setting(Record):
    """A row with a key of two columns."""

    account_id: str
    name: str
    sequence: int
    note: str | None = None
    updated_at: datetime
    account: Account | None = None


class Hold(Record):
    """A row that keeps its account from being deleted."""

    id: str
    account_id: str
    sequence: int
    created_at: datetime
    account: Account | None = None


RECORDS: Final[Mapping[str, type[Record]]] = MappingProxyType(
    {"Account": Account, "Entry": Entry, "Setting": Setting, "Hold": Hold}
)


def tables(schema: str | None) -> dict[str, sa.Table]:
    """The tables of the models in a PostgreSQL schema."""
    metadata = sa.MetaData(schema=schema)
    prefix = f"{schema}." if schema else ""
    now = sa.text("(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')")

    def account(on_delete: str) -> sa.Column[str]:
        target = sa.ForeignKey(f"{prefix}Account.id", ondelete=on_delete, onupdate="CASCADE")
        return sa.Column("account_id", sa.Text(), target, nullable=False)

    def moment(name: str) -> sa.Column[datetime]:
        return sa.Column(name, UtcDateTime(3), nullable=False, server_default=now)

    return {
        "Account": sa.Table(
            "Account",
            metadata,
            sa.Column("id", sa.Text(), primary_key=True),
            sa.Column("sequence", sa.Integer(), nullable=False),
            sa.Column("total", sa.Integer(), nullable=False, server_default="0"),
            sa.Column("note", sa.Text()),
            moment("updated_at"),
        ),
        "Entry": sa.Table(
            "Entry",
            metadata,
            sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
            sa.Column("reference", sa.Text(), nullable=False, unique=True),
            account("CASCADE"),
            sa.Column("sequence", sa.Integer(), nullable=False),
            sa.Column("slot", sa.Integer(), unique=True),
            moment("created_at"),
            sa.Index("Entry_account_id_idx", "account_id"),
        ),
        "Setting": sa.Table(
            "Setting",
            metadata,
            account("CASCADE"),
            sa.Column("name", sa.Text(), nullable=False),
            sa.Column("sequence", sa.Integer(), nullable=False),
            sa.Column("note", sa.Text()),
            moment("updated_at"),
            sa.PrimaryKeyConstraint("account_id", "name"),
        ),
        "Hold": sa.Table(
            "Hold",
            metadata,
            sa.Column("id", sa.Text(), primary_key=True),
            account("RESTRICT"),
            sa.Column("sequence", sa.Integer(), nullable=False),
            moment("created_at"),
            sa.Index("Hold_account_id_idx", "account_id"),
        ),
    }
