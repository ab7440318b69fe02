"""Transactions of the path in memory: as little as tests of the repository need, and as a store does it."""

from __future__ import annotations

from typing import Any

import pytest

from crossfade.errors import (
    DataError,
    QueryError,
    RecordNotFoundError,
    TransactionError,
    UniqueViolationError,
)
from crossfade.operation import Action, Operation
from crossfade.stages import Side
from crossfade.testing import MemoryPath, record_classes
from small_schema import SMALL


def create(name: str) -> Operation:
    """The creation of an author whose id is its name."""
    return Operation("Author", Action.CREATE, {"data": {"id": name, "email": f"{name}@example.com"}})


def author(action: Action, name: str, **arguments: Any) -> Operation:
    """An operation on one author."""
    return Operation("Author", action, {"where": {"id": name}, **arguments})


@pytest.fixture
async def path() -> MemoryPath:
    """A path with one author in it."""
    path = MemoryPath(Side.PRISMA, SMALL, record_classes(SMALL))
    await path.execute(create("there"))
    return path


def emails(path: MemoryPath) -> list[str]:
    """What is left of the authors."""
    return sorted(row.email for row in path.rows["Author"].values())


async def test_commit_and_rollback(path: MemoryPath) -> None:
    """A rollback takes back what the transaction did, and nothing of what others did meanwhile."""
    tx = await path.begin()
    await tx.execute(create("a"))
    await tx.hold(["Author"])
    await tx.commit()
    tx = await path.begin()
    await tx.execute(author(Action.UPDATE, "there", data={"email": "changed"}))
    await tx.execute(author(Action.DELETE, "a"))
    await tx.execute(create("b"))
    await path.execute(create("c"))
    await tx.rollback()

    assert ["a@example.com", "c@example.com", "there@example.com"] == emails(path)
    with pytest.raises(TransactionError, match="rolled back"):
        await tx.execute(create("d"))
    with pytest.raises(TransactionError, match="A commit cannot"):
        await tx.commit()


async def test_an_error_aborts(path: MemoryPath) -> None:
    """After an error nothing more is done, and a commit keeps nothing."""
    tx = await path.begin()
    await tx.execute(create("a"))
    with pytest.raises(UniqueViolationError):
        await tx.execute(create("there"))
    with pytest.raises(DataError, match="aborted"):
        await tx.execute(create("b"))
    await tx.commit()

    assert ["there@example.com"] == emails(path)


async def test_a_time_that_is_over(path: MemoryPath) -> None:
    """It is rolled back when somebody next asks."""
    tx = await path.begin(timeout=0)
    with pytest.raises(TransactionError, match="expired"):
        await tx.execute(create("a"))
    with pytest.raises(TransactionError, match="expired"):
        await tx.rollback()


async def test_batch(path: MemoryPath) -> None:
    """All or nothing; a missing row is an error, and a read is refused."""
    await path.batch([create("a"), author(Action.DELETE, "there")])
    assert ["a@example.com"] == emails(path)
    with pytest.raises(RecordNotFoundError):
        await path.batch([create("b"), author(Action.UPDATE, "nobody", data={"email": "x"})])
    with pytest.raises(QueryError):
        await path.batch([create("b"), author(Action.FIND_UNIQUE, "a")])
    tx = await path.begin()
    await tx.batch([create("b")])
    await tx.rollback()

    assert ["a@example.com"] == emails(path)
