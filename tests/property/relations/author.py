"""Who writes through the repository."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any

from crossfade.errors import (
    DataError,
    ForeignKeyViolationError,
    MixedAuthorityError,
    RecordNotFoundError,
    UniqueViolationError,
)
from crossfade.keys import Key, where_of

from .bundles import batch, transaction
from .journal import Row, Span
from .writer import REFUSED, Writer, may_be_taken, tags


class Author(Writer):
    """Writes through the repository."""

    def where(self, row: Row) -> dict[str, Any]:
        spec = self.world.schema.models[row.model]
        code = row.values["code"]
        if code and not may_be_taken(code) and self.chance.random() < 0.4:
            return {"code": code}
        return where_of(spec, Key(row.model, tuple((name, row.key[name]) for name in spec.primary_key)))

    def client(self, model: str, db: Any = None) -> Any:
        return getattr(db or self.world.db, model.lower())

    async def call(
        self,
        what: str,
        call: Callable[[], Awaitable[Any]],
        *,
        may_mix: bool = False,
        parents: Iterable[Row | None] = (),
    ) -> tuple[Any, Span]:
        start = perf_counter()
        result: Any = REFUSED
        try:
            result = await call()
            outcome = "acknowledged"
        except (UniqueViolationError, ForeignKeyViolationError, RecordNotFoundError) as error:
            outcome = type(error).__name__
        except MixedAuthorityError as error:
            outcome = "MixedAuthorityError"
            if not may_mix:
                self.fail(what, error)
        except DataError as error:
            outcome = f"DataError {error.code}"
            if error.code != "P2034":
                self.fail(what, error)
        except Exception as error:  # noqa: BLE001 - as above
            outcome = type(error).__name__
            self.fail(what, error)
        self.journal.outcomes[outcome] += 1
        if result is REFUSED:
            self.journal.note(f"refused {what}: {outcome} by {self.name} (since {start:.4f})")
        span = Span(start, perf_counter())
        referred = [parent.tag for parent in parents if parent is not None]
        if referred and outcome in ("ForeignKeyViolationError", "RecordNotFoundError"):
            self.journal.turned_down_child(what, referred, span)
        return result, span

    def learn_key(self, row: Row, record: Any) -> dict[str, Any]:
        return {name: getattr(record, name) for name in self.world.schema.models[row.model].primary_key}

    async def act(self) -> None:
        """Make one call, mostly of those that matter."""
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (30, self.create),
            (10, self.label),
            (5, self.increment),
            (8, self.rebind),
            (4, self.rename),
            (3, self.recode),
            (12, self.delete),
            (3, self.upsert),
            (4, self.label_many),
            (3, self.delete_many),
            (4, self.create_many),
            (6, lambda: transaction(self)),
            (4, lambda: batch(self)),
            (4, self.read),
            (3 if self.world.graph.links else 0, self.link),
        ]
        weights, makers = zip(*actions, strict=True)
        await self.chance.choices(makers, weights)[0]()

    # --- one row -----------------------------------------------------------------------------------------------------

    def data(self, row: Row, parents: Mapping[str, Row | None], *, connect: bool = False) -> dict[str, Any]:
        data: dict[str, Any] = {"tag": row.tag, **row.key}
        data |= {name: value for name, value in row.values.items() if name != "count" and value is not None}
        for name, parent in parents.items():
            if parent is None:
                continue
            reference = self.reference(row.model, name)
            if connect and reference.to != ("code",):
                spec = self.world.schema.models[parent.model]
                key = Key(parent.model, tuple((part, parent.key[part]) for part in spec.primary_key))
                data[name] = {"connect": where_of(spec, key)}
            elif connect:
                data[name] = {"connect": {"code": parent.values["code"]}}
            else:
                data |= self.held(reference, parent)
        return data

    async def create(self) -> None:
        """Create a row, with parents of either authority."""
        model = self.chance.choice(list(self.world.graph.models))
        made = self.new_row(model)
        if made is None:
            return
        row, parents = made
        data = self.data(row, parents, connect=self.chance.random() < 0.2)
        record, span = await self.call(
            f"create {row.tag}", lambda: self.client(model).create(data=data), parents=parents.values()
        )
        if record is not REFUSED:
            row.key = self.learn_key(row, record)
            self.journal.created(row, tags(parents), span)

    async def upsert(self) -> None:
        """Create a row or change it."""
        rows = self.mine()
        if not rows:
            return
        row = self.chance.choice(rows)
        made = self.new_row(row.model)
        if made is None:
            return
        fresh, parents = made
        label = self.word()
        data = {"create": self.data(fresh, parents), "update": {"label": label}}
        where = self.where(row)
        record, span = await self.call(
            f"upsert {row.tag} or {fresh.tag}", lambda: self.client(row.model).upsert(where=where, data=data)
        )
        if record is REFUSED:
            return
        if record.tag == fresh.tag:
            fresh.key = self.learn_key(fresh, record)
            self.journal.created(fresh, tags(parents), span)
        else:
            self.journal.changed(row, {"label": label}, {}, {}, span)

    async def _update(
        self, row: Row, what: str, data: Mapping[str, Any], parents: Iterable[Row | None] = ()
    ) -> tuple[Any, Span]:
        where = self.where(row)
        record, span = await self.call(
            f"{what} {row.tag} {where}",
            lambda: self.client(row.model).update(where=where, data=data),
            parents=parents,
        )
        if record is None:
            await self._look_for(row)
            record = REFUSED
        elif record is not REFUSED and record.tag != row.tag:
            self.journal.failures.append(
                f"{self.name}: {what} {row.tag} {where}: it was done to {record.tag}"
            )
        return record, span

    async def _look_for(self, row: Row) -> None:
        """Learn the key that a row has got by a cascade, or that it is gone."""
        found, _ = await self.call(
            f"find {row.tag}", lambda: self.client(row.model).find_first(where={"tag": row.tag})
        )
        if found is None:
            row.is_gone = True
            self.journal.note(f"missed {row.tag}")
        elif found is not REFUSED:
            row.key = self.learn_key(row, found)
            row.values["code"] = found.code

    async def label(self) -> None:
        """Change a plain column."""
        for row in self._some():
            label = self.word()
            record, span = await self._update(row, "label", {"label": label})
            if record is not REFUSED:
                self.journal.changed(row, {"label": label}, {}, {}, span)

    async def increment(self) -> None:
        """Count one up."""
        for row in self._some():
            record, span = await self._update(row, "increment", {"count": {"increment": 1}})
            if record is not REFUSED:
                self.journal.changed(row, {"count": row.values["count"] + 1}, {}, {}, span)

    async def rebind(self) -> None:
        """Have a row refer to another."""
        for row in self._some():
            references = self.world.graph.models[row.model].references
            if not references:
                continue
            reference = self.chance.choice(references)
            candidates = [each for each in self.candidates(reference) if each.tag != row.tag]
            parent = self.chance.choice(candidates) if candidates else None
            if parent is None and not reference.is_optional:
                continue
            if reference.is_optional and self.chance.random() < 0.2:
                parent = None
            data = self.held(reference, parent)
            record, span = await self._update(
                row, f"rebind {parent.tag if parent else None}", data, parents=[parent]
            )
            if record is not REFUSED:
                key = self.learn_key(row, record)
                self.journal.changed(row, {}, tags({reference.name: parent}), key, span)

    async def rename(self) -> None:
        """Give a row another primary key."""
        for row in self._some():
            key = self.another_key(row)
            record, span = await self._update(row, f"rename {key}", key)
            row.renamed.append(span)
            if record is not REFUSED:
                self.journal.changed(row, {}, {}, self.learn_key(row, record), span)

    async def recode(self) -> None:
        """Give a row another unique value; now and then one that another row has."""
        for row in self._some():
            others = [
                each.values["code"]
                for each in self.journal.alive(row.model)
                if each.values["code"] and may_be_taken(each.values["code"])
            ]
            takes = others and row.model not in self.referred_codes and self.chance.random() < 0.3
            code = self.chance.choice(others) if takes else self.word()
            record, span = await self._update(row, "recode", {"code": code})
            row.renamed.append(span)
            if record is not REFUSED:
                self.journal.changed(row, {"code": code}, {}, {}, span)

    async def delete(self) -> None:
        """Delete a row, with what hangs on it."""
        for row in self._some():
            where = self.where(row)
            record, span = await self.call(
                f"delete {row.tag} {where}",
                lambda: self.client(row.model).delete(where=where),  # noqa: B023
            )
            if record is None:
                await self._look_for(row)
            elif record is not REFUSED:
                self.journal.deleted(row, span)

    def _some(self) -> Sequence[Row]:
        rows = self.mine()
        return [self.chance.choice(rows)] if rows else []

    # --- many rows ---------------------------------------------------------------------------------------------------

    def _few(self) -> tuple[str, list[Row]]:
        model = self.chance.choice(list(self.world.graph.models))
        rows = self.mine(model)
        return model, self.chance.sample(rows, min(len(rows), self.chance.randint(1, 4)))

    async def label_many(self) -> None:
        """Change and count up several rows."""
        model, rows = self._few()
        if not rows:
            return
        label = self.word()
        where = {"tag": {"in": [row.tag for row in rows]}}
        data = {"label": label, "count": {"increment": 1}}
        count, span = await self.call(
            f"update_many {[row.tag for row in rows]}",
            lambda: self.client(model).update_many(where=where, data=data),
        )
        if count is not REFUSED:
            for row in rows:
                self.journal.changed(row, {"label": label, "count": row.values["count"] + 1}, {}, {}, span)

    async def delete_many(self) -> None:
        """Delete several rows."""
        model, rows = self._few()
        if not rows:
            return
        where = {"tag": {"in": [row.tag for row in rows]}}
        count, span = await self.call(
            f"delete_many {[row.tag for row in rows]}", lambda: self.client(model).delete_many(where=where)
        )
        if count is not REFUSED:
            for row in rows:
                self.journal.deleted(row, span)

    async def create_many(self) -> None:
        """Create several rows."""
        model = self.chance.choice(list(self.world.graph.models))
        made = [new for _ in range(self.chance.randint(1, 3)) if (new := self.new_row(model)) is not None]
        if not made:
            return
        data = [self.data(row, parents) for row, parents in made]
        count, span = await self.call(
            f"create_many {[row.tag for row, _ in made]}", lambda: self.client(model).create_many(data=data)
        )
        if count is REFUSED:
            return
        for row, parents in made:
            # Nobody is told the keys of several rows.
            found, _ = await self.call(
                f"find {row.tag}",
                lambda: self.client(model).find_first(where={"tag": row.tag}),  # noqa: B023
            )
            if found is not None and found is not REFUSED:
                row.key = self.learn_key(row, found)
                self.journal.created(row, tags(parents), span)
            else:
                self.journal.created(row, tags(parents), span)
                row.is_gone = True

    # --- the rest ----------------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Read rows with those that they refer to, whoever has them."""
        model = self.chance.choice(list(self.world.graph.models))
        include = dict.fromkeys(self.world.schema.models[model].relations, True)
        await self.call(f"read {model}", lambda: self.client(model).find_many(take=5, include=include))

    async def link(self) -> None:
        """Link two rows of a many-to-many relation; refused while they belong to two authorities."""
        link = self.world.graph.links[0]
        ones, others = self.mine(link.one), self.journal.alive(link.other)
        if not ones or not others:
            return
        one, other = self.chance.choice(ones), self.chance.choice(others[-6:])
        connected = {"linked": {"connect": [{other_key: other.key[other_key] for other_key in other.key}]}}
        where = self.where(one)
        record, span = await self.call(
            f"link {one.tag} {other.tag}",
            lambda: self.client(link.one).update(where=where, data=connected),
            may_mix=True,
        )
        if record is not REFUSED and record is not None:
            self.journal.linked(link.name, one, other, span)
