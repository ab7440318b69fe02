"""What can be said about a table from the catalogs of both stores alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossfade.mapping import Added, Mapping
from crossfade.preflight.catalog import ColumnFacts, TableFacts
from crossfade.preflight.findings import Finding, Kind
from crossfade.preflight.values import Test
from crossfade.stages import Side
from crossfade.store.columns import base_type
from crossfade.store.crossing import Crossing
from crossfade.store.tables import quoted

TABLE_KINDS = frozenset("rp")
_OTHER_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_PRISMA_DIGITS = 3


def of_table(model: str, side: Side, facts: TableFacts) -> Iterator[Finding]:
    """What one of the two tables is like."""
    if facts.kind not in TABLE_KINDS:
        kind = _OTHER_KINDS.get(facts.kind, "no table")
        yield Finding(
            model=model, table=facts.quoted, kind=Kind.NOT_A_TABLE, side=side, detail=f"it is {kind}"
        )
    if facts.is_unlogged:
        yield Finding(model=model, table=facts.quoted, kind=Kind.UNLOGGED, side=side)
    if facts.has_row_security:
        detail = (
            "the role of the URL does not see all rows"
            if facts.hides_rows
            else "the role of the URL passes it"
        )
        yield Finding(
            model=model,
            table=facts.quoted,
            kind=Kind.ROW_SECURITY,
            side=side,
            detail=detail,
            is_fatal=facts.hides_rows,
        )
    for trigger in facts.triggers:
        does = f", whose text has {', '.join(trigger.writes)}" if trigger.writes else ""
        detail = f"{trigger.name} runs {trigger.function}{does}"
        yield Finding(model=model, table=facts.quoted, kind=Kind.TRIGGER, side=side, detail=detail)
    if side is Side.SQLALCHEMY:
        for name in facts.exclusions:
            detail = f"exclusion constraint {name}"
            yield Finding(model=model, table=facts.quoted, kind=Kind.NOT_CHECKED, side=side, detail=detail)


def of_columns(
    crossing: Crossing, legacy: TableFacts, target: TableFacts, mapping: Mapping
) -> Iterator[Finding]:
    """Columns that one store computes, or that the other does not have."""
    there = crossing.names(Side.SQLALCHEMY)
    added = {column.target for column in mapping.columns if isinstance(column, Added)}
    for column in target.columns.values():
        if column.is_generated:
            yield _about(crossing, Side.SQLALCHEMY, target, column, Kind.GENERATED_COLUMN)
        elif (
            column.name not in there
            and column.name not in added
            and (column.has_default or not column.is_required)
        ):
            yield _about(crossing, Side.SQLALCHEMY, target, column, Kind.UNCOPIED_COLUMN)
    for column in legacy.columns.values():
        if column.is_generated:
            yield _about(crossing, Side.PRISMA, legacy, column, Kind.GENERATED_COLUMN)


def uncopied_tests(crossing: Crossing, legacy: TableFacts, mapping: Mapping) -> Iterator[Test]:
    """How many rows have something in legacy columns that nobody has said anything about."""
    here = crossing.names(Side.PRISMA)
    for column in legacy.columns.values():
        if column.name not in here and not column.is_generated and mapping.column_of(column.name) is None:
            yield Test(Kind.UNCOPIED_COLUMN, column.name, f"t.{quoted(column.name)} IS NOT NULL", column.type)


def of_key(crossing: Crossing, legacy: TableFacts, *, same_order: bool | None) -> Iterator[Finding]:
    """What is peculiar about the key of a model."""
    names = ", ".join(crossing.keys[Side.PRISMA])
    if same_order is False:
        yield Finding(
            model=crossing.model,
            table=legacy.quoted,
            kind=Kind.OTHER_ORDER,
            column=names,
            detail="the two stores sort this key differently",
        )
    for column in crossing.key_columns(Side.PRISMA):
        type_ = legacy.columns[column.name].plain_type
        if base_type(type_).startswith("timestamp") and not any(
            f"({n})" in type_ for n in range(_PRISMA_DIGITS + 1)
        ):
            yield Finding(
                model=crossing.model,
                table=legacy.quoted,
                kind=Kind.TIME_IN_KEY,
                column=column.name,
                detail=type_,
            )


def unknown_labels(
    crossing: Crossing, legacy: TableFacts, target: TableFacts, found: Iterable[Finding]
) -> Iterator[Finding]:
    """Labels of a legacy enum that the target's lacks, where no row has one of them yet."""
    in_use = {finding.column for finding in found if finding.kind is Kind.INVALID}
    for column in crossing.columns:
        one, two = legacy.columns[column.legacy.name], target.columns[column.target.name]
        missing = [label for label in one.labels if label not in two.labels] if two.labels else []
        if missing and one.name not in in_use:
            yield Finding(
                model=crossing.model,
                table=legacy.quoted,
                kind=Kind.UNKNOWN_LABEL,
                column=one.name,
                detail=f"enum {two.type} lacks {', '.join(missing)}",
            )


def _about(crossing: Crossing, side: Side, facts: TableFacts, column: ColumnFacts, kind: Kind) -> Finding:
    return Finding(
        model=crossing.model, table=facts.quoted, kind=kind, side=side, column=column.name, detail=column.type
    )
