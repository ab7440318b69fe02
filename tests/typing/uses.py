"""Uses of the public types, for the type checkers: this file is checked and never run."""

from typing import Any, assert_type

from crossfade.client import DatabaseClient, ModelClient
from crossfade.dialect import ErrorDialect
from crossfade.repository import Repository
from marketplace import records
from marketplace.client import MarketplaceClient


async def calls_keep_their_types(repository: Repository) -> None:
    """Each call returns the model's own record, with the plainness of its method."""
    db = MarketplaceClient(repository, errors=ErrorDialect.of("prisma"))
    assert_type(db.user, ModelClient[records.User])
    assert_type(await db.user.find_unique(where={"id": "1"}), records.User | None)
    assert_type(await db.user.find_unique_or_raise(where={"id": "1"}), records.User)
    assert_type(await db.item.find_first(order={"price": "asc"}), records.Item | None)
    assert_type(await db.item.find_many(take=5, include={"owner": True}), list[records.Item])
    assert_type(await db.order.count(), int)
    assert_type(await db.order.count(select={"_all": True}), dict[str, int])
    assert_type(await db.order.create(data={"number": "1"}), records.Order)
    assert_type(await db.order.create_many(data=[{"number": "1"}], skip_duplicates=True), int)
    assert_type(
        await db.order.update(where={"id": "1"}, data={"revision": {"increment": 1}}), records.Order | None
    )
    assert_type(await db.order.upsert(where={"id": "1"}, data={"create": {}, "update": {}}), records.Order)
    assert_type(await db.message.delete(where={"id": "1"}), records.Message | None)
    assert_type(await db.message.delete_many(), int)
    assert_type(await db.message.update_many(where={}, data={"body": ""}), int)


def an_untyped_client_is_any(repository: Repository) -> None:
    """Without a subclass the records are not known."""
    assert_type(DatabaseClient(repository).model("User"), ModelClient[Any])
