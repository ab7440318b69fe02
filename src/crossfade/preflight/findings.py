"""What preflight finds: one typed record per finding, with what to do about it.

A finding counts rows and names some of them by their keys. It never holds another value of a row, because reports
travel further than rows may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from crossfade.stages import Side


class Severity(StrEnum):
    """Whether the copy fails, or succeeds with something that a person should know."""

    BLOCKER = "blocker"
    """Rows cannot be copied as they are, or nothing is known about them."""
    WARNING = "warning"
    """They can be copied; something about them is worth knowing."""


class Kind(StrEnum):
    """What a finding is about."""

    MISSING_TABLE = "missing_table"
    NOT_A_TABLE = "not_a_table"
    NO_KEY = "no_key"
    MAPPING = "mapping"
    UNCOPIED_COLUMN = "uncopied_column"
    GENERATED_COLUMN = "generated_column"
    UNLOGGED = "unlogged"
    ROW_SECURITY = "row_security"
    TRIGGER = "trigger"
    OTHER_ORDER = "other_order"
    TIME_IN_KEY = "time_in_key"
    UNKNOWN_LABEL = "unknown_label"
    FOREIGN_PARENT = "foreign_parent"
    NULL = "null"
    NULL_IN_KEY = "null_in_key"
    INVALID = "invalid"
    TOO_LONG = "too_long"
    OUT_OF_RANGE = "out_of_range"
    CHANGED = "changed"
    ROUNDED = "rounded"
    NOT_REVERSIBLE = "not_reversible"
    TIME_OUT_OF_RANGE = "time_out_of_range"
    NOT_FINITE = "not_finite"
    ENCODING = "encoding"
    CHECK = "check"
    DUPLICATE = "duplicate"
    ORPHAN = "orphan"
    NOT_CHECKED = "not_checked"


_REMEDIES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.MISSING_TABLE: "Create the table, or give the model a Mapping that names the one it has.",
        Kind.NOT_A_TABLE: "Point the model at an ordinary or partitioned table; only tables can be captured.",
        Kind.NO_KEY: "Add a primary key, or a unique index over columns that are NOT NULL.",
        Kind.MAPPING: "Declare it in the model's Mapping, or change the table, as the finding says.",
        Kind.UNCOPIED_COLUMN: "Give it a counterpart, or say in the model's Mapping that it has none.",
        Kind.GENERATED_COLUMN: "Make sure that both stores compute the same: generated columns are not copied.",
        Kind.UNLOGGED: "Run ALTER TABLE … SET LOGGED: a crash empties the table, and capture does not see it.",
        Kind.ROW_SECURITY: "Use the table's owner or a role with BYPASSRLS: hidden rows are not copied.",
        Kind.TRIGGER: "Check what it does: its writes to other tables pass the fence; copied rows fire the target's.",
        Kind.OTHER_ORDER: "Nothing has to be done; chunks of this table are captured and verified, which is slower.",
        Kind.TIME_IN_KEY: "Keep keys a millisecond apart (Prisma's precision), or key the table by another column.",
        Kind.UNKNOWN_LABEL: "Add the label to the target's enum: no row has it yet; the first could not be copied.",
        Kind.FOREIGN_PARENT: "Fill the referenced table yourself before the backfill: it belongs to no model.",
        Kind.NULL: "Fill these rows in the legacy store, or make the target column nullable.",
        Kind.NULL_IN_KEY: "Give these rows a key in the legacy store, or delete them.",
        Kind.INVALID: "Correct these values in the legacy store, or convert them with a Mapping.",
        Kind.TOO_LONG: "Shorten these values in the legacy store, or widen the target column.",
        Kind.OUT_OF_RANGE: "Correct these values in the legacy store, or give the target column a wider type.",
        Kind.CHANGED: "Spell these values as the target's type does, or convert them with a Mapping.",
        Kind.ROUNDED: "Give the target column the legacy column's precision, unless the rest may be lost.",
        Kind.NOT_REVERSIBLE: "Correct the Mapping's `backward`, or declare the column one_way.",
        Kind.TIME_OUT_OF_RANGE: "Correct these times: they can be copied, but Python knows the years 1 to 9999 only.",
        Kind.NOT_FINITE: "Replace NaN and Infinity: they can be copied, but Prisma's protocol has no such numbers.",
        Kind.ENCODING: "Replace these characters, or create the target database with the encoding UTF8.",
        Kind.CHECK: "Correct these rows in the legacy store, or relax the target's constraint.",
        Kind.DUPLICATE: "Remove or merge these rows in the legacy store, or drop the target's unique index.",
        Kind.ORPHAN: "Delete these rows or restore their parents, or drop the target's foreign key.",
        Kind.NOT_CHECKED: "Look at it by hand; after a timeout, raise --statement-timeout and run it again.",
    }
)

_WARNINGS = frozenset(
    {
        Kind.UNCOPIED_COLUMN, Kind.GENERATED_COLUMN, Kind.UNLOGGED, Kind.ROW_SECURITY, Kind.TRIGGER, Kind.OTHER_ORDER,
        Kind.TIME_IN_KEY, Kind.UNKNOWN_LABEL, Kind.FOREIGN_PARENT, Kind.ROUNDED, Kind.NOT_REVERSIBLE,
        Kind.TIME_OUT_OF_RANGE, Kind.NOT_FINITE, Kind.NOT_CHECKED,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about one table.

    `count` is how many rows it concerns, None where it is about the table itself; `examples` are keys of some of
    them. `column` may name several, comma-separated. `detail` says what it was checked against, such as a type.
    """

    model: str
    table: str
    kind: Kind
    side: Side = Side.PRISMA
    column: str | None = None
    count: int | None = None
    examples: tuple[tuple[str, ...], ...] = ()
    detail: str = ""
    is_fatal: bool = False
    """Makes a blocker of a kind that is a warning elsewhere."""

    @property
    def severity(self) -> Severity:
        """Whether it stands in the way of the copy."""
        is_warning = self.kind in _WARNINGS and not self.is_fatal
        return Severity.WARNING if is_warning else Severity.BLOCKER

    @property
    def remedy(self) -> str:
        """What to do, in one sentence."""
        return _REMEDIES[self.kind]

    def as_json(self) -> dict[str, Any]:
        """Everything about it, for a machine."""
        return {
            "model": self.model,
            "table": self.table,
            "side": self.side.value,
            "column": self.column,
            "kind": self.kind.value,
            "severity": self.severity.value,
            "count": self.count,
            "examples": [list(key) for key in self.examples],
            "detail": self.detail,
            "remedy": self.remedy,
        }
