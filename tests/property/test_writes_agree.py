"""Whatever is written, both sides answer alike and hold the same rows afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from crossfade.operation import Operation, Pinner
from sides import marketplace_schema

from .conftest import UNSUPPORTED, Both
from .strategies import Maker

SCHEMA = marketplace_schema()


def pinner() -> Pinner:
    """A pinner that mints the same values in every run."""
    numbers: Iterator[int] = itertools.count()

    def clock() -> datetime:
        return datetime(2026, 6, 1, tzinfo=UTC) + timedelta(milliseconds=next(numbers))

    def mint() -> str:
        return f"minted-{next(numbers)}"

    return Pinner(SCHEMA, clock=clock, cuid=mint, uuid=mint)


@given(operations=st.lists(Maker(SCHEMA).writes(), min_size=1, max_size=4))
def test_writes_agree(both: Both, operations: list[Any]) -> None:
    """A random sequence of writes has the same answers, and leaves the same rows."""
    both.reset()
    pin = pinner()
    for operation in operations:
        pinned: Operation = pin.pin(operation)
        expected, actual = both.answers(pinned)
        assume(actual != UNSUPPORTED)
        assert expected == actual, pinned

    expected_rows, actual_rows = both.stored()
    assert expected_rows == actual_rows
