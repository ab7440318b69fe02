"""The marketplace as one application process runs it: before crossfade, and with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Table

from crossfade.dsn import Dsn
from crossfade.events import Observer
from crossfade.flags.files import FileFlags
from crossfade.migration import Migration
from crossfade.paths import Path as SidePath
from crossfade.paths import SessionRole
from crossfade.paths.prisma import PrismaPath
from crossfade.paths.sqlalchemy import SqlAlchemyPath
from crossfade.reconcile import ReconcileSettings
from crossfade.repository import Repository
from crossfade.schema import Schema
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.homes import homes_of
from marketplace.demo.breaks import BREAKS, BrokenPath
from marketplace.demo.paths import LentPath
from marketplace.models import MODELS, Base
from marketplace.records import RECORDS

CLIENT_PACKAGE: Final = "marketplace.prisma_client"

_RECONCILING = ReconcileSettings(settle=0.1)
"""A demo is short, so keys are taken up a little sooner than by default."""
_AUTHOR_POOL = 8
_FOLLOWER_POOL = 5


@dataclass(frozen=True, slots=True)
class Application:
    """Where everything is that a process of the marketplace needs. `defect` names one of `BREAKS`."""

    schema: Schema
    legacy: Dsn
    target: Dsn
    flags: Path
    defect: str | None = None

    def prisma(self) -> PrismaPath:
        """The way through Prisma, with an engine of its own."""
        return PrismaPath.open(self.schema, RECORDS, CLIENT_PACKAGE, self.legacy)

    def stores(self) -> dict[Side, Store]:
        """Both stores, as crossfade itself uses them."""
        homes = homes_of(self.legacy, self.target)
        return {
            side: Store(side, dsn, self.schema, home=homes[side])
            for side, dsn in ((Side.PRISMA, self.legacy), (Side.SQLALCHEMY, self.target))
        }

    def before(self, prisma: PrismaPath, observer: Observer) -> Repository:
        """The application as it was: everything through Prisma, which stays its owner's, and no second side."""
        return Repository(self.schema, {Side.PRISMA: LentPath(prisma)}, observer=observer)

    def migration(self, prisma: PrismaPath, observer: Observer) -> Migration:
        """The application with crossfade in it."""
        return Migration(
            self.schema,
            {Side.PRISMA: prisma, Side.SQLALCHEMY: self._path(Side.SQLALCHEMY, SessionRole.AUTHOR)},
            FileFlags(self.flags, self.schema.models, observer),
            stores=self.stores(),
            followers={side: self._path(side, SessionRole.FOLLOWER) for side in Side},
            observer=observer,
            reconciling=_RECONCILING,
        )

    def _path(self, side: Side, role: SessionRole) -> SidePath:
        path = SqlAlchemyPath(
            self.schema,
            {name: _table(model) for name, model in MODELS.items()},
            RECORDS,
            self.legacy if side is Side.PRISMA else self.target,
            pool_size=_AUTHOR_POOL if role is SessionRole.AUTHOR else _FOLLOWER_POOL,
            side=side,
            role=role,
        )
        if self.defect is None or side is Side.PRISMA:
            return path
        return BrokenPath(path, BREAKS[self.defect])


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
