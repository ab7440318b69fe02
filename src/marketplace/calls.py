"""The calls that the workload makes on one model, each noted in the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from crossfade.client import ModelClient
from crossfade.errors import DataError, ForeignKeyViolationError, UniqueViolationError
from crossfade.schema import ModelSpec, Scalar
from marketplace.client import Front
from marketplace.journal import Assigned, Created, Deleted, Effect, Increased, Journal, RowKey
from marketplace.population import Population
from marketplace.questions import QUESTIONS, Question
from marketplace.subjects import Subject

T = TypeVar("T")

_READS_PER_WRITE = 1.6


class RowGoneError(Exception):
    """A row that nobody has deleted was not there for a write."""


class NotRefusedError(Exception):
    """A second row with the same unique key was accepted."""


@dataclass(slots=True)
class Account:
    """What came of the calls, on all models."""

    reads: int = 0
    writes: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    """Refusals that are as they should be, by error class."""
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """What should not have failed, by model, call and error class."""
    changed: Callable[[], None] = lambda: None
    """Called when something was added."""

    def read(self) -> None:
        """Count a read."""
        self.reads += 1
        self.changed()

    def wrote(self) -> None:
        """Count a write."""
        self.writes += 1
        self.changed()

    def refused(self, what: str) -> None:
        """Count a refusal that is as it should be."""
        self.refusals[what] += 1
        self.changed()

    def failed(self, model: str, call: str, error: str) -> None:
        """Count what should not have failed."""
        self.failures[model, call, error] += 1
        self.changed()

    def __add__(self, other: Account) -> Account:
        return Account(
            self.reads + other.reads,
            self.writes + other.writes,
            self.refusals + other.refusals,
            self.failures + other.failures,
        )


class Call(NamedTuple):
    """Something that can be done, with the name it has in reports."""

    name: str
    make: Callable[[], Awaitable[None]]


class Calls:
    """Everything that the workload does to one model."""

    def __init__(
        self,
        spec: ModelSpec,
        subject: Subject,
        front: Front,
        known: Population,
        journal: Journal,
        account: Account,
    ) -> None:
        self._spec = spec
        self._subject = subject
        self._front = front
        self._known = known
        self._journal = journal
        self._account = account
        self._is_numbered = spec.fields["id"].scalar is not Scalar.STRING

    @property
    def _client(self) -> ModelClient[Any]:
        return self._front.client.model(self._spec.name)

    def bag(self) -> list[Call]:
        """Return every call as often as it weighs."""
        questions = [
            Call(question.action, partial(self._ask, question)) for question in QUESTIONS[self._spec.name]
        ]
        writes = [
            Call(change.__name__.lstrip("_"), change)
            for weight, change in (
                (3, self._increase),
                (2, self._assign),
                (1, self._increase_several),
                (2, self._create),
                (1, self._create_several),
                (1, self._create_twice),
                (1, self._upsert_known),
                (1, self._upsert_new),
                (1, self._delete),
                (1, self._delete_several),
            )
            for _ in range(weight)
        ]
        return [*writes, *questions * max(1, round(len(writes) * _READS_PER_WRITE / len(questions)))]

    # --- reads -----------------------------------------------------------------------------------------------------

    async def _ask(self, question: Question) -> None:
        self._account.read()
        await getattr(self._client, question.action)(**question.arguments(self._known))

    # --- rows that change ------------------------------------------------------------------------------------------

    async def _increase(self) -> None:
        row = self._row(self._known.pick(self._spec.name))
        counter, by = self._subject.counter, self._known.rng.randint(1, 3)
        await self._update(row, {counter: {"increment": by}}, [Increased(row, counter, by)])

    async def _assign(self) -> None:
        row, rng = self._row(self._known.pick(self._spec.name)), self._known.rng
        tracked = {name: make(self._known) for name, make in self._subject.tracked.items()}
        others = {
            name: make(self._known) for name, make in self._subject.others.items() if rng.random() < 0.5
        }
        effects = [Assigned(row, name, value) for name, value in tracked.items()]
        await self._update(row, {**tracked, **others}, effects)

    async def _update(self, row: RowKey, data: Mapping[str, Any], effects: Sequence[Effect]) -> None:
        self._account.wrote()
        with self._journal.write(*effects) as write:
            if await self._client.update(where={"id": row.key}, data=data) is None:
                write.missed()
                self._excuse(row)

    async def _increase_several(self) -> None:
        self._account.wrote()
        keys = self._known.some_seeded(self._spec.name, 3)
        data = {self._subject.counter: {"increment": 1}}
        effects = [Increased(self._row(key), self._subject.counter, 1) for key in keys]
        with self._journal.write(*effects):
            if await self._client.update_many(where={"id": {"in": keys}}, data=data) != len(keys):
                raise RowGoneError

    # --- rows that come --------------------------------------------------------------------------------------------

    async def _create(self) -> None:
        data = self._subject.draft(self._known)
        if data is None:
            return await self._increase()
        self._account.wrote()
        with self._journal.write() as write:
            row = await self._attempt(self._client.create(data=data), [data])
            if row is None:
                write.missed()
            else:
                write.add(self.born(row.id, vars(row) | data))
        return None

    async def _create_several(self) -> None:
        drafts = [
            data for data in (self._subject.draft(self._known), self._subject.draft(self._known)) if data
        ]
        if not drafts:
            return await self._increase()
        self._account.wrote()
        if not self._is_numbered:
            for data in drafts:
                data["id"] = f"walk-{self._known.number()}"
        with self._journal.write() as write:
            if await self._attempt(self._client.create_many(data=drafts), drafts) is None:
                return write.missed()
        for data in drafts:
            key = await self._number_given_to(data) if self._is_numbered else data["id"]
            if key is not None:
                write.add(self.born(key, self._defaults() | data))
        return None

    async def _number_given_to(self, data: Mapping[str, Any]) -> Any | None:
        """Ask which key the database gave to a new row: the answer to a `create_many` is only a count."""
        row = await self._client.find_unique(where=self._subject.where(data))
        if row is None and not self.is_orphan(data):
            raise RowGoneError
        return None if row is None else row.id

    async def _create_twice(self) -> None:
        """Ask for a row whose unique key another one has: that must be refused."""
        self._account.wrote()
        taken = self._known.values(self._spec.name, self._known.seeded(self._spec.name))
        data = self._subject.fields(self._known) | {name: taken[name] for name in self._subject.unique}
        try:
            await self._client.create(data=data)
        except UniqueViolationError as error:
            self.refused(error)
        except ForeignKeyViolationError as error:
            if not self.is_orphan(data):
                raise
            self.refused(error)
        else:
            raise NotRefusedError

    async def _upsert_known(self) -> None:
        self._account.wrote()
        subject, key = self._subject, self._known.seeded(self._spec.name)
        row, values = self._row(key), self._known.values(self._spec.name, key)
        name, make = next(iter(subject.tracked.items()))
        update = {subject.counter: {"increment": 1}, name: make(self._known)}
        create = subject.fields(self._known) | {part: values[part] for part in subject.unique}
        effects = (Increased(row, subject.counter, 1), Assigned(row, name, update[name]))
        with self._journal.write(*effects):
            await self._client.upsert(where=subject.where(values), data={"create": create, "update": update})

    async def _upsert_new(self) -> None:
        create = self._subject.draft(self._known)
        if create is None:
            return await self._increase()
        self._account.wrote()
        if self._subject.unique == ("id",):
            create["id"] = f"walk-{self._known.number()}"
        data = {"create": create, "update": {self._subject.counter: {"increment": 1}}}
        where = self._subject.where(create)
        with self._journal.write() as write:
            row = await self._attempt(self._client.upsert(where=where, data=data), [create])
            if row is None:
                write.missed()
            else:
                write.add(self.born(row.id, vars(row) | create))
        return None

    # --- rows that go ----------------------------------------------------------------------------------------------

    async def _delete(self) -> None:
        key = self._known.own(self._spec.name)
        if key is None:
            return await self._increase()
        self._account.wrote()
        row = self._row(key)
        with self._journal.write(Deleted(row)) as write:
            if await self._client.delete(where={"id": key}) is None:
                write.missed()
                if not self._journal.goes_with_parents(row):
                    raise RowGoneError
        return None

    async def _delete_several(self) -> None:
        model = self._spec.name
        keys = [key for key in {self._known.own(model), self._known.own(model)} if key is not None]
        if not keys:
            return await self._increase()
        self._account.wrote()
        with self._journal.write(*(Deleted(self._row(key)) for key in keys)):
            await self._client.delete_many(where={"id": {"in": keys}})
        return None

    # --- what is as it should be -----------------------------------------------------------------------------------

    async def _attempt(self, answer: Awaitable[T], drafts: Sequence[Mapping[str, Any]]) -> T | None:
        """Await a write of new rows; None when a row that they refer to has been deleted under them."""
        try:
            return await answer
        except ForeignKeyViolationError as error:
            if not any(map(self.is_orphan, drafts)):
                raise
            self.refused(error)
            return None

    def refused(self, error: DataError) -> None:
        """Count a refusal that is as it should be."""
        self._account.refused(type(error).__name__)

    def _excuse(self, row: RowKey) -> None:
        if not self._journal.is_doomed(row):
            raise RowGoneError
        self._account.refused("row deleted meanwhile")

    def is_orphan(self, data: Mapping[str, Any]) -> bool:
        """Whether a row that `data` refers to is being deleted."""
        return any(self._journal.is_doomed(row) for row, _ in self._referred(data))

    def _referred(self, data: Mapping[str, Any]) -> list[tuple[RowKey, bool]]:
        """The rows that `data` refers to, and whether their deletion takes this one along."""
        return [
            (RowKey(relation.model, data[name]), relation.on_delete == "Cascade")
            for relation in self._spec.relations.values()
            for name in relation.from_fields
            if data.get(name) is not None
        ]

    def _row(self, key: Any) -> RowKey:
        return RowKey(self._spec.name, key)

    def born(self, key: Any, values: Mapping[str, Any]) -> Created:
        """Take note of a new row; return the effect of its creation."""
        row = self._row(key)
        self._known.born(row)
        noted = {name: values[name] for name in self._subject.noted}
        return Created(row, noted, tuple(parent for parent, cascades in self._referred(values) if cascades))

    def born_of(self, values: Mapping[str, Any]) -> Created:
        """Take note of a new row that was made with `values`, its id among them."""
        return self.born(values["id"], self._defaults() | dict(values))

    def _defaults(self) -> dict[str, Any]:
        default = self._spec.fields[self._subject.counter].default
        assert default is not None
        return {self._subject.counter: default.value}
