"""Several writes as one: `tx()` and `batch_()`.

A transaction runs wholly on one side, the one that has the authority over the models it writes to, and is followed
after its commit in one transaction of the other side. Writes to models of two authorities are refused: such models need
one cohort.

A move of the authority cannot overtake a transaction. Before a transaction first touches a model, `hold` takes the lock
that every writer takes, and has the store refuse it there and then if the authority is gone: nothing has been done yet,
so it begins again on the other side and the caller does not notice. From then on the move waits for the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossfade.errors import (
    DataError,
    MixedAuthorityError,
    RecordNotFoundError,
    TransactionError,
    WrongAuthorityError,
)
from crossfade.follower import AcceptedWrite
from crossfade.keys import keys_written
from crossfade.operation import MANY_WRITES, READS, Action, Operation, models_touched, models_written
from crossfade.paths import Path, PathTransaction
from crossfade.repository import Repository
from crossfade.stages import Side, has_begun

_RETRY = "Transaction failed due to a write conflict or a deadlock. Please retry your transaction"
_NOT_STARTED = "the transaction has not been started, or is over already"


class Transaction:
    """One transaction. `max_wait` is how long to wait for a connection, `timeout` how long it may last, in seconds.

    The side is chosen by the first operation, and so the clock starts there.
    """

    def __init__(self, repository: Repository, *, max_wait: float, timeout: float) -> None:
        self._repository = repository
        self._max_wait = max_wait
        self._timeout = timeout
        self._inner: PathTransaction | None = None
        self._path: Path | None = None
        self._side: Side | None = None
        self._held: set[str] = set()
        self._written: list[str] = []
        self._accepted: list[AcceptedWrite] = []
        self._is_all_followed = True
        self._is_open = False
        self._is_aborted = False

    @property
    def is_open(self) -> bool:
        """Whether it has been started and not ended."""
        return self._is_open

    def start(self) -> None:
        """Let operations in.

        Raises:
            TransactionError: it has been started before.
        """
        if self._is_open:
            raise TransactionError("the transaction has been started already")
        self._is_open = True

    async def execute(self, operation: Operation) -> Any:
        """Execute one operation inside.

        Raises:
            TransactionError: it is over, has expired, or must be tried again as a whole (code P2034).
            MixedAuthorityError: it writes to models of two authorities.
            DataError, QueryError: see `Repository.execute`.
        """
        if not self._is_open:
            raise TransactionError(_NOT_STARTED)
        repository = self._repository
        is_read = operation.action in READS
        if is_read:
            models = [operation.model]
            repository.note_span(models_touched(repository.schema, operation), is_write=False)
        else:
            models = list(models_written(repository.schema, operation))
            self._check([*self._written, *models])
        inner = await self._begun(models)
        plan = repository.plan(operation.model)
        if is_read:
            return await inner.execute(operation)
        if plan.authority is not self._side:
            # The transaction began with a read of a model that belongs to the other side.
            self._check([*self._held, *models])
        pinned = repository.pin(operation)
        spec = repository.schema.models[operation.model]
        if pinned.action is Action.CREATE_MANY and self._path is not None:
            pinned = await repository.with_reserved_ids(spec, self._path, pinned)
        # A transaction that has met an error is over, so what a write may lack is brought before it.
        await repository.neighbours.before([pinned])
        try:
            result = await inner.execute(pinned)
        except WrongAuthorityError as error:
            raise TransactionError(_RETRY, code="P2034") from error
        except DataError as error:
            # PostgreSQL does nothing more in a transaction that has seen an error; its commit is a rollback.
            self._is_aborted = self._is_aborted or not isinstance(error, RecordNotFoundError)
            raise
        self._written += models
        if len(models) == 1:
            keys = () if pinned.action in MANY_WRITES else keys_written(spec, pinned, result)
            self._accepted.append(AcceptedWrite(spec, plan, pinned, result, keys))
        else:
            self._is_all_followed = False  # its rows are carried over by capture
        return result

    def _check(self, models: Sequence[str]) -> None:
        """Make sure that one side has the authority over all of `models`.

        Raises:
            MixedAuthorityError: it has not.
        """
        try:
            self._repository.standings.authority_over(models)
        except MixedAuthorityError:
            self._repository.note_span(models, is_write=True)
            raise

    async def _begun(self, models: Sequence[str]) -> PathTransaction:
        """Return the side's transaction, with a hold on `models`."""
        repository = self._repository
        if self._inner is None:
            await repository.with_authority(models, lambda: self._begin(models))
        assert self._inner is not None
        new = [name for name in models if name not in self._held]
        if new:
            try:
                await self._hold(self._inner, new)
            except WrongAuthorityError as error:
                raise TransactionError(_RETRY, code="P2034") from error
        return self._inner

    async def _begin(self, models: Sequence[str]) -> None:
        await self._repository.renew()
        side = self._repository.plan(models[0]).authority
        path = self._repository.path(side)
        inner = await path.begin(max_wait=self._max_wait, timeout=self._timeout)
        try:
            await self._hold(inner, models)
        except BaseException:
            await inner.rollback()
            raise
        self._inner, self._path, self._side = inner, path, side

    async def _hold(self, inner: PathTransaction, models: Sequence[str]) -> None:
        moving = [name for name in models if has_begun(self._repository.plan(name).stage)]
        if moving:
            await inner.hold(moving)
        self._held.update(models)

    async def commit(self) -> None:
        """Commit, and have the writes followed.

        Raises:
            TransactionError: it is over or has expired; nothing was written.
            DataError: the store refused it; nothing was written.
        """
        if not self._is_open:
            raise TransactionError(_NOT_STARTED)
        self._is_open = False
        if self._inner is None:
            return
        await self._inner.commit()
        if self._is_aborted:
            return
        self._repository.note_span(self._written, is_write=True)
        done = self._repository.follow(self._accepted)
        if self._written:
            await self._repository.followed(self._written, done, is_all=self._is_all_followed)

    async def rollback(self) -> None:
        """Undo everything.

        Raises:
            TransactionError: it is over already.
        """
        if not self._is_open:
            raise TransactionError(_NOT_STARTED)
        self._is_open = False
        if self._inner is not None:
            await self._inner.rollback()


async def execute_batch(repository: Repository, operations: Sequence[Operation]) -> None:
    """Execute several writes together, all or none, on the side that has the authority over all of them.

    Raises:
        MixedAuthorityError: they belong to different sides.
        RecordNotFoundError: a row to update or to delete is not there; nothing was written.
        DataError, QueryError: see `Repository.execute`.
    """
    if not operations:
        return
    schema = repository.schema
    models = list(
        dict.fromkeys(name for operation in operations for name in models_written(schema, operation))
    )
    repository.note_span(models, is_write=True)
    await repository.renew()
    pinned = [repository.pin(operation) for operation in operations]

    async def attempt() -> list[AcceptedWrite]:
        path = repository.path(repository.standings.authority_over(models))
        plans = {name: repository.plan(name) for name in models}
        ready = []
        for operation in pinned:
            spec = schema.models[operation.model]
            creates = operation.action in (Action.CREATE, Action.CREATE_MANY)
            ready.append(await repository.with_reserved_ids(spec, path, operation) if creates else operation)
        await repository.neighbours.bring_restricting(ready)
        await repository.neighbours.with_parents(ready, lambda: path.batch(ready))
        return [AcceptedWrite(schema.models[each.model], plans[each.model], each, None, ()) for each in ready]

    accepted = await repository.with_authority(models, attempt)
    await repository.followed(models, repository.follow_batch(accepted))
