"""The calls of the workload that make several writes as one: `tx()` and `batch_()`.

Each changes a row of one model and makes a row of another that belongs to it. Where the two models' writes belong to
different sides they cannot be one, and are made one by one, as an application without a cohort would have to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from crossfade.errors import ForeignKeyViolationError, MixedAuthorityError, TransactionError
from crossfade.schema import Scalar, Schema
from marketplace.calls import Account, Call, Calls, RowGoneError
from marketplace.client import Front, MarketplaceClient
from marketplace.journal import Assigned, Effect, Increased, Journal, RowKey
from marketplace.population import Population
from marketplace.subjects import SUBJECTS

PAIRS: Final = (
    ("User", "Item"),
    ("Item", "Listing"),
    ("Order", "Shipment"),
    ("Conversation", "Message"),
    ("Listing", "AnalyticsData"),
    ("Item", "MarketResearchData"),
    ("User", "AnalyticsSnapshot"),
)
"""A model whose row is changed, and one that gets a new row with it."""

NAME: Final = "several models"
"""What these calls stand under in reports."""

_MAX_WAIT = timedelta(seconds=10)
_TIMEOUT = timedelta(seconds=10)
_TRY_AGAIN = "P2034"
_ATTEMPTS = 8
_FIRST_PAUSE = 0.05
"""Seconds before a transaction is tried again; doubled each time."""


class _Change(NamedTuple):
    """A change of one seeded row."""

    model: str
    key: Any
    data: Mapping[str, Any]
    effects: tuple[Effect, ...]


class _Birth(NamedTuple):
    """A new row."""

    model: str
    data: dict[str, Any]


_Make = Callable[[MarketplaceClient, _Change, _Birth], Awaitable[Any]]


class Bundles:
    """Everything that the workload does to two models at once. `calls` are those of the single models."""

    def __init__(
        self,
        schema: Schema,
        calls: Mapping[str, Calls],
        front: Front,
        known: Population,
        journal: Journal,
        account: Account,
    ) -> None:
        self._schema = schema
        self._calls = calls
        self._front = front
        self._known = known
        self._journal = journal
        self._account = account

    def bag(self) -> list[Call]:
        """Return every call as often as it weighs."""
        return [
            *[Call("tx", self._transaction)] * 3,
            Call("tx rolled back", self._abandoned),
            *[Call("batch", self._batch)] * 2,
        ]

    # --- the calls -------------------------------------------------------------------------------------------------

    async def _transaction(self) -> None:
        change, birth = self._draw()

        async def make(client: MarketplaceClient, change: _Change, birth: _Birth) -> Any:
            async with client.tx(max_wait=_MAX_WAIT, timeout=_TIMEOUT) as tx:
                if await tx.model(change.model).update(where={"id": change.key}, data=change.data) is None:
                    raise RowGoneError
                return await tx.model(birth.model).create(data=birth.data)

        await self._together(make, change, birth)

    async def _abandoned(self) -> None:
        change, birth = self._draw()
        self._account.wrote()
        manager = self._front.client.tx(max_wait=_MAX_WAIT, timeout=_TIMEOUT)
        with self._journal.write(*change.effects) as write:
            write.missed()  # whatever happens, it is not committed
            tx = await manager.start()
            try:
                await tx.model(change.model).update(where={"id": change.key}, data=change.data)
                await tx.model(birth.model).create(data=birth.data)
            except MixedAuthorityError:
                self._account.refused("transaction of two authorities")
            except (ForeignKeyViolationError, TransactionError) as error:
                self._excuse(error, birth)
            finally:
                await manager.rollback()

    async def _batch(self) -> None:
        change, birth = self._draw()
        if self._schema.models[birth.model].fields["id"].scalar is Scalar.STRING:
            birth.data["id"] = f"walk-{self._known.number()}"  # its results are not told

        async def make(client: MarketplaceClient, change: _Change, birth: _Birth) -> Any:
            one, two = (self._schema.models[model].attribute for model in (change.model, birth.model))
            async with client.batch_() as batch:
                getattr(batch, one).update(where={"id": change.key}, data=change.data)
                getattr(batch, two).create(data=birth.data)
            return None

        await self._together(make, change, birth)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _draw(self) -> tuple[_Change, _Birth]:
        known = self._known
        model, other = known.rng.choice(PAIRS)
        data = SUBJECTS[other].draft(known)
        if data is None:  # no order is left that has no shipment
            other = "AnalyticsData"
            data = SUBJECTS[other].fields(known)
        subject, key = SUBJECTS[model], known.seeded(model)
        row = RowKey(model, key)
        name, make = next(iter(subject.tracked.items()))
        by, value = known.rng.randint(1, 3), make(known)
        effects = (Increased(row, subject.counter, by), Assigned(row, name, value))
        return _Change(model, key, {subject.counter: {"increment": by}, name: value}, effects), _Birth(
            other, data
        )

    async def _together(self, make: _Make, change: _Change, birth: _Birth) -> None:
        for attempt in range(_ATTEMPTS):
            self._account.wrote()
            with self._journal.write(*change.effects) as write:
                try:
                    row = await make(self._front.client, change, birth)
                except (MixedAuthorityError, ForeignKeyViolationError, TransactionError) as error:
                    write.missed()
                    refusal = error
                else:
                    if row is not None or "id" in birth.data:
                        values = birth.data if row is None else vars(row) | birth.data
                        write.add(self._calls[birth.model].born_of(values))
                    return None
            if isinstance(refusal, MixedAuthorityError):
                return await self._one_by_one(change, birth)
            self._excuse(refusal, birth)
            if isinstance(refusal, ForeignKeyViolationError):
                return None
            await asyncio.sleep(_FIRST_PAUSE * 2**attempt)
        raise refusal

    async def _one_by_one(self, change: _Change, birth: _Birth) -> None:
        client = self._front.client
        with self._journal.write(*change.effects):
            if await client.model(change.model).update(where={"id": change.key}, data=change.data) is None:
                raise RowGoneError
        self._account.wrote()
        with self._journal.write() as write:
            try:
                row = await client.model(birth.model).create(data=birth.data)
            except ForeignKeyViolationError as error:
                write.missed()
                self._excuse(error, birth)
            else:
                write.add(self._calls[birth.model].born_of(vars(row) | birth.data))

    def _excuse(self, error: ForeignKeyViolationError | TransactionError, birth: _Birth) -> None:
        """Count a refusal that is as it should be; raise any other."""
        if isinstance(error, ForeignKeyViolationError):
            if not self._calls[birth.model].is_orphan(birth.data):
                raise error
            self._calls[birth.model].refused(error)
        elif error.code == _TRY_AGAIN:
            self._account.refused("transaction to be tried again")
        else:
            raise error
