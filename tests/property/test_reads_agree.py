"""Whatever is read, the SQLAlchemy side answers as Prisma's engine does."""

from __future__ import annotations

from typing import Any

from hypothesis import assume, given

from sides import marketplace_schema

from .conftest import UNSUPPORTED, Both
from .strategies import Maker

SCHEMA = marketplace_schema()


@given(operation=Maker(SCHEMA).reads())
def test_reads_agree(both: Both, operation: Any) -> None:
    """One random read has one answer."""
    expected, actual = both.answers(operation)

    assume(actual != UNSUPPORTED)
    assert expected == actual
