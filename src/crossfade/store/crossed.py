"""How one column crosses from one store to the other, and in what form.

A value takes one of three forms on its way, and each is an SQL expression over the column that holds it:

* *compared*: spelled alike in both stores when both say the same; where a mapping converts, in the target's form;
* *sent*: the text that the other store's column takes, for rows that are copied one by one;
* *wired*: a value of a type that both stores know, for binary COPY; the staging table has columns of these types, and
  *landed* takes such a value to the target's column.

Forms never cut or round: what does not fit is refused by the column in the end. Where a type would cut by itself, the
mapping has to say what is meant.

A column that crosses one way is taken by the target store alone, and counts only in a comparison that is made for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.mapping import Converted, filled
from crossfade.stages import Side
from crossfade.store.columns import (
    as_text,
    as_travelling,
    base_type,
    comparable,
    comparable_as,
    from_key_text,
    is_text,
    travelling_type,
)
from crossfade.store.fitting import Fit, fit
from crossfade.store.tables import StoredColumn, quoted


@dataclass(frozen=True, slots=True)
class CrossedColumn:
    """One column in both stores. That of a key is spelled alike in both, or its row is none for the other."""

    legacy: StoredColumn
    target: StoredColumn
    conversion: Converted | None = None
    is_key: bool = False

    @property
    def one_way(self) -> bool:
        """Whether it is never written back to the legacy store."""
        declared = self.conversion is not None and self.conversion.one_way
        return declared or self.legacy.is_generated

    @property
    def fit(self) -> Fit:
        """How legacy values go into the target's column; what a mapping converts is taken to be meant."""
        return Fit.ALL if self.conversion is not None else fit(self.legacy.type, self.target.type)

    def on(self, side: Side) -> StoredColumn:
        """The column of one side."""
        return self.legacy if side is Side.PRISMA else self.target

    def reaches(self, side: Side) -> bool:
        """Whether the store of `side` takes this column from the other one."""
        return side is Side.SQLALCHEMY or not self.one_way

    def compared(self, side: Side, alias: str = "t") -> str:
        """The expression by which the value of one side is compared."""
        value = f"{alias}.{quoted(self.on(side).name)}"
        if self.is_key and self.legacy.type != self.target.type:
            return f"{value}::text"
        if self.conversion is None:
            return comparable(self.on(side), self.on(side.other), value)
        if side is Side.PRISMA:
            value = filled(self.conversion.forward, value)
        return comparable_as(self.target.type, value)

    def sent(self, side: Side, alias: str = "t") -> str:
        """The expression for the text that the column of the other side is to have."""
        value = f"{alias}.{quoted(self.on(side).name)}"
        if self.conversion is None:
            return as_text(self.on(side), value)
        if side is Side.PRISMA:
            return f"{as_travelling(self.target.type, filled(self.conversion.forward, value))}::text"
        assert self.conversion.backward is not None, "a column that crosses one way is not sent back"
        return f"{as_travelling(self.legacy.type, filled(self.conversion.backward, value))}::text"

    @property
    def wire(self) -> str:
        """The type in which values of the legacy column travel to the target store."""
        return travelling_type(self.target.type)

    def wired(self, alias: str = "t") -> str:
        """The expression for a legacy value in that type."""
        value = f"{alias}.{quoted(self.legacy.name)}"
        if self.conversion is not None:
            return as_travelling(self.target.type, filled(self.conversion.forward, value))
        type_ = base_type(self.legacy.type)
        if type_ == self.wire:
            return value
        if (
            self.is_key
            and is_text(self.legacy)
            and travelling_type(self.target.type) == base_type(self.target.type)
        ):
            return from_key_text(self.target, self.legacy, f"{value}::text")
        if type_ == "money":
            return f"{value}::numeric::{self.wire}"
        if type_.removesuffix("[]") in ("real", "double precision"):  # a cast between numbers drops digits
            return f"{value}::text{'[]' if type_.endswith('[]') else ''}::{self.wire}"
        return f"{value}::{self.wire}"

    def landed(self, value: str) -> str:
        """The expression that takes such a value to the target column."""
        type_ = base_type(self.target.type)
        if type_ == self.wire:
            return value
        return f"{value}::numeric::money" if type_ == "money" else f"{value}::{type_}"

    def comes_back(self, alias: str = "t") -> str | None:
        """The condition, in the legacy store, that a value is the same after its way there and back.

        None where nothing is converted, or nothing comes back.
        """
        if self.conversion is None or self.conversion.backward is None or self.one_way:
            return None
        value = f"{alias}.{quoted(self.legacy.name)}"
        there = as_travelling(self.target.type, filled(self.conversion.forward, value))
        back = filled(self.conversion.backward, there)
        own = comparable_as(self.legacy.type, value)
        return f"{own} IS NOT DISTINCT FROM {comparable_as(self.legacy.type, back)}"
