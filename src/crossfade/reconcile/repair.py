"""Bring rows of one store level with the authority's, in one transaction.

Theory of operation. The follower's rows are locked in key order and the authority is read after that, so that of two
repairs the later one has the newer image. Rows are copied parents first and deleted children first, whole batches at a
time, each in a savepoint. What PostgreSQL then refuses says what to do:

* a parent is missing: it is brought level first, if its authority is the same side. If its authority is this very
  store, then it was deleted here, and that must be settled in the other direction before this row can be;
* a unique value is taken: its holder is brought level, too, and moved aside until it is its turn;
* a child forbids a delete: the child is brought level first, if its authority is the same side. If its authority is
  this store, nothing that it refers to may be destroyed: the parent is to return to the store that has deleted it;
* a row has got another key: the follower's is given the same one, or deleting it under the old key would do to rows of
  other authorities what nobody has asked for;
* anything else: the batch is halved until the row that cannot be written stands alone. Only that one is left over.

A store that refuses because it is not the follower (any more) ends everything: the view of the authority is stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import asyncpg

from crossfade.events import ConflictSettled
from crossfade.reconcile.conflicts import record_orphans
from crossfade.reconcile.findings import ContendedError, Findings, attempt, problem_of
from crossfade.reconcile.images import Image, Key, Row, Texts
from crossfade.reconcile.kin import falling, holding, keys_by, missing_parents
from crossfade.reconcile.pair import Authorities, Pair, Spot
from crossfade.reconcile.readable import unreadable
from crossfade.reconcile.renames import Renames
from crossfade.reconcile.uniques import in_the_way, move_aside, read_index
from crossfade.stages import Side
from crossfade.store.tables import Connection, StoredReference

_FOREIGN_KEY = "23503"
_RESTRICT = "23001"
_UNIQUE = "23505"


class Repair:
    """One transaction's repairs on the store of `follower`; `reading` reads the authority's."""

    def __init__(
        self,
        pair: Pair,
        follower: Side,
        authorities: Authorities,
        connection: Connection,
        reading: Connection,
    ) -> None:
        self._pair = pair
        self._follower = follower
        self._authorities = authorities
        self._connection = connection
        self._reading = reading
        self._images = pair.images[follower]
        self._sources = pair.images[follower.other]
        self._copies: dict[str, dict[Key, Row]] = {}
        self._deletes: dict[str, set[Key]] = {}
        self._seen: set[Spot] = set()
        self._entered: dict[str, bool] = {}
        self._once_more: dict[str, dict[Key, Row]] = {}
        self._aside: set[tuple[Spot, str]] = set()
        self._renames = Renames(pair, follower, authorities, connection, reading, self._enter)
        self.findings = Findings()

    async def run(self, wanted: Mapping[str, Iterable[Key]]) -> Findings:
        """Bring these keys level, and whatever they need for it.

        Raises:
            StaleViewError: this store is not the follower of one of the models.
            ContendedError: a lock was not to be had.
        """
        for model in self._pair.in_order(wanted):
            await self._look(model, wanted[model])
        for model in self._pair.in_order(self._copies):
            await self._write(model, self._pending(model))
        for model in self._pair.in_order(self._once_more):
            await self._write(model, list(self._once_more[model].values()))
        for model in reversed(self._pair.in_order(self._deletes)):
            await self._remove(model, sorted(self._deletes[model]))
        return self.findings

    def _pending(self, model: str) -> list[Row]:
        return [row for _, row in sorted(self._copies.get(model, {}).items())]

    async def _look(self, model: str, keys: Iterable[Key]) -> None:
        """Lock the follower's rows, read the authority's, and note what is to be done."""
        fresh = sorted({key for key in keys if Spot(model, key) not in self._seen})
        if not fresh:
            return
        self._seen |= {Spot(model, key) for key in fresh}
        if not await self._enter(model):
            self.findings.busy |= {Spot(model, key) for key in fresh}
            return
        held = await self._renames.carry_over(model)
        self.findings.busy |= {Spot(model, key) for key in fresh if key in held}
        fresh = [key for key in fresh if key not in held]
        for key, problem in (await self._unreadable(model, fresh)).items():
            self.findings.problems[Spot(model, key)] = problem
            fresh.remove(key)
        if not fresh:
            return
        there = await self._images[model].lock(self._connection, fresh)
        unlocked = [key for key in fresh if key not in there]
        if unlocked:
            busy = await self._images[model].digests(self._connection, unlocked, self._follower)
            self.findings.busy |= {Spot(model, key) for key in busy}
            fresh = [key for key in fresh if key not in busy]
        if not fresh:
            return
        rows = await self._sources[model].rows(self._reading, fresh)
        late = await self._renames.too_late(model, rows.keys() ^ there.keys())
        self.findings.busy |= {Spot(model, key) for key in late}
        for key in fresh:
            row = rows.get(key)
            if key in late:
                continue
            if row is None and key in there:
                self._deletes.setdefault(model, set()).add(key)
            elif row is None or row.digest == there.get(key):
                self.findings.outcomes[Spot(model, key)] = "equal"
            else:
                self._copies.setdefault(model, {})[key] = row

    async def _unreadable(self, model: str, keys: Sequence[Key]) -> dict[Key, str]:
        images = {self._follower: self._images[model], self._follower.other: self._sources[model]}
        connections = {self._follower: self._connection, self._follower.other: self._reading}
        return await unreadable(images, connections, keys, self._follower)

    async def _enter(self, model: str) -> bool:
        """Take the table lock of a writer before any row's; False if it is not to be had.

        Whoever hands the authority over keeps writers out by a lock on the table. A repair that had rows locked and
        then waited for the table would keep him from these rows, and he it from the table.
        """
        if model not in self._entered:
            lock = f"LOCK TABLE {self._images[model].table.quoted} IN ROW EXCLUSIVE MODE"

            async def take() -> None:
                await self._connection.execute(lock)

            try:
                error = await attempt(self._connection, take)
            except ContendedError:
                self._entered[model] = False
            else:
                if error is not None:
                    raise error
                self._entered[model] = True
        return self._entered[model]

    # Copies

    async def _write(self, model: str, rows: list[Row]) -> None:
        image, with_parents = self._images[model], False
        while rows:
            error = await attempt(self._connection, lambda: image.upsert(self._connection, rows))  # noqa: B023
            if error is None:
                self._settled(model, rows, "copied")
                return
            if error.sqlstate == _FOREIGN_KEY and not with_parents and self._refers(image, error):
                with_parents = True
                rows = await self._bring_parents(model, rows)
                continue
            if error.sqlstate == _UNIQUE:
                cleared = await self._clear_way(model, rows, error)
                if cleared is not None:
                    rows = cleared
                    continue
            if len(rows) == 1:
                self._failed(model, rows, problem_of(error))
                return
            half = len(rows) // 2
            await self._write(model, rows[:half])
            rows = rows[half:]
            with_parents = False

    @staticmethod
    def _refers(image: Image, error: asyncpg.PostgresError) -> bool:
        return any(reference.name == error.constraint_name for reference in image.references)

    async def _bring_parents(self, model: str, rows: list[Row]) -> list[Row]:
        """Bring the missing parents of `rows`; return those rows that can be written now."""
        image = self._images[model]
        references = sorted(image.references, key=self._is_optional(image))
        optional_ones_left_out = False
        waiting = list(references)
        while waiting:
            reference = waiting.pop(0)
            missing = await self._missing(image, reference, rows)
            if not missing:
                continue
            source = self._sources[reference.model]
            keys = await keys_by(self._reading, source, reference.to_columns, missing)
            if self._authorities[reference.model] is self._follower:
                rows = self._wait_for(model, rows, reference, keys)
                continue
            if self._authorities[reference.model] is None:
                continue
            if self._is_optional(image)(reference) and not optional_ones_left_out:
                # Rows that refer to each other in a circle can only be inserted without one of the references.
                optional_ones_left_out = True
                await self._add_without_optional(image, rows)
            await self._look(reference.model, keys.values())
            pulled = self._copies.get(reference.model, {})
            now = [pulled[key] for key in sorted(set(keys.values())) if key in pulled]
            for row in now:  # taken out, so that a circle ends here
                del pulled[row.key]
            if reference.model != model:
                await self._write(reference.model, now)
            elif now:
                rows = rows + now  # rows of one statement may refer to each other
                waiting = list(references)
        return await self._without_orphans(model, rows, references)

    @staticmethod
    def _is_optional(image: Image) -> Callable[[StoredReference], bool]:
        return lambda reference: all(image.table.columns[name].is_nullable for name in reference.columns)

    async def _add_without_optional(self, image: Image, rows: list[Row]) -> None:
        optional = [one for one in image.references if self._is_optional(image)(one)]
        without = tuple({name for one in optional for name in one.columns} & set(image.columns))
        await attempt(self._connection, lambda: image.add(self._connection, rows, without))

    def _wait_for(
        self, model: str, rows: list[Row], reference: StoredReference, keys: Mapping[Texts, Key]
    ) -> list[Row]:
        image, ready = self._images[model], []
        for row in rows:
            key = keys.get(image.values_of(row, reference.columns))
            if key is None:
                ready.append(row)
            else:
                self._copies.get(model, {}).pop(row.key, None)
                spot = Spot(model, row.key)
                self.findings.waiting.setdefault(spot, set()).add(Spot(reference.model, key))
        return ready

    async def _without_orphans(
        self, model: str, rows: list[Row], references: Sequence[StoredReference]
    ) -> list[Row]:
        """Set aside the rows that still refer to nothing: once more at the end, and then they have failed."""
        image = self._images[model]
        orphaned = True
        while orphaned and rows:  # a row that is set aside may leave others of its model without their parent
            orphaned = False
            for reference in references:
                missing = await self._missing(image, reference, rows)
                if missing:
                    orphaned = True
                    orphans = [row for row in rows if image.values_of(row, reference.columns) in missing]
                    rows = [row for row in rows if image.values_of(row, reference.columns) not in missing]
                    self._set_aside(model, orphans, f"{_FOREIGN_KEY} {reference.name}")
        return rows

    async def _missing(self, image: Image, reference: StoredReference, rows: Sequence[Row]) -> set[Texts]:
        parent = self._images[reference.model]
        missing = await missing_parents(self._connection, image, parent, reference, rows)
        if missing and reference.model == image.model:
            missing -= {image.values_of(row, reference.to_columns) for row in rows}
        return missing

    def _set_aside(self, model: str, rows: Iterable[Row], problem: str) -> None:
        later = self._once_more.setdefault(model, {})
        for row in rows:
            self._copies.get(model, {}).pop(row.key, None)
            if row.key in later:
                self._failed(model, [row], problem)
            else:
                later[row.key] = row

    async def _clear_way(self, model: str, rows: list[Row], error: asyncpg.PostgresError) -> list[Row] | None:
        """Move aside who has the unique values of `rows`; return what to write next, or None if that leads nowhere."""
        image, name = self._images[model], error.constraint_name
        if name is None or error.schema_name is None:
            return None
        index = await read_index(self._connection, error.schema_name, name)
        if index is None:
            return None
        taken = await in_the_way(self._connection, image, index, rows)
        await self._look(model, taken.values())
        mine = {row.key: row for row in rows}
        copies, deletes = self._copies.get(model, {}), self._deletes.get(model, set())
        movable = {key for key in taken.values() if key in mine or key in copies or key in deletes}
        movable -= {key for key in movable if (Spot(model, key), name) in self._aside}
        if not movable:
            return None
        gone = movable & deletes - mine.keys()
        if gone:
            await self._remove(model, sorted(gone))
            deletes -= gone
        self._aside |= {(Spot(model, key), name) for key in movable}
        held = sorted(key for key in movable if Spot(model, key) not in self.findings.outcomes)
        for column in index.movable(image) if held else ():
            refused = await attempt(
                self._connection,
                lambda: move_aside(self._connection, image, index, column, held),  # noqa: B023
            )
            if refused is None:
                held = []
                break
        if held and not await self._take_out(model, held):
            return None
        for key in movable:
            if key in copies and key not in mine:
                mine[key] = copies.pop(key)
        return [row for _, row in sorted(mine.items())]

    async def _take_out(self, model: str, keys: list[Key]) -> bool:
        """Delete rows that are about to be inserted again, if nothing hangs on them that only this store has."""
        children = self._pair.children[self._follower][model]
        if any(self._authorities[child.model] is self._follower for child in children):
            return False
        image = self._images[model]
        return await attempt(self._connection, lambda: image.delete(self._connection, keys)) is None

    # Deletes

    async def _remove(self, model: str, keys: list[Key]) -> None:
        keys = [key for key in keys if not self._is_done(Spot(model, key))]
        brought = False
        while keys:
            conflicts: list[ConflictSettled] = []
            error = await attempt(self._connection, lambda: self._delete(model, keys, conflicts))  # noqa: B023
            if error is None:
                self.findings.conflicts += conflicts
                for key in keys:
                    self.findings.outcomes[Spot(model, key)] = "deleted"
                return
            falls: dict[str, set[Key]] = {}
            holders: list[Spot] = []
            if error.sqlstate in (_FOREIGN_KEY, _RESTRICT):
                falls = await falling(self._connection, self._pair, self._follower, model, keys)
                holders = await holding(self._connection, self._pair, self._follower, falls)
                if not brought and await self._bring_holders(holders):
                    brought = True
                    continue
            if len(keys) == 1:
                spot = Spot(model, keys[0])
                if any(self._authorities[holder.model] is self._follower for holder in holders):
                    self.findings.returning.add(spot)
                else:
                    self.findings.problems[spot] = problem_of(error)
                return
            half = len(keys) // 2
            await self._remove(model, keys[:half])
            keys = keys[half:]
            brought = False

    def _is_done(self, spot: Spot) -> bool:
        return (
            spot in self.findings.outcomes
            or spot in self.findings.problems
            or spot in self.findings.returning
        )

    async def _delete(self, model: str, keys: list[Key], conflicts: list[ConflictSettled]) -> None:
        falls_with = self._pair.falls_with(self._follower, model)
        if any(self._authorities[name] is self._follower for name in falls_with):
            falls = await falling(self._connection, self._pair, self._follower, model, keys)
            conflicts += await record_orphans(
                self._connection, self._reading, self._pair, self._follower, self._authorities, falls
            )
        await self._images[model].delete(self._connection, keys)

    async def _bring_holders(self, holders: Iterable[Spot]) -> bool:
        """Bring rows level that forbid a delete and have the same authority; return whether that changed any."""
        mine: dict[str, set[Key]] = {}
        for holder in holders:
            if self._authorities[holder.model] is self._follower.other and not self._is_done(holder):
                mine.setdefault(holder.model, set()).add(holder.key)
        for model in self._pair.in_order(mine):
            await self._look(model, mine[model])
        changed = False
        for model in self._pair.in_order(mine):
            pulled = self._copies.get(model, {})
            rows = [pulled.pop(key) for key in sorted(mine[model]) if key in pulled]
            changed |= bool(rows)
            await self._write(model, rows)
        for model in reversed(self._pair.in_order(mine)):
            keys = sorted(mine[model] & self._deletes.get(model, set()))
            changed |= bool(keys)
            await self._remove(model, keys)
        return changed

    def _settled(self, model: str, rows: Iterable[Row], outcome: str) -> None:
        for row in rows:
            self._copies.get(model, {}).pop(row.key, None)
            self._once_more.get(model, {}).pop(row.key, None)
            self.findings.problems.pop(Spot(model, row.key), None)
            self.findings.outcomes[Spot(model, row.key)] = outcome

    def _failed(self, model: str, rows: Iterable[Row], problem: str) -> None:
        for row in rows:
            self._copies.get(model, {}).pop(row.key, None)
            self.findings.problems[Spot(model, row.key)] = problem
