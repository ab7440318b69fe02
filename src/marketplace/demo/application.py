"""The marketplace as one application process runs it: before crossfade, and with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Table

from crossfade.dsn import Dsn
from crossfade.events import Observer
from crossfade.flags import FlagProvider
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
from marketplace.demo.broken import BrokenPath, Fault
from marketplace.demo.desk import UnleashPlace
from marketplace.demo.paths import LentPath
from marketplace.models import MODELS, Base
from marketplace.records import RECORDS
from marketplace.workload import ASKED

CLIENT_PACKAGE: Final = "marketplace.prisma_client"

_RECONCILING = ReconcileSettings(settle=0.1)
"""A demo is short, so keys are taken up a little sooner than by default."""
_AUTHOR_POOL = 8
_FOLLOWER_POOL = 5


class TellSpoilt(Protocol):
    """Hears of every answer that a fault has spoilt."""

    def __call__(self, model: str, *, served: bool) -> None:
        """Take note of one answer of `model`, and of whether a caller got it."""


def _overhear(model: str, *, served: bool) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Application:
    """Where everything is that a process of the marketplace needs. `fault` is what is broken on purpose.

    `flags` has the flag files; with `unleash` the flags that count are those of that server.
    """

    schema: Schema
    legacy: Dsn
    target: Dsn
    flags: Path
    fault: Fault | None = None
    unleash: UnleashPlace | None = None

    def environment(self) -> dict[str, str]:
        """The variables by which another process finds the same stores."""
        return {
            "CROSSFADE_LEGACY_DSN": self.legacy.prisma_url(),
            "CROSSFADE_TARGET_DSN": self.target.prisma_url(),
            **({} if self.unleash is None else self.unleash.environment()),
        }

    def provider(self, observer: Observer) -> FlagProvider:
        """Where requests come from."""
        if self.unleash is None:
            return FileFlags(self.flags, self.schema.models, observer)
        from marketplace.demo.features import follow  # noqa: PLC0415 - it needs an extra

        return follow(self.unleash, self.schema.models, observer, self.flags.parent / "cache")

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

    def migration(
        self,
        prisma: PrismaPath,
        observer: Observer,
        *,
        name: str = "main",
        conduct: bool = True,
        spoilt: TellSpoilt | None = None,
    ) -> Migration:
        """The application with crossfade in it, in the process called `name`; `conduct` says whether it may lead."""
        told = spoilt or _overhear

        def path(side: Side, role: SessionRole) -> SidePath:
            made = self._path(side, role)
            if self.fault is None or side is Side.PRISMA:
                return made
            # What a follower writes is nobody's answer, even where a caller waits for it.
            is_answer = role is SessionRole.AUTHOR
            return BrokenPath(made, self.fault, lambda model: told(model, served=is_answer and ASKED.get()))

        return Migration(
            self.schema,
            {Side.PRISMA: prisma, Side.SQLALCHEMY: path(Side.SQLALCHEMY, SessionRole.AUTHOR)},
            self.provider(observer),
            stores=self.stores(),
            followers={side: path(side, SessionRole.FOLLOWER) for side in Side},
            observer=observer,
            reconciling=_RECONCILING,
            conduct=conduct,
            name=name,
        )

    def _path(self, side: Side, role: SessionRole) -> SidePath:
        return SqlAlchemyPath(
            self.schema,
            {name: _table(model) for name, model in MODELS.items()},
            RECORDS,
            self.legacy if side is Side.PRISMA else self.target,
            pool_size=_AUTHOR_POOL if role is SessionRole.AUTHOR else _FOLLOWER_POOL,
            side=side,
            role=role,
        )


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)
    return table
