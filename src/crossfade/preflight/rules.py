"""The target's constraints, as queries that the legacy store can answer: checks, unique indexes, foreign keys.

A constraint is evaluated over the legacy rows in the shape that the target will give them, so that an expression of the
target's catalog can be used as it stands. What the legacy store guarantees itself, over values that arrive as they are,
is not asked for again.
"""

# ruff: noqa: S608 - names are the catalogs' own and quoted; expressions are the target's constraints
from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from crossfade.preflight.catalog import CheckFacts, ReferenceFacts, TableFacts, UniqueFacts
from crossfade.preflight.findings import Kind
from crossfade.preflight.values import Landing, Test
from crossfade.stages import Side
from crossfade.store.crossing import Crossing
from crossfade.store.tables import quoted


@dataclass(frozen=True, slots=True)
class Subject:
    """One model's rows on their way: how they cross, both tables, and what becomes of each column, by target name."""

    crossing: Crossing
    legacy: TableFacts
    target: TableFacts
    landings: Mapping[str, Landing]

    def legacy_name(self, target: str) -> str:
        """The legacy column that becomes `target`."""
        return next(c.legacy.name for c in self.crossing.columns if c.target.name == target)

    def are_kept(self, columns: Sequence[str]) -> bool:
        """Whether the values of these target columns are all what they are in the legacy store."""
        return all(name in self.landings and self.landings[name].is_kept for name in columns)

    @property
    def functions(self) -> tuple[str, ...]:
        """What has to be created for the values of this model's columns."""
        tests = (test for landing in self.landings.values() for test in landing.tests)
        return tuple(test.function for test in tests if test.function)

    def landed(self, *, key: bool = False) -> str:
        """The select list that gives a legacy row, alias `t`, the target's shape."""
        listed = [f"{landing.value} AS {quoted(name)}" for name, landing in self.landings.items()]
        if key:
            listed.append(f"{self.crossing.key_texts(Side.PRISMA)} AS crossfade_key")
        return ", ".join(listed)


@dataclass(frozen=True, slots=True)
class Question:
    """Two queries: how many rows break a rule, and keys of some of them ($1 is how many); `functions` come first."""

    kind: Kind
    column: str
    detail: str
    count: str
    examples: str
    functions: tuple[str, ...] = ()


def check_tests(subject: Subject) -> Iterator[Test]:
    """The target's check constraints that old rows may violate, as tests."""
    for check in subject.target.checks:
        if not _has_check(subject, check):
            columns = [subject.legacy_name(name) for name in check.columns if name in subject.landings]
            expression = _without_enums(check.expression, subject.target)
            yield Test(
                Kind.CHECK,
                ", ".join(columns),
                f"(SELECT NOT ({expression}) FROM (SELECT {subject.landed()}) x)",
                f"constraint {check.name}",
            )


def _has_check(subject: Subject, check: CheckFacts) -> bool:
    same_names = all(name in subject.landings and subject.legacy_name(name) == name for name in check.columns)
    return (
        same_names
        and subject.are_kept(check.columns)
        and any(one.expression == check.expression and one.is_validated for one in subject.legacy.checks)
    )


def duplicates(subject: Subject) -> Iterator[Question]:
    """The target's unique indexes that legacy rows may not satisfy."""
    for index in subject.target.uniques:
        names = [name for name in index.columns if name is not None]
        if _has_unique(subject, index) or not all(name in subject.landings for name in names):
            continue
        grouped = [
            _folded(subject, name, f"x.{quoted(name)}") if name is not None else f"({expression})"
            for name, expression in zip(index.columns, index.expressions, strict=True)
        ]
        conditions = [] if index.are_nulls_equal else [f"{item} IS NOT NULL" for item in grouped]
        if index.predicate is not None:
            conditions.append(f"({_without_enums(index.predicate, subject.target)})")
        rows = (
            f"FROM (SELECT {subject.landed(key=True)} FROM {subject.legacy.quoted} t) x"
            f" WHERE {' AND '.join(conditions) or 'true'}"
        )
        by = ", ".join(grouped)
        yield Question(
            Kind.DUPLICATE,
            ", ".join(subject.legacy_name(name) for name in names) or index.name,
            f"primary key {index.name}" if index.is_primary else f"unique index {index.name}",
            "SELECT coalesce(sum(g.n - 1), 0)::int8"
            f" FROM (SELECT count(*) AS n {rows} GROUP BY {by} HAVING count(*) > 1) g",
            f"SELECT d.crossfade_key FROM (SELECT x.crossfade_key, row_number() OVER (PARTITION BY {by}"
            f" ORDER BY x.crossfade_key) AS place {rows}) d WHERE d.place > 1 ORDER BY 1 LIMIT $1",
        )


def _has_unique(subject: Subject, index: UniqueFacts) -> bool:
    names = [name for name in index.columns if name is not None]
    if len(names) < len(index.columns) or not subject.are_kept(names):
        return False
    if any(_is_folded(subject, name) for name in names):
        return False
    wanted = {subject.legacy_name(name) for name in names}
    return any(
        one.predicate is None
        and set(one.columns) == wanted
        and (one.are_nulls_equal or not index.are_nulls_equal)
        for one in subject.legacy.uniques
    )


def _is_folded(subject: Subject, target: str) -> bool:
    """Whether the target takes texts for equal that differ in case, and the legacy store does not."""
    here = subject.legacy.columns[subject.legacy_name(target)].plain_type
    return subject.target.columns[target].plain_type == "citext" != here


def _folded(subject: Subject, target: str, value: str) -> str:
    return f"lower({value}::text)" if _is_folded(subject, target) else value


def orphans(subject: Subject, parents: Mapping[tuple[str, str], Subject]) -> Iterator[Question]:
    """The target's foreign keys that the legacy store does not enforce; `parents` by their table in the target."""
    for reference in subject.target.references:
        parent = parents.get(reference.parent)
        if parent is None or _has_reference(subject, parent, reference):
            continue
        known = all(name in subject.landings for name in reference.columns)
        if not known or not all(name in parent.landings for name in reference.to_columns):
            continue
        pairs = [*zip(reference.columns, reference.to_columns, strict=True)]
        values = [subject.landings[name].value for name, _ in pairs]
        offered = ", ".join(f"{parent.landings[to].value} AS v{n}" for n, (_, to) in enumerate(pairs))
        matches = " AND ".join(f"p.v{n} = ({value})" for n, value in enumerate(values))
        rows = (
            f"FROM {subject.legacy.quoted} t WHERE {' AND '.join(f'({value}) IS NOT NULL' for value in values)}"
            f" AND NOT EXISTS (SELECT FROM (SELECT {offered} FROM {parent.legacy.quoted} t) p WHERE {matches})"
        )
        key = subject.crossing.key_texts(Side.PRISMA)
        yield Question(
            Kind.ORPHAN,
            ", ".join(subject.legacy_name(name) for name in reference.columns),
            f"foreign key {reference.name} to {parent.target.quoted}",
            f"SELECT count(*) {rows}",
            f"SELECT {key} {rows} ORDER BY 1 LIMIT $1",
            parent.functions,
        )


def _has_reference(subject: Subject, parent: Subject, reference: ReferenceFacts) -> bool:
    if not (subject.are_kept(reference.columns) and parent.are_kept(reference.to_columns)):
        return False
    wanted = {
        (subject.legacy_name(one), parent.legacy_name(to))
        for one, to in zip(reference.columns, reference.to_columns, strict=True)
    }
    return any(
        one.is_validated
        and one.parent == (parent.legacy.schema, parent.legacy.name)
        and set(zip(one.columns, one.to_columns, strict=True)) == wanted
        for one in subject.legacy.references
    )


def _without_enums(expression: str, target: TableFacts) -> str:
    """The expression with casts to the target's own enums made casts to text: the legacy store does not know them."""
    for column in target.columns.values():
        if column.labels:
            name = re.escape(column.type.removesuffix("[]"))
            expression = re.sub(rf"::{name}(?![\w\"])", "::text", expression)
    return expression
