"""Slots: a value's place in a call, apart from the value.

Reading arguments appends each encoded value to a list and keeps only its position, so that calls of one shape give one
key. Slots below zero are filled when a plan is executed: with the keys of rows that were read before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crossfade.query.refusals import refused_type
from crossfade.query.storage import StoredField
from crossfade.query.values import RejectedError
from crossfade.schema import Scalar


def put(stored: StoredField, value: Any, values: list[Any], path: str) -> int:
    """Encode one value (one element, for a list field) and return its slot.

    Raises:
        FieldNotFoundError: the value is of the wrong type.
        MissingRequiredValueError: it is None.
    """
    try:
        values.append(stored.encode(value))
    except RejectedError:
        raise refused_type(value, path) from None
    return len(values) - 1


def put_list(stored: StoredField, value: Any, values: list[Any], path: str) -> int:
    """Encode several values and return their one slot; a single value counts as a list of one."""
    values.append(encoded_list(stored, value, path))
    return len(values) - 1


def encoded_list(stored: StoredField, value: Any, path: str) -> list[Any]:
    """Encode several values; a single value counts as a list of one, as the engine has it."""
    elements: Iterable[Any] = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    encode = stored.encode
    try:
        return [encode(element) for element in elements]
    except RejectedError:
        raise refused_type(None if None in elements else value, path) from None


def put_null(values: list[Any]) -> int:
    """Make a slot that holds null."""
    values.append(None)
    return len(values) - 1


def takes_null(stored: StoredField) -> bool:
    """Whether plain None may be written to a field or looked for in it.

    A JSON column has two nulls; Prisma wants to be told which one is meant.
    """
    spec = stored.spec
    return not spec.is_required and not spec.is_list and spec.scalar is not Scalar.JSON
