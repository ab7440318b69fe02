"""The two stores as the reconciler sees them: every model's image in both, and how its tables refer to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from crossfade.reconcile.claims import Claims
from crossfade.reconcile.images import Image, Key, read_images
from crossfade.stages import Side
from crossfade.store import Store
from crossfade.store.crossing import check_crossings
from crossfade.store.tables import StoredReference

T = TypeVar("T")
Authorities: TypeAlias = Mapping[str, Side | None]
"""Which side is believed to have the authority over each table; None: leave it alone."""


class Spot(NamedTuple):
    """One key of one model."""

    model: str
    key: Key


class Child(NamedTuple):
    """A model that refers to another, and the foreign key by which it does."""

    model: str
    reference: StoredReference

    @property
    def follows_deletes(self) -> bool:
        """Whether a row is deleted with the one that it refers to."""
        return self.reference.on_delete == "c"

    @property
    def forbids_deletes(self) -> bool:
        """Whether a row keeps the one that it refers to from being deleted."""
        return self.reference.on_delete in ("a", "r")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both stores and what is known of their tables."""

    stores: Mapping[Side, Store]
    images: Mapping[Side, Mapping[str, Image]]
    claims: Mapping[Side, Claims]
    children: Mapping[Side, Mapping[str, tuple[Child, ...]]]
    rank: Mapping[str, int]

    @classmethod
    async def open(cls, stores: Mapping[Side, Store]) -> Pair:
        """Open both stores and describe what is in them.

        Raises:
            StoreUnavailableError: one of them does not answer.
            InstallError: their tables do not match, or a mapping does not match them.
        """
        for store in stores.values():
            await store.open()
        await check_crossings(stores)
        images = read_images(stores)
        claims = {side: Claims(store, images[side]) for side, store in stores.items()}
        children = {
            side: {
                model: tuple(
                    Child(table.model, reference)
                    for table in store.tables
                    for reference in table.references
                    if reference.model == model
                )
                for model in images[side]
            }
            for side, store in stores.items()
        }
        rank = {model: place for place, model in enumerate(images[Side.PRISMA])}
        return cls(stores, images, claims, children, rank)

    def tables(self, models: Iterable[str] | None) -> list[str]:
        """The tables that move with `models` (of all, if None), parents before children."""
        wanted = None if models is None else frozenset(models)
        images = self.images[Side.PRISMA].values()
        return [image.model for image in images if wanted is None or image.owner in wanted]

    def owner(self, model: str) -> str:
        """The model whose stage decides about `model`."""
        return self.images[Side.PRISMA][model].owner

    def authorities(self, standing: Callable[[str], Side | None]) -> dict[str, Side | None]:
        """Ask once for every table, so that one pass goes by one view."""
        owners = {image.owner: standing(image.owner) for image in self.images[Side.PRISMA].values()}
        return {image.model: owners[image.owner] for image in self.images[Side.PRISMA].values()}

    def in_order(self, models: Iterable[str]) -> list[str]:
        """Parents before children."""
        return sorted(models, key=self.rank.__getitem__)

    def falls_with(self, side: Side, model: str) -> frozenset[str]:
        """The models whose rows a store deletes by itself along with rows of `model`."""
        found: set[str] = set()
        waiting = [model]
        while waiting:
            for child in self.children[side][waiting.pop()]:
                if child.follows_deletes and child.model not in found:
                    found.add(child.model)
                    waiting.append(child.model)
        return frozenset(found)


async def together(*work: Awaitable[T]) -> list[T]:
    """Do things at the same time, and let all of them end: a connection must not be given back in mid-query."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]
