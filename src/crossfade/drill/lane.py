"""What a writer writes next. One lane is one strand of writes, each begun after the one before has ended.

A lane owns its rows: it alone writes them, so it knows what they must hold. Beside them every lane writes to the few
shared rows. What a lane asks for is a `Write`, which the repository and plain SQL both can execute.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from crossfade.drill.journal import Effect, What
from crossfade.drill.models import PLAYGROUND, SHARED

_MOST_ACCOUNTS: Final = 5
_MOST_CHILDREN: Final = 6


class Verb(StrEnum):
    """How a write is done."""

    CREATE = "create"
    UPDATE = "update"
    UPDATE_MANY = "update_many"
    UPSERT = "upsert"
    DELETE = "delete"
    SWAP = "swap"
    """Two entries exchange their unique slots, in one transaction."""


class Write(NamedTuple):
    """One write. `where` and `data` hold columns; `refused` names the fault that a sound store answers with."""

    verb: Verb
    model: str
    where: Mapping[str, Any]
    data: Mapping[str, Any]
    effects: tuple[Effect, ...]
    refused: str | None = None


class Increment(int):
    """A value that is added to what a column holds."""


UNIQUE: Final = "UniqueViolationError"
FOREIGN_KEY: Final = "ForeignKeyViolationError"


@dataclass(slots=True)
class _Account:
    id: str
    sequence: int = 0
    total: int = 0
    entries: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    settings: dict[str, int] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)


class Order(StrEnum):
    """In what order a lane comes to the shared rows."""

    RANDOM = "random"
    ASCENDING = "ascending"
    """One after the other, and nothing but shared rows."""
    DESCENDING = "descending"
    """The same from the other end."""


class Abilities(NamedTuple):
    """What a writer does beside single writes of rows."""

    refusals: bool = False
    """Ask for what a store must refuse."""
    swaps: bool = False
    """Exchange unique values in a transaction."""
    order: Order = Order.RANDOM


class Lane:
    """A strand of writes under `name`, which no other lane has."""

    def __init__(self, name: str, chance: random.Random, abilities: Abilities, slots: Iterator[int]) -> None:
        self.name = name
        self._chance = chance
        self._numbers = itertools.count(1)
        self._slots = slots
        self._accounts: dict[str, _Account] = {}
        self._shared_keys: Iterator[str]
        self._pending: Callable[[], None] | None = None
        self._choices: list[tuple[Callable[[], Write | None], int]] = [
            (self._new_account, 6),
            (self._touch_account, 14),
            (self._bump_account, 8),
            (self._new_entry, 14),
            (self._touch_entry, 14),
            (self._touch_entries, 3),
            (self._delete_entry, 6),
            (self._put_setting, 12),
            (self._delete_setting, 4),
            (self._delete_account, 3),
            (self._new_hold, 4),
            (self._delete_hold, 5),
        ]
        shared = [(self._add_shared, 8), (self._set_shared, 8), (self._set_shared_setting, 6)]
        if abilities.order is not Order.RANDOM:
            self._choices.clear()
            keys = SHARED if abilities.order is Order.ASCENDING else SHARED[::-1]
            self._shared_keys = itertools.cycle(keys)
        else:
            self._shared_keys = iter(lambda: chance.choice(SHARED), None)
        self._choices += shared
        if abilities.refusals:
            self._choices += [(self._delete_held_account, 2), (self._repeat_entry, 2)]
        if abilities.swaps:
            self._choices.append((self._swap, 4))

    def next(self) -> Write:
        """Choose the next write. Its end must be told by `acknowledged`, `refused` or `unknown`."""
        makers = [maker for maker, _ in self._choices]
        weights = [weight for _, weight in self._choices]
        while True:
            self._pending = None
            if (write := self._chance.choices(makers, weights)[0]()) is not None:
                return write

    def acknowledged(self) -> None:
        """The last write has taken place."""
        if self._pending is not None:
            self._pending()

    def unknown(self, write: Write) -> None:
        """Nobody knows about the last write: its rows, and what belongs to them, are left alone from now on."""
        for effect in write.effects:
            owner = effect.value[0] if effect.model in ("Entry", "Hold") and effect.value else effect.key
            self._accounts.pop(str(owner).partition("/")[0], None)
            for account in list(self._accounts.values()):
                if effect.key in account.entries or effect.key in account.holds:
                    del self._accounts[account.id]

    # --- accounts -------------------------------------------------------------------------------------------------

    def _some(self, fits: Callable[[_Account], object]) -> _Account | None:
        fitting = [account for account in self._accounts.values() if fits(account)]
        return self._chance.choice(fitting) if fitting else None

    def _new_name(self) -> str:
        return f"{self.name}-{next(self._numbers)}"

    def _new_account(self) -> Write | None:
        if len(self._accounts) >= _MOST_ACCOUNTS:
            return None
        account = _Account(self._new_name())

        def done() -> None:
            self._accounts[account.id] = account

        self._pending = done
        return Write(
            Verb.CREATE, "Account", {}, {"id": account.id, "sequence": 0}, (_put_account(account.id, 0, 0),)
        )

    def _touch_account(self) -> Write | None:
        if (account := self._some(lambda _: True)) is None:
            return None
        sequence = account.sequence + 1

        def done() -> None:
            account.sequence = sequence

        self._pending = done
        effect = _put_account(account.id, sequence, account.total)
        return Write(Verb.UPDATE, "Account", {"id": account.id}, {"sequence": sequence}, (effect,))

    def _bump_account(self) -> Write | None:
        if (account := self._some(lambda _: True)) is None:
            return None
        by = self._chance.randint(1, 9)

        def done() -> None:
            account.total += by

        self._pending = done
        effect = _put_account(account.id, account.sequence, account.total + by)
        return Write(Verb.UPDATE, "Account", {"id": account.id}, {"total": Increment(by)}, (effect,))

    def _delete_account(self) -> Write | None:
        account = self._some(lambda one: not one.holds and (one.entries or one.settings))
        if account is None:
            return None

        def done() -> None:
            del self._accounts[account.id]

        self._pending = done
        return Write(Verb.DELETE, "Account", {"id": account.id}, {}, _gone(account))

    def _delete_held_account(self) -> Write | None:
        if (account := self._some(lambda one: one.holds)) is None:
            return None
        # Were it accepted, the account and all that belongs to it would be gone.
        return Write(Verb.DELETE, "Account", {"id": account.id}, {}, _gone(account), refused=FOREIGN_KEY)

    # --- children -------------------------------------------------------------------------------------------------

    def _new_entry(self) -> Write | None:
        if (account := self._some(lambda one: len(one.entries) < _MOST_CHILDREN)) is None:
            return None
        reference, slot = self._new_name(), next(self._slots)

        def done() -> None:
            account.entries[reference] = (0, slot)

        self._pending = done
        data = {"reference": reference, "account_id": account.id, "sequence": 0, "slot": slot}
        return Write(Verb.CREATE, "Entry", {}, data, (_put_entry(account, reference, 0, slot),))

    def _repeat_entry(self) -> Write | None:
        if (account := self._some(lambda one: one.entries)) is None:
            return None
        reference = next(iter(account.entries))
        data = {"reference": reference, "account_id": account.id, "sequence": -1, "slot": None}
        effect = _put_entry(account, reference, -1, None)
        return Write(Verb.CREATE, "Entry", {}, data, (effect,), refused=UNIQUE)

    def _touch_entry(self) -> Write | None:
        if (account := self._some(lambda one: one.entries)) is None:
            return None
        reference = self._chance.choice(list(account.entries))
        sequence, slot = account.entries[reference][0] + 1, account.entries[reference][1]

        def done() -> None:
            account.entries[reference] = (sequence, slot)

        self._pending = done
        effect = _put_entry(account, reference, sequence, slot)
        return Write(Verb.UPDATE, "Entry", {"reference": reference}, {"sequence": sequence}, (effect,))

    def _touch_entries(self) -> Write | None:
        if (account := self._some(lambda one: len(one.entries) > 1)) is None:
            return None
        sequence = max(held[0] for held in account.entries.values()) + 1

        def done() -> None:
            account.entries = {name: (sequence, slot) for name, (_, slot) in account.entries.items()}

        self._pending = done
        effects = tuple(
            _put_entry(account, name, sequence, slot) for name, (_, slot) in account.entries.items()
        )
        return Write(Verb.UPDATE_MANY, "Entry", {"account_id": account.id}, {"sequence": sequence}, effects)

    def _delete_entry(self) -> Write | None:
        if (account := self._some(lambda one: one.entries)) is None:
            return None
        reference = self._chance.choice(list(account.entries))

        def done() -> None:
            del account.entries[reference]

        self._pending = done
        effect = Effect(What.DELETE, "Entry", reference)
        return Write(Verb.DELETE, "Entry", {"reference": reference}, {}, (effect,))

    def _swap(self) -> Write | None:
        if (account := self._some(lambda one: len(one.entries) > 1)) is None:
            return None
        one, other = self._chance.sample(list(account.entries), 2)
        (first, slot), (second, other_slot) = account.entries[one], account.entries[other]

        def done() -> None:
            account.entries[one], account.entries[other] = (first, other_slot), (second, slot)

        self._pending = done
        effects = (
            _put_entry(account, one, first, other_slot),
            _put_entry(account, other, second, slot),
        )
        return Write(Verb.SWAP, "Entry", {one: other_slot, other: slot}, {}, effects)

    def _put_setting(self) -> Write | None:
        if (account := self._some(lambda _: True)) is None:
            return None
        name = f"setting {self._chance.randint(1, 4)}"
        sequence = next(
            self._numbers
        )  # a setting that is deleted and put again must not look like the old one

        def done() -> None:
            account.settings[name] = sequence

        self._pending = done
        effect = Effect(What.PUT, "Setting", f"{account.id}/{name}", [sequence])
        where = {"account_id": account.id, "name": name}
        return Write(Verb.UPSERT, "Setting", where, {"sequence": sequence}, (effect,))

    def _delete_setting(self) -> Write | None:
        if (account := self._some(lambda one: one.settings)) is None:
            return None
        name = self._chance.choice(list(account.settings))

        def done() -> None:
            del account.settings[name]

        self._pending = done
        effect = Effect(What.DELETE, "Setting", f"{account.id}/{name}")
        return Write(Verb.DELETE, "Setting", {"account_id": account.id, "name": name}, {}, (effect,))

    def _new_hold(self) -> Write | None:
        if (account := self._some(lambda one: len(one.holds) < 2)) is None:
            return None
        name = self._new_name()

        def done() -> None:
            account.holds[name] = 0

        self._pending = done
        data = {"id": name, "account_id": account.id, "sequence": 0}
        return Write(Verb.CREATE, "Hold", {}, data, (Effect(What.PUT, "Hold", name, [account.id, 0]),))

    def _delete_hold(self) -> Write | None:
        if (account := self._some(lambda one: one.holds)) is None:
            return None
        name = self._chance.choice(list(account.holds))

        def done() -> None:
            del account.holds[name]

        self._pending = done
        return Write(Verb.DELETE, "Hold", {"id": name}, {}, (Effect(What.DELETE, "Hold", name),))

    # --- what everybody writes --------------------------------------------------------------------------------------

    def _add_shared(self) -> Write:
        key, by = next(self._shared_keys), self._chance.randint(1, 9)
        effect = Effect(What.ADD, "Account", key, by)
        return Write(Verb.UPDATE, "Account", {"id": key}, {"total": Increment(by)}, (effect,))

    def _set_shared(self) -> Write:
        key, text = next(self._shared_keys), self._new_name()
        effect = Effect(What.SET, "Account", key, text)
        return Write(Verb.UPDATE, "Account", {"id": key}, {"note": text}, (effect,))

    def _set_shared_setting(self) -> Write:
        key, text = next(self._shared_keys), self._new_name()
        where = {"account_id": key, "name": PLAYGROUND}
        effect = Effect(What.SET, "Setting", f"{key}/{PLAYGROUND}", text)
        return Write(Verb.UPSERT, "Setting", where, {"sequence": 0, "note": text}, (effect,))


def _put_account(key: str, sequence: int, total: int) -> Effect:
    return Effect(What.PUT, "Account", key, [sequence, total])


def _put_entry(account: _Account, reference: str, sequence: int, slot: int | None) -> Effect:
    return Effect(What.PUT, "Entry", reference, [account.id, sequence, slot])


def _gone(account: _Account) -> tuple[Effect, ...]:
    """The effects of deleting an account: its holds would keep it."""
    return (
        Effect(What.DELETE, "Account", account.id),
        *(Effect(What.DELETE, "Entry", name) for name in account.entries),
        *(Effect(What.DELETE, "Setting", f"{account.id}/{name}") for name in account.settings),
    )
