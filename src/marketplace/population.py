"""Which rows the workload knows of and picks from.

*Seeded* rows were there before and are never deleted by the workload. Rows that it makes itself are its *own*; only
those are deleted. A few seeded rows of every model are hot: they get much of the traffic, as in life.

Several workloads may run at once, in one process or in several, each with a share of its own: all work on the same
seeded rows, hot ones included, and none ever touches another's own rows.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from marketplace.journal import Journal, Row, RowKey, Rows

OWN_SHARE: Final = 0.3
"""How often a row of the workload's own is picked, which may be deleted while it is being used."""

SHARES: Final = 16
"""How many workloads may run at once, or one after the other, on the same stores."""

_NUMBERS = 1_000_000
_HOT = 8
_HOT_SHARE = 0.4
_TRIES = 8


class Population:
    """The rows of every model: seeded and own. `rng` decides everything, `number()` never repeats itself.

    `share` is which of `SHARES` this one has.
    """

    def __init__(self, rng: random.Random, start: Rows, journal: Journal, share: int = 0) -> None:
        self.rng = rng
        self._journal = journal
        self._start = start
        # The same order in every share, so that all have the same hot rows.
        shuffled = random.Random(0)  # noqa: S311 - traffic, not secrets
        self._seeded: Mapping[str, Sequence[Any]] = {
            model: shuffled.sample(sorted(rows), len(rows)) for model, rows in start.items()
        }
        self._own: dict[str, list[Any]] = {model: [] for model in start}
        shipped = {row["order_id"] for row in start["Shipment"].values()}
        self._unshipped = [key for key in sorted(start["Order"]) if key not in shipped][share::SHARES]
        self._numbers = itertools.count(1 + share * _NUMBERS)

    def number(self) -> int:
        """Return a number that was not returned before, to nobody's share."""
        return next(self._numbers)

    def seeded(self, model: str) -> Any:
        """Return the key of a seeded row; a hot one, often."""
        keys = self._seeded[model]
        if self.rng.random() < _HOT_SHARE:
            return keys[int(min(_HOT, len(keys)) * self.rng.random() ** 2)]
        return self.rng.choice(keys)

    def some_seeded(self, model: str, count: int) -> list[Any]:
        """Return the keys of up to `count` different seeded rows."""
        return list(dict.fromkeys(self.seeded(model) for _ in range(count)))

    def values(self, model: str, key: Any) -> Row:
        """Return what a seeded row held at the start: its unique and its noted fields."""
        return self._start[model][key]

    def own(self, model: str) -> Any | None:
        """Return the key of an own row that nobody is deleting, or None."""
        keys = self._own[model]
        for _ in range(_TRIES):
            if not keys:
                return None
            place = self.rng.randrange(len(keys))
            if not self._journal.is_doomed(RowKey(model, keys[place])):
                return keys[place]
            keys[place] = keys[-1]
            keys.pop()
        return None

    def pick(self, model: str) -> Any:
        """Return the key of a row to work on or to refer to: seeded or own."""
        own = self.own(model) if self.rng.random() < OWN_SHARE else None
        return self.seeded(model) if own is None else own

    def unshipped(self) -> Any | None:
        """Return the key of an order without a shipment, once; None when there is none."""
        while self._unshipped:
            key = self._unshipped.pop()
            if not self._journal.is_doomed(RowKey("Order", key)):
                return key
        return None

    def born(self, row: RowKey) -> None:
        """Take note of an own row."""
        self._own[row.model].append(row.key)
        if row.model == "Order":
            self._unshipped.insert(self.rng.randrange(len(self._unshipped) + 1), row.key)
