"""A workshop whose target schema differs from the legacy one in every way that a mapping can say.

Tables and keys have other names, two PostgreSQL schemas hold what one held, and columns were renamed, converted both
ways or one way, dropped and added. Tests of the stores and of the paths share it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ENUM, TIMESTAMP

from crossfade.mapping import Added, Converted, Dropped, Mapping, Mappings, Renamed
from crossfade.records import Record
from crossfade.schema import Schema
from small_schema import relation, scalar


def _status(name: str) -> dict[str, Any]:
    return scalar(name, "Status") | {"kind": "enum"}


def _model(name: str, fields: list[dict[str, Any]], key: list[str] | None = None) -> dict[str, Any]:
    primary = None if key is None else {"name": None, "fields": key}
    return {"name": name, "dbName": None, "fields": fields, "primaryKey": primary, "uniqueIndexes": []}


OWNER = _model(
    "Owner",
    [
        scalar("id", isId=True),
        scalar("email", isUnique=True),
        scalar("nickname", isUnique=True, isRequired=False),
        scalar("born", "DateTime"),
        scalar("phone", isRequired=False),
        scalar("remark", isRequired=False),
        scalar("score", "Int", hasDefaultValue=True, default=7),
        relation("accounts", "Account", "Accounts", isList=True),
    ],
)
ACCOUNT = _model(
    "Account",
    [
        scalar("region"),
        scalar("number", "Int"),
        scalar("owner_id"),
        scalar("cents", "Int"),
        _status("status"),
        relation(
            "owner",
            "Owner",
            "Accounts",
            isRequired=True,
            relationFromFields=["owner_id"],
            relationToFields=["id"],
            relationOnDelete="Cascade",
        ),
        relation("tickets", "Ticket", "Tickets", isList=True),
    ],
    ["region", "number"],
)
TICKET = _model(
    "Ticket",
    [
        scalar("id", "Int", isId=True, hasDefaultValue=True, default={"name": "autoincrement", "args": []}),
        scalar("region"),
        scalar("number", "Int"),
        scalar("title"),
        scalar("code"),
        scalar("slot", "Int", isUnique=True, isRequired=False),
        scalar("parent_id", "Int", isRequired=False),
        relation(
            "account",
            "Account",
            "Tickets",
            isRequired=True,
            relationFromFields=["region", "number"],
            relationToFields=["region", "number"],
            relationOnDelete="Restrict",
        ),
        relation("parent", "Ticket", "Tree", relationFromFields=["parent_id"], relationToFields=["id"]),
        relation("parts", "Ticket", "Tree", isList=True),
        relation("tags", "Tag", "Labels", isList=True),
    ],
)
TAG = _model(
    "Tag",
    [
        scalar("id", "Int", isId=True),
        scalar("name", isUnique=True),
        relation("tickets", "Ticket", "Labels", isList=True),
    ],
)
STATUS = {"name": "Status", "values": [{"name": "OPEN", "dbName": None}, {"name": "DONE", "dbName": None}]}
WORKSHOP = Schema.from_dmmf({"datamodel": {"enums": [STATUS], "models": [OWNER, ACCOUNT, TICKET, TAG]}})
MODELS = ("Owner", "Account", "Tag", "Ticket")

LEGACY = """
CREATE TYPE "Status" AS ENUM ('OPEN', 'DONE');
CREATE TABLE "Owner" (id text PRIMARY KEY, email text NOT NULL UNIQUE, nickname text UNIQUE, born timestamp(3) NOT NULL,
    phone text, remark text, score integer NOT NULL DEFAULT 7);
CREATE TABLE "Account" (region text NOT NULL, number integer NOT NULL,
    owner_id text NOT NULL REFERENCES "Owner" ON DELETE CASCADE ON UPDATE CASCADE, cents integer NOT NULL,
    status "Status" NOT NULL, PRIMARY KEY (region, number));
CREATE TABLE "Ticket" (id serial PRIMARY KEY, region text NOT NULL, number integer NOT NULL, title text NOT NULL,
    code text NOT NULL, slot integer UNIQUE, parent_id integer REFERENCES "Ticket" ON DELETE SET NULL ON UPDATE CASCADE,
    FOREIGN KEY (region, number) REFERENCES "Account" ON DELETE RESTRICT ON UPDATE CASCADE);
CREATE TABLE "Tag" (id integer PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE "_Labels" ("A" integer NOT NULL REFERENCES "Tag" ON DELETE CASCADE ON UPDATE CASCADE,
    "B" integer NOT NULL REFERENCES "Ticket" ON DELETE CASCADE ON UPDATE CASCADE);
CREATE UNIQUE INDEX ON "_Labels" ("A", "B");
"""
TARGET = """
CREATE SCHEMA people; CREATE SCHEMA desk;
CREATE TYPE people.state AS ENUM ('done', 'open');
CREATE TABLE people.owners (tenant text NOT NULL DEFAULT 'main', handle text UNIQUE, owner_id uuid PRIMARY KEY,
    born_at timestamptz(3) NOT NULL, phone_hash text, email text NOT NULL UNIQUE, seen integer);
CREATE TABLE ledger (balance numeric(12,2) NOT NULL, "no" bigint NOT NULL, area text NOT NULL,
    owner uuid NOT NULL REFERENCES people.owners ON DELETE CASCADE ON UPDATE CASCADE, state people.state NOT NULL,
    PRIMARY KEY (area, "no"));
CREATE TABLE desk.tickets (code uuid NOT NULL, "no" bigint NOT NULL, area text NOT NULL, title text NOT NULL,
    place integer UNIQUE, ticket_no bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    above bigint REFERENCES desk.tickets ON DELETE SET NULL ON UPDATE CASCADE,
    FOREIGN KEY (area, "no") REFERENCES ledger ON DELETE RESTRICT ON UPDATE CASCADE);
CREATE TABLE "Tag" (id integer PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE desk.labels (ticket bigint NOT NULL REFERENCES desk.tickets ON DELETE CASCADE ON UPDATE CASCADE,
    tag integer NOT NULL REFERENCES "Tag" ON DELETE CASCADE ON UPDATE CASCADE, PRIMARY KEY (ticket, tag));
"""
MAPPINGS = Mappings(
    (
        Mapping(
            "Owner",
            table="owners",
            schema="people",
            columns=(
                Renamed("id", "owner_id", legacy_type="text"),
                Renamed("nickname", "handle"),
                Converted("born", "born_at", "{} AT TIME ZONE 'UTC'", "{} AT TIME ZONE 'UTC'"),
                Converted("phone", "phone_hash", "md5({})", one_way=True),
                Dropped("remark", one_way=True),
                Dropped("score", one_way=True, reads="7"),
                Added("tenant"),
            ),
        ),
        Mapping(
            "Account",
            table="ledger",
            columns=(
                Renamed("region", "area"),
                Renamed("number", "no"),
                Renamed("owner_id", "owner", legacy_type="text"),
                Converted("cents", "balance", "{}::numeric / 100", "round({} * 100)::integer"),
                Converted("status", "state", "lower({}::text)", "upper({}::text)"),
            ),
        ),
        Mapping(
            "Ticket",
            table="tickets",
            schema="desk",
            columns=(
                Renamed("id", "ticket_no", legacy_type="integer"),
                Renamed("region", "area"),
                Renamed("number", "no", legacy_type="integer"),
                Renamed("slot", "place"),
                Renamed("parent_id", "above", legacy_type="integer"),
                Converted("code", "code", "{}::uuid", "{}::text"),
            ),
        ),
        Mapping(
            "_Labels", table="labels", schema="desk", columns=(Renamed("A", "tag"), Renamed("B", "ticket"))
        ),
    )
)


class Owner(Record):
    """A person."""

    id: str
    email: str
    nickname: str | None = None
    born: datetime
    phone: str | None = None
    remark: str | None = None
    score: int
    accounts: list[Account] | None = None


class Account(Record):
    """Somebody's account, with a key of two columns."""

    region: str
    number: int
    owner_id: str
    cents: int
    status: str
    owner: Owner | None = None
    tickets: list[Ticket] | None = None


class Ticket(Record):
    """Something to do, numbered by the store."""

    id: int
    region: str
    number: int
    title: str
    code: str
    slot: int | None = None
    parent_id: int | None = None
    account: Account | None = None
    parent: Ticket | None = None
    parts: list[Ticket] | None = None
    tags: list[Tag] | None = None


class Tag(Record):
    """A word for tickets."""

    id: int
    name: str
    tickets: list[Ticket] | None = None


RECORDS: dict[str, type[Record]] = {"Owner": Owner, "Account": Account, "Ticket": Ticket, "Tag": Tag}

_target = sa.MetaData()
TABLES = {
    "Owner": sa.Table(
        "owners",
        _target,
        sa.Column("owner_id", sa.Uuid(as_uuid=False), primary_key=True),
        sa.Column("email", sa.Text, nullable=False, unique=True),
        sa.Column("handle", sa.Text, unique=True),
        sa.Column("born_at", TIMESTAMP(timezone=True, precision=3), nullable=False),
        sa.Column("phone_hash", sa.Text),
        sa.Column("tenant", sa.Text, nullable=False, server_default="main"),
        schema="people",
    ),
    "Account": sa.Table(
        "ledger",
        _target,
        sa.Column("area", sa.Text, primary_key=True),
        sa.Column("no", sa.BigInteger, primary_key=True),
        sa.Column("owner", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("balance", sa.Numeric(12, 2), nullable=False),
        sa.Column("state", ENUM("done", "open", name="state", schema="people"), nullable=False),
    ),
    "Ticket": sa.Table(
        "tickets",
        _target,
        sa.Column("ticket_no", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("area", sa.Text, nullable=False),
        sa.Column("no", sa.BigInteger, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("code", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("place", sa.Integer, unique=True),
        sa.Column("above", sa.BigInteger),
        schema="desk",
    ),
    "Tag": sa.Table(
        "Tag",
        _target,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    ),
}
"""The target's tables, as declarative models would have them."""

SAME: dict[str, tuple[str, str]] = {
    "Owner": (
        """SELECT ROW(id, email, nickname, born)::text FROM "Owner" ORDER BY id""",
        """SELECT ROW(owner_id, email, handle, born_at::timestamp)::text FROM people.owners ORDER BY owner_id""",
    ),
    "Account": (
        """SELECT ROW(region, number, owner_id, cents, status)::text FROM "Account" ORDER BY region, number""",
        """SELECT ROW(area, "no", owner, (balance * 100)::integer, upper(state::text))::text FROM ledger
           ORDER BY area, "no" """,
    ),
    "Ticket": (
        """SELECT ROW(id, region, number, title, code, slot, parent_id)::text FROM "Ticket" ORDER BY id""",
        """SELECT ROW(ticket_no, area, "no", title, code, place, above)::text FROM desk.tickets ORDER BY ticket_no""",
    ),
    "Tag": ("""SELECT ROW(t.*)::text FROM "Tag" t ORDER BY id""",) * 2,
    "_Labels": (
        """SELECT ROW("A", "B")::text FROM "_Labels" ORDER BY "A", "B" """,
        "SELECT ROW(tag, ticket)::text FROM desk.labels ORDER BY tag, ticket",
    ),
}
"""What a person would ask each store for, to see that both say the same: written without crossfade."""

__all__ = ["LEGACY", "MAPPINGS", "MODELS", "RECORDS", "SAME", "TABLES", "TARGET", "WORKSHOP"]
