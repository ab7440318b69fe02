"""Finds and counts: what each of them returns, and when nothing is there."""

import pytest

from crossfade.errors import RecordNotFoundError

from .calls import Calls

pytestmark = pytest.mark.usefixtures("shop")


async def test_find_unique_by_id(db: Calls) -> None:
    """A row is found by its primary key."""
    user = await db.user.find_unique(where={"id": "u1"})

    assert "ada@example.com" == user.email


async def test_find_unique_by_another_unique_field(db: Calls) -> None:
    """A row is found by any unique field, a nullable one included."""
    assert "u3" == (await db.user.find_unique(where={"email": "CYN@Example.com"})).id
    assert "u3" == (await db.user.find_unique(where={"handle": "cyn_1"})).id


async def test_find_unique_by_a_named_compound_key(db: Calls) -> None:
    """A compound unique is asked by its name."""
    listing = await db.listing.find_unique(where={"seller_slug": {"seller_id": "u1", "slug": "mug"}})

    assert "l1" == listing.id


async def test_find_unique_with_more_conditions(db: Calls) -> None:
    """Further conditions beside the key must hold too."""
    assert "u1" == (await db.user.find_unique(where={"id": "u1", "role": "ADMIN"})).id
    assert await db.user.find_unique(where={"id": "u1", "role": "BUYER"}) is None


async def test_find_unique_without_a_row(db: Calls) -> None:
    """A missing row is None."""
    assert await db.user.find_unique(where={"id": "nobody"}) is None


async def test_find_unique_or_raise(db: Calls) -> None:
    """The raising form returns the row, or raises with Prisma's code."""
    assert "u1" == (await db.user.find_unique_or_raise(where={"id": "u1"})).id
    with pytest.raises(RecordNotFoundError) as caught:
        await db.user.find_unique_or_raise(where={"id": "nobody"})
    assert "P2025" == caught.value.code


async def test_find_first(db: Calls) -> None:
    """The first row in the order is returned, and None when none fits."""
    assert "u4" == (await db.user.find_first(order={"id": "desc"})).id
    assert "u2" == (await db.user.find_first(where={"role": "SELLER"}, order={"id": "asc"})).id
    assert "u3" == (await db.user.find_first(where={"role": "SELLER"}, order={"id": "asc"}, skip=1)).id
    assert await db.user.find_first(where={"role": "SUPPORT"}) is None


async def test_find_first_or_raise(db: Calls) -> None:
    """The raising form returns the row, or raises with Prisma's code."""
    assert "u1" == (await db.user.find_first_or_raise(where={"role": "ADMIN"})).id
    with pytest.raises(RecordNotFoundError) as caught:
        await db.user.find_first_or_raise(where={"role": "SUPPORT"})
    assert "P2025" == caught.value.code


async def test_find_many_without_arguments(db: Calls) -> None:
    """Everything is returned when nothing is asked."""
    assert {"u1", "u2", "u3", "u4"} == {user.id for user in await db.user.find_many()}


async def test_find_many_without_a_row(db: Calls) -> None:
    """No row is an empty list."""
    assert [] == await db.user.find_many(where={"id": "nobody"})


async def test_count(db: Calls) -> None:
    """A count is an int, with or without a filter and limits."""
    assert 4 == await db.user.count()
    assert 2 == await db.user.count(where={"role": "SELLER"})
    assert 0 == await db.user.count(where={"role": "SUPPORT"})
    assert 3 == await db.user.count(take=3)
    assert 1 == await db.user.count(skip=3)
    assert 1 == await db.user.count(where={"role": "SELLER"}, skip=1)


async def test_count_of_fields(db: Calls) -> None:
    """With `select` a count is a dict, and a field counts its rows that are not NULL."""
    assert {"_all": 4, "name": 3} == await db.user.count(select={"_all": True, "name": True})
    assert {"handle": 3} == await db.user.count(select={"handle": True})
    assert {"_all": 4} == await db.user.count(select={})
