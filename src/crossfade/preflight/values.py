"""Whether the values of one legacy column will be taken by its target column, as conditions for the legacy store.

What can be said by arithmetic is: lengths, ranges, scales, labels. Everything else is tried: PostgreSQL 16 can say
whether a text is valid for a type, and for the rest there is a function of one transaction that makes the very
assignment and catches what it raises. A column whose type takes every value of the other has no test and costs nothing.
"""

# ruff: noqa: S608 - names are the catalogs' own and quoted; expressions are those by which rows are copied

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crossfade.preflight.catalog import ColumnFacts
from crossfade.preflight.findings import Kind
from crossfade.stages import Side
from crossfade.store.columns import base_type, is_text
from crossfade.store.crossing import CrossedColumn
from crossfade.store.tables import literal, quoted

_RANGES = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_TEXTS = frozenset({"text", "character varying", "bpchar", "citext", "name"})
_FLOATS = frozenset({"real", "double precision"})
_MOMENTS = frozenset({"timestamp without time zone", "timestamp with time zone"})
_TIMES = _MOMENTS | {"date"}
_SPOKEN = _TEXTS | {"json", "xml"}
"""Types that keep a text as it was written."""
_SOFT_INPUT = 16
"""The first PostgreSQL that can say whether a text is valid for a type."""
_INFINITE_NUMERICS = 14
_LARGEST_REAL = "3.4028235e38"
_SMALLEST_REAL = "1.1754944e-38"


@dataclass(frozen=True, slots=True)
class Test:
    """A condition over the alias `t` for the rows that a finding is about; `function` has to be created first."""

    kind: Kind
    column: str
    condition: str
    detail: str = ""
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Landing:
    """What becomes of one column: its tests, and its value in `type` over `t`, NULL where it does not fit."""

    target: str
    type: str
    value: str
    tests: tuple[Test, ...]
    is_kept: bool
    """Whether every value arrives as it is, so that what the legacy store guarantees still holds."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the legacy server can do: its major version, the types it knows, both encodings."""

    version: int
    knows: Callable[[str], bool]
    encoding: str = "UTF8"
    target_encoding: str = "UTF8"


def landing_of(
    column: CrossedColumn, source: ColumnFacts, target: ColumnFacts, dialect: Dialect, number: int
) -> Landing:
    """Work out what the target makes of one column; `number` sets its function apart from those of other columns."""
    return _Column(column, source, target, dialect, number).landing()


def stray_tests(facts: ColumnFacts, version: int) -> Iterator[Test]:
    """The tests for values that can be copied, and that a client of either side cannot hold."""
    value = f"t.{quoted(facts.name)}"
    element = base_type(facts.plain_type).removesuffix("[]")
    if element in _TIMES:
        condition = _lifted(facts.plain_type, value, _beyond_python(element))
        yield Test(
            Kind.TIME_OUT_OF_RANGE, facts.name, condition, "infinity, or a year before 1 or after 9999"
        )
    if element in _FLOATS or element == "numeric":
        has_infinity = element in _FLOATS or version >= _INFINITE_NUMERICS
        strays = "'NaN', 'Infinity', '-Infinity'" if has_infinity else "'NaN'"
        condition = _lifted(facts.plain_type, value, lambda v: f"{v} IN ({strays})")
        yield Test(Kind.NOT_FINITE, facts.name, condition, "NaN or Infinity")


def _beyond_python(type_: str) -> Callable[[str], str]:
    zone = "+00" if type_ == "timestamp with time zone" else ""
    last = "9999-12-31" if type_ == "date" else f"9999-12-31 23:59:59.999999{zone}"
    first = "0001-01-01" if type_ == "date" else f"0001-01-01 00:00:00{zone}"
    return lambda v: f"NOT {v} BETWEEN {literal(first)}::{type_} AND {literal(last)}::{type_}"


def _lifted(type_: str, value: str, condition: Callable[[str], str]) -> str:
    """A condition over a value, or over any element of it where it is an array."""
    if base_type(type_).endswith("[]"):
        return f"EXISTS (SELECT FROM unnest({value}) AS e(v) WHERE {condition('e.v')})"
    return condition(value)


class _Column:
    def __init__(
        self, column: CrossedColumn, source: ColumnFacts, target: ColumnFacts, dialect: Dialect, number: int
    ) -> None:
        self._column, self._source, self._target = column, source, target
        self._dialect, self._number = dialect, number
        self._given = f"t.{quoted(source.name)}"
        self._wired = column.wired("t")
        self._type = target.plain_type
        self._is_converted = column.conversion is not None
        self._is_text_key = column.is_key and is_text(column.legacy) and not is_text(column.target)
        self._is_known = not target.labels and dialect.knows(base_type(self._type))

    def landing(self) -> Landing:
        fitting = [*self._fits()]
        refused = " OR ".join(f"({test.condition})" for test in fitting)
        type_ = self._type if self._is_known else self._column.wire
        value = (
            f"({self._wired})::{type_}"
            if self._wired != self._given or type_ != self._source.plain_type
            else self._wired
        )
        if refused:
            value = f"CASE WHEN {refused} THEN NULL ELSE {value} END"
        soft = [*self._rounds(), *self._changes(value, refused), *self._returns(refused)]
        tests = [*fitting, *self._nulls(value, refused), *soft, *self._encodes()]
        one, two = base_type(self._source.plain_type), base_type(self._type)
        is_same_kind = (
            one == two or {one, two} <= {"text", "character varying"} or {one, two} <= _RANGES.keys()
        )
        return Landing(
            target=self._target.name,
            type=type_,
            value=value,
            tests=tuple(tests),
            is_kept=is_same_kind and not self._is_converted and not soft,
        )

    def _test(self, kind: Kind, condition: str, detail: str = "", function: str | None = None) -> Test:
        return Test(kind, self._source.name, condition, detail or self._target.type, function)

    # --- what the column refuses -----------------------------------------------------------------------------

    def _fits(self) -> Iterator[Test]:
        if self._target.labels:
            yield from self._has_label()
        elif self._is_known:
            yield from self._takes()
        yield from self._respells()
        for number, check in enumerate(self._target.domain_checks):
            inner = f"({self._wired})::{self._type if self._is_known else self._column.wire}"
            yield self._test(
                Kind.CHECK,
                f"CASE WHEN {self._refused_by_type()} THEN NULL ELSE"
                f" (SELECT NOT ({check}) FROM (SELECT {inner} AS value) d) END",
                f"domain {self._target.type}, check {number + 1}",
            )

    def _respells(self) -> Iterator[Test]:
        """Texts in the key that the target's type would spell otherwise: each would be another key from then on."""
        if self._is_text_key and self._is_known:
            spelled = f"({self._given}::text)::{base_type(self._type)}::text"
            yield self._test(
                Kind.CHANGED,
                f"CASE WHEN {self._refused_by_type()} THEN false ELSE {spelled} <> {self._given}::text END",
            )

    def _refused_by_type(self) -> str:
        tests = [*self._takes()] if self._is_known else []
        return " OR ".join(f"({test.condition})" for test in tests) or "false"

    def _has_label(self) -> Iterator[Test]:
        labels = ", ".join(literal(label) for label in self._target.labels)
        detail = f"enum {self._target.type}"
        if self._is_converted:
            yield self._tried(
                f"NOT coalesce({_lifted(self._type, 'landed', _outside(labels))}, false)", detail
            )
        elif not self._source.labels or not set(self._source.labels) <= set(self._target.labels):
            yield self._test(Kind.INVALID, _lifted(self._type, self._given, _outside(labels)), detail)

    def _takes(self) -> Iterator[Test]:
        one, two = self._source.plain_type, self._type
        one_is_array, two_is_array = (base_type(type_).endswith("[]") for type_ in (one, two))
        if self._is_converted or (one_is_array != two_is_array and base_type(two) not in _TEXTS):
            yield self._tried()
        elif one_is_array == two_is_array:
            for kind, condition in self._element(one.removesuffix("[]"), two.removesuffix("[]")):
                if condition is None:
                    yield self._tried()
                else:
                    yield self._test(kind, _lifted(one, self._given, condition))

    def _tried(self, judgement: str = "true", detail: str = "") -> Test:
        """The assignment itself, in a function that catches what it raises."""
        type_ = self._type if self._is_known else self._column.wire
        # Texts of a key that would be respelled are refused on their way, too; that is a finding of its own.
        made = (
            f"t.{quoted(self._source.name)}::text::{self._column.wire}" if self._is_text_key else self._wired
        )
        name, function = self._function(
            "fits",
            f"landed := (SELECT {made} FROM (SELECT $1 AS {quoted(self._source.name)}) t); RETURN {judgement};",
            f"DECLARE landed {type_}; ",
        )
        return self._test(Kind.INVALID, f"NOT {name}({self._given})", detail, function)

    def _function(
        self, purpose: str, statements: str, declarations: str = "", type_: str = ""
    ) -> tuple[str, str]:
        """A function of this column that says false for whatever raises: its name, and how to create it."""
        name = f"pg_temp.crossfade_{purpose}_{self._number}"
        body = f"{declarations}BEGIN {statements} EXCEPTION WHEN OTHERS THEN RETURN false; END"
        return name, (
            f"CREATE OR REPLACE FUNCTION {name}({type_ or self._source.type}) RETURNS boolean LANGUAGE plpgsql STABLE"
            f" AS {literal(body)}"
        )

    def _element(self, source: str, target: str) -> Iterator[tuple[Kind, Callable[[str], str] | None]]:
        """What a scalar of one type has to satisfy to become one of the other; None: it has to be tried."""
        one, two = base_type(source), base_type(target)
        if two in _TEXTS:
            length = _first(target)
            shorter = one in _TEXTS and _first(source) is not None and (_first(source) or 0) <= (length or 0)
            if length is not None and not shorter:
                yield Kind.TOO_LONG, lambda v: f"char_length({v}::text) > {length}"
        elif two in _RANGES and one in _RANGES:
            if _DIGITS[two] < _DIGITS[one]:
                yield Kind.OUT_OF_RANGE, lambda v: f"{v} NOT BETWEEN {_RANGES[two][0]} AND {_RANGES[two][1]}"
        elif two in _RANGES and (one in _FLOATS or one == "numeric"):
            yield Kind.OUT_OF_RANGE, lambda v: _whole_overflow(v, *_RANGES[two])
        elif two == "numeric" and one in {*_RANGES, *_FLOATS, "numeric"}:
            if (condition := self._overflow(source, target)) is not None:
                yield Kind.OUT_OF_RANGE, condition
        elif _takes_all(source, target):
            return
        elif one in _SPOKEN and self._dialect.version >= _SOFT_INPUT:
            yield Kind.INVALID, lambda v: f"NOT pg_input_is_valid({v}::text, {literal(target)})"
        else:
            yield Kind.INVALID, None

    def _overflow(self, source: str, target: str) -> Callable[[str], str] | None:
        precision, scale = _precision_and_scale(target)
        if precision is None:
            return None
        one = base_type(source)
        had, had_scale = (_DIGITS[one], 0) if one in _RANGES else _precision_and_scale(source)
        if had is not None and had - had_scale <= precision - scale and had_scale <= scale:
            return None
        limit = f"1e{precision - scale}::numeric"
        if one in _FLOATS:
            return lambda v: (
                f"CASE WHEN {v} IN ('Infinity', '-Infinity') THEN true WHEN {v} = 'NaN' THEN false"
                f" ELSE abs(round({v}::numeric, {scale})) >= {limit} END"
            )
        return lambda v: (
            f"CASE WHEN {v}::text = 'NaN' THEN false ELSE abs(round({v}::numeric, {scale})) >= {limit} END"
        )

    # --- what arrives otherwise than it was ------------------------------------------------------------------

    def _nulls(self, value: str, refused: str) -> Iterator[Test]:
        if not self._target.is_required:
            return
        if self._is_converted:
            unless = f" AND ({refused}) IS NOT TRUE" if refused else ""
            yield self._test(Kind.NULL, f"({value}) IS NULL{unless}", f"{self._target.type} NOT NULL")
        elif not self._source.is_required:
            yield self._test(Kind.NULL, f"{self._given} IS NULL", f"{self._target.type} NOT NULL")

    def _rounds(self) -> Iterator[Test]:
        if self._is_converted or not self._is_known:
            return
        one, two = self._source.plain_type, self._type
        if base_type(one).endswith("[]") == base_type(two).endswith("[]"):
            condition = _rounding(one.removesuffix("[]"), two.removesuffix("[]"))
            if condition is not None:
                yield self._test(Kind.ROUNDED, _lifted(one, self._given, condition))

    def _changes(self, value: str, refused: str) -> Iterator[Test]:
        one, two = base_type(self._source.plain_type), base_type(self._type)
        alike = (
            one == two
            or {one, two} <= _TEXTS
            or {one, two} <= _RANGES.keys()
            or {one, two} <= _TIMES
            or {one, two} <= _FLOATS
            or {one, two} <= {"numeric", *_RANGES}
            or {one, two} <= {"json", "jsonb"}
        )
        if not self._is_known or (alike and not self._is_converted):
            return
        here = self._column.compared(Side.PRISMA, "t")
        there = self._column.compared(Side.SQLALCHEMY, "x")
        yield self._test(
            Kind.CHANGED,
            f"CASE WHEN {refused or 'false'} THEN false ELSE ({here}) IS DISTINCT FROM"
            f" (SELECT {there} FROM (SELECT {value} AS {quoted(self._target.name)}) x) END",
        )

    def _returns(self, refused: str) -> Iterator[Test]:
        """Whether a value that a mapping converts is the same once it has come back."""
        same = self._column.comes_back()
        if same is not None:
            row = f"SELECT $1 AS {quoted(self._source.name)}"
            name, function = self._function("returns", f"RETURN (SELECT {same} FROM ({row}) t);")
            condition = f"CASE WHEN {refused or 'false'} THEN false ELSE NOT {name}({self._given}) END"
            yield self._test(Kind.NOT_REVERSIBLE, condition, "backward(forward(value))", function)

    def _encodes(self) -> Iterator[Test]:
        here, there = self._dialect.encoding, self._dialect.target_encoding
        element = base_type(self._source.plain_type).removesuffix("[]")
        if there in (here, "SQL_ASCII") or (there == "UTF8" and here != "SQL_ASCII"):
            return
        if element not in _SPOKEN | {"jsonb"}:
            return
        converted = (
            f"convert_from(textsend($1), {literal(there)})"
            if here == "SQL_ASCII"
            else f"convert_to($1, {literal(there)})"
        )
        name, function = self._function("encodes", f"PERFORM {converted}; RETURN true;", type_="text")
        condition = _lifted(self._source.plain_type, self._given, lambda v: f"NOT {name}({v}::text)")
        yield self._test(Kind.ENCODING, condition, f"encoding {there}", function)


def _takes_all(source: str, target: str) -> bool:
    one, two = base_type(source), base_type(target)
    return (
        (one == two and (source == target or one not in ("bit", "bit varying", "bpchar")))
        or (one in _MOMENTS and two in _TIMES)
        or (two == "double precision" and one in {*_RANGES, "real"})
    )


def _outside(labels: str) -> Callable[[str], str]:
    return lambda value: f"{value}::text NOT IN ({labels})"


def _rounding(source: str, target: str) -> Callable[[str], str] | None:
    """The condition that a value loses digits on its way, where it may."""
    one, two = base_type(source), base_type(target)
    if two in _RANGES and (one == "numeric" or one in _FLOATS):
        return lambda v: f"{v} <> trunc({v}) AND {v} NOT IN ('NaN')"
    if one == "numeric" == two:
        precision, scale = _precision_and_scale(target)
        had, had_scale = _precision_and_scale(source)
        if precision is None or (had is not None and had_scale <= scale):
            return None
        return lambda v: f"round({v}, {scale}) <> {v}"
    if one in _MOMENTS and two in _MOMENTS:
        digits = _first(target)
        if digits is None or ((had := _first(source)) is not None and had <= digits):
            return None
        return lambda v: f"{v}::timestamp({digits}) <> {v}::timestamp"
    if two == "date" and one in _MOMENTS:
        return lambda v: f"{v}::timestamp <> {v}::date::timestamp"
    if one == "double precision" and two == "real":
        return lambda v: (
            f"CASE WHEN abs({v}) BETWEEN {_SMALLEST_REAL} AND {_LARGEST_REAL} THEN {v}::real::float8 <> {v}"
            " ELSE false END"
        )
    return None


def _whole_overflow(value: str, least: int, most: int) -> str:
    return f"NOT {value} BETWEEN {least} - 0.5 AND {most} + 0.499"


def _first(type_: str) -> int | None:
    found = re.search(r"\((\d+)", type_)
    return int(found[1]) if found else None


def _precision_and_scale(type_: str) -> tuple[int | None, int]:
    found = re.search(r"\((\d+),\s*(-?\d+)\)", type_)
    return (int(found[1]), int(found[2])) if found else (None, 0)
