"""Put the tests and questions about one table to the legacy store, in one transaction that writes nothing.

It is read-only from the moment its temporary functions exist, and is rolled back in the end, which takes them away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg

from crossfade.preflight.findings import Finding, Kind
from crossfade.preflight.rules import Question, Subject
from crossfade.preflight.values import Test
from crossfade.stages import Side
from crossfade.store.tables import Connection


class Scan:
    """One table's transaction in the legacy store; its caller rolls it back."""

    def __init__(self, connection: Connection, subject: Subject, examples: int) -> None:
        self._connection, self._subject, self._examples = connection, subject, examples
        self._rows = f"FROM {subject.legacy.quoted} t"
        self._key = subject.crossing.key_texts(Side.PRISMA)
        self._unprepared: set[str] = set()
        self.findings: list[Finding] = []

    async def prepare(self, functions: Iterable[str], seconds: float | None) -> None:
        """Create the functions of this transaction, make it read-only, and give its queries so much time."""
        for function in functions:
            try:
                async with self._connection.transaction():
                    await self._connection.execute(function)
            except asyncpg.PostgresError as error:
                self._unprepared.add(function)
                self.not_checked(
                    f"values of a column: no temporary function, {refusal(error)}", is_fatal=True
                )
        await self._connection.execute("SET TRANSACTION READ ONLY")
        if seconds:
            await self._connection.execute(f"SET LOCAL statement_timeout = {max(1, round(seconds * 1000))}")

    async def count(self, tests: Sequence[Test]) -> int:
        """Put every test to every row, and tell how many rows there are."""
        usable = [test for test in tests if test.function is None or test.function not in self._unprepared]
        try:
            total, *counts = await self._counted(usable)
        except (asyncpg.QueryCanceledError, asyncpg.InsufficientPrivilegeError):
            raise
        except asyncpg.PostgresError:
            # One test that this store cannot evaluate must not hide what the others find.
            (total,), counts = await self._counted([]), []
            for test in usable:
                try:
                    counts.append((await self._counted([test]))[1])
                except asyncpg.QueryCanceledError:
                    raise
                except asyncpg.PostgresError as error:
                    counts.append(0)
                    self.not_checked(f"{test.detail}: {refusal(error)}", test.column)
        for test, count in zip(usable, counts, strict=True):
            if count:
                query = f"SELECT {self._key} {self._rows} WHERE {test.condition} ORDER BY 1 LIMIT $1"
                await self._found(test.kind, test.column, test.detail, count, query)
        return int(total)

    async def _counted(self, tests: Sequence[Test]) -> list[int]:
        filters = [f"count(*) FILTER (WHERE {test.condition})" for test in tests]
        async with self._connection.transaction():
            row = await self._connection.fetchrow(f"SELECT {', '.join(['count(*)', *filters])} {self._rows}")
        assert row is not None
        return list(row)

    async def ask(self, question: Question) -> None:
        """Put one question to the whole table."""
        try:
            async with self._connection.transaction():
                count = await self._connection.fetchval(question.count)
        except asyncpg.QueryCanceledError:
            raise
        except asyncpg.PostgresError as error:
            self.not_checked(f"{question.detail}: {refusal(error)}", question.column)
            return
        if count:
            await self._found(question.kind, question.column, question.detail, count, question.examples)

    async def _found(self, kind: Kind, column: str, detail: str, count: int, examples: str) -> None:
        keys: list[tuple[str, ...]] = []
        if self._examples:
            try:
                async with self._connection.transaction():
                    keys = [
                        tuple(map(str, row[0]))
                        for row in await self._connection.fetch(examples, self._examples)
                    ]
            except UnicodeDecodeError:
                pass  # the key itself has bytes that are no text
        table = self._subject.legacy
        in_key = kind is Kind.NULL and column in self._subject.crossing.keys[Side.PRISMA]
        self.findings.append(
            Finding(
                model=self._subject.crossing.model,
                table=table.quoted,
                kind=Kind.NULL_IN_KEY if in_key else kind,
                column=column or None,
                count=int(count),
                examples=tuple(keys),
                detail=detail,
            )
        )

    def not_checked(self, what: str, column: str | None = None, *, is_fatal: bool = False) -> None:
        """Say of something that nobody looked at it."""
        self.findings.append(
            Finding(
                model=self._subject.crossing.model,
                table=self._subject.legacy.quoted,
                kind=Kind.NOT_CHECKED,
                column=column or None,
                detail=what,
                is_fatal=is_fatal,
            )
        )


def refusal(error: asyncpg.PostgresError) -> str:
    """An error in words that hold nothing of a row."""
    return f"SQLSTATE {error.sqlstate}, {type(error).__name__.removesuffix('Error')}"
