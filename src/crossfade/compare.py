"""Whether two results of one operation say the same, and where they differ if not.

Theory of operation. Both paths return canonical values, so most results are equal at a glance. What is left is to be
exact where Python is lax and lax where SQL is:

* `True == 1` in Python, but not in JSON; `Decimal("1.0")` and `Decimal("1.00")` are one number;
* times are compared in UTC to the millisecond, which is all that Prisma's columns and client carry;
* without an `order`, rows may come in any order; with one, rows that tie may, and a `take` that cuts through a tie may
  keep any of the tied rows. Such a result has no single right answer and is not called a mismatch.

Differences carry field names and kinds, never values. This module does no I/O.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crossfade.events import Difference, DifferenceKind
from crossfade.fields import Base64
from crossfade.operation import Action, Operation, to_milliseconds
from crossfade.records import Record
from crossfade.schema import ModelSpec, Schema

_LISTS = frozenset({Action.FIND_MANY})
_FIRSTS = frozenset({Action.FIND_FIRST, Action.FIND_FIRST_OR_RAISE})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found. `undetermined` means that the question itself has more than one right answer."""

    differences: tuple[Difference, ...] = ()
    undetermined: bool = False

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


_SAME = Comparison()
_UNDETERMINED = Comparison(undetermined=True)


def compare(schema: Schema, operation: Operation, expected: Any, actual: Any) -> Comparison:
    """Compare what one side returned with what the other did.

    Args:
        schema: the schema both results follow.
        operation: what was asked.
        expected: the result that counts as right; an exception instance when the operation failed.
        actual: the result under test, likewise.
    """
    if isinstance(expected, BaseException) or isinstance(actual, BaseException):
        return _compare_errors(expected, actual)
    spec = schema.models[operation.model]
    arguments = operation.arguments
    if operation.action in _LISTS:
        return _compare_lists(schema, spec, arguments, arguments.get("order"), expected, actual)
    if expected is None or actual is None or not isinstance(expected, Record):
        return _compare_plain(expected, actual)
    if operation.action in _FIRSTS and _identity(spec, expected) != _identity(spec, actual):
        order = _order_fields(spec, arguments.get("order"))
        if order is None or _sort_key(order, expected) == _sort_key(order, actual):
            return _UNDETERMINED
    return _result(_record_differences(schema, spec, arguments.get("include"), expected, actual, ""))


def _result(differences: Sequence[Difference]) -> Comparison:
    return Comparison(tuple(dict.fromkeys(differences))) if differences else _SAME


def _compare_errors(expected: Any, actual: Any) -> Comparison:
    if type(expected) is type(actual):
        return _SAME
    kind = DifferenceKind.TYPE
    if not isinstance(actual, BaseException):
        kind = DifferenceKind.EXTRA
    elif not isinstance(expected, BaseException):
        kind = DifferenceKind.MISSING
    return Comparison((Difference("", kind),))


def _compare_plain(expected: Any, actual: Any) -> Comparison:
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        names = [name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)]
        return _result([Difference(str(name), DifferenceKind.COUNT) for name in sorted(names)])
    if isinstance(expected, int) and isinstance(actual, int):
        return _SAME if expected == actual else Comparison((Difference("", DifferenceKind.COUNT),))
    if expected is None and actual is None:
        return _SAME
    kind = DifferenceKind.MISSING if actual is None else DifferenceKind.EXTRA
    return Comparison((Difference("", kind),))


# --- rows ------------------------------------------------------------------------------------------------------


def row_differences(schema: Schema, model: str, expected: Record, actual: Record) -> tuple[Difference, ...]:
    """Return the fields in which two rows of one model differ, relations left aside."""
    return tuple(_record_differences(schema, schema.models[model], None, expected, actual, ""))


def _record_differences(
    schema: Schema, spec: ModelSpec, include: Any, expected: Record, actual: Record, prefix: str
) -> list[Difference]:
    found: list[Difference] = []
    one, two = expected.__dict__, actual.__dict__
    for name in spec.fields:
        kind = value_difference(one.get(name), two.get(name))
        if kind is not None:
            found.append(Difference(prefix + name, kind))
    if not include:
        return found
    for name, choice in include.items():
        relation = spec.relations.get(name)
        if relation is None or choice is False:
            continue
        inner = choice if isinstance(choice, Mapping) else {}
        other = schema.models[relation.model]
        mine, theirs = one.get(name), two.get(name)
        if relation.is_list:
            order = inner.get("order_by", inner.get("order"))
            nested = _compare_lists(
                schema, other, inner, order, mine or [], theirs or [], f"{prefix}{name}[]."
            )
            found.extend(nested.differences)
        elif mine is None or theirs is None:
            if mine is not theirs:
                missing = DifferenceKind.MISSING if theirs is None else DifferenceKind.EXTRA
                found.append(Difference(prefix + name, missing))
        else:
            found += _record_differences(
                schema, other, inner.get("include"), mine, theirs, f"{prefix}{name}."
            )
    return found


def _compare_lists(
    schema: Schema,
    spec: ModelSpec,
    arguments: Mapping[str, Any],
    order: Any,
    expected: Sequence[Record],
    actual: Sequence[Record],
    prefix: str = "",
) -> Comparison:
    mine = {_identity(spec, row): row for row in expected}
    theirs = {_identity(spec, row): row for row in actual}
    fields = _order_fields(spec, order)
    excused: set[Any] = set()
    found: list[Difference] = []
    if fields and mine.keys() != theirs.keys():
        excused = _excused_by_ties(arguments, fields, expected, actual, mine.keys() ^ theirs.keys(), spec)
    place = prefix.removesuffix(".")
    if mine.keys() - theirs.keys() - excused:
        found.append(Difference(place, DifferenceKind.MISSING))
    if theirs.keys() - mine.keys() - excused:
        found.append(Difference(place, DifferenceKind.EXTRA))
    if (
        fields
        and not found
        and [_sort_key(fields, r) for r in expected] != [_sort_key(fields, r) for r in actual]
    ):
        found.append(Difference(place, DifferenceKind.ORDER))
    include = arguments.get("include")
    for identity in mine.keys() & theirs.keys():
        found += _record_differences(schema, spec, include, mine[identity], theirs[identity], prefix)
    if found:
        return _result(found)
    return _UNDETERMINED if excused else _SAME


def _excused_by_ties(
    arguments: Mapping[str, Any],
    fields: Sequence[str],
    expected: Sequence[Record],
    actual: Sequence[Record],
    unshared: set[Any],
    spec: ModelSpec,
) -> set[Any]:
    """Rows that only one side returned, because `take` or `skip` cut through rows that tie."""
    if not expected or not actual or not ({"take", "skip", "cursor"} & arguments.keys()):
        return set()
    if Counter(_sort_key(fields, r) for r in expected) != Counter(_sort_key(fields, r) for r in actual):
        return set()
    edges = {_sort_key(fields, expected[0]), _sort_key(fields, expected[-1])}
    rows = [*expected, *actual]
    return {i for row in rows if (i := _identity(spec, row)) in unshared and _sort_key(fields, row) in edges}


def _identity(spec: ModelSpec, row: Record) -> Any:
    return tuple(_hashable(getattr(row, name)) for name in spec.primary_key)


def _order_fields(spec: ModelSpec, order: Any) -> list[str] | None:
    """The scalar fields that `order` names, or None when there is no order or one that rows cannot tell."""
    if not order:
        return None
    parts = order if isinstance(order, list) else [order]
    names = [name for part in parts for name in part]
    return names if all(name in spec.fields for name in names) else None


def _sort_key(fields: Sequence[str], row: Record) -> tuple[Any, ...]:
    return tuple(_hashable(getattr(row, name)) for name in fields)


def _hashable(value: Any) -> Any:
    if isinstance(value, datetime):
        return _utc(value)
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


# --- values ----------------------------------------------------------------------------------------------------


def value_difference(expected: Any, actual: Any) -> DifferenceKind | None:
    """Return how two canonical values differ, or None when they are the same."""
    if expected is actual:
        return None
    if expected is None or actual is None:
        return DifferenceKind.NULL
    if isinstance(expected, datetime) and isinstance(actual, datetime):
        return None if _utc(expected) == _utc(actual) else DifferenceKind.VALUE
    if isinstance(expected, Base64) or isinstance(actual, Base64):
        same_type = isinstance(expected, Base64) and isinstance(actual, Base64)
        return _kind(same_type=same_type, same=expected == actual)
    if isinstance(expected, list) and isinstance(actual, list):
        return _list_difference(expected, actual)
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return _mapping_difference(expected, actual)
    if (
        isinstance(expected, float)
        and isinstance(actual, float)
        and math.isnan(expected)
        and math.isnan(actual)
    ):
        return None
    return _kind(same_type=_family(expected) == _family(actual), same=expected == actual)


def _kind(*, same_type: bool, same: bool) -> DifferenceKind | None:
    if not same_type:
        return DifferenceKind.TYPE
    return None if same else DifferenceKind.VALUE


def _list_difference(expected: list[Any], actual: list[Any]) -> DifferenceKind | None:
    if len(expected) != len(actual):
        return DifferenceKind.MISSING if len(actual) < len(expected) else DifferenceKind.EXTRA
    pairs = zip(expected, actual, strict=True)
    return next((kind for one, two in pairs if (kind := value_difference(one, two)) is not None), None)


def _mapping_difference(expected: Mapping[Any, Any], actual: Mapping[Any, Any]) -> DifferenceKind | None:
    if expected.keys() - actual.keys():
        return DifferenceKind.MISSING
    if actual.keys() - expected.keys():
        return DifferenceKind.EXTRA
    kinds = (value_difference(value, actual[name]) for name, value in expected.items())
    return next((kind for kind in kinds if kind is not None), None)


def _family(value: Any) -> str:
    """A type's family: values of two families are never the same. Numbers are one, truth values are not numbers."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):  # an enum member is text
        return "text"
    return "number" if hasattr(value, "__abs__") else type(value).__name__


def _utc(moment: datetime) -> datetime:
    return to_milliseconds(moment).astimezone(UTC)
