"""What becomes of a column's values in a column of another type. The one table about it.

A pair of types is one of four kinds. Where nothing is lost, and where what does not fit is refused by the column, a
column crosses by itself: a row that is refused stays behind with its reason, and somebody can see to it. Where values
would be cut or rounded without a word, or where PostgreSQL has no rule to go by, a mapping has to say what is meant.
"""

from __future__ import annotations

import re
from enum import StrEnum

from crossfade.store.columns import base_type


class Fit(StrEnum):
    """How the values of one type go into another."""

    ALL = "all"
    """Every value fits, and none is lost."""
    REFUSES = "refuses"
    """A value that does not fit is refused."""
    CUTS = "cuts"
    """A value that does not fit is cut or rounded without a word."""
    UNKNOWN = "unknown"
    """There is no rule, or one by which equal values are spelled differently."""

    @property
    def needs_saying(self) -> bool:
        """Whether a mapping has to say what is meant."""
        return self in (Fit.CUTS, Fit.UNKNOWN)


_TEXTS = frozenset({"text", "character varying", "bpchar", "citext", "name"})
_DOCUMENTS = frozenset({"json", "jsonb"})
_WHOLE = ("smallint", "integer", "bigint")
_STAMPS = frozenset({"timestamp without time zone", "timestamp with time zone"})
_CLOCKS = frozenset({"time without time zone", "time with time zone"})
_TEMPORAL = _STAMPS | _CLOCKS | {"date", "interval"}
_FLOATS = frozenset({"real", "double precision"})
# Those that are exact in a float of each size.
_HELD = {"real": {"smallint"}, "double precision": {"smallint", "integer", "real"}}
_PLAIN = frozenset(
    {"uuid", "boolean", "bytea", "xml", "inet", "cidr", "macaddr", "macaddr8", "bit varying", "money"}
)
_KNOWN = _TEXTS | _DOCUMENTS | set(_WHOLE) | _TEMPORAL | _FLOATS | _PLAIN | {"numeric"}


def fit(own: str, other: str) -> Fit:
    """How values of the type `own` go into a column of the type `other`, both as `format_type` writes them."""
    if own == other:
        return Fit.ALL
    one, two = base_type(own), base_type(other)
    if one.endswith("[]") and two.endswith("[]"):
        return fit(own.removesuffix("[]"), other.removesuffix("[]"))
    if two in _TEXTS:
        room, longest = _length(other), _length(own)
        return Fit.ALL if room is None or (longest is not None and longest <= room) else Fit.REFUSES
    if one in _TEXTS:
        return Fit.REFUSES if two in _WHOLE or two in ("numeric", "uuid") or _is_enum(two) else Fit.UNKNOWN
    if {one, two} <= _DOCUMENTS:
        return Fit.ALL
    if two == "numeric" or two in _WHOLE or two in _FLOATS:
        return _number(own, other, one, two)
    if one in _TEMPORAL and two in _TEMPORAL:
        return _time(own, other, one, two)
    if one == two:
        return Fit.REFUSES
    return Fit.REFUSES if _is_enum(one) and _is_enum(two) else Fit.UNKNOWN


def keeps_text(own: str, other: str) -> bool:
    """Whether a key may have these two types in the two stores: equal values that both can hold are spelled alike."""
    if own == other:
        return True
    one, two = base_type(own), base_type(other)
    spelled = _TEXTS - {"bpchar"} | set(_WHOLE) | {"uuid"}
    if {one, two} <= spelled or (one in spelled and _is_enum(two)) or (two in spelled and _is_enum(one)):
        return bool({one, two} & _TEXTS) or {one, two} <= set(_WHOLE)
    if {one, two} <= {*_WHOLE, "numeric"}:
        return all(
            _scale(type_) in (None, 0) for type_, base in ((own, one), (other, two)) if base == "numeric"
        )
    return (one == two and one in _STAMPS) or (_is_enum(one) and _is_enum(two))


def _number(own: str, other: str, one: str, two: str) -> Fit:
    if one in _FLOATS:
        if two == "numeric":
            return Fit.ALL if _scale(other) is None else Fit.CUTS
        return Fit.ALL if one == "real" and two in _FLOATS else Fit.CUTS
    if one in _WHOLE:
        if two in _WHOLE:
            return Fit.ALL if _WHOLE.index(one) <= _WHOLE.index(two) else Fit.REFUSES
        if two in _FLOATS:
            return Fit.ALL if one in _HELD[two] else Fit.CUTS
        return Fit.ALL if _scale(other) is None else Fit.REFUSES
    if one != "numeric":
        return Fit.UNKNOWN
    if two in _FLOATS:
        return Fit.CUTS
    if two in _WHOLE:
        return Fit.REFUSES if _scale(own) == 0 else Fit.CUTS
    mine, theirs = _scale(own), _scale(other)
    if theirs is None:
        return Fit.ALL
    if mine is None or mine > theirs:
        return Fit.CUTS
    return Fit.ALL if (_whole_digits(own) or 0) <= (_whole_digits(other) or 0) else Fit.REFUSES


def _time(own: str, other: str, one: str, two: str) -> Fit:
    finer = _precision(own) > _precision(other)
    if {one, two} <= _STAMPS or one == two:
        return Fit.CUTS if finer else Fit.ALL
    if one == "date" and two in _STAMPS:
        return Fit.ALL
    if one == "time without time zone" and two == "time with time zone":
        return Fit.CUTS if finer else Fit.ALL
    if one == "interval" or two == "interval":
        return Fit.UNKNOWN
    return Fit.CUTS


def _is_enum(base: str) -> bool:
    return not base.endswith("[]") and base not in _KNOWN


def _length(type_: str) -> int | None:
    found = re.search(r"\((\d+)\)", type_)
    return int(found[1]) if found and base_type(type_) in _TEXTS else None


def _scale(type_: str) -> int | None:
    found = re.search(r"\(\d+,\s*(-?\d+)\)", type_)
    return int(found[1]) if found else None


def _whole_digits(type_: str) -> int | None:
    found = re.search(r"\((\d+),\s*(-?\d+)\)", type_)
    return int(found[1]) - int(found[2]) if found else None


def _precision(type_: str) -> int:
    found = re.search(r"\((\d)\)", type_)
    return int(found[1]) if found else 6
