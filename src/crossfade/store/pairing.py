"""Pair the columns of one model's two tables, and say of everything that does not match what to declare.

Nothing is passed over in silence: a column that only one store has, and that nobody has said anything about, may hold
what somebody will miss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crossfade.mapping import Added, Converted, Dropped, Mapping
from crossfade.store.crossed import CrossedColumn
from crossfade.store.fitting import Fit, keeps_text
from crossfade.store.tables import StoredTable


class Paired(NamedTuple):
    """What belongs together: the columns that cross, the key as the target store names it, and what does not match."""

    columns: tuple[CrossedColumn, ...]
    key: tuple[str, ...]
    problems: list[str]


def pair(legacy: StoredTable, target: StoredTable, mapping: Mapping) -> Paired:
    """Pair the columns of one model; what does not match is left out, and said."""
    problems = [*_unknown(legacy, target, mapping)]
    columns, more = _columns(legacy, target, mapping)
    problems += more
    key = tuple(mapping.target_of(name) or "" for name in legacy.key)
    if set(key) != set(target.key):
        problems.append(
            f"the key of {legacy.quoted} is ({', '.join(legacy.key)}) in the legacy store and"
            f" ({', '.join(target.key)}) in the target store; give both the same primary key"
        )
        key = target.key
    problems += (
        f"column {name} is part of the key, whose text must stay the same: say Renamed, not Converted"
        for name in legacy.key
        if mapping.conversion_of(name)
    )
    problems += (
        f"column {name} is part of the key and is {legacy.columns[name].type} in the legacy store and"
        f" {target.columns[other].type} in the target store, which spell it differently: give both the same type"
        for name, other in zip(legacy.key, key, strict=False)
        if other in target.columns and not keeps_text(legacy.columns[name].type, target.columns[other].type)
    )
    return Paired(columns, key, problems)


def _unknown(legacy: StoredTable, target: StoredTable, mapping: Mapping) -> Iterator[str]:
    for column in mapping.columns:
        if not isinstance(column, Added) and column.legacy not in legacy.columns:
            yield f"the mapping names column {column.legacy}, which {legacy.quoted} of the legacy store does not have"
        if not isinstance(column, Dropped) and column.target not in target.columns:
            yield f"the mapping names column {column.target}, which {target.quoted} of the target store does not have"


def _columns(
    legacy: StoredTable, target: StoredTable, mapping: Mapping
) -> tuple[tuple[CrossedColumn, ...], list[str]]:
    problems: list[str] = []
    spoken_for = {column.target for column in mapping.columns if not isinstance(column, Dropped)}
    sources: dict[str, str] = {}
    for name, column in legacy.columns.items():
        said = mapping.column_of(name)
        if isinstance(said, Dropped | Converted) and said.one_way and _needs_value(legacy, name):
            problems.append(
                f"legacy column {name} is not written back, is never null and has no default, so no new row could be:"
                " give it a default"
            )
        if isinstance(said, Dropped):
            continue
        counterpart = mapping.target_of(name)
        if said is None and (name in spoken_for or name not in target.columns):
            if not column.is_generated:
                problems.append(
                    f'legacy column {name} has no counterpart in {target.quoted}: say Renamed("{name}", …), or'
                    f' Dropped("{name}", one_way=True) if what it holds may be lost'
                )
        elif counterpart is not None and counterpart in target.columns:
            sources[counterpart] = name
    columns = []
    for name, column in target.columns.items():
        if name in sources:
            source = sources[name]
            crossed = CrossedColumn(
                legacy.columns[source], column, mapping.conversion_of(source), is_key=source in legacy.key
            )
            if column.is_generated and _needs_value(legacy, source):
                problems.append(
                    f"column {name} is generated in the target store, so nothing is written back to {source}, which is"
                    " never null and has no default: give it one"
                )
            if not column.is_generated:
                columns.append(crossed)
                problems += _misfit(crossed)
        elif name not in spoken_for and _needs_value(target, name):
            problems.append(
                f"only {target.quoted} of the target store has column {name}, which is never null and has no default:"
                f' give it one, or say Added("{name}") if something else fills it'
            )
    return tuple(columns), problems


def _needs_value(table: StoredTable, name: str) -> bool:
    column = table.columns[name]
    return not (column.is_nullable or column.has_default or column.is_generated)


def _misfit(column: CrossedColumn) -> Iterator[str]:
    own, other = column.legacy, column.target
    if column.fit.needs_saying:
        what = "cuts or rounds what does not fit" if column.fit is Fit.CUTS else "has no rule for that"
        yield (
            f"column {own.name} is {own.type} in the legacy store and {other.type} in the target store, and PostgreSQL"
            f' {what}: say Converted("{own.name}", "{other.name}", forward=…, backward=…), or with one_way=True if it'
            " need not come back"
        )
