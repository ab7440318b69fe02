"""The processes of a drill that use crossfade as an application does: one `Migration` each, and writes through it.

Both sides are asked through SQLAlchemy paths. What is drilled is what keeps two stores level, which does not depend on
who sends the SQL; Prisma's engine would only make the drill slower.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from crossfade.breaker import OUTAGES
from crossfade.drill.journal import CONFLICT, FENCED, JournalFile, Outcome
from crossfade.drill.lane import Increment, Verb, Write
from crossfade.drill.models import KEYS, RECORDS, SCHEMA, tables
from crossfade.drill.order import Part, ProcessOrder
from crossfade.drill.strands import Answer
from crossfade.errors import CrossfadeError, DataError
from crossfade.events import AuthorityMissed, ConflictSettled, Event, Observers
from crossfade.flags.files import FileFlags
from crossfade.gates import Coverage
from crossfade.logs import StructlogObserver, configure_logging
from crossfade.migration import Migration
from crossfade.operation import Action, Operation
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.repository import Repository, RepositorySettings
from crossfade.stages import Side
from crossfade.store import Store, view

_POOL = 4
_MOVE_DEADLINE = 20.0
"""Seconds that a write may wait for a move: conductors are killed here faster than others can take over."""


class Opened:
    """A migration that runs in this process."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration

    def hand(self) -> RepositoryHand:
        """Somebody who writes through the repository."""
        return RepositoryHand(self.migration.repository)


class RepositoryHand:
    """Executes writes through a repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def write(self, write: Write) -> Answer:
        """Execute a write; see `Hand.write`."""
        what = f"{write.verb} {write.model}"
        try:
            result = await self._repository.execute(operation(write))
        except OUTAGES as error:
            return Answer(Outcome.UNKNOWN, f"{what}: {type(error).__name__}")
        except DataError as error:
            name = type(error).__name__
            return Answer(Outcome.REFUSED, None if name == write.refused else f"{what}: {name} {error.code}")
        except CrossfadeError as error:
            return Answer(Outcome.REFUSED, f"{what}: {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - whatever a caller sees is to be reported
            return Answer(Outcome.UNKNOWN, f"{what}: {type(error).__name__}")
        if result is None or (write.verb is Verb.UPDATE_MANY and result != len(write.effects)):
            return Answer(Outcome.REFUSED, f"{what}: found {result or 'no row'}")
        return Answer(Outcome.ACKNOWLEDGED)


def operation(write: Write) -> Operation:
    """A write as a call of the repository."""
    where = _where(write)
    match write.verb:
        case Verb.CREATE:
            return Operation(write.model, Action.CREATE, {"data": dict(write.data)})
        case Verb.UPSERT:
            data = {"create": {**write.where, **write.data}, "update": dict(write.data)}
            return Operation(write.model, Action.UPSERT, {"where": where, "data": data})
        case Verb.DELETE:
            return Operation(write.model, Action.DELETE, {"where": where})
        case Verb.UPDATE | Verb.UPDATE_MANY:
            values = {
                name: {"increment": int(value)} if isinstance(value, Increment) else value
                for name, value in write.data.items()
            }
            action = Action.UPDATE if write.verb is Verb.UPDATE else Action.UPDATE_MANY
            return Operation(write.model, action, {"where": where, "data": values})
        case Verb.SWAP:
            msg = "a repository does not exchange unique values in one call"
            raise NotImplementedError(msg)


def _where(write: Write) -> Mapping[str, Any]:
    key = KEYS[write.model]
    if len(key) > 1 and write.where.keys() == set(key):
        return {"_".join(key): dict(write.where)}
    return write.where


class _Notes:
    """Notes in the journal what the figures tell beside writes."""

    def __init__(self, journal: JournalFile) -> None:
        self._journal = journal

    def observe(self, event: Event) -> None:
        """Take note of `event`."""
        match event:
            case AuthorityMissed():
                self._journal.mark(FENCED)
            case ConflictSettled():
                self._journal.mark(CONFLICT)


@asynccontextmanager
async def open_migration(order: ProcessOrder, journal: JournalFile) -> AsyncIterator[Opened]:
    """Run crossfade in this process, in the part that `order` gives it."""
    configure_logging(json=True, level="info")
    if order.is_deaf:
        _make_deaf()
    observer = Observers(_Notes(journal), StructlogObserver())
    conducts = order.part is Part.CONDUCTOR or order.stands_by
    stores = {side: _store(order, side) for side in Side}
    migration = Migration(
        SCHEMA,
        {side: _path(order, side, "author") for side in Side},
        FileFlags(order.flags, SCHEMA.models, observer),
        stores=stores,
        followers={side: _path(order, side, "follower") for side in Side},
        observer=observer,
        settings=RepositorySettings(move_deadline=_MOVE_DEADLINE),
        gates=Coverage(stores),  # a drill walks sooner than answers could be compared
        conduct=conducts,
        guard=False,  # what goes wrong here is meant to, and the walk is to go on
        reconcile=order.part is Part.RECONCILER or order.stands_by,
        at=None if order.crash_at is None else _crash_at(order.crash_at),
    )
    async with migration:
        structlog.get_logger("drill").info("drill.opened", part=str(order.part), name=order.name)
        yield Opened(migration)


def _store(order: ProcessOrder, side: Side) -> Store:
    place = order.store(side)
    return Store(side, place.dsn, SCHEMA, home=place.home, pool_size=3)


def _path(order: ProcessOrder, side: Side, role: Any) -> SqlAlchemyPath:
    dsn = order.store(side).dsn
    return SqlAlchemyPath(SCHEMA, tables(dsn.schema), RECORDS, dsn, pool_size=_POOL, side=side, role=role)


def _crash_at(step: str) -> Callable[[str], Awaitable[None]]:
    """Have this process killed the next time that it comes to `step` of a move."""

    async def crash(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return crash


def _make_deaf() -> None:
    """Let this process hear of no move by itself: it listens in the wrong place, and does not look for an hour."""
    vars(view)["RECORD_CHANNEL"] = "crossfade_drill_deaf"
    defaults = view.RecordView.__init__.__kwdefaults__
    assert defaults is not None
    defaults["poll"] = 3600.0
