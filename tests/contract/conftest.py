"""The suite runs whole on each side: `db` makes the calls, `shop` and `empty` say what is in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from crossfade.dsn import Dsn
from crossfade.embedded import EmbeddedPostgres
from crossfade.errors import UnsupportedQueryError
from crossfade.operation import Pinner
from crossfade.stages import Side
from sides import OpenSide, marketplace_schema, open_side

from .calls import Calls
from .shop import open_shop

HERE = Path(__file__).parent
GAP = "gap"


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark of what the SQLAlchemy side cannot do yet."""
    config.addinivalue_line(
        "markers", f"{GAP}: the SQLAlchemy side refuses this by name; remove the mark once it does not"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the suite: Prisma's client, and the pool, live as long as it does."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def both(postgres: EmbeddedPostgres) -> AsyncIterator[dict[Side, OpenSide]]:
    """Both sides with their tables. A worker that is handed tests in any order opens them once."""
    async with AsyncExitStack() as stack:
        opened = {}
        for side in Side:
            dsn = Dsn.parse(await postgres.create_database(f"contract_{side}"))
            opened[side] = await stack.enter_async_context(open_side(side, dsn))
        yield opened


@pytest.fixture(scope="module", params=list(Side), ids=str)
def opened(request: pytest.FixtureRequest, both: dict[Side, OpenSide]) -> OpenSide:
    """One side with its tables."""
    return both[request.param]


@pytest.fixture(scope="module")
def db(opened: OpenSide) -> Calls:
    """The calls of one side, on whatever is in its store."""
    schema = marketplace_schema()
    pinner = None if opened.path.side is Side.PRISMA else Pinner(schema)
    return Calls(schema, opened.path, pinner)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shop(opened: OpenSide, db: Calls) -> Calls:
    """The calls of one side, on the small shop. Tests that use it change nothing in it."""
    await opened.clear()
    await open_shop(db, opened.store)
    return db


@pytest_asyncio.fixture(loop_scope="session")
async def empty(opened: OpenSide, db: Calls) -> Calls:
    """The calls of one side, on an empty store."""
    await opened.clear()
    return db


@pytest.fixture(autouse=True)
def gap(request: pytest.FixtureRequest, opened: OpenSide) -> None:
    """A gap must be refused clearly, and a gap that has been closed must lose its mark."""
    if request.node.get_closest_marker(GAP) and opened.path.side is Side.SQLALCHEMY:
        request.applymarker(pytest.mark.xfail(raises=UnsupportedQueryError, strict=True))
