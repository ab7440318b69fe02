"""The list of what a dump holds, as `pg_restore --list` writes it, against the catalog of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crossfade.backup.manifest import DumpedTable


def missing_in(
    listing: str, tables: Iterable[DumpedTable], partitioned: Iterable[tuple[str, str]]
) -> list[str]:
    """The tables whose definition or rows are not in the list.

    A line reads `3421; 0 16390 TABLE DATA public users owner`. A partitioned table has no rows of its own.
    """
    entries = frozenset(_entries(listing))
    missing = []
    for table in tables:
        name = f"{_told(table.schema)} {_told(table.name)}"
        if f"TABLE {name}" not in entries:
            missing.append(f"{table.schema}.{table.name}")
        elif f"TABLE DATA {name}" not in entries:
            missing.append(f"the rows of {table.schema}.{table.name}")
    for schema, name in partitioned:
        if f"TABLE {_told(schema)} {_told(name)}" not in entries:
            missing.append(f"{schema}.{name}")
    return missing


def _entries(listing: str) -> Iterator[str]:
    for line in listing.splitlines():
        _, separator, rest = line.partition("; ")
        parts = rest.split(" ", 2)
        if separator and not line.startswith(";") and len(parts) == 3:
            # Owners are the last word unless their names have blanks; so every shorter form counts as well.
            words = parts[2].split(" ")
            for end in range(len(words) - 1, 0, -1):
                yield " ".join(words[:end])


def _told(name: str) -> str:
    """A name as the list has it: on one line."""
    return name.replace("\n", " ").replace("\r", " ")
