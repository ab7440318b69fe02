"""How the value of a column is spelled, so that two stores that say the same say it alike.

The two stores may give a column different types: `timestamp` and `timestamptz`, `numeric(12,2)` and `numeric(65,30)`,
`json` and `jsonb`. A value is compared in the narrower of the two, which is all that both can hold, and copied as the
text that the authority has; PostgreSQL's own assignment fits it to the column. Every session that does so spells times
in UTC and bytes in hex, which `Store.transaction` sees to.
"""

# ruff: noqa: S608 - every name is the catalog's own and quoted; values are parameters
from __future__ import annotations

import re

from crossfade.store.tables import StoredColumn, quoted

_MODIFIER = re.compile(r"\(\s*-?\d+\s*(?:,\s*-?\d+\s*)?\)")
_TIMES = {"timestamp without time zone", "timestamp with time zone", "date"}
_WHOLE = {"smallint", "integer", "bigint"}
_FLOATS = {"real", "double precision"}
_DOCUMENTS = {"json", "jsonb"}
_TEXTS = {"text", "character varying", "bpchar", "citext"}
# Without its length each of these would mean a length of 1.
_UNBOUNDED = {"character": "bpchar", "bit": "bit varying"}
_TRAVELS = frozenset(
    {
        "text", "character varying", "bpchar", "uuid", "smallint", "integer", "bigint", "numeric", "real",
        "double precision", "boolean", "bytea", "json", "jsonb", "date", "interval", "timestamp without time zone",
        "timestamp with time zone", "time without time zone", "time with time zone", "inet", "cidr", "macaddr",
        "macaddr8", "bit varying", "xml",
    }
)  # fmt: skip
"""Types whose binary form means the same in every PostgreSQL. Other types travel as text."""
_EXACT_KEYS = {"text", "character varying", "uuid", "boolean", "bytea", *_WHOLE, *_TIMES}


def base_type(type_: str) -> str:
    """A type without its length, precision or scale: a cast to it neither cuts nor rounds."""
    if '"' in type_:
        return type_
    bare = _MODIFIER.sub("", type_).strip()
    if bare.endswith("[]"):
        return base_type(bare.removesuffix("[]")) + "[]"
    return _UNBOUNDED.get(bare, bare)


def travelling_type(type_: str) -> str:
    """The type in which values of `type_` travel to another store, which may not have that type itself."""
    bare = base_type(type_)
    element = bare.removesuffix("[]")
    if element in _TRAVELS:
        return bare
    return "text[]" if bare != element else "text"


def as_travelling(type_: str, value: str) -> str:
    """The SQL expression that brings `value`, of `type_` or of what an expression yields for it, into that form."""
    if base_type(type_) == "money":
        return f"({value})::numeric::text"
    return f"({value})::{travelling_type(type_)}"


def comparable_as(type_: str, value: str) -> str:
    """The SQL expression by which a value of `type_` is compared with one that an expression has yielded for it.

    Both are given alike, so the scale with which a number was written, or computed, does not count.
    """
    return _spelled(type_, as_travelling(type_, value))


def _spelled(type_: str, value: str) -> str:
    base = base_type(type_)
    if base.endswith("[]"):
        element = _spelled(type_.removesuffix("[]"), "e.v")
        return value if element == "e.v" else _each(element, value)
    if base == "numeric":
        scale = _scale(type_)
        return f"trim_scale({value})" if scale is None else f"trim_scale(round({value}, {scale}))"
    if base in _DOCUMENTS:
        return f"{value}::jsonb"
    if base in _TIMES - {"date"}:
        return f"{value}::timestamp({_precision(type_)})"
    return f"rtrim({value}::text, ' ')" if base == "bpchar" else value


def _each(element: str, value: str) -> str:
    """An array of what `element`, an expression over `e.v`, makes of each element of the array `value`."""
    spelled = f"ARRAY(SELECT {element} FROM unnest({value}) WITH ORDINALITY AS e(v, n) ORDER BY e.n)"
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE {spelled} END"


def comparable(column: StoredColumn, other: StoredColumn, value: str) -> str:
    """The SQL expression by which `value`, of the type of `column`, is compared with its counterpart in `other`."""
    return _comparable(column.type, other.type, value)


def _comparable(own: str, other: str, value: str) -> str:
    one, two = base_type(own), base_type(other)
    pair = {one, two}
    if all(name.endswith("[]") for name in pair):
        element = _comparable(own.removesuffix("[]"), other.removesuffix("[]"), "e.v")
        return value if element == "e.v" else _each(element, value)
    if pair <= {"numeric", *_WHOLE} and "numeric" in pair:
        return _number(own, other, value)
    if pair == {"money"}:
        return f"{value}::numeric"
    if len(pair) == 1:
        return _same_base(one, own, other, value)
    if pair <= _TIMES:
        return f"{value}::date" if "date" in pair else _time(own, other, value)
    if pair <= _FLOATS | _WHOLE | {"numeric"} and pair & _FLOATS:
        return f"{value}::real" if "real" in pair else f"{value}::double precision"
    if pair <= _DOCUMENTS:
        return f"{value}::jsonb"
    if "bpchar" in pair and pair <= _TEXTS:
        return f"rtrim({value}::text, ' ')"
    if "uuid" in pair and pair & _TEXTS:
        return f"{value}::uuid"
    if pair & _TEXTS and pair & {"numeric", *_WHOLE}:
        return f"trim_scale({value}::numeric)"
    return f"{value}::text"


def _same_base(base: str, own: str, other: str, value: str) -> str:
    if own == other:
        return value
    if base == "bpchar":
        return f"rtrim({value}::text, ' ')"
    return _time(own, other, value) if base in _TIMES else value


def _time(own: str, other: str, value: str) -> str:
    digits = min(_precision(own), _precision(other))
    return f"{value}::timestamp({digits})"


def _precision(type_: str) -> int:
    found = re.search(r"\((\d)\)", type_)
    return int(found[1]) if found else 6


def _number(own: str, other: str, value: str) -> str:
    if own == other:  # both keep the scale that was written
        return value
    scales = [scale for scale in (_scale(own), _scale(other)) if scale is not None]
    number = value if base_type(own) == "numeric" else f"{value}::numeric"
    return f"trim_scale(round({number}, {min(scales)}))" if scales else f"trim_scale({number})"


def _scale(type_: str) -> int | None:
    if base_type(type_) in _WHOLE:
        return 0
    found = re.search(r"\(\d+,\s*(-?\d+)\)", type_)
    return int(found[1]) if found else None


def as_text(column: StoredColumn, value: str) -> str:
    """The SQL expression for the text by which `value` is copied."""
    return f"{value}::numeric::text" if base_type(column.type) == "money" else f"{value}::text"


def from_text(column: StoredColumn, value: str) -> str:
    """The SQL expression that turns such a text into a value for `column`, without cutting it to fit."""
    type_ = base_type(column.type)
    return f"{value}::numeric::money" if type_ == "money" else f"{value}::{type_}"


def from_key_text(column: StoredColumn, other: StoredColumn, value: str) -> str:
    """The same for a column of the key, whose counterpart in the other store is `other`.

    A text that this column would spell differently would be another key from then on: it is refused as no text of that
    type at all.
    """
    read = from_text(column, value)
    if column.type == other.type or base_type(column.type) in _TEXTS:
        return read
    return (
        f"CASE WHEN ({read})::text = {value} THEN {read} ELSE ('!' || {value})::{base_type(column.type)} END"
    )


def is_text(column: StoredColumn) -> bool:
    """Whether a column takes any text."""
    return base_type(column.type) in _TEXTS


def is_exact(column: StoredColumn) -> bool:
    """Whether two equal values of a key column are always spelled alike."""
    return column.kind == "E" or base_type(column.type) in _EXACT_KEYS


def listed(names: tuple[str, ...], prefix: str = "") -> str:
    """Column names for SQL, comma-separated."""
    return ", ".join(f"{prefix}{quoted(name)}" for name in names)
