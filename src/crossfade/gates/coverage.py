"""The gates that say whether a store has everything: what its catalog and its books know.

* `captured`: capture and fence of both stores see every write to the model's tables, as their catalogs have it now.

Three more come from the target store's own books:

* `indexed`: no index and no foreign key is off the model's tables that a backfill has taken off to copy faster. Nothing
  may be written to both stores before they are back.
* `backfilled`: every row that was there when capture began has been copied, and everything since then is captured.
* `verified`: after that, every row of both stores has been compared once and none differs. From then on each touched
  key is verified by the reconciler, so this stays true.

The last two are about one installation: capture that was removed and installed again leaves a gap that nobody saw. And
they are about what the target store held then: a model that was forced back has to be verified anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg

from crossfade.errors import StoreUnavailableError
from crossfade.forcing import FORCED_EPOCHS
from crossfade.gates.applying import applying
from crossfade.gates.gate import Gate, GateName
from crossfade.stages import Side, Stage, Topology
from crossfade.store import Store
from crossfade.store.problems import installed_problems

_BOOKS = """
SELECT w.model, b.state = 'done' AS is_copied, b.since AS copied_since, b.finished AS copied_at, b.model IS NOT NULL AS
       is_begun, (SELECT count(*) FROM {deferred} d WHERE d.model = w.model AND d.restored IS NULL) AS is_off,
       v.state AS verdict, v.since AS verified_since, v.started AS verified_at, v.differing, v.in_flight
FROM unnest($1::text[]) AS w(model)
LEFT JOIN {backfill} b ON b.model = w.model
LEFT JOIN LATERAL (SELECT * FROM {verification} v WHERE v.model = w.model AND v.mode IN ('whole', 'deep')
    AND v.finished IS NOT NULL ORDER BY v.id DESC LIMIT 1) v ON true
"""
_FORCED = """
SELECT model, max(at) AS at FROM
    (SELECT model, at, epoch - lag(epoch) OVER (PARTITION BY model ORDER BY id) AS raised FROM {history}) told
WHERE raised >= $1 GROUP BY model
"""


COVERAGE = frozenset({GateName.CAPTURED, GateName.INDEXED, GateName.BACKFILLED, GateName.VERIFIED})


class Coverage:
    """The gates above, as the stores' catalogs and books have them. The stores need not be open."""

    def __init__(self, stores: Mapping[Side, Store]) -> None:
        self._stores = stores

    async def unmet(self, models: Sequence[str], current: Stage, wanted: Stage) -> list[Gate]:
        """Return what does not hold: see `Gates.unmet`. Copies matter as soon as the target store answers reads."""
        asked = applying(Topology.SEPARATE, current, wanted) & COVERAGE
        if not asked:
            return []
        found = await self.read(models)
        return [gate for model in models for gate in found[model] if gate.name in asked and not gate.holds]

    async def _unseen(self, models: Sequence[str]) -> dict[str, list[str]]:
        """What is wrong with capture and fence of each model's tables, in either store."""
        unseen: dict[str, list[str]] = {model: [] for model in models}
        for side, store in self._stores.items():
            if not await installed_problems(
                store, models
            ):  # one question for all, as nothing is wrong mostly
                continue
            for model in models:
                problems = await installed_problems(store, [model])
                unseen[model] += [f"{problem} (in the store of {side})" for problem in problems]
        return unseen

    async def read(
        self, models: Sequence[str], wanted: Mapping[str, Stage] | None = None
    ) -> dict[str, list[Gate]]:
        """Return each of these gates of each model, whatever step it is to take.

        Raises:
            StoreUnavailableError: a store does not answer.
        """
        del wanted
        legacy, target = self._stores[Side.PRISMA], self._stores[Side.SQLALCHEMY]
        try:
            async with legacy.transaction() as connection:
                installed: datetime | None = await connection.fetchval(
                    f"SELECT min(at) FROM {legacy.own('installation')}"  # noqa: S608
                )
                forced = {
                    row["model"]: row["at"]
                    for row in await connection.fetch(
                        _FORCED.format(history=legacy.own("history")), FORCED_EPOCHS
                    )
                }
            await target.open()
            unseen = await self._unseen(models)
            tables = {model: [table.model for table in target.tables.of([model])] for model in models}
            async with target.transaction() as connection:
                books = {
                    row["model"]: row
                    for row in await connection.fetch(
                        _BOOKS.format(
                            deferred=target.own("deferred"),
                            backfill=target.own("backfill"),
                            verification=target.own("verification"),
                        ),
                        [name for names in tables.values() for name in names],
                    )
                }
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise StoreUnavailableError(target.where, str(error) or type(error).__name__) from error
        return {
            model: [
                _captured(model, unseen[model]),
                _indexed(model, [books[name] for name in names]),
                _backfilled(model, [books[name] for name in names], installed),
                _verified(model, [books[name] for name in names], installed, forced.get(model)),
            ]
            for model, names in tables.items()
        }


def _captured(model: str, problems: Sequence[str]) -> Gate:
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        figure = f"{problems[0]}{more}"
        return Gate(model, GateName.CAPTURED, figure, "`crossfade install --check` lists everything")
    return Gate(model, GateName.CAPTURED, "every write is seen in both stores", "")


def _indexed(model: str, books: Sequence[asyncpg.Record]) -> Gate:
    off = sum(book["is_off"] for book in books)
    if off:
        figure = f"{off} indexes or foreign keys are off its tables"
        return Gate(model, GateName.INDEXED, figure, f"run `crossfade backfill {model} --restore-indexes`")
    return Gate(model, GateName.INDEXED, "every index is there", "")


def _backfilled(model: str, books: Sequence[asyncpg.Record], installed: datetime | None) -> Gate:
    figure = ""
    for book in books:
        if not book["is_begun"]:
            figure = f"{book['model']} has not been copied"
        elif not book["is_copied"]:
            figure = f"{book['model']} is being copied"
        elif book["copied_since"] != installed:
            figure = f"{book['model']} was copied before capture was installed anew"
        if figure:
            return Gate(model, GateName.BACKFILLED, figure, f"run `crossfade backfill {model}`")
    copied = max((book["copied_at"] for book in books), default=None)
    return Gate(model, GateName.BACKFILLED, f"copied by {_told(copied)}", "")


def _verified(
    model: str, books: Sequence[asyncpg.Record], installed: datetime | None, forced: datetime | None
) -> Gate:
    remedy = f"run `crossfade verify {model}`"
    figure = ""
    for book in books:
        if book["verdict"] is None:
            figure = f"{book['model']} has not been verified as a whole"
        elif book["verdict"] == "differing":
            figure = f"{book['differing']:,} rows of {book['model']} differed"
            remedy = f"run `crossfade verify {model} --repair`"
        elif book["verdict"] != "clean":
            figure = f"{book['in_flight']:,} rows of {book['model']} did not settle"
        elif book["verified_since"] != installed or (
            book["copied_at"] is not None and book["verified_at"] < book["copied_at"]
        ):
            figure = f"{book['model']} was verified before it was copied last"
        elif forced is not None and book["verified_at"] < forced:
            figure = f"{book['model']} was forced back after it was verified"
        if figure:
            return Gate(model, GateName.VERIFIED, figure, remedy)
    verified = min((book["verified_at"] for book in books), default=None)
    return Gate(model, GateName.VERIFIED, f"verified at {_told(verified)}", "")


def _told(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
